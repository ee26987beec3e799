"""The labelled windows of a fine-tuning run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hbn_foundation.training.data import WindowsOfSubjects

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore


class LabelledWindows(WindowsOfSubjects):
    """Batches of the windows of some subjects of which a target is known.

    Parameters
    ----------
    store, windows, subjects, n_samples, seed
        As for `WindowsOfSubjects`.
    targets
        (N, M) for each row of `windows`, as `learning.side_by_side` gives them.
    volts
        Read in volts and with bad channels, as for `WindowReader`.
    per_sample
        (M,) by how much each target changes where a window begins one sample later; None: none.
    """

    def __init__(
        self,
        store: SignalStore,
        windows: pd.DataFrame,
        subjects: Iterable[str],
        n_samples: int,
        seed: int,
        targets: np.ndarray,
        volts: bool = False,
        per_sample: np.ndarray | None = None,
    ) -> None:
        known = ~np.isnan(targets).all(axis=1)
        mine = known & windows["subject"].isin(set(subjects)).to_numpy()
        super().__init__(store, windows[mine], subjects, n_samples, None, seed, volts)
        self.targets = torch.as_tensor(targets[mine], dtype=torch.float32)
        moves = np.zeros(targets.shape[1]) if per_sample is None else per_sample
        self.per_sample = torch.as_tensor(moves, dtype=torch.float32)

    def of(self, batch: Any) -> Tensor:
        """Targets (B, M) of the windows of a batch, as they are where each begins."""
        targets = self.targets[batch.index.cpu()]
        if batch.shift is not None and self.per_sample.any():
            targets = targets + batch.shift.cpu()[:, None] * self.per_sample
        return targets.to(batch.index.device)
