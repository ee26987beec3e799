"""Strata of subjects, and their apportionment to splits and folds."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError, as_text
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.targets import UNKNOWN as NO_CLASS
from hbn_foundation.labels.targets import window_labels

USUAL_COLUMNS = ("age", "sex", "site", "release_number")
BINS = 3
UNKNOWN = "unknown"
STRATUM = "stratum"
"""Column of windows whose levels stratify their scores."""
Part = TypeVar("Part", str, int)


def strata_columns(
    subjects: Sequence[str], participants: pd.DataFrame, columns: Sequence[str] | None = None
) -> list[str]:
    """Name the columns that make strata: those with a known value for at least one subject.

    `columns` are those that may make strata, None the `USUAL_COLUMNS` that the table has; one that
    `participants` lacks is a UserError.
    """
    if columns is None:
        columns = [name for name in USUAL_COLUMNS if name in participants]
    check_columns(columns, participants, f"stratify asks for {', '.join(columns)}")
    people = participants[participants["subject"].isin(list(subjects))]
    return [name for name in columns if people[name].notna().any()]


def check_columns(wanted: Iterable[str], participants: pd.DataFrame, who: str) -> None:
    """Make sure that participants.tsv has some columns; `who` says what needs them."""
    there = [name for name in participants.columns if name != "subject"]
    if missing := set(wanted).difference(there):
        named = ", ".join(sorted(missing))
        found = ", ".join(map(str, there)) or "no columns"
        raise UserError(f"splits: {who}, but participants.tsv has no {named}, only {found}")


def strata(
    subjects: Sequence[str],
    participants: pd.DataFrame,
    columns: Sequence[str] | None = None,
    n_bins: int = BINS,
) -> pd.Series:
    """Name the stratum of each subject, such as `age 6.1-9.2 · sex F`; `all` if nothing is known.

    Numeric columns are cut into `n_bins` quantile bins. The result is indexed by subject.
    """
    columns = strata_columns(subjects, participants, columns)
    table = participants.set_index("subject").reindex(list(subjects))[columns]
    return joined(table.apply(_levels, n_bins=n_bins)).rename("stratum")


def class_strata(
    subjects: Sequence[str], participants: pd.DataFrame, labels: Iterable[LabelParams]
) -> pd.DataFrame:
    """Name the class of each subject, or the quantile bin of its number, in each label.

    The table is indexed by subject and has a column per label that is one of participants, named
    as in participants.tsv. Invalid labels are ignored: they raise an error where they are learned.
    """
    classes = pd.DataFrame(index=list(subjects))
    for label in labels:
        if label.kind == "participant" and label.column not in classes:
            with contextlib.suppress(UserError):
                classes[str(label.column)] = _classes(subjects, participants, label)
    return classes


def score_strata(subjects: Iterable[str], participants: pd.DataFrame, column: str) -> pd.Series:
    """Name the stratum of each subject by which scores are averaged: its level of a column.

    Numbers are cut into quantile bins; unknown is a level of its own. The result is indexed by
    subject.

    Raises
    ------
    UserError
        When there is no such column, or all subjects have one level.
    """
    names = sorted({str(subject) for subject in subjects})
    known = participants.assign(subject=participants["subject"].astype(str)).set_index("subject")
    key = f"stratify_scores_by={column}"
    if column not in known:
        found = ", ".join(map(str, known)) or "no columns"
        raise UserError(f"{key}: expected a column of participants.tsv, which has {found}")
    levels = _levels(known[column].reindex(names), BINS)
    if levels.nunique() < 2:
        raise UserError(
            f"{key}: expected two values or more, but all {len(names)} subjects have "
            f"{levels.iloc[0] if len(levels) else 'none'}"
        )
    return levels.rename(STRATUM)


def with_strata(
    windows: pd.DataFrame, participants: pd.DataFrame, column: str | None
) -> pd.DataFrame:
    """Put the stratum of each window's subject beside it, see `score_strata`; None: no strata."""
    if column is None:
        return windows
    subjects = windows["subject"].astype(str)
    of_subject = score_strata(subjects.unique(), participants, column)
    return windows.assign(**{STRATUM: subjects.map(of_subject).to_numpy(dtype=object)})


def cell_weights(
    classes: np.ndarray, strata: np.ndarray, training: np.ndarray | None = None
) -> np.ndarray:
    """Weights (N,) with which each class counts alike, and in each class its strata do.

    Their mean is one over the windows that are `training` (N,), by default all; a cell of class
    and stratum that none of these is in has weight one.
    """
    cells = pd.DataFrame({"class": classes, "stratum": strata})
    counts = (cells if training is None else cells[training]).value_counts()
    n_strata = counts.groupby("class").transform("size")
    weights = counts.sum() / (counts.index.unique("class").size * n_strata * counts)
    return weights.reindex(pd.MultiIndex.from_frame(cells)).fillna(1.0).to_numpy(dtype=np.float64)


def balanced_order(strata: pd.Series, seed: int) -> list[str]:
    """Draw an order of subjects of which every beginning is as balanced as it can be.

    The strata take turns, the largest first, as long as they have subjects. `strata` are indexed
    by subject; their order does not matter.
    """
    drawn = strata.loc[np.random.default_rng(seed).permutation(sorted(strata.index))]
    groups = drawn.groupby(drawn)
    turns = np.lexsort((drawn, -groups.transform("size"), groups.cumcount()))
    return drawn.index[turns].tolist()


