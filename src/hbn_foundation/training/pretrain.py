"""Pretrain an encoder: from windows and splits to a checkpoint.

All arguments are plain or can be sent to another process; nothing here knows the pipeline.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.files import write_json
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training import seeding
from hbn_foundation.training.data import WindowsOfSubjects, subjects_of
from hbn_foundation.training.fitting import clean_folder
from hbn_foundation.training.job import TrainingJob, identify_data
from hbn_foundation.training.params import UNTRAINED, ObjectiveParams
from hbn_foundation.training.recipes import PretrainingRecipe
from hbn_foundation.training.supervision.heartbeat import START
from hbn_foundation.training.supervision.link import Link
from hbn_foundation.training.supervision.run_folder import BEST, HISTORY

if TYPE_CHECKING:
    import lightning

    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.objectives.base import Objective
    from hbn_foundation.training.pretraining_module import PretrainingModule

NOTHING_TRAINED = "nothing was to be trained"
#: Columns of the history of no epoch.
NO_HISTORY = ("epoch", "train_loss", "validation_loss", "learning_rate", "device")


def pretrain(
    dataset: EEGDataset,
    recipe: PretrainingRecipe,
    device_plan: dict[str, Any],
    work_dir: Path,
    *,
    run_id: str | None = None,
) -> tuple[Checkpoint, pd.DataFrame]:
    """Pretrain an encoder on the training subjects, and keep the best epoch by validation loss.

    In this process and without supervision, as `TrainingJob.run`; `PretrainingJob.supervise`
    survives crashes and hangs, and resumes a run that was killed.
    """
    return PretrainingJob(dataset, recipe, device_plan).run(work_dir, run_id)


@dataclass(frozen=True)
class PretrainingJob(TrainingJob):
    """Encoder and objective, on the windows of the training subjects."""

    kind = "foundation"

    recipe: PretrainingRecipe

    def identity(self) -> dict[str, Any]:
        """Return what the weights depend on; participants only where labels come from them."""
        labelled = self.recipe.objective.name == "task_classification"
        return {
            **self.recipe.identity(),
            "window": self.dataset.window.model_dump(mode="json"),
            "data": identify_data(self.dataset, with_participants=labelled),
        }

    def callbacks(self) -> list[lightning.Callback]:
        """Stop when the validation loss no longer falls."""
        from lightning.pytorch.callbacks import EarlyStopping

        patience = self.recipe.trainer.early_stopping_patience
        # not strict: not every epoch has a validation
        return [EarlyStopping("validation_loss", patience=patience, strict=False)]

    def train(
        self,
        module: Any,
        folder: Path,
        device: str,
        provenance: dict[str, Any],
        resume_from: Path | None,
    ) -> str:
        """Train; or keep the weights as they are, with an empty history, where nothing is."""
        from hbn_foundation.training.checkpoint import Checkpoint

        if self.recipe.objective.name != UNTRAINED:
            return super().train(module, folder, device, provenance, resume_from)
        clean_folder(folder, None)
        write_json(folder / HISTORY, {name: [] for name in NO_HISTORY})
        Checkpoint(module.exported(), provenance).save(folder / BEST)
        return NOTHING_TRAINED

    def provenance(self, module: Any) -> dict[str, Any]:
        """Return objective, parameters and subjects."""
        dataset = self.dataset
        seen = {
            name: subjects_of(dataset.splits, name, dataset.windows)
            for name in ("train", "validation")
        }
        if self.recipe.objective.name == UNTRAINED:
            # its own normalisation is fitted on training subjects; nothing has chosen an epoch
            seen = {"train": [] if self.recipe.encoder.is_external else seen["train"]}
        window = dataset.window.model_dump(mode="json")
        return {
            "parent_version": None,
            "objective": self.recipe.objective.name,
            "parameters": {**self.recipe.parameters(), "window": window},
            "n_samples": module.encoder.n_samples,
            "training_subjects": seen["train"],
            "validation_subjects": seen.get("validation", []),
        }

    def prepare(self, link: Link | None = None, fitted: Path | None = None) -> PretrainingModule:
        """Make encoder, objective and data, and fit normalisation and targets."""
        import torch

        from hbn_foundation.training.augmentation import start_jitter
        from hbn_foundation.training.checkpoint import fitted_once
        from hbn_foundation.training.module import TrainingData
        from hbn_foundation.training.objectives.base import Context, TrainingWindows, with_callback
        from hbn_foundation.training.pretraining_module import PretrainingModule

        dataset, trainer, link = self.dataset, self.recipe.trainer, link or Link()
        store, windows = dataset.store, dataset.windows
        train, validation = (
            subjects_of(dataset.splits, name, windows) for name in ("train", "validation")
        )
        encoder, objective = make_pretext(self.recipe, dataset.sfreq, dataset.n_samples)
        context = Context(store.sfreq, trainer.seed, train, validation, dataset.participants)
        prepared = objective.prepare(windows, context)
        parts = {}
        for name, subjects in (("train", train), ("validation", validation)):
            part = WindowsOfSubjects(
                store, prepared, subjects, dataset.n_samples, objective, trainer.seed, encoder.unit
            )
            if not len(part):
                raise UserError(
                    f"objective: {self.recipe.objective.name} can use no window of the {name} "
                    "subjects"
                )
            parts[name] = part
        positions = torch.as_tensor(store.positions, dtype=torch.float32)

        def fit() -> None:
            plain = parts["train"].plain(256, trainer.normalisation_windows)
            batches = with_callback(plain, partial(link.beat, START))
            with torch.no_grad():
                statistics = encoder.fit_normalisation(batches, positions)
                objective.fit(encoder, TrainingWindows(batches, positions, statistics))

        fitted_once(fitted, torch.nn.ModuleList([encoder, objective]), fit)
        jitter = start_jitter(objective.params, store.sfreq)
        data = TrainingData(parts["train"], parts["validation"], trainer, jitter, link)
        return PretrainingModule(encoder, objective, data, positions, trainer, link)


def make_pretext(
    recipe: PretrainingRecipe, sfreq: float, n_samples: int
) -> tuple[Encoder, Objective]:
    """Make encoder and objective with the seed's weights, or the published ones.

    Raises
    ------
    UserError
        When the encoder does not fit the windows, or the objective the encoder.
    """
    from hbn_foundation.models.external import ExternalEncoder
    from hbn_foundation.training.external import load_published
    from hbn_foundation.training.model_building import build_encoder
    from hbn_foundation.training.objectives.make import make_objective

    with seeding.seeded(recipe.trainer.seed, seeding.WEIGHTS):
        try:
            encoder = build_encoder(recipe.encoder, sfreq, n_samples)
        except ValueError as error:
            raise UserError(f"encoder: {error}") from None
        if isinstance(encoder, ExternalEncoder):
            load_published(encoder, recipe.encoder)
        return encoder, make_objective(recipe.objective, encoder)


def pretext_scores(
    checkpoint: Checkpoint,
    store: SignalStore,
    windows: pd.DataFrame,
    subjects: Iterable[str],
    participants: pd.DataFrame | None = None,
    most: int | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Score a checkpoint's own objective on the windows of some subjects.

    Parameters
    ----------
    checkpoint
        A foundation checkpoint.
    store, windows
        Of any montage, at the checkpoint's sampling rate and window length. The whole table: an
        objective may need the training subjects' labels or a recording's other windows.
    subjects
        Whom to score.
    participants
        Where the labels come from participants.tsv.
    most, seed
        Score at most `most` of the usable windows, evenly; or whole sequences, at least one.

    Returns
    -------
    dict
        `loss`, the objective's scores and `n_windows`; only the last where no window can be used.
    """
    import torch

    from hbn_foundation.signals.windows import subsample
    from hbn_foundation.training.checkpoint import check_signals, fill, load_encoder
    from hbn_foundation.training.objectives.base import Average, Context
    from hbn_foundation.training.objectives.make import make_objective

    metadata = checkpoint.metadata
    if metadata["objective"] == UNTRAINED:
        return {"n_windows": 0.0}
    check_signals(checkpoint, store.sfreq, metadata["n_samples"])
    encoder = load_encoder(checkpoint)
    params = ObjectiveParams.model_validate(metadata["parameters"]["objective"])
    objective = make_objective(params, encoder)
    own_seed = metadata["parameters"]["trainer"]["seed"]
    seen = (metadata["training_subjects"], metadata["validation_subjects"])
    prepared = objective.prepare(windows, Context(store.sfreq, own_seed, *seen, participants))
    fill(objective, checkpoint, "objective.")
    about = (encoder.n_samples, objective, own_seed, encoder.unit)
    data = WindowsOfSubjects(store, prepared, subjects, *about)
    positions = torch.as_tensor(store.positions, dtype=torch.float32)
    objective.eval().begin(encoder, data.whole(), positions)
    if most is not None:
        kept = data.windows.iloc[subsample(len(data), most, seed)]
        data.windows = (data.sample(most) if data.sequences else kept).reset_index(drop=True)
    average = Average()
    with torch.no_grad(), seeding.seeded(own_seed, seeding.VALIDATION):  # as in the training
        for batch in data.validation():
            average.add(objective(encoder, batch, positions))
    return {**average.values(), "n_windows": float(len(data.windows))}
