"""Strata of subjects, and exact shares within them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.wording import written

USUAL_COLUMNS = ("age", "sex", "site", "release_number")
UNKNOWN = "unknown"


def strata(
    subjects: Sequence[str],
    participants: pd.DataFrame,
    columns: Sequence[str] | None,
    n_bins: int,
) -> pd.Series:
    """Name the stratum of each subject, such as `age 6.1-9.2 · sex F`.

    Parameters
    ----------
    subjects
        The subjects that are divided.
    participants
        A table with the column `subject`.
    columns
        Columns that make the strata; None takes those of `USUAL_COLUMNS` that the table has.
    n_bins
        How many quantile bins a numeric column is cut into.

    Returns
    -------
    pandas.Series
        Name of the stratum, indexed by subject; `all` where nothing is known.

    Raises
    ------
    UserError
        When a column is asked for that the table does not have.
    """
    known = [name for name in participants.columns if name != "subject"]
    if columns is None:
        columns = [name for name in USUAL_COLUMNS if name in known]
    missing = [name for name in columns if name not in known]
    if missing:
        raise UserError(
            f"splits: stratify asks for {', '.join(missing)}, but participants.tsv has "
            f"{', '.join(known) or 'no columns'}"
        )
    table = participants.set_index("subject").reindex(list(subjects))
    names = pd.Series("", index=table.index, dtype=object)
    for column in columns:
        names = names + " · " + column + " " + _levels(table[column], n_bins)
    return names.str.removeprefix(" · ").replace("", "all").rename("stratum")


def _levels(values: pd.Series, n_bins: int) -> pd.Series:
    """Name the level of each value: itself, or its quantile bin for a numeric column."""
    numbers = pd.to_numeric(values, errors="coerce")
    numeric = bool(numbers.notna().any() and numbers.notna().equals(values.notna()))
    if not numeric or numbers.nunique() <= n_bins:
        return values.map(written, na_action="ignore").astype(object).fillna(UNKNOWN)
    edges = np.unique(np.nanquantile(numbers, np.linspace(0, 1, n_bins + 1)))
    bins = np.clip(np.searchsorted(edges, numbers, side="left") - 1, 0, len(edges) - 2)
    ranges = [f"{low:.4g}-{high:.4g}" for low, high in itertools.pairwise(edges)]
    names = [
        UNKNOWN if pd.isna(value) else ranges[i] for i, value in zip(bins, numbers, strict=True)
    ]
    return pd.Series(names, index=values.index, dtype=object)


def fill_quotas(
    ordered: pd.Series, shares: Mapping[str, float], kept: Mapping[str, str]
) -> dict[str, str]:
    """Give each subject a split, every stratum divided as exactly as whole people allow.

    Within a stratum the count of a split differs from its exact share by less than one person
    (kept subjects aside). What rounding owes to a split is carried to the next stratum, so that
    the totals come out right too although most strata are small.

    Parameters
    ----------
    ordered
        Stratum of each subject, indexed by subject; the order decides who comes first.
    shares
        Share of each split; they add up to one.
    kept
        Splits of subjects that have a place already.

    Returns
    -------
    dict
        The split of each subject of `ordered`.
    """
    names = [str(subject) for subject in ordered.index]
    places = {subject: kept[subject] for subject in names if subject in kept}
    carried = dict.fromkeys(shares, 0.0)
    for _, members in ordered.groupby(ordered, sort=True):
        owed = {split: share * len(members) for split, share in shares.items()}
        for subject in members.index:
            if subject in places:
                owed[places[subject]] -= 1
        for subject in members.index:
            if subject not in places:
                places[subject] = _most_owed(owed, carried)
                owed[places[subject]] -= 1
        carried = {split: carried[split] + owed[split] for split in shares}
    return places


def _most_owed(owed: Mapping[str, float], carried: Mapping[str, float]) -> str:
    whole = [split for split in owed if owed[split] >= 1 - 1e-9]
    if whole:
        return max(whole, key=lambda split: owed[split])
    part = [split for split in owed if owed[split] > 1e-9]
    return max(part or owed, key=lambda split: owed[split] + carried[split])
