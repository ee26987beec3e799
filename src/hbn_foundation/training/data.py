"""The windows of a training: by split, in batches, with what the objective or the label adds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.signals.context import SEQUENCE, count_batches, most_at_once, pieces
from hbn_foundation.signals.params import NO_JITTER, Jitter
from hbn_foundation.training import seeding
from hbn_foundation.training.params import RunParams
from hbn_foundation.training.supervision.policy import EVALUATION_BATCH

if TYPE_CHECKING:
    from torch import Tensor

    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.signals.reader import Unit
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.objectives.base import Objective


class WindowsOfSubjects:
    """Batches of the windows of some subjects.

    Parameters
    ----------
    store, windows, n_samples, unit
        As for `WindowReader` and `WindowBatches`; windows as the objective prepared them.
    subjects
        Whose windows.
    objective
        Adds targets or partners; None adds nothing.
    seed
        Of the order and of the objective's draws.
    """

    def __init__(
        self,
        store: SignalStore,
        windows: pd.DataFrame,
        subjects: Iterable[str],
        n_samples: int,
        objective: Objective | None,
        seed: int,
        unit: Unit = "store",
    ) -> None:
        from hbn_foundation.signals.batches import WindowReader

        self.reader = WindowReader(store, n_samples, unit)
        self.windows = windows[windows["subject"].isin(set(subjects))].reset_index(drop=True)
        self.objective = objective
        self.seed = seed
        self.sequences = pieces(self.windows)

    def __len__(self) -> int:
        return len(self.windows)

    def n_batches(self, batch_size: int) -> int:
        """Count the batches of an epoch of training."""
        return n_training_batches(self.windows, batch_size)

    def largest_batch(self, batch_size: int) -> int:
        """Count the windows of the largest batch of a training."""
        return most_at_once(self.sequences, min(batch_size, len(self)))

    def training(self, batch_size: int, epoch: int, jitter: Jitter = NO_JITTER) -> Iterable[Any]:
        """Shuffled batches of one epoch; a last batch that is not full is left out."""
        return self._batches(
            min(batch_size, len(self)), shuffle=True, epoch=epoch, jitter=jitter, drop_last=True
        )

    def validation(self, batch_size: int = EVALUATION_BATCH) -> Iterable[Any]:
        """All windows, in shuffled batches that are the same in each pass."""
        return self._batches(batch_size, shuffle=True)

    def whole(self, batch_size: int = EVALUATION_BATCH) -> Iterable[Any]:
        """All windows as they are, in the table's order."""
        return self._batches(batch_size)

    def sample(self, most: int) -> pd.DataFrame:
        """At most `most` rows of the windows, in the table's order; the same in each call.

        Of windows in sequences, so many whole sequences, at least one.
        """
        if len(self) <= most:
            return self.windows
        random = np.random.default_rng(seeding.derive(self.seed, seeding.CHOICE))
        if self.sequences:
            order = random.permutation(len(self.sequences))
            sizes = np.cumsum([len(self.sequences[one]) for one in order])
            kept = order[: max(1, np.searchsorted(sizes, most, side="right"))]
            return self.windows.iloc[np.sort(np.concatenate([self.sequences[one] for one in kept]))]
        chosen = random.choice(len(self), most, replace=False)
        return self.windows.iloc[np.sort(chosen)]

    def plain(self, batch_size: int, most: int) -> Iterable[Any]:
        """Batches of `sample`, without the objective's additions."""
        from hbn_foundation.signals.batches import WindowBatches

        return WindowBatches(self.reader, self.sample(most), batch_size)

    def _batches(self, batch_size: int, epoch: int = 0, **options: Any) -> Iterable[Any]:
        from hbn_foundation.signals.batches import WindowBatches

        plain = WindowBatches(self.reader, self.windows, batch_size, seed=self.seed, **options)
        plain.set_epoch(epoch)
        if self.objective is None:
            return plain
        return self.objective.batches(plain, self.windows)


