"""Train on the labels of more and more subjects: model, scratch and baselines, the same test.

The subsets of one seed are nested, the validation and test subjects those of every run. The
foundation checkpoint has seen the signals of all training subjects; what grows is how many of
them have labels. Baselines see the subset alone; from scratch begins at random weights, behind the
checkpoint's normalisation of the tokens, which all training subjects have fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.methods import FINE_TUNED, SCRATCH, display_name
from hbn_foundation.evaluation.provenance import finetuning_provenance
from hbn_foundation.evaluation.recipes import ChallengeRecipe
from hbn_foundation.experiments.curve_tasks import with_labels_of
from hbn_foundation.experiments.data import put_dataset
from hbn_foundation.experiments.folds import ENCODER, stores_in
from hbn_foundation.experiments.hashing import canonical_hash
from hbn_foundation.experiments.job import Entry, Job
from hbn_foundation.experiments.params import ExperimentParams, LearningCurveParams
from hbn_foundation.experiments.running import Run, at_once, make_job, read_scores, run_jobs
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.targets import CHECKPOINT
from hbn_foundation.labels.checks import check_reported
from hbn_foundation.labels.people import CHOSEN, seen_subjects
from hbn_foundation.labels.strata import class_strata, joined, spread_order
from hbn_foundation.progress import say
from hbn_foundation.training.job import digest

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.finetuning_params import FineTuningParams

CURVE = "curve"
FEWEST = 2
"""Fewest training subjects of a run."""
FIRST = ["method", "share", "n_subjects", "seed"]


def learning_curve(
    foundation: Checkpoint,
    dataset: EEGDataset,
    recipe: ChallengeRecipe,
    params: LearningCurveParams,
    device_plan: dict[str, Any],
    experiments: ExperimentParams | None = None,
) -> pd.DataFrame:
    """Train and score on each share of the training subjects with each seed.

    Results of finished runs are kept; the same call resumes one that was killed.

    Parameters
    ----------
    foundation
        The checkpoint that every run begins with.
    dataset
        With the windows of the challenge.
    recipe
        Parameters of the model and of the evaluation.
    params
        Shares, seeds, jobs.
    device_plan
        `chosen` says where to train.
    experiments
        Where the runs are carried out; by default in processes of this machine.

    Returns
    -------
    pandas.DataFrame
        One row per subset, seed and method: `method`, `share`, `n_subjects` (training subjects),
        `seed`, and the scores of the test subjects: those of response times, or those of the
        factor that the challenge scores.

    Raises
    ------
    UserError
        When there are too few subjects, or labels or parameters do not fit; before any training.
    """
    experiments = experiments or ExperimentParams()
    work = Path(params.work_dir)
    stores = stores_in(work, experiments, {CURVE: work / "results"})
    runs = list_runs(foundation, dataset, recipe, params, device_plan, stores)
    _check(foundation, runs)
    publish_checkpoint(foundation, runs[0].job.base, stores)
    by_job = {run.job.id: run for run in runs}
    engine = at_once(experiments, params.n_jobs, device_plan)

    def tell(job: Job) -> None:
        say(_said(by_job[job.id], stores))

    jobs = [run.job for run in runs]
    run_jobs("learning curve", jobs, stores, engine, device_plan, recipe, tell)
    table = pd.concat([read_scores(run, stores) for run in runs], ignore_index=True)
    return table[[*FIRST, *(name for name in table if name not in FIRST)]]


def list_runs(
    foundation: Checkpoint,
    dataset: EEGDataset,
    recipe: ChallengeRecipe,
    params: LearningCurveParams,
    device_plan: dict[str, Any],
    stores: Stores,
) -> list[Run]:
    """List the runs, the smallest subsets first, so that mistakes show early."""
    weights = str(foundation.metadata.get("weights_sha256"))
    base = Entry(ENCODER, canonical_hash({"weights": weights}))
    data = put_dataset(dataset.replace(splits=dataset.splits.iloc[:0]), stores.work)
    common = {"weights": weights, "scratch": params.scratch}
    common |= identity_of(dataset, recipe, device_plan)
    subjects = dataset.splits["subject"].astype(str).tolist()
    classes = joined(class_strata(subjects, dataset.participants, [recipe.label]))
    runs = []
    for seed in params.seeds:
        for share, splits in nested_splits(
            dataset.splits, dataset.windows, params.shares, seed, classes
        ):
            trainer = lengthened(recipe.trainer, share) if params.same_steps else recipe.trainer
            trainer = trainer.model_copy(update={"seed": seed})
            # lengthened epochs are not those that phase2_epochs is a check of
            plan = recipe.plan.model_copy(update={"phase2_epochs": None})
            own = recipe.model_copy(update={"trainer": trainer, "plan": plan})
            identity = {**common, **own.identity(),
                        "subjects": splits.sort_values("subject")[["subject", "split"]]
                        .to_numpy().tolist()}  # fmt: skip
            arguments = {"data": data, "splits": splits, "recipe": own, "scratch": params.scratch}
            job = make_job(CURVE, "learn_share", identity, arguments, trainer, base)
            if params.scratch:  # two trainings
                job = replace(job, seconds=2 * job.seconds)
            n_subjects = int((splits["split"] == "train").sum())
            place = {"share": share, "n_subjects": n_subjects, "seed": seed}
            name = f"{n_subjects} training subjects ({share:.0%}), seed {seed}"
            runs.append(Run(job, name, dataset.replace(splits=splits), own, place=place))
    return sorted(runs, key=lambda run: int(run.place["n_subjects"]))


def identity_of(
    dataset: EEGDataset, recipe: ChallengeRecipe, device_plan: dict[str, Any]
) -> dict[str, Any]:
    """Name what the scores of a challenge depend on, beside its recipe, encoder and subjects."""
    return {
        "code": finetuning_provenance(recipe.trainer.precision, device_plan),
        "signals": dataset.store.fingerprint,
        "windows": digest(dataset.windows),
        "participants": digest(dataset.participants),
        "evaluation": recipe.evaluation.model_dump(
            mode="json", exclude={"batch_size", "bootstraps", "repeats"}
        ),
    }


def publish_checkpoint(checkpoint: Checkpoint, entry: Entry | None, stores: Stores) -> None:
    """Make a checkpoint an entry, so that workers elsewhere get it by its hash."""
    assert entry is not None
    if stores.get(*entry) is None:
        folder = stores.work / f"{entry.id}.checkpoint"
        checkpoint.save(folder / CHECKPOINT)
        stores.store(entry.kind).publish(entry.key, folder)
    stores.send(*entry)


def lengthened(trainer: FineTuningParams, share: float) -> FineTuningParams:
    """Let a share of the training subjects be gone through so often that the steps are as many."""
    changes = {
        name: ceil(getattr(trainer, name) / share) for name in ("epochs", "early_stopping_patience")
    }
    return trainer.model_copy(update=changes)


def nested_splits(
    splits: pd.DataFrame,
    windows: pd.DataFrame,
    shares: Sequence[float],
    seed: int,
    classes: pd.Series | None = None,
) -> list[tuple[float, pd.DataFrame]]:
    """Take all but a share of the training subjects out of the splits, each share in the next.

    Parameters
    ----------
    splits
        `subject` and `split`.
    windows
        Subjects without a window count for nothing.
    shares
        Of the training subjects, above 0 and up to 1; at least two subjects are taken, and of
        shares that give as many the first.
    seed
        Draws the order in which subjects join.
    classes
        Of each subject, indexed by subject: each share has some of all. None: they have none.

    Returns
    -------
    list of (float, pandas.DataFrame)
        The share that was taken, and the splits; validation and test subjects are all there.
    """
    training = training_subjects(splits, windows)
    own = pd.Series("all", index=training) if classes is None else classes.loc[training]
    order = spread_order(own, seed)
    counts = {max(FEWEST, round(share * len(order))) for share in shares}
    return [(count / len(order), with_labels_of(splits, order[:count])) for count in sorted(counts)]


def training_subjects(splits: pd.DataFrame, windows: pd.DataFrame) -> list[str]:
    """Sorted training subjects that have windows; fewer than two are a UserError."""
    there = set(windows["subject"].astype(str))
    names = splits["subject"].astype(str)
    training = sorted(set(names[splits["split"] == "train"]) & there)
    if len(training) < FEWEST:
        raise UserError(
            f"learning curve: {len(training)} training subjects have windows; expected {FEWEST} "
            "or more"
        )
    return training


def _check(foundation: Checkpoint, runs: Sequence[Run]) -> None:
    """Find out before any training what would stop a run."""
    from hbn_foundation.training.finetune import check_finetuning

    dataset = runs[0].dataset
    subjects, datasets = dataset.splits["subject"], dataset.store.datasets
    seen = seen_subjects(foundation.metadata, CHOSEN, subjects, datasets)
    check_reported(dataset.splits, dataset.participants, seen)
    for run in runs:
        try:
            check_finetuning(foundation, run.dataset, run.recipe)
        except UserError as error:
            raise UserError(f"learning curve, {run.name}: {error}") from None


def _said(run: Run, stores: Stores) -> str:
    """One line about a finished run."""
    rows = read_scores(run, stores).set_index("method")
    errors = rows["nrmse" if "nrmse" in rows else "window_nrmse"].astype(float)
    others = errors.drop([FINE_TUNED, SCRATCH], errors="ignore")
    best = str(others.idxmin())
    scratch = f", from scratch {errors[SCRATCH]:.3f}" if SCRATCH in errors else ""
    beside = f"{display_name(best)} {others[best]:.3f}"
    return f"{run.name}: NRMSE {errors[FINE_TUNED]:.3f}{scratch}, {beside}"
