"""A training logged to CSV, TensorBoard or MLflow: the rows of its history, and rates by group.

Files and a local database alone: no server is needed, and nothing is sent anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import pandas as pd
from filelock import FileLock

from hbn_foundation.params import dotted
from hbn_foundation.progress import say
from hbn_foundation.training.params import RunParams

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

FOLDER = "tracking"  # beside the folder of the checkpoints
MLFLOW_RUN = "mlflow_run"  # in the folder of a run: what a resumed one goes on with
METADATA = ("kind", "run_id", "precision", "threads")


class Tracking(lightning.Callback):
    """Log the parameters once, and after each epoch all numbers of its row and the rates.

    A resumed run goes on with its records; what it had logged of epochs that are lost is replaced.

    Parameters
    ----------
    params
        `tracking` says where to.
    provenance
        Metadata of the checkpoints, with the parameters of the training.
    folder
        Of the run.
    """

    def __init__(self, params: RunParams, provenance: Mapping[str, Any], folder: Path) -> None:
        self.kind = params.tracking
        self.folder = folder
        values = dict(dotted(provenance.get("parameters", {})))
        self.values = values | {name: provenance.get(name) for name in METADATA}
        work_dir = Path(params.work_dir)
        self.root = work_dir.parent / FOLDER
        self.group = work_dir.name.removesuffix("_training")
        start = getattr(params, "start", "foundation")
        self.name = f"{provenance['run_id']}{'' if start == 'foundation' else f'-{start}'}"
        self.logger: Logger | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Open the records, and log the parameters."""
        done = len(pl_module.history)
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / ".lock"):  # jobs that make one database at once
            self.logger = getattr(self, f"_{self.kind}")(done)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Log the row of the epoch, which is there by now, and the rate of each group."""
        assert self.logger is not None
        row = pl_module.history[-1]
        numbers = {name: float(value) for name, value in row.items()
                   if isinstance(value, int | float) and value == value}  # fmt: skip
        groups = trainer.optimizers[0].param_groups
        blocks = {group["name"].partition("/")[0]: float(group["lr"]) for group in groups}
        numbers |= {f"lr_{name}": rate for name, rate in blocks.items()}
        self.logger.log_metrics(numbers, step=row["epoch"])
        self.logger.save()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Close the records."""
        if self.logger is not None:
            self.logger.finalize("success")

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, _: BaseException) -> None:
        """Close the records of a training that failed."""
        if self.logger is not None:
            self.logger.finalize("failed")

    def _csv(self, done: int) -> Logger:
        from lightning.pytorch.loggers import CSVLogger

        place = self.root / self.group / self.name / "metrics.csv"
        rows = pd.read_csv(place) if done and place.is_file() else pd.DataFrame({"step": []})
        logger = CSVLogger(self.root, self.group, self.name)
        logger.log_hyperparams(self.values)
        for row in rows[rows["step"] <= done].to_dict("records"):  # the file begins anew
            known = {str(name): value for name, value in row.items() if value == value}
            logger.log_metrics(known, step=int(known.pop("step")))
        say(f"tracking: {place}")
        return logger

    def _tensorboard(self, done: int) -> Logger:
        from lightning.pytorch.loggers import TensorBoardLogger

        say(f"tracking: tensorboard --logdir {self.root}")
        logger = TensorBoardLogger(
            self.root, self.group, self.name, default_hp_metric=False, purge_step=done + 1
        )
        logger.log_hyperparams(self.values)
        return logger

    def _mlflow(self, _: int) -> Logger:
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        from lightning.pytorch.loggers import MLFlowLogger

        known = self.folder / MLFLOW_RUN
        database = f"sqlite:///{self.root / 'mlflow.db'}"
        logger = MLFlowLogger(
            experiment_name=self.group,
            run_name=self.name,
            tracking_uri=database,
            artifact_location=str(self.root.resolve() / "artifacts"),
            run_id=known.read_text() if known.is_file() else None,
        )
        if not known.is_file():  # what MLflow knows of a run must not change
            logger.log_hyperparams(self.values)
            known.write_text(str(logger.run_id))
        say(f"tracking: mlflow ui --backend-store-uri {database}")
        return logger
