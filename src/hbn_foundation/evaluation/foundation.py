"""Evaluate a foundation checkpoint on subjects that it has never seen, baselines beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.baselines import SCALED_PER_FEATURE, classical_features
from hbn_foundation.evaluation.embedding import embedding_map
from hbn_foundation.evaluation.features import encoder_features
from hbn_foundation.evaluation.finetuning import main_score_of
from hbn_foundation.evaluation.methods import PRETRAINED, ordered, written
from hbn_foundation.evaluation.metrics import classification_scores
from hbn_foundation.evaluation.params import EvaluationParams
from hbn_foundation.evaluation.pretext import pretext_scores
from hbn_foundation.evaluation.sample import LabelledWindows, labelled_windows
from hbn_foundation.evaluation.statistics import Interval, Score, ahead
from hbn_foundation.labels.checks import check_disjoint, check_never_seen
from hbn_foundation.labels.params import SPLITS
from hbn_foundation.progress import say, track
from hbn_foundation.training.linear_probe import Scaling, fit_probe, majority_log_probabilities

if TYPE_CHECKING:
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint


class FoundationScores(NamedTuple):
    """What the evaluation of a checkpoint gives.

    Attributes
    ----------
    metrics
        Everything that is a number, ready for JSON.
    scores
        One row per method.
    predictions
        The pretrained encoder's probe on each test window.
    embedding
        Two coordinates per window.
    """

    metrics: dict[str, Any]
    scores: pd.DataFrame
    predictions: pd.DataFrame
    embedding: pd.DataFrame


def evaluate_foundation(
    checkpoint: Checkpoint,
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame,
    params: EvaluationParams,
) -> FoundationScores:
    """Score the pretext task and a frozen probe on held-out subjects.

    Every method is fitted on the same training windows, chosen on the same validation windows and
    scored on the same test windows.

    Parameters
    ----------
    checkpoint
        A pretrained encoder; it may come from another montage.
    store, windows
        The signals, and where the windows are.
    splits
        `subject` and `split`.
    participants
        For labels that belong to the subject.
    params
        Label, probe and baselines.

    Returns
    -------
    FoundationScores

    Raises
    ------
    UserError
        When the checkpoint has been trained on a validation or test subject, was made for another
        sampling rate, or the label does not fit.
    """
    check_disjoint(splits)
    _check_held_out(checkpoint, splits)
    _check_rate(checkpoint, store)
    labelled = labelled_windows(windows, splits, participants, params)
    features = all_features(checkpoint, store, labelled, params)
    results, answers = _probe_all(features, labelled, params)
    metrics = {
        "label": {"kind": params.label.kind, "column": params.label.column,
                  "classes": list(labelled.classes), "shuffled": params.shuffle_labels},
        "objective": objective_of(checkpoint),
        "sample": labelled.sample,
        "n_channels": len(store.positions),
        "windows": _count(labelled.table, None),
        "recordings": _count(labelled.table, "recording"),
        "subjects": _count(labelled.table, "subject"),
        "pretext": pretext_scores(checkpoint, store, windows, splits, participants, params),
        "probe": results,
        "missing": _missing(labelled, results[PRETRAINED]["interval_missing"], params),
        "model": model_size(checkpoint),
        "training": training_of(checkpoint),
    }  # fmt: skip
    return FoundationScores(
        metrics=plain(metrics),
        scores=score_table(results),
        predictions=_predictions(labelled, answers[PRETRAINED]),
        embedding=embedding_map(
            features[PRETRAINED], labelled, params.map_windows, params.map_method, params.seed
        ),
    )


def all_features(
    checkpoint: Checkpoint,
    store: SignalStore,
    labelled: LabelledWindows,
    params: EvaluationParams,
) -> dict[str, np.ndarray]:
    """Features of every method that has some, by method, in the order of the windows."""
    from hbn_foundation.training.checkpoint import load_encoder, random_encoder

    encoders = {PRETRAINED: load_encoder(checkpoint)}
    if "random_weights" in params.baselines:
        encoders["random_weights"] = random_encoder(checkpoint, params.seed)
    wanted_input = PRETRAINED if "encoder_input" in params.baselines else None
    features = encoder_features(
        encoders, store, labelled.table, params.batch_size, input_of=wanted_input
    )
    n_samples = encoders[PRETRAINED].n_samples
    train = labelled.splits == "train"
    classical = classical_features(
        params.baselines, store, labelled.table, train, n_samples, params
    )
    return {**features, **classical}


def score_table(results: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """One row per method: `method`, its name as written, and every score that is one number."""
    rows = []
    for method in ordered(results):
        numbers = {k: v for k, v in results[method].items() if not isinstance(v, list)}
        rows.append({"method": method, "name": written(method), **numbers})
    return pd.DataFrame(rows)


def objective_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Name the pretext task, and say whether its labels were permuted as a control."""
    params = checkpoint.metadata.get("parameters", {}).get("objective", {})
    return {
        "name": checkpoint.metadata.get("objective"),
        "shuffled": bool(params.get("shuffle_labels")),
    }


