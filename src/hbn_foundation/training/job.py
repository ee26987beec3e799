"""A training as one object: its identity, how it is run, supervised and read back.

Imports no torch: the parent of a supervised training must not before the training has ended.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from hbn_foundation.progress import say
from hbn_foundation.signals.content import CLEANING_VERSION
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.fitting import (
    accelerator,
    final_checkpoint,
    fit,
    library_versions,
)
from hbn_foundation.training.precision import choose_precision, describe_precision
from hbn_foundation.training.recipes import TrainingRecipe
from hbn_foundation.training.supervision.faults import Fault
from hbn_foundation.training.supervision.incidents import Incident, as_lines, read_incidents
from hbn_foundation.training.supervision.link import TIME_IS_UP, Link
from hbn_foundation.training.supervision.run_folder import (
    FITTED,
    mark_done,
    open_run,
    prune,
)
from hbn_foundation.training.supervision.supervisor import Supervisor, Work

if TYPE_CHECKING:
    import lightning

    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.module import TrainingModule

TARGET = "hbn_foundation.training.job:run_job"
ENDED = f"{TIME_IS_UP}, the supervisor ended it"


@dataclass(frozen=True)
class TrainingJob(ABC):
    """A training of any kind; subclasses give the module and its data.

    Attributes
    ----------
    dataset
        The data; subjects of the test split are never read.
    recipe
        Parameters.
    device_plan
        `chosen` says where to train.
    """

    kind: ClassVar[str]

    dataset: EEGDataset
    recipe: TrainingRecipe
    device_plan: dict[str, Any]

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return everything the weights depend on, as JSON: parameters, and digests of the data."""

    @abstractmethod
    def prepare(self, link: Link | None = None, fitted: Path | None = None) -> TrainingModule:
        """Make the module and its data, and fit what is fitted before the first step.

        Parameters
        ----------
        link
            To the supervisor, which waits for the fits.
        fitted
            Folder with the fits of an earlier attempt; None fits again and keeps nothing.

        Raises
        ------
        UserError
            When parameters, data or checkpoint do not fit each other.
        """

    @abstractmethod
    def callbacks(self) -> list[lightning.Callback]:
        """Return the callbacks that act between epochs."""

    @abstractmethod
    def provenance(self, module: TrainingModule) -> dict[str, Any]:
        """Return the metadata that are specific to this kind of checkpoint."""

    def run(self, folder: Path, run_id: str | None = None) -> tuple[Checkpoint, pd.DataFrame]:
        """Train in this process and without supervision.

        Parameters
        ----------
        folder
            Where the checkpoints `epoch-NNN` and `best` of this run go; older ones are removed.
        run_id
            Stored in the metadata; random by default.

        Returns
        -------
        Checkpoint
            Weights of the best epoch, with provenance.
        pandas.DataFrame
            One row per epoch: losses, scores on the validation subjects, learning rate, speed,
            device.
        """
        result = self.run_in(folder, run_id=run_id or uuid.uuid4().hex, link=Link())
        return final_checkpoint(Path(folder), result["stopped"])

    def run_in(self, folder: Path, *, run_id: str, link: Link) -> dict[str, Any]:
        """Train in a folder, where checkpoints and history stay.

        The supervisor's orders in the link override the device plan.

        Returns
        -------
        dict
            `stopped`: why the training ended.
        """
        import torch

        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        folder, orders = Path(folder), link.orders
        device = orders.device if orders is not None else self.device_plan["chosen"]
        resume = Path(orders.resume_from) if orders is not None and orders.resume_from else None
        module = self.prepare(link, folder / FITTED if orders is not None else None)
        requested = self.recipe.trainer.precision
        precision = choose_precision(requested, accelerator(device))
        say(f"training in {describe_precision(requested, accelerator(device))}")
        provenance = {
            "kind": self.kind,
            "run_id": run_id,
            "started_at": started_at,
            "sfreq": self.dataset.sfreq,
            "channel_names": list(self.dataset.store.channel_names),
            "positions": self.dataset.store.positions.tolist(),
            "store_fingerprint": self.dataset.store.fingerprint,
            "cleaning": self.dataset.store.cleaning,
            "cleaning_version": CLEANING_VERSION,
            "datasets": self.dataset.store.datasets,
            "device_plan": self.device_plan,
            "versions": library_versions(),
            "precision": precision,
            "threads": torch.get_num_threads(),  # sums over more of them differ in the last bit
            **self.provenance(module),
        }
        return {"stopped": self.train(module, folder, device, provenance, resume)}

    def train(
        self,
        module: TrainingModule,
        folder: Path,
        device: str,
        provenance: dict[str, Any],
        resume_from: Path | None,
    ) -> str:
        """Train as `fit` does; return why it ended."""
        return fit(module, folder, device, provenance, self.callbacks(), resume_from)

    def supervise(self, work_dir: Path, *, run_id: str) -> tuple[Checkpoint, pd.DataFrame, str]:
        """Train in a supervised child process, resuming an earlier run that was killed.

        Parameters
        ----------
        work_dir
            Folder of all runs.
        run_id
            Name of a new run's folder.

        Returns
        -------
        Checkpoint
            The best weights, with `incidents` and `epochs_by_device` in the metadata. Call its
            `when_stored` once it is stored elsewhere; until then the same call returns it from
            the run's folder again.
        pandas.DataFrame
            One row per epoch.
        str
            The incidents as JSON lines; empty without any.

        Raises
        ------
        UserError
            The error of the child, or that all attempts failed.
        TrainingStopped
            After SIGINT or SIGTERM.
        """
        trainer = self.recipe.trainer
        run = open_run(Path(work_dir), run_id, self.identity(), trainer.resume == "auto")
        try:
            prune(Path(work_dir), run.path, trainer.keep_unfinished)
            run.check_best()
            work = Work(
                TARGET,
                {"job": self, "folder": run.path, "run_id": run.path.name},
                device=self.device_plan["chosen"],
                batch_size=trainer.batch_size,
                seconds=trainer.max_training_time,
                fault=Fault.parse(self.recipe.fault),
            )
            result = Supervisor(run, work, self.recipe.supervision).run()
            stopped = result.get("stopped", ENDED)
            checkpoint, history = final_checkpoint(run.path, stopped)
            if not stopped.startswith(TIME_IS_UP):
                keep = trainer.checkpoint_keep == "all"
                checkpoint.when_stored = partial(mark_done, run.path, keep_epochs=keep)
        finally:
            run.close()
        incidents = read_incidents(run.path)
        checkpoint.metadata |= training_record(history, incidents)
        prune(Path(work_dir), run.path, trainer.keep_unfinished)
        return checkpoint, history, as_lines(incidents)


