"""Two coordinates per window for a map of the encoder's features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.features import encoder_features
from hbn_foundation.evaluation.methods import PRETRAINED
from hbn_foundation.evaluation.params import EvaluationParams
from hbn_foundation.evaluation.sample import labelled_windows
from hbn_foundation.signals.label_windows import probe_windows
from hbn_foundation.signals.windows import subsample

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

MOST_COMPONENTS = 30
MOST_WINDOWS = 1500


def embedding_map(
    checkpoint: Checkpoint, dataset: EEGDataset, params: EvaluationParams
) -> pd.DataFrame:
    """Lay labelled windows out in the plane: principal components, and t-SNE of these where asked.

    Parameters
    ----------
    checkpoint, dataset
        As for `evaluate_foundation`.
    params
        Label and method; of many windows those of the test come first, others fill up evenly.

    Returns
    -------
    pandas.DataFrame
        `recording`, `subject`, `task`, `split`, `label` (name), `x`, `y`.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    from hbn_foundation.training.checkpoint import load_encoder

    labelled = labelled_windows(
        probe_windows(dataset, params.label), dataset.splits, dataset.participants, params
    )
    chosen = _choose(labelled.table["split"].to_numpy(), MOST_WINDOWS, params.seed)
    table = labelled.table.iloc[chosen].reset_index(drop=True)
    encoders = {PRETRAINED: load_encoder(checkpoint)}
    features = encoder_features(encoders, dataset.store, table, params.batch_size)[PRETRAINED]
    values = features.astype(np.float64)
    values = values - values.mean(0)
    n_components = min(MOST_COMPONENTS, len(values), values.shape[1])
    places = PCA(n_components, random_state=params.seed).fit_transform(values)
    if params.map_method == "tsne" and len(values) > 10 and n_components > 2:
        perplexity = min(30.0, (len(values) - 1) / 3)
        layout = TSNE(perplexity=perplexity, init="pca", random_state=params.seed)
        places = layout.fit_transform(places)
    names = np.array(labelled.classes, dtype=object)
    return table[["recording", "subject", "task", "split"]].assign(
        label=names[table["label"].to_numpy()],
        x=places[:, 0].astype(np.float64),
        y=(places[:, 1] if places.shape[1] > 1 else np.zeros(len(places))).astype(np.float64),
    )


def _choose(splits: np.ndarray, most: int, seed: int) -> np.ndarray:
    test, rest = np.flatnonzero(splits == "test"), np.flatnonzero(splits != "test")
    test = test[subsample(len(test), max(most // 2, most - len(rest)), seed)]
    rest = rest[subsample(len(rest), most - len(test), seed + 1)]
    return np.sort(np.concatenate([test, rest]))
