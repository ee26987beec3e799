"""Divide subjects, before any window exists, into training, validation and test.

Subjects are divided, never recordings or windows: two recordings of one person resemble each
other more than two people do, so any other division measures how well people are recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.labels.checks import check_disjoint
from hbn_foundation.labels.params import SPLITS, LabelParams, SplitParams
from hbn_foundation.labels.strata import (
    check_columns,
    class_strata,
    divide,
    joined,
    position,
    score_strata,
    strata,
    strata_columns,
)
from hbn_foundation.progress import say

MIN_SUBJECTS_TO_HASH = 200
"""With the method `auto`, this many subjects or more are divided by hash, fewer by strata."""
PLACED_COLUMNS = ("division", "method", "subject", "split")


def split_subjects(
    subjects: Sequence[str],
    participants: pd.DataFrame,
    params: SplitParams,
    earlier: pd.DataFrame | None = None,
    labels: Sequence[LabelParams] = (),
) -> pd.DataFrame:
    """Divide subjects with exact shares within strata, by hash, or by release.

    `stratified` gives exact shares within strata. `hash` places each subject by a hash of the
    seed and its name: new subjects do not change the split of others, but the shares hold only on
    average, which is inaccurate for few subjects. `auto` is `stratified` below 200 subjects and
    `hash` from there on; the method and the split of each subject are kept in a table, so that
    neither changes when the data set grows. `release` follows the releases of the data set.

    Parameters
    ----------
    subjects
        Subjects that have recordings, without `sub-`; repeated ones count once.
    earlier
        Earlier splits by `auto`, as returned by `placed_subjects`. Rows of another division (other
        seed, shares or strata) are ignored.
    labels
        Labels to be learned. Subjects are stratified first by their class, if they have one.

    Returns
    -------
    pandas.DataFrame
        One row per subject: `subject`, `split` (train, validation or test), `stratum`, `method`.

    Raises
    ------
    UserError
        When there are fewer subjects than splits, a split is left empty, a column is missing,
        or the earlier splits are not valid.
    """
    names = sorted({str(subject) for subject in subjects})
    wishes: Mapping[str, object] = params.releases if params.method == "release" else params.shares
    wanted = [split for split in SPLITS if wishes[split]]
    if len(names) < len(wanted):
        raise UserError(
            f"splits: {len(names)} subjects cannot be divided into {', '.join(wanted)}; "
            f"at least {len(wanted)} are needed"
        )
    classes = class_strata(names, participants, labels)
    stratum = strata(names, participants, params.stratify, params.age_bins)
    method, kept = _decided(len(names), params, earlier)
    if method == "release":
        places = _by_release(names, participants, params)
    elif method == "stratified":
        places = divide(joined(classes), stratum, params.shares, params.seed, kept)
    else:
        places = {subject: kept.get(subject) or _by_hash(subject, params) for subject in names}
    placed = [subject for subject in names if subject in places]
    columns = {"split": [places[name] for name in placed], "stratum": stratum[placed].to_numpy()}
    splits = pd.DataFrame({"subject": placed, **columns, "method": method})
    n_kept = len(set(placed) & set(kept))
    _check_none_empty(splits, wanted, params.seed, n_kept)
    _say_how(splits, [*classes, *strata_columns(names, participants, params.stratify)], n_kept)
    return splits


def repeated_splits(
    subjects: Sequence[str],
    n_folds: int = 5,
    n_repeats: int = 2,
    seed: int = 0,
    *,
    participants: pd.DataFrame | None = None,
    label: LabelParams | None = None,
    stratify: str | None = None,
) -> pd.DataFrame:
    """Divide subjects repeatedly into folds for a cross-validation.

    In each repeat each fold is the test set once; of the other subjects as many as are tested
    validate, but at most a third, unless there are more classes. Folds and validation subjects are
    stratified first by the class of the label and the column that scores are stratified by, then
    by age, sex and site.

    Parameters
    ----------
    subjects
        Repeated ones count once; their order does not matter.
    participants, label, stratify
        Table with the column `subject`, for the strata, the label to be learned, and the column
        that its scores are stratified by.

    Returns
    -------
    pandas.DataFrame
        `repeat`, `fold`, `subject`, `split`, one row per subject in each fold.

    Raises
    ------
    UserError
        When there are too few subjects.
    """
    names = sorted({str(subject) for subject in subjects})
    people = pd.DataFrame({"subject": names}) if participants is None else participants
    of_label = class_strata(names, people, [] if label is None else [label])
    if stratify is not None:
        of_label[stratify] = score_strata(names, people, stratify)
    classes, stratum = joined(of_label), strata(names, people)

    def n_validating(n_tested: int) -> int:
        others = len(names) - n_tested
        return max(1, min(n_tested, others // 3), min(classes.nunique(), others // 2))

    _check_folds(len(names), n_folds, n_validating)
    parts = []
    for repeat in range(n_repeats):
        equal = dict.fromkeys(range(n_folds), 1.0)
        fold_of = pd.Series(divide(classes, stratum, equal, f"{seed}:{repeat}"))[names]
        for fold in range(n_folds):
            others = fold_of.index[fold_of != fold]
            held = n_validating(len(names) - len(others))
            shares = {"train": len(others) - held, "validation": held}
            split = divide(classes[others], stratum[others], shares, f"{seed}:{repeat}:{fold}")
            columns = {"subject": names, "split": [split.get(name, "test") for name in names]}
            parts.append(pd.DataFrame({"repeat": repeat, "fold": fold, **columns}))
    return pd.concat(parts, ignore_index=True)


def _check_folds(n_subjects: int, n_folds: int, n_validating: Callable[[int], int]) -> None:
    if n_folds < 2:
        raise UserError(f"repeats: folds is {n_folds}; expected at least 2")
    largest = -(-n_subjects // n_folds)
    held = n_validating(largest)
    if n_subjects < n_folds or held < 1 or n_subjects - largest - held < 1:
        raise UserError(
            f"repeats: {n_subjects} subjects do not give {n_folds} folds with subjects left to "
            f"train and {held} to validate"
        )


def placed_subjects(splits: pd.DataFrame, params: SplitParams) -> pd.DataFrame:
    """List the split of each subject, for later divisions of a growing data set.

    The table has `PLACED_COLUMNS`; it is empty unless the method is `auto` and `keep` names none.
    """
    rows = splits if params.method == "auto" and params.keep is None else splits.iloc[:0]
    return rows.assign(division=_division(params))[list(PLACED_COLUMNS)].reset_index(drop=True)


def with_placed(earlier: pd.DataFrame, placed: pd.DataFrame) -> pd.DataFrame:
    """Add subjects to those of earlier divisions.

    A subject that a concurrent run has assigned to another split is a UserError.
    """
    both = pd.concat([earlier, placed], ignore_index=True).drop_duplicates()
    twice = both[both.duplicated(["division", "subject"])]
    if len(twice):
        raise UserError(
            f"splits: another run has just placed {len(twice)} of these subjects otherwise "
            f"({first_few(twice['subject'])}); run this again"
        )
    return both


def check_places(
    table: pd.DataFrame, path: str | Path, columns: Sequence[str] = PLACED_COLUMNS
) -> None:
    """Make sure that a table of splits, read from a file, is valid.

    A missing column, an unknown split, or a subject in two splits of one division is a UserError.
    """
    if not set(columns) <= set(table):
        found = ", ".join(map(str, table.columns))
        raise UserError(f"{path}: expected the columns {' and '.join(columns)}, found {found}")
    strange = sorted(set(table["split"].dropna()) - set(SPLITS))
    if strange or table["split"].isna().any():
        found = first_few(strange) or "an empty one"
        raise UserError(f"{path}: expected the splits {', '.join(SPLITS)}, found {found}")
    for _, part in table.groupby("division") if "division" in columns else [("", table)]:
        check_disjoint(part)


def _division(params: SplitParams) -> str:
    """Name a division by all that it depends on: seed, shares and strata."""
    shares = "/".join(f"{share:g}" for share in params.shares.values())
    by = "default" if params.stratify is None else ",".join(params.stratify)
    return f"seed {params.seed}, shares {shares}, strata {by}, bins {params.age_bins}"


def _decided(
    n_subjects: int, params: SplitParams, earlier: pd.DataFrame | None
) -> tuple[str, dict[str, str]]:
    """Return the method, and the earlier splits of subjects."""
    auto = params.method == "auto"
    before = pd.DataFrame(columns=["subject", "split"])
    if params.keep is not None:
        before = _kept(Path(params.keep))
    elif auto and earlier is not None:
        before = earlier[earlier["division"] == _division(params)]
    kept = dict(zip(before["subject"], before["split"], strict=True))
    if auto and kept and "method" in before:
        return str(before["method"].iloc[0]), kept
    if auto:
        return "stratified" if n_subjects < MIN_SUBJECTS_TO_HASH else "hash", kept
    return params.method, kept


def _kept(path: Path) -> pd.DataFrame:
    """Read earlier splits: `subject`, `split` and, if valid, `method`."""
    if not path.is_file():
        raise UserError(f"splits: keep names {path}, which is not a file")
    try:
        table = pd.read_csv(path, dtype=str)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"splits: keep names {path}, which is not a CSV table") from error
    check_places(table, path, ("subject", "split"))
    known = "method" in table and table["method"].isin(["hash", "stratified"]).all()
    return table if known else table.drop(columns="method", errors="ignore")


def _by_hash(subject: str, params: SplitParams) -> str:
    at = position(subject, params.seed)
    if at < params.train:
        return "train"
    # the last split takes the rest, so that rounding of the shares leaves no gap below 1
    return "validation" if at < params.train + params.validation or not params.test else "test"


def _by_release(
    names: Sequence[str], participants: pd.DataFrame, params: SplitParams
) -> dict[str, str]:
    column = params.release_column
    check_columns([column], participants, f"method release needs {column}")
    split_of = {release: split for split, named in params.releases.items() for release in named}
    releases = participants.set_index("subject")[column].reindex(list(names)).astype(str)
    places = releases.map(split_of)
    left_out = releases[places.isna()]
    if len(left_out):
        say(f"splits: {len(left_out)} subjects of releases in no split "
            f"({first_few(sorted(left_out.unique()))}) left out")  # fmt: skip
    return {str(subject): split for subject, split in places.dropna().items()}


def _check_none_empty(splits: pd.DataFrame, wanted: Sequence[str], seed: int, n_kept: int) -> None:
    counts = splits["split"].value_counts()
    if all(counts.get(split, 0) for split in wanted):
        return
    found = ", ".join(f"{split} {counts.get(split, 0)}" for split in wanted)
    hint = "check train_releases, validation_releases and test_releases"
    if n_kept:
        hint = (
            f"{n_kept} of them keep the place of an earlier division; add subjects, or divide "
            f"anew by another seed than {seed}"
        )
    elif len(splits) and splits["method"].iloc[0] == "hash":
        hint = f"try another seed than {seed} or method: stratified"
    raise UserError(f"splits: a split has no subjects ({found}); {hint}")


def _say_how(splits: pd.DataFrame, by: Iterable[str], n_kept: int) -> None:
    """Log the sizes of the splits, how they were made, and which strata are unknown."""
    counts = splits["split"].value_counts()
    numbers = ", ".join(f"{name} {counts.get(name, 0)}" for name in SPLITS)
    how = f"by {splits['method'].iloc[0]}, not stratified"
    if splits["method"].iloc[0] == "stratified":
        by = list(dict.fromkeys(by))
        unknown = " and ".join(name for name in ("age", "sex") if name not in by)
        how = f"stratified by {', '.join(by)}" if by else "not stratified"
        how += f"; {unknown} of these subjects unknown" if unknown else ""
    keep = f"; {n_kept} keep the place that they had" if n_kept else ""
    say(f"splits: {len(splits)} subjects, {numbers} ({how}{keep})")
