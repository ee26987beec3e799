"""Pretrain and probe over repeated subject splits.

The encoder of a fold is a job of its own, whose key covers all that its weights depend on: a run
with another label pretrains nothing twice, and a comparison of plans begins at the same encoders.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.evaluation.params import EvaluationParams, RepeatParams
from hbn_foundation.evaluation.provenance import provenance
from hbn_foundation.evaluation.tables import fold_rows, fold_table
from hbn_foundation.experiments.data import put_dataset
from hbn_foundation.experiments.hashing import canonical_hash
from hbn_foundation.experiments.job import Entry, Job
from hbn_foundation.experiments.params import ExperimentParams
from hbn_foundation.experiments.running import at_once, run_jobs
from hbn_foundation.experiments.store import METRICS
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.labels.splits import repeated_splits
from hbn_foundation.progress import say
from hbn_foundation.training.job import digest
from hbn_foundation.training.pretrain import PretrainingJob

if TYPE_CHECKING:
    from hbn_foundation.labels.params import LabelParams
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.recipes import PretrainingRecipe

ENCODER, PROBE = "encoder", "probe"
TASKS = "hbn_foundation.experiments.tasks"
CPU = {"chosen": "cpu"}
NOT_IN_THE_SCORES = {"repeats", "batch_size", "bootstraps"}  # a single fold has no intervals


@dataclass(frozen=True)
class Fold:
    """A division of the subjects, and the job that pretrains its encoder.

    Attributes
    ----------
    repeat, fold
        Which one.
    splits
        `subject` and `split`.
    encoder
        The job.
    """

    repeat: int
    fold: int
    splits: pd.DataFrame
    encoder: Job

    @property
    def base(self) -> Entry:
        """The pretrained encoder."""
        return Entry(self.encoder.kind, self.encoder.key)

    @property
    def name(self) -> str:
        """Words for messages."""
        return f"repeat {self.repeat + 1} fold {self.fold + 1}"


def cross_validate(
    dataset: EEGDataset,
    recipe: PretrainingRecipe,
    params: EvaluationParams,
    work_dir: str | Path,
    *,
    device_plan: dict[str, Any] = CPU,
    experiments: ExperimentParams | None = None,
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
        Where to train; the CPU by default.
    experiments
        Where the folds run; by default in processes of this machine.

    Returns
    -------
    pandas.DataFrame
        One row per fold and method; empty without `repeats`.

    Raises
    ------
    UserError
        When there are too few subjects, or a fold fails.
    """
    if params.repeats is None:
        return fold_table([])
    experiments = experiments or ExperimentParams()
    stores = stores_in(Path(work_dir), experiments)
    folds = make_folds(
        dataset, recipe, params.repeats, stores, device_plan=device_plan, label=params.label
    )
    code = provenance(recipe.trainer.precision, device_plan).evaluation
    probes = {fold.encoder.key: _probe(fold, params, code, dataset) for fold in folds}
    place = {probes[fold.encoder.key].id: fold for fold in folds}

    def tell(job: Job) -> None:
        if job.kind == PROBE:
            auroc = _read(job, stores)["probe"]["pretrained"]["window_auroc"]
            text = "no score, one class only" if auroc is None else f"pretrained AUROC {auroc:.3f}"
            say(f"{place[job.id].name}: {text}")

    jobs = [*wanted(folds, probes.values(), stores), *probes.values()]
    engine = at_once(experiments, params.repeats.n_jobs, device_plan)
    run_jobs("cross-validation", jobs, stores, engine, device_plan, recipe, tell)
    rows = [
        fold_rows(fold.repeat, fold.fold, _read(probes[fold.encoder.key], stores)) for fold in folds
    ]
    return fold_table([row for of_fold in rows for row in of_fold])


def stores_in(
    folder: Path, experiments: ExperimentParams, results: dict[str, Path] | None = None
) -> Stores:
    """Give the stores of an experiment that begins at the encoders of folds.

    Parameters
    ----------
    folder
        Of the folds.
    experiments
        How results reach workers elsewhere.
    results
        Folders of other kinds of result; by default those of the probes.
    """
    results = results or {PROBE: folder / "results"}
    return Stores({ENCODER: folder / "encoders", **results}, folder / "work", experiments)


def make_folds(
    dataset: EEGDataset,
    recipe: PretrainingRecipe,
    repeats: RepeatParams,
    stores: Stores,
    *,
    device_plan: dict[str, Any],
    label: LabelParams,
) -> list[Fold]:
    """List the folds; where the label is of subjects, they are stratified by it."""
    # once, in this process: a file that changes meanwhile must not move the results of a fold
    code = provenance(recipe.trainer.precision, device_plan).pretraining
    table = repeated_splits(
        dataset.windows["subject"].unique().tolist(), repeats.folds, repeats.repeats,
        repeats.seed, participants=dataset.participants, label=label,
    )  # fmt: skip
    data = put_dataset(dataset.replace(splits=dataset.splits.iloc[:0]), stores.work)
    folds = []
    for _, part in table.groupby(["repeat", "fold"]):
        splits = part[["subject", "split"]].reset_index(drop=True)
        training = PretrainingJob(dataset.replace(splits=splits), recipe, device_plan)
        identity = {
            "code": code,
            **training.identity(),
            # subjects that are tested do not shape the encoder, but must not change unnoticed
            "subjects": splits.sort_values("subject").to_numpy().tolist(),
        }
        job = Job(
            ENCODER, canonical_hash(identity), f"{TASKS}:pretrain_encoder",
            {"data": data, "splits": splits, "recipe": recipe}, identity=identity,
            batch_size=recipe.trainer.batch_size, seconds=recipe.trainer.max_training_time,
        )  # fmt: skip
        folds.append(Fold(int(part["repeat"].iloc[0]), int(part["fold"].iloc[0]), splits, job))
    return folds


def wanted(folds: Sequence[Fold], scoring: Any, stores: Stores) -> list[Job]:
    """Give the jobs of the encoders that a missing result begins at."""
    needed = {job.base for job in scoring if not stores.store(job.kind).has(job.key)}
    return [fold.encoder for fold in folds if fold.base in needed]


def _probe(fold: Fold, params: EvaluationParams, code: str, dataset: EEGDataset) -> Job:
    evaluation = params.model_copy(update={"bootstraps": 0})
    identity = {
        "encoder": fold.encoder.key,
        "code": code,
        "participants": digest(dataset.participants),
        "evaluation": params.model_dump(mode="json", exclude=NOT_IN_THE_SCORES),
    }
    arguments = {name: fold.encoder.arguments[name] for name in ("data", "splits")}
    return Job(
        PROBE, canonical_hash(identity), f"{TASKS}:probe_encoder",
        {**arguments, "evaluation": evaluation}, fold.base, identity, params.batch_size,
    )  # fmt: skip


def _read(job: Job, stores: Stores) -> dict[str, Any]:
    path = stores.store(job.kind).path(job.key) / METRICS
    return dict(json.loads(path.read_text()))