def training_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Speed of the pretraining in its best epoch, why it ended, and which epochs ran where."""
    metadata = checkpoint.metadata
    return {
        "windows_per_second": metadata.get("scores", {}).get("windows_per_second"),
        "stopped": metadata.get("stopped"),
        "epochs_by_device": metadata.get("epochs_by_device"),
        "incidents": metadata.get("incidents"),
    }


def model_size(checkpoint: Checkpoint) -> dict[str, float]:
    """Count the encoder's numbers and their megabytes (10⁶ bytes)."""
    tensors = [w for name, w in checkpoint.weights.items() if name.startswith("encoder.")]
    return {
        "parameters": sum(tensor.numel() for tensor in tensors),
        "megabytes": sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6,
    }


def plain(value: Any) -> Any:
    """Turn NumPy numbers into Python's and NaN into None, for JSON."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _probe_all(
    features: dict[str, np.ndarray], labelled: LabelledWindows, params: EvaluationParams
) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
    labels, splits, n_classes = labelled.labels, labelled.splits, len(labelled.classes)
    test = splits == "test"
    table = labelled.table[test]
    recordings, subjects = table["recording"].to_numpy(), table["subject"].to_numpy()
    results: dict[str, dict[str, Any]] = {}
    answers: dict[str, np.ndarray] = {}
    resampled: dict[str, Score] = {}
    for method in track(ordered([PRETRAINED, *params.baselines]), "probes"):
        details: dict[str, Any] = {}
        if method == "majority":
            answer = majority_log_probabilities(labels[splits == "train"], n_classes, test.sum())
        else:
            scaling: Scaling = "feature" if method in SCALED_PER_FEATURE else "global"
            probe = fit_probe(
                features[method], labels, splits, n_classes, params.strengths, scaling
            )
            answer = probe.log_probabilities(features[method][test])
            details = {
                "validation_auroc": probe.validation_auroc,
                "strength": probe.strength,
                "n_features": features[method].shape[1],
            }
        resampled[method] = main_score_of(
            labels[test], answer, subjects, False, params.bootstraps, params.seed
        )
        scores = classification_scores(labels[test], answer, recordings)
        results[method] = {**scores, **details}
        answers[method] = answer
        if np.isfinite(scores["window_auroc"]):
            say(f"{written(method)}: window AUROC {scores['window_auroc']:.3f}")
    for method, score in resampled.items():
        results[method] |= with_ends("window_auroc", score, resampled[PRETRAINED])
    return results, answers


def with_ends(main: str, score: Score, model: Score) -> dict[str, Any]:
    """Name the ends of a score's interval, and how far the model is ahead with its interval.

    Returns
    -------
    dict
        `<main>_low`, `<main>_high`, `interval_missing`; `ahead_by`, `ahead_low` and `ahead_high`,
        NaN for the model itself.
    """
    gap, ends = ahead(model, score, main)
    if score is model:
        gap, ends = np.nan, Interval(np.nan, np.nan)
    return {f"{main}_low": score.interval.low, f"{main}_high": score.interval.high,
            "interval_missing": score.interval.missing,
            "ahead_by": gap, "ahead_low": ends.low, "ahead_high": ends.high}  # fmt: skip


def _missing(labelled: LabelledWindows, interval: str, params: EvaluationParams) -> dict[str, str]:
    """Say what keeps the report from a score, a choice of strength or an interval."""
    name, classes = params.label.column or "task", labelled.classes
    found = {split: np.unique(labelled.labels[labelled.splits == split]) for split in SPLITS}
    single = {split: classes[of[0]] for split, of in found.items() if len(of) == 1}
    missing = {"interval": interval if params.bootstraps else ""}
    if "test" in single:
        missing = {"score": f"the test subjects have one class of {name} only ({single['test']})"}
    if "validation" in single:
        missing["choice"] = (
            f"the validation subjects have one class of {name} only ({single['validation']}), so "
            "they cannot choose the probe's strength; the middle one is taken"
        )
    return {what: why for what, why in missing.items() if why}


def _predictions(labelled: LabelledWindows, answer: np.ndarray) -> pd.DataFrame:
    table = labelled.table[labelled.splits == "test"].reset_index(drop=True)
    names = np.array(labelled.classes, dtype=object)
    result = table[["recording", "subject", "task", "start"]].assign(
        label=names[table["label"].to_numpy()], predicted=names[answer.argmax(1)]
    )
    probabilities = np.exp(answer) / np.exp(answer).sum(1, keepdims=True)
    for number, name in enumerate(labelled.classes):
        result[f"p({name})"] = probabilities[:, number]
    return result


def _count(table: pd.DataFrame, column: str | None) -> dict[str, int]:
    groups = table.groupby("split")
    counts = groups.size() if column is None else groups[column].nunique()
    return {split: int(counts.get(split, 0)) for split in SPLITS}


def _check_held_out(checkpoint: Checkpoint, splits: pd.DataFrame) -> None:
    """Refuse an encoder trained on a held-out subject, or selected on a test subject."""
    of = {name: splits.loc[splits["split"] == name, "subject"] for name in SPLITS}
    check_never_seen(checkpoint.metadata, of["test"], of["validation"])


def _check_rate(checkpoint: Checkpoint, store: SignalStore) -> None:
    rate = checkpoint.metadata.get("sfreq")
    if rate is not None and abs(rate - store.sfreq) > 1e-6:
        raise UserError(
            f"{store.path}: sampled at {store.sfreq:g} Hz, but the checkpoint was trained at "
            f"{rate:g} Hz; ingest again with cleaning.sfreq={rate:g}"
        )
