"""Fine-tune a checkpoint for a label: from windows and targets to a checkpoint with a head.

All arguments are plain or can be sent to another process; nothing here knows the pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.checks import check_disjoint, check_never_seen, check_targets
from hbn_foundation.labels.people import CHOSEN, TRAINED, subjects_before
from hbn_foundation.labels.strata import STRATUM, cell_weights, with_strata
from hbn_foundation.labels.targets import WindowTargets, window_targets
from hbn_foundation.models.config import MAIN, SEQUENCE
from hbn_foundation.progress import say
from hbn_foundation.scores import WITHIN, check_metric
from hbn_foundation.signals.context import SEQUENCE as SEQUENCE_COLUMN
from hbn_foundation.signals.context import WINDOW, check_context, sequences
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.checkpoint import Checkpoint, check_signals
from hbn_foundation.training.data import (
    LabelledWindows,
    n_training_batches,
    steps_per_epoch,
    subjects_of,
)
from hbn_foundation.training.job import TrainingJob, digest, identify_data
from hbn_foundation.training.model_params import HeadParams
from hbn_foundation.training.plans import make_plan
from hbn_foundation.training.preview import advice, preview_rates
from hbn_foundation.training.recipes import FineTuningRecipe
from hbn_foundation.training.supervision.heartbeat import START
from hbn_foundation.training.supervision.link import Link
from hbn_foundation.training.unfreezing import Block

if TYPE_CHECKING:
    import lightning

    from hbn_foundation.training.finetuning_module import FineTuningModule


@dataclass(frozen=True)
class FineTuningJob(TrainingJob):
    """A checkpoint's encoder with heads, on labelled windows.

    The weights of the result are `encoder.…` and `head.…`.

    Attributes
    ----------
    checkpoint
        A foundation checkpoint, or a fine-tuned one.
    """

    kind = "finetuned"

    recipe: FineTuningRecipe
    checkpoint: Checkpoint

    def identity(self) -> dict[str, Any]:
        """Return what the weights depend on; participants and windows where labels need them."""
        kinds, metadata = self.recipe.label_kinds, self.checkpoint.metadata
        people = "participant" in kinds or self.recipe.strata_column is not None
        data = identify_data(self.dataset, with_participants=people)
        if kinds & {"trial", "event"}:
            data["trials"] = digest(self.dataset.windows)
        weights = metadata.get("weights_sha256")
        return {
            **self.recipe.identity(),
            "checkpoint": {"run_id": metadata.get("run_id"), "weights": weights},
            "data": data,
        }

    def callbacks(self) -> list[lightning.Callback]:
        """Unfreeze between epochs; stop when patience ends."""
        from hbn_foundation.training.callbacks.phases import UnfreezingPhases

        return [UnfreezingPhases()]

    def provenance(self, module: Any) -> dict[str, Any]:
        """Return parent, parameters, targets and all subjects that the weights depend on."""
        from hbn_foundation.training.model_building import encoder_params

        parent, plan = self.checkpoint.metadata, self.recipe.effective_plan
        targets = module.losses.targets
        before, ancestors = subjects_before(parent, self.dataset.store.datasets)

        def seen(split: str, role: str) -> list[str]:
            own = subjects_of(self.dataset.splits, split, self.dataset.windows)
            return sorted({*own, *before.get(role, ())})

        return {
            "parent_version": parent.get("run_id") if not plan.from_scratch else None,
            "parameters": {
                **self.recipe.parameters(),
                "plan": plan.model_dump(mode="json"),
                "encoder": encoder_params(module.model.encoder).model_dump(mode="json"),
            },
            "targets": describe_targets(targets[MAIN]),
            "more_targets": {
                name: describe_targets(one) for name, one in targets.items() if name != MAIN
            },
            "sfreq": parent["sfreq"],
            "n_samples": parent["n_samples"],
            TRAINED: seen("train", TRAINED),
            CHOSEN: seen("validation", CHOSEN),
            "ancestors": ancestors,
        }

    def prepare(self, link: Link | None = None, fitted: Path | None = None) -> FineTuningModule:
        """Check the inputs, make model, plan and data, and fit scales and heads."""
        import torch

        from hbn_foundation.training.augmentation import start_jitter
        from hbn_foundation.training.checkpoint import fitted_once
        from hbn_foundation.training.finetuned import make_model
        from hbn_foundation.training.finetuning_module import FineTuningData, FineTuningModule
        from hbn_foundation.training.head_fitting import fit_model
        from hbn_foundation.training.losses import TargetLosses, side_by_side

        recipe, link = self.recipe, link or Link()
        targets = check_finetuning(self.checkpoint, self.dataset, recipe)
        dataset = stratified(self.dataset, recipe)
        plan, trainer, rules = recipe.effective_plan, recipe.trainer, recipe.regularisation.in_use
        store, columns = dataset.store, side_by_side(targets)
        if STRATUM in dataset.windows and rules.class_weights:
            columns = np.column_stack([columns, window_weights(dataset, targets[MAIN])])
        n_samples = self.checkpoint.metadata["n_samples"]
        dataset, columns = in_sequences(dataset, columns, recipe, n_samples)
        model = make_model(self.checkpoint, recipe, targets, store.channel_names)
        data = {
            name: LabelledWindows(
                dataset,
                name,
                n_samples,
                trainer.seed,
                columns,
                unit=model.unit,
                per_sample=moving(targets, recipe.heads, store.sfreq),
            )
            for name in ("train", "validation")
        }
        if not recipe.keeps_head:
            beat = partial(link.beat, START)
            fit = partial(
                fit_model, model, store, data, trainer.probe_windows, targets, recipe.heads, beat
            )
            fitted_once(fitted, model, fit)
        weights = {name: one.weight for name, one in recipe.more_targets.chosen.items()}
        known = data["train"].targets
        jitter = start_jitter(rules, store.sfreq)
        is_regression = targets[MAIN].is_regression
        return FineTuningModule(
            model,
            TargetLosses(targets, model.head, known, rules, weights, recipe.heads),
            FineTuningData(data["train"], data["validation"], trainer, jitter, link),
            torch.as_tensor(store.positions, dtype=torch.float32),
            recipe,
            make_plan(plan, blocks_of(model), trainer.epochs, is_regression=is_regression),
            link,
        )


def stratified(dataset: EEGDataset, recipe: FineTuningRecipe) -> EEGDataset:
    """Put the stratum of each window beside it, where scores are stratified."""
    windows = with_strata(dataset.windows, dataset.participants, recipe.strata_column)
    return dataset.replace(windows=windows)


def window_weights(dataset: EEGDataset, targets: WindowTargets) -> np.ndarray:
    """Weights (N,) of windows by class and stratum, NaN where the class is unknown."""
    training = subjects_of(dataset.splits, "train", dataset.windows)
    fitted = targets.known & dataset.windows["subject"].isin(training).to_numpy()
    weights = cell_weights(targets.values, dataset.windows[STRATUM].to_numpy(), fitted)
    return np.where(targets.known, weights, np.nan).astype(np.float32)


def in_sequences(
    dataset: EEGDataset, targets: np.ndarray, recipe: FineTuningRecipe, n_samples: int
) -> tuple[EEGDataset, np.ndarray]:
    """Put the windows with a target (N, M) into sequences, where the recipe has a context.

    Further windows of their recordings come with them, whose targets are NaN.
    """
    if not recipe.context.is_used:
        return dataset, targets
    known = ~np.isnan(targets).all(axis=1)
    table = sequences(
        dataset.store, dataset.windows[known], n_samples, recipe.context,
        recipe.sequence_encoder.max_windows,
    )  # fmt: skip
    labelled = table.groupby(SEQUENCE_COLUMN)[WINDOW].transform("max") >= 0
    table = table[labelled].reset_index(drop=True)
    padded = np.concatenate([targets[known], np.full_like(targets[:1], np.nan)])
    return dataset.replace(windows=table), padded[table[WINDOW]]


def blocks_of(model: Any) -> list[Block]:
    """Return the blocks of a model with a head, with their sizes, in forward order."""
    return [Block(name, size, name == SEQUENCE) for name, size in model.sizes().items()]


def describe_targets(targets: WindowTargets) -> dict[str, Any]:
    """Describe targets in the metadata of a checkpoint."""
    return {
        "names": list(targets.names),
        "is_regression": targets.is_regression,
        "mean": targets.mean,
        "sd": targets.sd,
    }


def moving(
    targets: Mapping[str, WindowTargets], heads: Mapping[str, HeadParams], sfreq: float
) -> np.ndarray:
    """Change of each target (M,) per sample that a window starts later."""
    return np.array(
        [
            -1.0 / (sfreq * (one.sd or 1.0)) if one.is_regression and heads[name].is_time else 0.0
            for name, one in targets.items()
        ]
    )


def check_finetuning(
    checkpoint: Checkpoint, dataset: EEGDataset, recipe: FineTuningRecipe
) -> dict[str, WindowTargets]:
    """Check checkpoint, data and recipe before training; return the windows' targets by name.

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
    check_never_seen(checkpoint.metadata, of["test"], of["validation"], dataset.store.datasets)
    check_signals(checkpoint, dataset.sfreq, checkpoint.metadata["n_samples"])
    training = subjects_of(splits, "train", dataset.windows)
    main = window_targets(dataset.windows, dataset.participants, recipe.label, training)
    check_recipe(dataset, recipe, main.is_regression)
    check_targets(main, dataset.windows, splits)
    found = {MAIN: main} | further_targets(dataset, recipe)
    if recipe.keeps_head:
        from hbn_foundation.training.finetuned import check_kept

        return check_kept(checkpoint, recipe, found)
    return found


