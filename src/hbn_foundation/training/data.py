"""The windows of a pretraining run: by split, in batches, with what the objective adds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.training import seeding

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.objectives.base import Objective

VALIDATION_BATCH_SIZE = 256


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
        from hbn_foundation.signals.windows import WindowReader

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

    def validation(self, batch_size: int = VALIDATION_BATCH_SIZE) -> Iterable[Any]:
        """All windows, in batches that are mixed, but the same in each pass."""
        return self._batches(self.windows, batch_size, shuffle=True)

    def whole(self, batch_size: int = VALIDATION_BATCH_SIZE) -> Iterable[Any]:
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


class Head:
    """The first batches of a pass.

    Parameters
    ----------
    batches
        What to iterate over.
    count
        How many.
    """

    def __init__(self, batches: Iterable[Any], count: int) -> None:
        self.batches = batches
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self.batches, self.count)


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
