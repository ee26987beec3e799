"""The windows of a pretraining run: by split, in batches, with what the objective adds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.training import seeding
from hbn_foundation.training.supervision.policy import EVALUATION_BATCH

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.objectives.base import Objective


class WindowsOfSubjects:
    """Batches of the windows of some subjects.

    Parameters
    ----------
    store
        The signal store.
    windows
        Windows table as the objective prepared it.
    subjects
        Whose windows.
    n_samples
        Length of a window.
    objective
        Adds targets or partners; None adds nothing.
    seed
        Of the order and of the objective's draws.
    volts
        As for `WindowReader`.
    """

    def __init__(
        self,
        store: SignalStore,
        windows: pd.DataFrame,
        subjects: Iterable[str],
        n_samples: int,
        objective: Objective | None,
        seed: int,
        volts: bool = False,
    ) -> None:
        from hbn_foundation.signals.batches import WindowReader

        self.reader = WindowReader(store, n_samples, volts)
        self.windows = windows[windows["subject"].isin(set(subjects))].reset_index(drop=True)
        self.objective = objective
        self.seed = seed

    def training(self, batch_size: int, epoch: int, jitter: int = 0) -> Iterable[Any]:
        """Shuffled batches of one epoch; a last batch that is not full is left out."""
        size = min(batch_size, len(self.windows))
        return self._batches(
            self.windows, size, shuffle=True, epoch=epoch, jitter=jitter, drop_last=True
        )

    def validation(self, batch_size: int = EVALUATION_BATCH) -> Iterable[Any]:
        """All windows, in batches that are mixed, but the same in each pass."""
        return self._batches(self.windows, batch_size, shuffle=True)

    def whole(self, batch_size: int = EVALUATION_BATCH) -> Iterable[Any]:
        """All windows as they are, in the table's order."""
        return self._batches(self.windows, batch_size)

    def sample(self, most: int) -> pd.DataFrame:
        """At most `most` rows of the windows, in the table's order; the same in each call."""
        if len(self.windows) <= most:
            return self.windows
        random = np.random.default_rng(seeding.derive(self.seed, seeding.CHOICE))
        chosen = random.choice(len(self.windows), most, replace=False)
        return self.windows.iloc[np.sort(chosen)]

    def plain(self, batch_size: int, most: int) -> Iterable[Any]:
        """Batches of `sample`, without the objective's additions."""
        from hbn_foundation.signals.batches import WindowBatches

        return WindowBatches(self.reader, self.sample(most), batch_size)

    def _batches(self, windows: pd.DataFrame, batch_size: int, **options: Any) -> Iterable[Any]:
        from hbn_foundation.signals.batches import WindowBatches

        plain = WindowBatches(self.reader, windows, batch_size, seed=self.seed, **options)
        if self.objective is None:
            return plain
        return self.objective.batches(plain, windows, self.seed)


class Told:
    """Batches that call back after each, so that somebody who waits hears of it.

    Parameters
    ----------
    batches
        What to iterate over.
    tell
        Called after each batch.
    """

    def __init__(self, batches: Iterable[Any], tell: Callable[[], Any]) -> None:
        self.batches = batches
        self.tell = tell

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            yield batch
            self.tell()


class Steps:
    """Batches in lists, one for each optimizer step.

    Parameters
    ----------
    batches
        What to iterate over.
    accumulate
        Batches in a list; the last one may have fewer.
    count
        How many lists.
    """

    def __init__(self, batches: Iterable[Any], accumulate: int, count: int) -> None:
        self.batches = batches
        self.accumulate = accumulate
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[Any]]:
        batches = iter(self.batches)
        for _ in range(self.count):
            yield list(itertools.islice(batches, self.accumulate))


def n_windows(batch: Any) -> int:
    """Windows (or pairs of them) in a batch, a dataclass of tensors."""
    return min(len(value) for value in _tensors(batch).values())


def cut(batch: Any, size: int) -> list[Any]:
    """Cut a batch into micro-batches of at most so many windows, in their order.

    A tensor with several rows for each window has all first rows first, as pairs have.
    """
    count = n_windows(batch)
    if count <= size:
        return [batch]
    folded = {name: value.unflatten(0, (-1, count)) for name, value in _tensors(batch).items()}
    return [
        replace(
            batch,
            **{name: value[:, at : at + size].flatten(0, 1) for name, value in folded.items()},
        )
        for at in range(0, count, size)
    ]


def _tensors(batch: Any) -> dict[str, Any]:
    found = {part.name: getattr(batch, part.name) for part in fields(batch)}
    return {name: value for name, value in found.items() if value is not None}


def subjects_of(splits: pd.DataFrame, split: str, windows: pd.DataFrame) -> list[str]:
    """Sorted subjects of a split that have windows.

    Raises
    ------
    UserError
        When there is none.
    """
    wanted = set(splits.loc[splits["split"] == split, "subject"].astype(str))
    found = sorted(wanted & set(windows["subject"].astype(str)))
    if not found:
        raise UserError(
            f"splits: no {split} subject has a window; {len(wanted)} are in the split, "
            f"{windows['subject'].nunique()} subjects have windows"
        )
    return found
