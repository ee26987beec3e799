"""Names of the scores that are followed while a label is learned, and which way is better.

A name alone is of the validation subjects; with `train_` before it, of the training subjects, as
they were answered while the model learned.
"""

from __future__ import annotations

from hbn_foundation.errors import UserError

TRAIN = "train_"
CLASSIFICATION_METRICS = (
    "loss",
    "f1",
    "balanced_accuracy",
    "auroc",
    "accuracy",
    "fisher_ratio",
)
REGRESSION_METRICS = ("loss", "nrmse", "r", "mae", "r2")
LOWER_IS_BETTER = ("loss", "nrmse", "mae")

_ON_VALIDATION = (*CLASSIFICATION_METRICS, *REGRESSION_METRICS[1:])
#: Made from features, which training does not keep.
_NOT_IN_TRAINING = ("fisher_ratio",)
_IN_TRAINING = tuple(TRAIN + name for name in _ON_VALIDATION if name not in _NOT_IN_TRAINING)
KNOWN_METRICS = (*_ON_VALIDATION, *_IN_TRAINING)
HIGHER_IS_BETTER = tuple(
    name for name in KNOWN_METRICS if name.removeprefix(TRAIN) not in LOWER_IS_BETTER
)


def metrics_of(is_regression: bool) -> tuple[str, ...]:
    """Names that are computed for a number, or for classes, on validation subjects."""
    return REGRESSION_METRICS if is_regression else CLASSIFICATION_METRICS


def lower_is_better(name: str) -> bool:
    """Tell whether a score is an error; `window_nrmse` and `recording_mae` are, as `nrmse` is."""
    return name.rsplit("_", 1)[-1] in LOWER_IS_BETTER


def higher_is_better(name: str) -> bool:
    """Tell whether a larger value of a score is a better one."""
    return name in HIGHER_IS_BETTER


def check_metric(name: str, key: str, is_regression: bool | None = None) -> None:
    """Make sure that a score is computed.

    Parameters
    ----------
    name
        As in `KNOWN_METRICS`.
    key
        The parameter that names it, for the message.
    is_regression
        What is learned: a number or classes; None where that is not known yet.

    Raises
    ------
    UserError
        When nothing of this name is computed, or not for this kind of label.
    """
    known = _ON_VALIDATION if is_regression is None else metrics_of(is_regression)
    if name in KNOWN_METRICS and name.removeprefix(TRAIN) in known:
        return
    kinds = {None: "", True: " for regression", False: " for classes"}
    raise UserError(
        f"{key}: {name} is not computed{kinds[is_regression]}; known: {', '.join(known)}, each "
        f"but {_NOT_IN_TRAINING[0]} also with {TRAIN} before it"
    )