class LabelledWindows(WindowsOfSubjects):
    """Batches of the windows of some subjects of which a target is known, or of sequences of them.

    Parameters
    ----------
    dataset, split, n_samples, seed, unit
        As for `WindowsOfSubjects`, of the subjects of a split.
    targets
        (N, M) for each row of `windows`, as `losses.side_by_side` gives them; a column more, of
        weights in the main target's loss, where windows have a `stratum`.
    per_sample
        (M,) by how much each target changes where a window begins one sample later; None: none.
    """

    def __init__(
        self,
        dataset: EEGDataset,
        split: str,
        n_samples: int,
        seed: int,
        targets: np.ndarray,
        *,
        unit: Unit = "store",
        per_sample: np.ndarray | None = None,
    ) -> None:
        import torch

        windows = dataset.windows
        subjects = subjects_of(dataset.splits, split, windows)
        known = ~np.isnan(targets).all(axis=1) | (SEQUENCE in windows)
        mine = known & windows["subject"].isin(subjects).to_numpy()
        super().__init__(dataset.store, windows[mine], subjects, n_samples, None, seed, unit)
        self.targets = torch.as_tensor(targets[mine], dtype=torch.float32)
        moves = np.zeros(targets.shape[1])
        if per_sample is not None:
            moves[: len(per_sample)] = per_sample
        self.per_sample = torch.as_tensor(moves, dtype=torch.float32)

    def of(self, batch: Any) -> Tensor:
        """Targets (B, M) of the windows of a batch, moved with the start of each."""
        targets = self.targets[batch.index.cpu()]
        if batch.shift is not None and self.per_sample.any():
            targets = targets + batch.shift.cpu()[:, None] * self.per_sample
        return targets.to(batch.index.device)


class Steps:
    """Lists of `per_step` batches, one for each optimizer step; the last one may be shorter."""

    def __init__(self, batches: Iterable[Any], per_step: int, count: int) -> None:
        self.batches = batches
        self.per_step = per_step
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[Any]]:
        batches = iter(self.batches)
        for _ in range(self.count):
            yield list(itertools.islice(batches, self.per_step))


def n_training_batches(windows: pd.DataFrame, batch_size: int) -> int:
    """Count the whole batches of windows, or of sequences of them."""
    if SEQUENCE in windows:
        return count_batches(pieces(windows), min(batch_size, len(windows)), drop_last=True)
    return len(windows) // min(batch_size, len(windows))


def steps_per_epoch(n_batches: int, params: RunParams) -> int:
    """Optimizer steps in an epoch."""
    return -(-n_batches // params.accumulate_grad_batches)


def n_windows(batch: Any) -> int:
    """Windows (or pairs of them) in a batch, a dataclass of tensors."""
    return min(len(value) for value in _tensors(batch).values())


def cut(batch: Any, size: int) -> list[Any]:
    """Cut a batch into micro-batches of at most `size` windows, in their order.

    Sequences stay whole, also one that is longer (`sequence_encoder.max_windows`).
    Of a tensor with several rows for each window, as of pairs, all first rows come first.
    """
    count = n_windows(batch)
    if count <= size:
        return [batch]
    if getattr(batch, "places", None) is not None:
        return _whole_sequences(batch, size)
    folded = {name: value.unflatten(0, (-1, count)) for name, value in _tensors(batch).items()}
    return [
        replace(
            batch,
            **{name: value[:, at : at + size].flatten(0, 1) for name, value in folded.items()},
        )
        for at in range(0, count, size)
    ]


def _whole_sequences(batch: Any, size: int) -> list[Any]:
    """Cut a batch between sequences, of which each part has one at least."""
    number = batch.places[:, 0].cpu().numpy()
    parts: list[list[np.ndarray]] = []
    for one in dict.fromkeys(number.tolist()):
        rows = np.flatnonzero(number == one)
        if not parts or sum(map(len, parts[-1])) + len(rows) > size:
            parts.append([])
        parts[-1].append(rows)
    tensors = _tensors(batch)
    return [
        replace(batch, **{name: value[np.concatenate(rows)] for name, value in tensors.items()})
        for rows in parts
    ]


def thinned(batch: Any, size: int) -> Any:
    """Keep at most `size` windows of a batch, evenly, two that follow each other at a time."""
    count = n_windows(batch)
    if count <= size:
        return batch
    stride = -(-count // max(2, size - 1))
    kept = np.flatnonzero(np.arange(count) // 2 % stride == 0)
    return replace(batch, **{name: value[kept] for name, value in _tensors(batch).items()})


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
