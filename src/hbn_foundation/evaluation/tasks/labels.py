"""Evaluate a model fine-tuned for a label, classes or numbers, on test subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hbn_foundation.evaluation.baselines import (
    BaselinePredictions,
    Measured,
    Target,
    predict_baselines,
)
from hbn_foundation.evaluation.evaluate import (
    Evaluation,
    about_scores,
    confusion_matrix,
    evaluate,
    plain,
    predictions_table,
    say_scores,
    window_task,
)
from hbn_foundation.evaluation.features import FrozenEncoders
from hbn_foundation.evaluation.methods import FINE_TUNED
from hbn_foundation.evaluation.predictions import test_windows
from hbn_foundation.evaluation.recipes import LabelRecipe
from hbn_foundation.evaluation.sample import Sample, choose_windows
from hbn_foundation.evaluation.tasks.foundation import training_of
from hbn_foundation.evaluation.within import about_strata
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.strata import with_strata
from hbn_foundation.labels.targets import WindowTargets, window_targets

if TYPE_CHECKING:
    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

TARGET = "target"


def evaluate_finetuned(
    checkpoint: Checkpoint, foundation: Checkpoint, dataset: EEGDataset, recipe: LabelRecipe
) -> Evaluation:
    """Score the test windows, and fit and score the baselines.

    Parameters
    ----------
    checkpoint, foundation
        Fine-tuned, and what it was fine-tuned from, for the frozen probe.
    dataset, recipe
        The data, what was learned, and which baselines stand beside it.

    Returns
    -------
    Evaluation
        Predictions: the model's for each test window, see `predictions_table`.

    Raises
    ------
    UserError
        When a test subject was trained on or chose the best epoch, or no test window has a label.
    """
    from hbn_foundation.training.checkpoint import load_encoder
    from hbn_foundation.training.finetuned import predict

    params = recipe.evaluation
    test_windows(checkpoint, dataset)
    targets = targets_of(dataset, recipe.label)
    chosen, baselines = label_baselines(
        dataset, targets, recipe, checkpoint.metadata["n_samples"], load_encoder(foundation)
    )  # fmt: skip
    test = chosen.test
    values = test[TARGET].to_numpy()
    own = predict(checkpoint, dataset.store, test, params.batch_size)
    task = window_task(FINE_TUNED, recipe.label.column or recipe.label.kind, values, test)
    scores = evaluate(
        task,
        {FINE_TUNED: own},
        {name: one.predictions[0] for name, one in baselines.items()},
        n_samples=params.bootstraps,
        seed=params.seed,
    )
    say_scores(scores, task)
    metrics = {
        "label": recipe.label.model_dump(mode="json"),
        "classes": None if targets.is_regression else list(targets.names),
        "confusion_matrix": None if targets.is_regression else confusion_matrix(values, own),
        **about_scores(scores, test, chosen.about(dataset, recipe.context)),
        **about_strata(test, values),
        "best_epoch": checkpoint.metadata.get("best_epoch"),
        "training": training_of(checkpoint),
    }
    predictions = predictions_table(test, targets._replace(values=values), own)
    return Evaluation(plain(metrics), scores, predictions)


def targets_of(dataset: EEGDataset, label: LabelParams) -> WindowTargets:
    """Targets of all windows, as the training subjects define them."""
    splits = dataset.splits
    training = splits.loc[splits["split"] == "train", "subject"].astype(str)
    return window_targets(dataset.windows, dataset.participants, label, training)


def target_of(targets: WindowTargets, label: LabelParams) -> Target:
    """Say what baselines learn about windows with a `target`."""
    if targets.is_regression:
        return Target(TARGET, per_subject=label.kind == "participant")
    return Target(TARGET, "class", targets.n_outputs)


def label_baselines(
    dataset: EEGDataset,
    targets: WindowTargets,
    recipe: LabelRecipe,
    n_samples: int,
    encoder: Encoder | None = None,
) -> tuple[Sample, dict[str, BaselinePredictions]]:
    """Fit the baselines of a label on the training windows, and predict the test windows.

    Parameters
    ----------
    dataset, targets
        The data, and what is learned about its windows.
    recipe, n_samples
        Label, context, which baselines, and how; length of a window.
    encoder
        The pretrained encoder; without one its frozen probe and its input are left out.

    Returns
    -------
    sample : Sample
        The windows that were used, with their `target`.
    answers : dict
        By method, for its test windows.

    Raises
    ------
    UserError
        When a split has no window with a known label.
    """
    params = recipe.evaluation
    windows = with_strata(dataset.windows, dataset.participants, params.stratify_scores_by)
    windows = windows.assign(**{TARGET: targets.values})
    chosen = choose_windows(windows, dataset.splits, targets.known, params, "label")
    encoders = None if encoder is None else FrozenEncoders({"frozen_probe": encoder})
    answers = predict_baselines(
        params.baselines, chosen.table, [target_of(targets, recipe.label)],
        Measured(dataset.store, n_samples, encoders, recipe.context), params,
    )  # fmt: skip
    return chosen, answers
