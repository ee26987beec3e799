"""Evaluate a foundation checkpoint by frozen probes on subjects that it has never seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.evaluation.baselines import (
    BaselinePredictions,
    Measured,
    Target,
    predict_baselines,
)
from hbn_foundation.evaluation.evaluate import (
    MISSING,
    Evaluation,
    Task,
    about_scores,
    confusion_matrix,
    evaluate,
    plain,
    predictions_table,
    say_scores,
    window_task,
)
from hbn_foundation.evaluation.features import FrozenEncoders
from hbn_foundation.evaluation.frame import nested_scores
from hbn_foundation.evaluation.methods import (
    ENCODER_INPUT,
    PRETRAINED,
    RANDOM,
    SLOW,
    display_name,
)
from hbn_foundation.evaluation.params import EvaluationParams
from hbn_foundation.evaluation.pretext import pretext_scores
from hbn_foundation.evaluation.sample import Sample, labelled_windows
from hbn_foundation.evaluation.scorers import SCORERS
from hbn_foundation.evaluation.within import about_strata
from hbn_foundation.labels.checks import check_disjoint, check_never_seen
from hbn_foundation.labels.params import SPLITS
from hbn_foundation.labels.strata import with_strata
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.progress import say
from hbn_foundation.signals.label_windows import probe_windows

if TYPE_CHECKING:
    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

#: Metrics of the validation subjects, which chose the probe's strength.
ACCURACIES = ("accuracy", "balanced_accuracy")
#: By how much AUROC validation subjects must speak for another objective.
SURELY_MORE = 0.01


def evaluate_foundation(
    checkpoint: Checkpoint, dataset: EEGDataset, params: EvaluationParams
) -> Evaluation:
    """Score the pretext task and a frozen probe on held-out subjects.

    Every method is fitted on the same training windows, chosen on the same validation windows and
    scored on the same test windows.

    Parameters
    ----------
    checkpoint
        A pretrained encoder; it may come from another montage.
    dataset
        The data; participants for labels that belong to the subject.
    params
        Label, probe and baselines.

    Returns
    -------
    Evaluation
        Predictions: the pretrained encoder's probe on each test window, see `predictions_table`.

    Raises
    ------
    UserError
        When the checkpoint has been trained on a validation or test subject, was made for another
        sampling rate, or the label does not fit.
    """
    from hbn_foundation.training.checkpoint import load_encoder, random_encoder

    labelled = probe_sample(checkpoint, dataset, params)
    encoders = {PRETRAINED: load_encoder(checkpoint)}
    if RANDOM in params.baselines:
        encoders[RANDOM] = random_encoder(checkpoint, params.seed)
    answers = probes(encoders, labelled, dataset, params)
    test = labelled.test
    values, found = test["label"].to_numpy(), {m: one.predictions[0] for m, one in answers.items()}
    task = probe_task(labelled, params)
    scores = evaluate(task, found, {}, n_samples=params.bootstraps, seed=params.seed)
    say_scores(scores, task)
    encoder, objective = encoders[PRETRAINED], checkpoint.metadata["parameters"].get("objective")
    alone = objective is not None and not objective.get("beside")
    if alone and encoder.band is not None and not params.shuffle_labels:
        validation = {method: one.fits[0].validation for method, one in answers.items()}
        if advice := objective_advice(validation, encoder.slow is not None):
            say(advice)
    metrics = {
        **_about(checkpoint, labelled, params),
        **about_scores(scores, test, labelled.about(dataset, params.context)),
        **about_strata(test, values),
        "pretext": pretext_scores(checkpoint, dataset, params),
        "probe": _about_probes(scores, answers, labelled.table),
        "missing": _missing(labelled, scores.attrs[MISSING], params),
    }
    predictions = predictions_table(
        test, WindowTargets(values, labelled.classes), found[PRETRAINED]
    )
    return Evaluation(plain(metrics), scores, predictions)


def probe_sample(checkpoint: Checkpoint, dataset: EEGDataset, params: EvaluationParams) -> Sample:
    """Check that subjects can be scored, and take the labelled windows; errors as above."""
    from hbn_foundation.training.checkpoint import check_signals

    check_disjoint(dataset.splits)
    of = {name: dataset.splits.loc[dataset.splits["split"] == name, "subject"] for name in SPLITS}
    check_never_seen(checkpoint.metadata, of["test"], of["validation"], dataset.store.datasets)
    check_signals(checkpoint, dataset.sfreq, dataset.n_samples)
    people, windows = dataset.participants, probe_windows(dataset, params.label)
    windows = with_strata(windows, people, params.stratify_scores_by)
    return labelled_windows(windows, dataset.splits, people, params)


def probe_task(sample: Sample, params: EvaluationParams) -> Task:
    """Say how probes are scored."""
    test = sample.test
    return window_task(PRETRAINED, params.label.column or "task", test["label"].to_numpy(), test)


def probes(
    encoders: Mapping[str, Encoder], sample: Sample, dataset: EEGDataset, params: EvaluationParams
) -> dict[str, BaselinePredictions]:
    """Fit probes of frozen encoders, the pretrained one first, and the baselines beside them."""
    target = Target("label", "class", len(sample.classes))
    measured = Measured(dataset.store, dataset.n_samples, FrozenEncoders(encoders), params.context)
    return predict_baselines(
        [PRETRAINED, *params.baselines], sample.table, [target], measured, params
    )


def objective_advice(validation: Mapping[str, float], has_slow: bool) -> str:
    """Advise the other kind of features where validation subjects speak for it; else say nothing.

    For slow ones where linear slow features tell more than the tokens of the encoder, and against
    them where all of its input tells more than its slow outputs.
    """
    method = ENCODER_INPUT if has_slow else SLOW
    ours, other = (validation.get(name, float("nan")) for name in (PRETRAINED, method))
    if not other > ours + SURELY_MORE:
        return ""
    objective, n_slow = ("band_completion", 0) if has_slow else ("slow_prediction", 5)
    return (
        f"advice: on the validation subjects {display_name(method)} reached AUROC {other:.3f}, the "
        f"pretrained encoder {ours:.3f}; consider foundation.objective.name={objective} with "
        f"foundation.encoder.n_slow={n_slow}"
    )


def _about_probes(
    scores: pd.DataFrame, answers: Mapping[str, BaselinePredictions], table: pd.DataFrame
) -> dict[str, dict[str, Any]]:
    """By method: scores, confusion matrix, accuracy on validation, how the probe was chosen."""
    probes = nested_scores(scores)
    test, held = (
        table.loc[table["split"] == name, "label"].to_numpy() for name in ("test", "validation")
    )
    for method, answer in answers.items():
        on_held = answer.of_validation[0]
        probes[method] |= {
            "confusion_matrix": confusion_matrix(test, answer.predictions[0]),
            "validation": {
                **{name: SCORERS[name].function(held, on_held) for name in ACCURACIES},
                "confusion_matrix": confusion_matrix(held, on_held),
            },
            "validation_auroc": answer.fits[0].validation,
            "strength": answer.fits[0].strength,
            "n_features": answer.n_features,
        }
    return probes


def _about(checkpoint: Checkpoint, labelled: Sample, params: EvaluationParams) -> dict[str, Any]:
    """Describe what was pretrained and evaluated: label, objective, size, counts by split."""
    objective = checkpoint.metadata.get("parameters", {}).get("objective", {})
    tensors = [w for name, w in checkpoint.weights.items() if name.startswith("encoder.")]
    return {
        "label": {"kind": params.label.kind, "column": params.label.column,
                  "classes": list(labelled.classes), "shuffled": params.shuffle_labels},
        "objective": {"name": checkpoint.metadata.get("objective"),
                      "shuffled": bool(objective.get("shuffle_labels"))},
        "windows": _count(labelled.table, None),
        "recordings": _count(labelled.table, "recording"),
        "subjects": _count(labelled.table, "subject"),
        "model": {  # numbers of the encoder, and their megabytes (10⁶ bytes)
            "parameters": sum(tensor.numel() for tensor in tensors),
            "megabytes": sum(t.numel() * t.element_size() for t in tensors) / 1e6,
        },
        "training": training_of(checkpoint),
    }  # fmt: skip


def training_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Speed of a training in its best epoch, why it ended, and which epochs ran where."""
    metadata = checkpoint.metadata
    return {
        "windows_per_second": metadata.get("scores", {}).get("windows_per_second"),
        "stopped": metadata.get("stopped"),
        "epochs_by_device": metadata.get("epochs_by_device"),
        "incidents": metadata.get("incidents"),
    }


def _missing(labelled: Sample, interval: str, params: EvaluationParams) -> dict[str, str]:
    """Give the reasons why a score, a choice of strength or an interval is missing."""
    name, classes = params.label.column or "task", labelled.classes
    found = labelled.table.groupby("split")["label"].unique()
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


def _count(table: pd.DataFrame, column: str | None) -> dict[str, int]:
    groups = table.groupby("split")
    counts = groups.size() if column is None else groups[column].nunique()
    return {split: int(counts.get(split, 0)) for split in SPLITS}
