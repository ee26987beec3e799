"""What is found out before a fine-tuning begins: whether it can be done, and its rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.checks import check_disjoint, check_never_seen, check_targets
from hbn_foundation.labels.targets import WindowTargets, window_targets
from hbn_foundation.models.config import MAIN
from hbn_foundation.progress import say
from hbn_foundation.scores import check_metric
from hbn_foundation.training.checkpoint import Checkpoint, check_signals
from hbn_foundation.training.data import subjects_of
from hbn_foundation.training.finetuning.advice import advice
from hbn_foundation.training.finetuning.plans import Block
from hbn_foundation.training.finetuning.preview import preview_rates
from hbn_foundation.training.recipes import FineTuningRecipe

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset


def check_finetuning(
    checkpoint: Checkpoint, dataset: EEGDataset, recipe: FineTuningRecipe
) -> dict[str, WindowTargets]:
    """Check what can go wrong before training, and return the windows' targets by name.

    Raises
    ------
    UserError
        Overlapping splits, subjects that the checkpoint has trained on or was chosen on, windows
        of another kind, labels with one class, a class without validation subject, a metric that
        is not computed.
    """
    splits = dataset.splits
    check_disjoint(splits)
    of = {name: splits.loc[splits["split"] == name, "subject"] for name in ("validation", "test")}
    check_never_seen(checkpoint.metadata, of["test"], of["validation"])
    check_signals(checkpoint, dataset.sfreq, checkpoint.metadata["n_samples"])
    training = subjects_of(splits, "train", dataset.windows)
    main = window_targets(dataset.windows, dataset.participants, recipe.label, training)
    check_metric(recipe.trainer.monitor, "trainer.monitor", main.is_regression)
    check_targets(main, dataset.windows, splits)
    return {MAIN: main} | further_targets(dataset, recipe)


def further_targets(dataset: EEGDataset, recipe: FineTuningRecipe) -> dict[str, WindowTargets]:
    """Give the windows the targets beside the main one, by name.

    Raises
    ------
    UserError
        When the training subjects do not have what learning needs; what no validation subject
        has costs a score there, and no training.
    """
    training = subjects_of(dataset.splits, "train", dataset.windows)
    targets = {}
    for name, one in recipe.more_targets.chosen.items():
        try:
            targets[name] = window_targets(
                dataset.windows, dataset.participants, one.label, training
            )
            check_targets(targets[name], dataset.windows, dataset.splits, needed=("train",))
        except UserError as error:
            raise UserError(f"more_targets.{name}: {error}") from None
    return targets


def preview_finetuning(
    checkpoint: Checkpoint, dataset: EEGDataset, recipe: FineTuningRecipe
) -> pd.DataFrame:
    """Check everything, give advice, and tabulate each block's rate; as `preview_rates`.

    Raises
    ------
    UserError
        As `check_finetuning`; when plan or head do not fit.
    """
    from hbn_foundation.training.finetuning.model_making import make_model
    from hbn_foundation.training.finetuning.plans import make_plan

    targets = check_finetuning(checkpoint, dataset, recipe)
    plan, trainer, windows = recipe.begun_plan, recipe.trainer, dataset.windows
    model = make_model(checkpoint, recipe, targets, dataset.store.channel_names)
    blocks = [Block(name, size) for name, size in model.sizes().items()]
    make_plan(plan, blocks, trainer.epochs, is_regression=targets[MAIN].is_regression)
    patience = trainer.early_stopping_patience
    for line in advice(plan, recipe.rates, trainer.epochs, patience=patience):
        say(f"advice: {line}")
    training = windows["subject"].isin(subjects_of(dataset.splits, "train", windows)).to_numpy()
    known = np.any([one.known for one in targets.values()], axis=0)
    n_windows = int((training & known).sum())
    batches = n_windows // min(trainer.batch_size, n_windows)
    steps = -(-batches // trainer.accumulate)  # as the loop counts them
    return preview_rates(plan, recipe.rates, blocks, trainer.epochs, steps)