def run_job(job: TrainingJob, folder: Path, run_id: str, link: Link) -> dict[str, Any]:
    """Run a job; the entry point of the supervised child."""
    return job.run_in(folder, run_id=run_id, link=link)


def identify_data(dataset: EEGDataset, *, with_participants: bool) -> dict[str, Any]:
    """Digest the data that a training depends on."""
    splits = dataset.splits[["subject", "split"]].sort_values("subject")
    return {
        "signals": dataset.store.fingerprint,
        "windows": digest(dataset.windows[["recording", "start"]]),
        "splits": digest(splits),
        "participants": digest(dataset.participants) if with_participants else None,
    }


def digest(table: pd.DataFrame) -> str:
    """Hash a table by its columns and values, not by its index."""
    values = pd.util.hash_pandas_object(table.astype(str), index=False).to_numpy()
    names = json.dumps(table.columns.tolist()).encode()
    return hashlib.blake2b(names + values.tobytes(), digest_size=8).hexdigest()


def training_record(history: pd.DataFrame, incidents: list[Incident]) -> dict[str, Any]:
    """Return which epochs ran on which device, and what happened on each."""
    epochs: dict[str, list[int]] = {one.device: [] for one in incidents if one.device}
    for epoch, device in zip(history["epoch"], history["device"], strict=True):
        epochs.setdefault(device, []).append(int(epoch))
    happened = [
        {key: getattr(incident, key) for key in ("kind", "device", "epoch", "step", "action")}
        for incident in incidents
    ]
    return {"epochs_by_device": epochs, "incidents": happened}
