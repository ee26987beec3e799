"""Two coordinates per window for a map of what the encoder has learned."""

from __future__ import annotations

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.sample import LabelledWindows
from hbn_foundation.signals.windows import subsample

MOST_COMPONENTS = 30


def embedding_map(
    features: np.ndarray,
    labelled: LabelledWindows,
    most: int,
    method: str = "tsne",
    seed: int = 0,
) -> pd.DataFrame:
    """Lay windows out in the plane: principal components, and t-SNE of these where asked.

    Parameters
    ----------
    features
        (N, D) of all labelled windows.
    labelled
        The same windows with split and class.
    most
        Windows on the map; the test split comes first, the others fill up evenly.
    method
        `tsne` or `pca`.
    seed
        Of thinning and layout.

    Returns
    -------
    pandas.DataFrame
        `recording`, `subject`, `task`, `split`, `label` (name), `x`, `y`.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    chosen = _choose(labelled.splits, most, seed)
    values = features[chosen].astype(np.float64)
    values = values - values.mean(0)
    n_components = min(MOST_COMPONENTS, len(values), values.shape[1])
    places = PCA(n_components, random_state=seed).fit_transform(values)
    if method == "tsne" and len(values) > 10 and n_components > 2:
        perplexity = min(30.0, (len(values) - 1) / 3)
        places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(places)
    table = labelled.table.iloc[chosen].reset_index(drop=True)
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