def check_recipe(dataset: EEGDataset, recipe: FineTuningRecipe, is_regression: bool) -> None:
    """Check what a recipe needs of a dataset, whatever the checkpoint and the split.

    Raises
    ------
    UserError
        A metric that is not computed, a context longer than any recording, strata that cannot be
        made.
    """
    check_context(dataset, recipe.context)
    check_metric(recipe.trainer.monitor, "trainer.monitor", is_regression)
    if recipe.trainer.monitor == WITHIN and recipe.strata_column is None:
        raise UserError(
            f"trainer.monitor: {WITHIN} is computed where evaluation.stratify_scores_by is given"
        )
    stratified(dataset, recipe)


def further_targets(dataset: EEGDataset, recipe: FineTuningRecipe) -> dict[str, WindowTargets]:
    """Return the windows' further targets by name.

    Raises
    ------
    UserError
        When the training subjects lack a class or have one value only. A class that no validation
        subject has costs a score, not the training.
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
    """Check the inputs, log advice, and tabulate each block's rate as `preview_rates` does.

    Raises
    ------
    UserError
        As `check_finetuning`; when plan or head do not fit.
    """
    from hbn_foundation.training.finetuned import make_model

    targets = check_finetuning(checkpoint, dataset, recipe)
    plan, trainer, windows = recipe.effective_plan, recipe.trainer, dataset.windows
    model = make_model(checkpoint, recipe, targets, dataset.store.channel_names)
    blocks = blocks_of(model)
    make_plan(plan, blocks, trainer.epochs, is_regression=targets[MAIN].is_regression)
    for line in check_context(dataset, recipe.context):
        say(line)
    for line in advice(recipe):
        say(f"advice: {line}")
    recentred = recipe.context.is_used and recipe.context.recentre
    if model.encoder.slow is not None and recipe.trainer.start == "foundation" and not recentred:
        say(
            "advice: this encoder was pretrained on spectra relative to their recording, and meets "
            "others without context.recentre; consider context.of=recording"
        )
    training = windows["subject"].isin(subjects_of(dataset.splits, "train", windows)).to_numpy()
    known = np.any([one.known for one in targets.values()], axis=0)
    learned, _ = in_sequences(
        dataset.replace(windows=windows[training & known].reset_index(drop=True)),
        np.zeros((int((training & known).sum()), 1)), recipe, checkpoint.metadata["n_samples"],
    )  # fmt: skip
    steps = steps_per_epoch(n_training_batches(learned.windows, trainer.batch_size), trainer)
    return preview_rates(
        plan, recipe.rates, blocks, trainer.epochs, steps, further=list(recipe.more_targets.chosen)
    )