def spread_order(classes: pd.Series, seed: int) -> list[str]:
    """Draw an order of subjects of which every beginning contains all classes.

    One subject of each class comes first; after that each class is spread evenly by its size.
    `classes` are indexed by subject; their order does not matter.
    """
    drawn = classes.loc[np.random.default_rng(seed).permutation(sorted(classes.index))]
    groups = drawn.groupby(drawn)
    place = groups.cumcount()
    due = (place + 0.5) / groups.transform("size")
    return drawn.index[np.lexsort((due, place > 0))].tolist()


def labelling_order(
    subjects: Sequence[str],
    participants: pd.DataFrame,
    label: LabelParams,
    stratify: str | None,
    seed: int,
) -> list[str]:
    """Draw the order in which the labels of subjects join.

    Beginnings are balanced over the strata that scores are averaged over, or else contain all
    classes of a label of subjects.
    """
    if stratify is not None:
        return balanced_order(score_strata(subjects, participants, stratify), seed)
    return spread_order(joined(class_strata(subjects, participants, [label])), seed)


def joined(classes: pd.DataFrame) -> pd.Series:
    """Join the columns of a table to one name per row; `all` without a column."""
    names = pd.Series("", index=classes.index, dtype=object)
    for column in classes:
        names = names + f" · {column} " + classes[column]
    return names.str.removeprefix(" · ").replace("", "all")


def _classes(subjects: Sequence[str], participants: pd.DataFrame, label: LabelParams) -> list[str]:
    if label.type == "regression":
        known = participants.set_index("subject").reindex(list(subjects))
        if label.column not in known:
            raise UserError(f"labels: column {label.column} is not in participants.tsv")
        return _levels(known[label.column], BINS).tolist()
    each = pd.DataFrame({"subject": list(subjects)})
    classes, titles = window_labels(each, participants, label, subjects)
    return [UNKNOWN if number == NO_CLASS else titles[number] for number in classes]


def _levels(values: pd.Series, n_bins: int) -> pd.Series:
    """Name the level of each value: itself, or its quantile bin for a numeric column."""
    numbers = pd.to_numeric(values, errors="coerce")
    numeric = bool(numbers.notna().any() and numbers.notna().equals(values.notna()))
    if not numeric or numbers.nunique() <= n_bins:
        return values.map(as_text, na_action="ignore").astype(object).fillna(UNKNOWN)
    edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, n_bins + 1)))
    ranges = [f"{low:.4g}-{high:.4g}" for low, high in itertools.pairwise(edges)]
    cut = pd.cut(numbers, edges.tolist(), labels=ranges, include_lowest=True, ordered=False)
    return cut.astype(object).fillna(UNKNOWN)


def position(text: str, seed: int | str) -> float:
    """Map a name and a seed to a fixed position in [0, 1)."""
    digest = hashlib.blake2b(f"{seed}:{text}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def divide(
    classes: pd.Series,
    stratum: pd.Series,
    shares: Mapping[Part, float],
    seed: int | str,
    kept: Mapping[str, Part] | None = None,
) -> dict[str, Part]:
    """Assign each subject to a part with exact totals, stratified by class and stratum.

    Each class is apportioned on its own, so that a class with at least as many subjects as parts
    is in every part. Within a class, subjects are assigned stratum by stratum, each to the part
    that is furthest below its share.

    Classes and strata are indexed by subject; the seed decides the order of strata and of subjects
    within one. The part of subjects in `kept` is fixed; the others compensate for them as far as
    possible.
    """
    left = _apportioned(len(classes), shares)
    parts: dict[str, Part] = {}
    by_size = sorted(classes.groupby(classes), key=lambda item: (len(item[1]), item[0]))
    for _, members in by_size:
        key = {
            name: (position(stratum[name], seed), stratum[name], position(name, seed))
            for name in members.index
        }
        quota = _apportioned(len(members), {part: max(n, 0) for part, n in left.items()})
        dealt = _dealt(sorted(key, key=key.__getitem__), quota, kept or {})
        for part in dealt.values():
            left[part] -= 1
        parts |= dealt
    return parts


def _apportioned(n: int, shares: Mapping[Part, float]) -> dict[Part, int]:
    """Divide n by shares into whole numbers by largest remainder.

    Each number differs from its exact share by less than one, except that a part with a share
    gets at least one if n allows. Of equal remainders the first part comes first.
    """
    total = sum(shares.values()) or 1.0
    exact = {part: n * share / total for part, share in shares.items()}
    counts = {part: math.floor(number + 1e-9) for part, number in exact.items()}
    by_remainder = sorted(shares, key=lambda part: round(counts[part] - exact[part], 9))
    for part in by_remainder[: n - sum(counts.values())]:
        counts[part] += 1
    wanted = [part for part in shares if shares[part] > 0]
    for part in wanted if n >= len(wanted) else []:
        if not counts[part]:
            counts[max(wanted, key=lambda other: counts[other])] -= 1
            counts[part] = 1
    return counts


def _dealt(
    names: Sequence[str], quota: Mapping[Part, int], kept: Mapping[str, Part]
) -> dict[str, Part]:
    left, given = dict(quota), dict.fromkeys(quota, 0)
    for name in names:
        if name in kept:
            left[kept[name]] -= 1
    parts: dict[str, Part] = {}
    for place, name in enumerate(names, start=1):
        if name in kept:
            part = kept[name]
        else:
            due = {part: quota[part] * place / len(names) - given[part] for part in quota}
            part = max((part for part in quota if left[part] > 0), key=lambda one: due[one])
            left[part] -= 1
        given[part] += 1
        parts[name] = part
    return parts
