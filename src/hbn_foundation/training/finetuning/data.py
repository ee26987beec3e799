"""The labelled windows of a fine-tuning run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from hbn_foundation.training.data import WindowsOfSubjects

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore


class LabelledWindows(WindowsOfSubjects):
    """Batches of the windows of some subjects whose target is known.

    Parameters
    ----------
    store, windows, subjects, n_samples, seed
        As for `WindowsOfSubjects`.
    targets
        One for each row of `windows`: classes (int64, −1 unknown) or values (float, NaN unknown).
    """

    def __init__(
        self,
        store: SignalStore,
        windows: pd.DataFrame,
        subjects: Iterable[str],
        n_samples: int,
        seed: int,
        targets: np.ndarray,
    ) -> None:
        known = ~np.isnan(targets) if targets.dtype.kind == "f" else targets >= 0
        mine = known & windows["subject"].isin(set(subjects)).to_numpy()
        super().__init__(store, windows[mine], subjects, n_samples, None, seed)
        kept = targets[mine]
        kind = torch.float32 if targets.dtype.kind == "f" else torch.int64
        self.targets = torch.as_tensor(kept, dtype=kind)

    def of(self, index: Tensor) -> Tensor:
        """Targets of the windows of a batch, by their place in `windows`."""
        return self.targets[index.cpu()].to(index.device)
