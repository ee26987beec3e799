"""Divide subjects, before any window exists, into training, validation and test.

Subjects are divided, never recordings or windows: two recordings of one person resemble each
other more than two people do, so any other division measures how well people are recognised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.params import SPLITS, SplitParams
from hbn_foundation.labels.strata import fill_quotas, strata
from hbn_foundation.labels.wording import some
from hbn_foundation.progress import say


def split_subjects(
    subjects: Sequence[str], participants: pd.DataFrame, params: SplitParams
) -> pd.DataFrame:
    """Divide subjects by hash, by exact shares within strata, or by release.

    `hash` places each subject by a hash of the seed and its own name. It is the default because
    a larger data set then leaves everybody where they were, and a model pretrained on the smaller
    one stays clean. The price is that the shares hold only on average: a place that never changes
    can depend on nothing but the subject itself, hence not on how many others of the same age
    and sex there are, so such a division cannot be stratified exactly. `stratified` gives exact
    shares within strata; new subjects may then move others unless `keep` names the earlier
    splits. `release` follows the releases of the data set.

    Parameters
    ----------
    subjects
        Subjects that have recordings, without `sub-`; repeated ones count once.
    participants
        Table with the column `subject`.
    params
        Method, shares and seed.

    Returns
    -------
    pandas.DataFrame
        One row per subject: `subject`, `split` (train, validation or test), `stratum`.

    Raises
    ------
    UserError
        When there are fewer subjects than splits, a split is left empty, a column is missing,
        or the splits that are kept do not make sense.
    """
    names = sorted({str(subject) for subject in subjects})
    wanted = _wanted(params)
    if len(names) < len(wanted):
        raise UserError(
            f"splits: {len(names)} subjects cannot be divided into {', '.join(wanted)}; "
            f"at least {len(wanted)} are needed"
        )
    stratum = strata(names, participants, params.stratify, params.age_bins)
    if params.method == "release":
        places = _by_release(names, participants, params)
    elif params.method == "stratified":
        order = sorted(names, key=lambda subject: position(subject, params.seed))
        places = fill_quotas(stratum.loc[order], params.shares, _kept(params.keep))
    else:
        places = {subject: _by_hash(subject, params) for subject in names}
    placed = [subject for subject in names if subject in places]
    splits = pd.DataFrame(
        {
            "subject": placed,
            "split": [places[subject] for subject in placed],
            "stratum": stratum.loc[placed].to_numpy(),
        }
    )
    _none_empty(splits, wanted, params)
    return splits


def position(subject: str, seed: int) -> float:
    """Place a subject in [0, 1) by its name and the seed alone."""
    digest = hashlib.blake2b(f"{seed}:{subject}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def repeated_splits(
    subjects: Sequence[str],
    n_folds: int = 5,
    n_repeats: int = 2,
    seed: int = 0,
    n_validation: int | None = None,
) -> pd.DataFrame:
    """Divide subjects repeatedly into folds for a cross-validation.

    In each repeat the subjects are shuffled and dealt into folds; each fold is the test set once.
    Of the other subjects some validate (every choice is made on them) and the rest train.

    Parameters
    ----------
    subjects
        Subjects, repeated ones count once; their order does not matter.
    n_folds, n_repeats
        How many folds, and how often.
    seed
        Another seed gives other folds.
    n_validation
        How many subjects validate; by default as many as are tested, but no more than a third of
        those that are not.

    Returns
    -------
    pandas.DataFrame
        Columns `repeat`, `fold`, `subject`, `split`, one row per subject in each fold.

    Raises
    ------
    UserError
        When there are too few subjects.
    """
    names = np.array(sorted({str(subject) for subject in subjects}), dtype=object)
    if n_folds < 2:
        raise UserError(f"repeats: folds is {n_folds}; expected at least 2")
    largest = -(-len(names) // n_folds)
    validating = _n_validating(len(names), largest) if n_validation is None else n_validation
    if len(names) < n_folds or validating < 1 or len(names) - largest - validating < 1:
        raise UserError(
            f"repeats: {len(names)} subjects do not give {n_folds} folds with subjects left to "
            f"train and {validating} to validate"
        )
    parts = []
    for repeat in range(n_repeats):
        random = np.random.default_rng([seed, repeat])
        folds = np.array_split(random.permutation(names), n_folds)
        for fold, test in enumerate(folds):
            others = random.permutation(names[~np.isin(names, test)])
            n_held = _n_validating(len(names), len(test)) if n_validation is None else n_validation
            split = dict.fromkeys(others, "train")
            split.update(dict.fromkeys(others[:n_held], "validation"))
            split.update(dict.fromkeys(test, "test"))
            columns = {"subject": list(names), "split": [split[name] for name in names]}
            parts.append(pd.DataFrame({"repeat": repeat, "fold": fold, **columns}))
    return pd.concat(parts, ignore_index=True)


def _n_validating(n_subjects: int, n_tested: int) -> int:
    """Count the subjects that validate where nobody says: two thirds of the others are to train."""
    return max(1, min(n_tested, (n_subjects - n_tested) // 3))


def check_disjoint(splits: pd.DataFrame) -> None:
    """Make sure that no subject is in two splits.

    Raises
    ------
    UserError
        Naming the subjects that are.
    """
    counts = splits.groupby("subject")["split"].nunique()
    both = sorted(counts.index[counts > 1])
    if both:
        raise UserError(f"splits: expected each subject in one split, found {some(both)} in two")


def check_unseen(train_subjects: Iterable[str], evaluation_subjects: Iterable[str]) -> None:
    """Make sure that nobody a model is evaluated on was among those it was trained on.

    Raises
    ------
    UserError
        Naming the subjects that were.
    """
    seen = sorted(set(map(str, train_subjects)) & set(map(str, evaluation_subjects)))
    if seen:
        raise UserError(
            f"the model was trained on {len(seen)} of the subjects it is to be evaluated on "
            f"({some(seen)}); use the splits it was trained with, or train it anew"
        )


def check_reported(
    splits: pd.DataFrame,
    participants: pd.DataFrame | None = None,
    chosen_on: Iterable[str] = (),
    release_column: str = "release_number",
) -> None:
    """Make sure that whoever is reported has chosen nothing.

    With the official split, release R5 validates and nobody tests, for the test release is hidden.
    The best epoch is chosen on the validation subjects, so their score is no result.

    Parameters
    ----------
    splits
        `subject` and `split`.
    participants
        Names the releases, for the message.
    chosen_on
        Validation subjects of the model that training starts from: its best epoch is their choice.
    release_column
        Of the participants.

    Raises
    ------
    UserError
        When there are no test subjects, or some of them have chosen an epoch already.
    """
    subjects = {name: set(part.astype(str)) for name, part in splits.groupby("split")["subject"]}
    tested = subjects.get("test", set())
    if not tested:
        validating = subjects.get("validation", set())
        named = ""
        if participants is not None and release_column in participants:
            mine = participants["subject"].astype(str).isin(validating)
            releases = sorted(set(participants.loc[mine, release_column].dropna().astype(str)))
            named = f" (release {some(releases)})" if releases else ""
        raise UserError(
            f"splits: no test subjects, so the {len(validating)} validation subjects{named}, on "
            "whom the best epoch is chosen, would be reported; report another split, as by "
            "ingestion.splits.validation_releases=[R4] and test_releases=[R5]"
        )
    chosen = sorted(tested & set(map(str, chosen_on)))
    if chosen:
        raise UserError(
            f"the best epoch of the model to start from was chosen on {len(chosen)} of the test "
            f"subjects ({some(chosen)}); use the splits it was trained with, or train it anew"
        )


def _wanted(params: SplitParams) -> list[str]:
    """Name the splits that must not be empty."""
    wishes: Mapping[str, object] = params.releases if params.method == "release" else params.shares
    return [split for split in SPLITS if wishes[split]]


def _by_hash(subject: str, params: SplitParams) -> str:
    at = position(subject, params.seed)
    if at < params.train:
        return "train"
    # The last split takes what is left, so that rounding of the shares leaves no gap below 1.
    return "validation" if at < params.train + params.validation or not params.test else "test"


def _by_release(
    names: Sequence[str], participants: pd.DataFrame, params: SplitParams
) -> dict[str, str]:
    column = params.release_column
    if column not in participants:
        known = ", ".join(name for name in participants.columns if name != "subject")
        raise UserError(
            f"splits: method release needs the column {column}, but participants.tsv has "
            f"{known or 'no columns'}"
        )
    split_of = {release: split for split, some in params.releases.items() for release in some}
    release_of = participants.set_index("subject")[column].reindex(list(names)).astype(str)
    releases = dict(zip(names, release_of, strict=True))
    places = {
        subject: split_of[release] for subject, release in releases.items() if release in split_of
    }
    left_out = [subject for subject in names if subject not in places]
    if left_out:
        found = sorted({releases[subject] for subject in left_out})
        say(f"splits: {len(left_out)} subjects of releases in no split ({some(found)}) left out")
    return places


def _kept(path: str | None) -> dict[str, str]:
    """Read the places that subjects have already."""
    if path is None:
        return {}
    if not Path(path).is_file():
        raise UserError(f"splits: keep names {path}, which is not a file")
    try:
        table = pd.read_csv(path, dtype=str)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"splits: keep names {path}, which is not a CSV table") from error
    if not {"subject", "split"} <= set(table):
        found = ", ".join(map(str, table.columns))
        raise UserError(f"{path}: expected the columns subject and split, found {found}")
    strange = sorted(set(table["split"].dropna()) - set(SPLITS))
    if strange or table["split"].isna().any():
        found = some(strange) or "an empty one"
        raise UserError(f"{path}: expected the splits {', '.join(SPLITS)}, found {found}")
    check_disjoint(table)
    return dict(zip(table["subject"], table["split"], strict=True))


def _none_empty(splits: pd.DataFrame, wanted: Sequence[str], params: SplitParams) -> None:
    counts = splits["split"].value_counts()
    if all(counts.get(split, 0) for split in wanted):
        return
    found = ", ".join(f"{split} {counts.get(split, 0)}" for split in wanted)
    hint = {
        "hash": f"try another seed than {params.seed} or method: stratified",
        "stratified": "add subjects or raise the share of the empty split",
        "release": "check train_releases, validation_releases and test_releases",
    }[params.method]
    raise UserError(f"splits: a split has no subjects ({found}); {hint}")
