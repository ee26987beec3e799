"""Pretrain and probe over repeated subject splits, folds side by side in processes of their own.

What a fold gives is kept on disk under a hash of everything it depends on, so that a run that was
killed goes on where it stopped and a run with another label pretrains nothing twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.evaluation.params import EvaluationParams, RepeatParams
from hbn_foundation.evaluation.provenance import Provenance, provenance
from hbn_foundation.evaluation.side_by_side import TRAINING, going_on, prune_scratch, tracked
from hbn_foundation.evaluation.tables import fold_rows, fold_table, summarise_folds
from hbn_foundation.files import renamed_when_done
from hbn_foundation.labels.splits import repeated_splits
from hbn_foundation.progress import say
from hbn_foundation.training.params import NOT_IN_THE_WEIGHTS

if TYPE_CHECKING:
    from hbn_foundation.labels.params import LabelParams
    from hbn_foundation.signals.params import WindowParams
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.model_params import EncoderParams
    from hbn_foundation.training.params import ObjectiveParams, TrainerParams
    from hbn_foundation.training.supervision.params import SupervisionParams

__all__ = ["cross_validate", "summarise_folds"]

CPU = {"chosen": "cpu"}
INCIDENTS = "incidents.jsonl"


@dataclass(frozen=True)
class Fold:
    """Everything that one fold needs, ready to be sent to another process."""

    repeat: int
    fold: int
    store: SignalStore
    windows: pd.DataFrame
    splits: pd.DataFrame
    participants: pd.DataFrame
    encoder: EncoderParams
    objective: ObjectiveParams
    trainer: TrainerParams
    evaluation: EvaluationParams
    window: WindowParams
    device_plan: dict[str, Any]
    work_dir: Path
    provenance: Provenance
    supervision: SupervisionParams | None = None

    @property
    def pretraining_key(self) -> str:
        """Hash of what the pretrained encoder depends on."""
        subjects = self.splits.sort_values("subject")[["subject", "split"]].values.tolist()
        # Subjects that are tested do not shape the encoder, but they must not change unnoticed.
        return hash_of(
            self.provenance.pretraining,
            self.store.fingerprint,
            hash_table(self.windows[["recording", "start"]]),
            hash_table(self.participants) if self.objective.name == "task_classification" else "",
            subjects,
            self.encoder.model_dump(mode="json"),
            self.objective.model_dump(mode="json"),
            self.trainer.model_dump(mode="json", exclude=set(NOT_IN_THE_WEIGHTS)),
            self.window.model_dump(mode="json"),
        )

    @property
    def result_path(self) -> Path:
        """Where the metrics of this fold are kept."""
        evaluation = self.evaluation.model_dump(
            mode="json",
            exclude={"repeats", "map_windows", "map_method", "batch_size", "bootstraps"},
        )
        key = hash_of(
            self.pretraining_key,
            self.provenance.evaluation,
            hash_table(self.participants),
            evaluation,
        )
        return self.work_dir / f"result-{key}.json"

    @property
    def checkpoint_path(self) -> Path:
        """Where the pretrained encoder of this fold is kept."""
        return self.work_dir / f"encoder-{self.pretraining_key}"


def cross_validate(
    store: SignalStore,
    windows: pd.DataFrame,
    participants: pd.DataFrame,
    encoder: EncoderParams,
    objective: ObjectiveParams,
    trainer: TrainerParams,
    params: EvaluationParams,
    work_dir: str | Path,
    *,
    window: WindowParams,
    device_plan: dict[str, Any] | None = None,
    supervision: SupervisionParams | None = None,
) -> pd.DataFrame:
    """Pretrain, probe and compare anew in each fold of repeated subject splits.

    In each fold the encoder sees training subjects only, every choice is made on validation
    subjects and every score is of test subjects; all methods share the folds.

    Parameters
    ----------
    store, windows, participants
        The data.
    encoder, objective, trainer
        Parameters of pretraining.
    params
        Parameters of the evaluation; `repeats` says how many folds.
    work_dir
        Where encoders and results of finished folds are kept.
    window
        The parameters that the windows were cut with.
    device_plan
        Where to train; the CPU by default. Folds run one at a time on any other device.
    supervision
        How long each part of a training may be silent; None trains in the worker itself.

    Returns
    -------
    pandas.DataFrame
        One row per fold and method; empty without `repeats`.

    Raises
    ------
    UserError
        When there are too few subjects, or a fold fails for a reason that the user can mend.
    """
    if params.repeats is None:
        return fold_table([])
    plan = device_plan or CPU
    folds = make_folds(
        store, windows, participants, encoder, objective, trainer, params, params.repeats,
        work_dir, window=window, device_plan=plan, supervision=supervision,
    )  # fmt: skip
    waiting = [fold for fold in folds if not fold.result_path.is_file()]
    if len(waiting) < len(folds):
        say(f"cross-validation: {len(folds) - len(waiting)} of {len(folds)} folds are kept")
    n_jobs = params.repeats.n_jobs if plan["chosen"] == "cpu" else 1
    Path(work_dir).mkdir(parents=True, exist_ok=True)
    prune_scratch(Path(work_dir), "pretraining-*", trainer, n_jobs)
    parameter, words = "evaluation.repeats.n_jobs", "cross-validation folds"
    for fold in tracked(_run_in_worker, waiting, n_jobs, parameter, words, trainings_of):
        auroc = _read(fold)["probe"]["pretrained"]["window_auroc"]
        text = "no score, one class only" if auroc is None else f"pretrained AUROC {auroc:.3f}"
        say(f"repeat {fold.repeat + 1} fold {fold.fold + 1}: {text}")
    rows = [row for fold in folds for row in fold_rows(fold.repeat, fold.fold, _read(fold))]
    return fold_table(rows)


def make_folds(
    store: SignalStore,
    windows: pd.DataFrame,
    participants: pd.DataFrame,
    encoder: EncoderParams,
    objective: ObjectiveParams,
    trainer: TrainerParams,
    evaluation: EvaluationParams,
    repeats: RepeatParams,
    work_dir: str | Path,
    *,
    window: WindowParams,
    device_plan: dict[str, Any],
    supervision: SupervisionParams | None = None,
    label: LabelParams | None = None,
) -> list[Fold]:
    """List the folds; parameters as for `cross_validate`, `repeats` says how many.

    `label` is what is learned, by default that of the evaluation: where it is of subjects, the
    folds are stratified by it.
    """
    # once, in this process: a file that changes meanwhile must not move the results of a fold
    origin = provenance(trainer.precision, device_plan)
    return [
        Fold(repeat, fold, store, windows, splits, participants, encoder, objective, trainer,
             evaluation, window, device_plan, Path(work_dir), origin, supervision)
        for repeat, fold, splits in subject_folds(
            windows, repeats, participants, label or evaluation.label
        )
    ]  # fmt: skip


def run_fold(fold: Fold) -> Fold:
    """Pretrain (unless that is kept), evaluate, and keep the metrics; return the fold."""
    from hbn_foundation.evaluation.foundation import evaluate_foundation

    checkpoint = pretrained_encoder(fold)
    # neither a map nor an interval of a single fold is shown
    evaluation = fold.evaluation.model_copy(
        update={"map_method": "pca", "map_windows": 10, "bootstraps": 0}
    )
    scores = evaluate_foundation(
        checkpoint, fold.store, fold.windows, fold.splits, fold.participants, evaluation
    )
    with renamed_when_done(fold.result_path) as temporary:
        temporary.write_text(json.dumps(scores.metrics, indent=1))
    return fold


def pretrained_encoder(fold: Fold) -> Checkpoint:
    """Load the encoder of a fold; pretrain and keep it where that was not done yet."""
    from hbn_foundation.training.checkpoint import METADATA_FILE, Checkpoint

    if (fold.checkpoint_path / METADATA_FILE).is_file():
        return Checkpoint.load(fold.checkpoint_path)
    (run,) = trainings_of(fold)
    scratch = run.parent
    checkpoint, history, incidents = _pretrain(fold, scratch)
    checkpoint.save(fold.checkpoint_path)
    history.to_csv(fold.checkpoint_path / "history.csv", index=False)
    (fold.checkpoint_path / INCIDENTS).write_text(incidents)
    remove_folder(scratch)
    return checkpoint


def trainings_of(fold: Fold) -> list[Path]:
    """Folder of the run in which the encoder of a fold is pretrained, while that lasts."""
    return [fold.work_dir / f"pretraining-{fold.pretraining_key}" / TRAINING]


def _pretrain(fold: Fold, folder: Path) -> tuple[Any, pd.DataFrame, str]:
    """Pretrain under supervision, where that is wanted, and then go on where it was killed."""
    from hbn_foundation.training.pretraining import pretrain
    from hbn_foundation.training.supervised import pretrain_supervised

    arguments = (
        fold.store, fold.windows, fold.splits, fold.participants, fold.encoder, fold.objective,
        going_on(fold.trainer), fold.device_plan, folder,
    )  # fmt: skip
    if fold.supervision is None:
        return *pretrain(*arguments, window=fold.window), ""
    return pretrain_supervised(
        *arguments, window=fold.window, run_id=TRAINING, supervision=fold.supervision
    )


def subject_folds(
    windows: pd.DataFrame, repeats: RepeatParams, participants: pd.DataFrame, label: LabelParams
) -> Iterator[tuple[int, int, pd.DataFrame]]:
    """Yield repeat, fold and its `subject` and `split`."""
    table = repeated_splits(
        windows["subject"].unique().tolist(), repeats.folds, repeats.repeats, repeats.seed,
        participants=participants, label=label,
    )  # fmt: skip
    for _, part in table.groupby(["repeat", "fold"]):
        place = int(part["repeat"].iloc[0]), int(part["fold"].iloc[0])
        yield *place, part[["subject", "split"]].reset_index(drop=True)


def _run_in_worker(fold: Fold) -> None:
    """Run a fold; what it gives is on disk, so that nothing large is sent back."""
    run_fold(fold)


def _read(fold: Fold) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(fold.result_path.read_text())
    return result


def hash_of(*parts: Any) -> str:
    """Hash plain values, as they are written in JSON."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def hash_table(table: pd.DataFrame) -> str:
    """Hash a table by its columns and values."""
    return hash_of(table.columns.tolist(), table.astype(str).values.tolist())


def remove_folder(folder: Path) -> None:
    """Remove a folder; what cannot be removed stays."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
