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

if TYPE_CHECKING:
    from hbn_foundation.labels.params import LabelParams
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.recipes import PretrainingRecipe

__all__ = ["cross_validate", "summarise_folds"]

CPU = {"chosen": "cpu"}
INCIDENTS = "incidents.jsonl"


@dataclass(frozen=True)
class Fold:
    """Everything that one fold needs, ready to be sent to another process."""

    repeat: int
    fold: int
    dataset: EEGDataset
    recipe: PretrainingRecipe
    evaluation: EvaluationParams
    device_plan: dict[str, Any]
    work_dir: Path
    provenance: Provenance
    supervised: bool = True

    @property
    def pretraining_key(self) -> str:
        """Hash of what the pretrained encoder depends on."""
        dataset, recipe = self.dataset, self.recipe
        subjects = dataset.splits.sort_values("subject")[["subject", "split"]].values.tolist()
        identity = recipe.identity()
        labelled = recipe.objective.name == "task_classification"
        # Subjects that are tested do not shape the encoder, but they must not change unnoticed.
        return hash_of(
            self.provenance.pretraining,
            dataset.store.fingerprint,
            hash_table(dataset.windows[["recording", "start"]]),
            hash_table(dataset.participants) if labelled else "",
            subjects,
            identity["encoder"],
            identity["objective"],
            identity["trainer"],
            dataset.window.model_dump(mode="json"),
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
            hash_table(self.dataset.participants),
            evaluation,
        )
        return self.work_dir / f"result-{key}.json"

    @property
    def checkpoint_path(self) -> Path:
        """Where the pretrained encoder of this fold is kept."""
        return self.work_dir / f"encoder-{self.pretraining_key}"


def cross_validate(
    dataset: EEGDataset,
    recipe: PretrainingRecipe,
    params: EvaluationParams,
    work_dir: str | Path,
    *,
    device_plan: dict[str, Any] | None = None,
    supervised: bool = True,
) -> pd.DataFrame:
    """Pretrain, probe and compare anew in each fold of repeated subject splits.

    In each fold the encoder sees training subjects only, every choice is made on validation
    subjects and every score is of test subjects; all methods share the folds.

    Parameters
    ----------
    dataset
        The data; its own splits do not matter.
    recipe
        Parameters of pretraining.
    params
        Parameters of the evaluation; `repeats` says how many folds.
    work_dir
        Where encoders and results of finished folds are kept.
    device_plan
        Where to train; the CPU by default. Folds run one at a time on any other device.
    supervised
        Whether a training has a supervisor; else it runs in the worker itself.

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
        dataset, recipe, params, params.repeats, work_dir, device_plan=plan, supervised=supervised
    )
    waiting = [fold for fold in folds if not fold.result_path.is_file()]
    if len(waiting) < len(folds):
        say(f"cross-validation: {len(folds) - len(waiting)} of {len(folds)} folds are kept")
    n_jobs = params.repeats.n_jobs if plan["chosen"] == "cpu" else 1
    Path(work_dir).mkdir(parents=True, exist_ok=True)
    prune_scratch(Path(work_dir), "pretraining-*", recipe.trainer, n_jobs)
    parameter, words = "evaluation.repeats.n_jobs", "cross-validation folds"
    for fold in tracked(_run_in_worker, waiting, n_jobs, parameter, words, trainings_of):
        auroc = _read(fold)["probe"]["pretrained"]["window_auroc"]
        text = "no score, one class only" if auroc is None else f"pretrained AUROC {auroc:.3f}"
        say(f"repeat {fold.repeat + 1} fold {fold.fold + 1}: {text}")
    rows = [row for fold in folds for row in fold_rows(fold.repeat, fold.fold, _read(fold))]
    return fold_table(rows)


def make_folds(
    dataset: EEGDataset,
    recipe: PretrainingRecipe,
    evaluation: EvaluationParams,
    repeats: RepeatParams,
    work_dir: str | Path,
    *,
    device_plan: dict[str, Any],
    supervised: bool = True,
    label: LabelParams | None = None,
) -> list[Fold]:
    """List the folds; parameters as for `cross_validate`, `repeats` says how many.

    `label` is what is learned, by default that of the evaluation: where it is of subjects, the
    folds are stratified by it.
    """
    # once, in this process: a file that changes meanwhile must not move the results of a fold
    origin = provenance(recipe.trainer.precision, device_plan)
    return [
        Fold(repeat, fold, dataset.replace(splits=splits), recipe, evaluation, device_plan,
             Path(work_dir), origin, supervised)
        for repeat, fold, splits in subject_folds(
            dataset.windows, repeats, dataset.participants, label or evaluation.label
        )
    ]  # fmt: skip


def run_fold(fold: Fold) -> Fold:
    """Pretrain (unless that is kept), evaluate, and keep the metrics; return the fold."""
    from hbn_foundation.evaluation.tasks.foundation import evaluate_foundation

    checkpoint = pretrained_encoder(fold)
    # no interval of a single fold is shown
    evaluation = fold.evaluation.model_copy(update={"bootstraps": 0})
    scores = evaluate_foundation(checkpoint, fold.dataset, evaluation)
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
    from hbn_foundation.training.pretrain import pretrain, pretrain_supervised

    recipe = going_on(fold.recipe)
    if not fold.supervised:
        return *pretrain(fold.dataset, recipe, fold.device_plan, folder), ""
    return pretrain_supervised(fold.dataset, recipe, fold.device_plan, folder, run_id=TRAINING)


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
