"""What is followed on validation subjects, epoch by epoch, while a label is learned."""

from __future__ import annotations

import numpy as np

from hbn_foundation import scores


def monitors(
    values: np.ndarray,
    outputs: np.ndarray,
    features: np.ndarray | None,
    n_classes: int | None,
) -> dict[str, float]:
    """Score a model's outputs; the names are those of `hbn_foundation.scores`, the loss aside.

    Parameters
    ----------
    values
        Classes (N,), or numbers (N,) on the scale of the outputs.
    outputs
        Logits (N, K), or predicted numbers (N,) or (N, 1).
    features
        What the head's last layer gets (N, D); None leaves out `fisher_ratio`.
    n_classes
        None for numbers.

    Returns
    -------
    dict
        `f1`, `balanced_accuracy`, `auroc`, `accuracy`, `fisher_ratio`; or `nrmse`, `r`, `mae`,
        `r2`. NaN where there is none.
    """
    if n_classes is None:
        true = np.asarray(values, dtype=np.float64)
        predicted = np.asarray(outputs, dtype=np.float64).reshape(len(true))
        return {
            "nrmse": scores.nrmse(true, predicted),
            "r": scores.pearson_r(true, predicted),
            "mae": scores.mae(true, predicted),
            "r2": scores.r2(true, predicted),
        }
    from scipy.special import log_softmax

    labels = np.asarray(values)
    logs = log_softmax(np.asarray(outputs, dtype=np.float64), axis=1)
    predicted = logs.argmax(1)
    result = {
        "f1": scores.macro_f1(labels, predicted),
        "balanced_accuracy": scores.balanced_accuracy(labels, predicted),
        "auroc": scores.auroc(labels, logs),
        "accuracy": scores.accuracy(labels, predicted),
    }
    if features is not None:
        result["fisher_ratio"] = scores.fisher_ratio(labels, features)
    return result
