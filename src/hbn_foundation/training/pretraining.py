"""Pretrain an encoder: from windows and splits to a checkpoint.

All arguments are plain or can be sent to another process; nothing here knows the pipeline.
"""

from __future__ import annotations

import importlib.metadata
import platform
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.training import seeding
from hbn_foundation.training.checkpoint import Checkpoint, fitted_once
from hbn_foundation.training.data import Told, WindowsOfSubjects, subjects_of
from hbn_foundation.training.fitting import accelerator, final_checkpoint, fit
from hbn_foundation.training.precision import choose_precision
from hbn_foundation.training.recipes import PretrainingRecipe
from hbn_foundation.training.supervision.heartbeat import START
from hbn_foundation.training.supervision.link import Link
from hbn_foundation.training.supervision.run_folder import FITTED

if TYPE_CHECKING:
    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.loop import PretrainingLoop
    from hbn_foundation.training.objectives.base import Objective

VERSIONED = ("torch", "lightning", "numpy", "pandas", "mne", "safetensors")


def pretrain(
    dataset: EEGDataset,
    recipe: PretrainingRecipe,
    device_plan: dict[str, Any],
    work_dir: Path,
    *,
    run_id: str | None = None,
) -> tuple[Checkpoint, pd.DataFrame]:
    """Pretrain an encoder on the training subjects, and keep the best epoch by validation loss.

    In this process and without supervision: `supervised.pretrain_supervised` has the same
    arguments, and survives what this does not.

    Parameters
    ----------
    dataset
        The data; subjects of the test split are never read.
    recipe
        Parameters.
    device_plan
        `chosen` says where to train.
    work_dir
        Where the checkpoints `epoch-NNN` and `best` of this run go; older ones there are removed.
    run_id
        Named in the metadata; made up where not given.

    Returns
    -------
    Checkpoint
        Weights of the best epoch, with provenance.
    pandas.DataFrame
        One row per epoch: losses, the objective's scores and its trivial predictors' on the
        validation subjects, learning rate, speed, device.

    Raises
    ------
    UserError
        When a split has no windows, or parameters do not fit the data.
    """
    stopped = pretrain_in(
        work_dir, dataset, recipe, device_plan, run_id=run_id or uuid.uuid4().hex, link=Link()
    )["stopped"]
    return final_checkpoint(Path(work_dir), stopped)


def pretrain_in(
    folder: Path,
    dataset: EEGDataset,
    recipe: PretrainingRecipe,
    device_plan: dict[str, Any],
    *,
    run_id: str,
    link: Link,
) -> dict[str, Any]:
    """Pretrain in a folder, where checkpoints and history stay; what the supervised child calls.

    Parameters are those of `pretrain`, and `link` to the supervisor, whose orders overrule the
    device plan.

    Returns
    -------
    dict
        `stopped`: why the training ended.
    """
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    device = link.orders.device if link.orders is not None else device_plan["chosen"]
    resume_from = link.orders.resume_from if link.orders is not None else None
    loop = prepare(
        dataset, recipe, link=link, kept=Path(folder) / FITTED if link.orders is not None else None
    )
    provenance = {
        "kind": "foundation",
        "run_id": run_id,
        "started_at": started_at,
        "parent_version": None,
        "objective": recipe.objective.name,
        "parameters": {
            **recipe.parameters(),
            "window": dataset.window.model_dump(mode="json"),
        },
        "sfreq": dataset.sfreq,
        "n_samples": loop.encoder.n_samples,
        "channel_names": list(dataset.store.channel_names),
        "training_subjects": subjects_of(dataset.splits, "train", dataset.windows),
        "validation_subjects": subjects_of(dataset.splits, "validation", dataset.windows),
        "store_fingerprint": dataset.store.fingerprint,
        "device_plan": device_plan,
        "versions": library_versions(),
        "precision": choose_precision(recipe.trainer.precision, accelerator(device)),
        "threads": threads(),  # sums over more of them differ in the last bit
    }
    resume = Path(resume_from) if resume_from is not None else None
    return {"stopped": fit(loop, recipe.trainer, device, Path(folder), provenance, link, resume)}


def prepare(
    dataset: EEGDataset,
    recipe: PretrainingRecipe,
    *,
    link: Link | None = None,
    kept: Path | None = None,
) -> PretrainingLoop:
    """Make encoder, objective and data, and fit what is fitted before the first step.

    Parameters
    ----------
    dataset, recipe
        As for `pretrain`.
    link
        To the supervisor, which waits for the fits.
    kept
        Folder of what an earlier attempt has fitted; None fits anew and keeps nothing.
    """
    import torch

    from hbn_foundation.training.loop import PretrainingLoop

    store, windows, trainer = dataset.store, dataset.windows, recipe.trainer
    train, validation = (
        subjects_of(dataset.splits, name, windows) for name in ("train", "validation")
    )
    encoder, objective = make_pretext(recipe, dataset.sfreq, dataset.n_samples)
    prepared = objective.prepare(
        windows, dataset.participants, train, store.sfreq, trainer.seed, validation
    )
    data = {}
    for name, subjects in (("train", train), ("validation", validation)):
        data[name] = WindowsOfSubjects(
            store, prepared, subjects, dataset.n_samples, objective, trainer.seed
        )
        if data[name].windows.empty:
            raise UserError(
                f"objective: {recipe.objective.name} can use no window of the {name} subjects"
            )
    positions = torch.as_tensor(store.positions, dtype=torch.float32)
    link = link or Link()

    def fit_both() -> None:
        plain = data["train"].plain(256, trainer.normalisation_windows)
        batches = Told(plain, lambda: link.beat(START))
        with torch.no_grad():
            statistics = encoder.fit_normalisation(batches, positions)
            objective.fit(statistics, batches, positions)

    fitted_once(kept, torch.nn.ModuleList([encoder, objective]), fit_both)
    jitter = round(recipe.objective.jitter_seconds * store.sfreq)
    return PretrainingLoop(
        encoder,
        objective,
        data["train"],
        data["validation"],
        positions,
        trainer,
        jitter,
        link=link,
    )


def make_pretext(
    recipe: PretrainingRecipe, sfreq: float, n_samples: int
) -> tuple[Encoder, Objective]:
    """Make encoder and objective with the seed's weights.

    Raises
    ------
    UserError
        When the encoder does not fit the windows, or the objective the encoder.
    """
    from hbn_foundation.training.model_building import build_encoder
    from hbn_foundation.training.objectives.make import make_objective

    with seeding.seeded(recipe.trainer.seed, seeding.WEIGHTS):
        try:
            encoder = build_encoder(recipe.encoder, sfreq, n_samples)
        except ValueError as error:
            raise UserError(f"encoder: {error}") from None
        return encoder, make_objective(recipe.objective, encoder)


def threads() -> int:
    """Threads of one operation, on which the last bit of a sum depends."""
    import torch

    return torch.get_num_threads()


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that the weights depend on."""
    found = {"python": platform.python_version()}
    for name in ("hbn-foundation", *VERSIONED):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found
