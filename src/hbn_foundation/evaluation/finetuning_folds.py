"""Fine-tune by several plans over repeated subject splits, baselines beside them.

The pretrained encoders are those of `cross_validation.py`, in the same folder under the same
names, so that neither pretrains what the other has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.cross_validation import (
    INCIDENTS,
    Fold,
    hash_table,
    pretrained_encoder,
)
from hbn_foundation.evaluation.cross_validation import (
    trainings_of as pretraining_of,
)
from hbn_foundation.evaluation.evaluate import main_metric
from hbn_foundation.evaluation.finetuning_runs import (
    BASELINES,
    Run,
    carry_out,
    incidents_path,
    labelled_targets,
    places_of,
    read_result,
    result_path,
    trainings_of,
)
from hbn_foundation.evaluation.methods import written
from hbn_foundation.evaluation.params import ComparisonParams
from hbn_foundation.evaluation.provenance import finetuning_provenance
from hbn_foundation.evaluation.recipes import LabelRecipe
from hbn_foundation.evaluation.side_by_side import prune_scratch, tracked
from hbn_foundation.labels.checks import check_targets
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.strata import class_strata, joined, spread_order
from hbn_foundation.progress import say
from hbn_foundation.scores import check_metric

if TYPE_CHECKING:
    from hbn_foundation.labels.targets import WindowTargets

N_JOBS = "finetuning_comparison.runs.repeats.n_jobs"
OF_NUMBERS = ("nrmse", "recording_nrmse", "mae", "recording_mae")


class Compared(NamedTuple):
    """What the runs give.

    Attributes
    ----------
    folds
        One row per repeat, fold, seed and method: scores and costs.
    predictions
        Of all runs on their test windows, for resampling subjects.
    incidents
        Of all trainings, as JSON lines that name the run; empty without any.
    """

    folds: pd.DataFrame
    predictions: pd.DataFrame
    incidents: str


def compare_plans(
    folds: Sequence[Fold],
    recipe: LabelRecipe,
    params: ComparisonParams,
    windows: pd.DataFrame | None = None,
    supervised: bool = True,
) -> Compared:
    """Fine-tune each plan with each seed in each fold, and fit the baselines.

    Results of finished runs are kept; the same call goes on where an earlier one was killed.

    Parameters
    ----------
    folds
        Of `cross_validation.make_folds`; their `work_dir` is where pretrained encoders are kept.
    recipe
        Label, head, plan, rates, regularisation, trainer, baselines.
    params
        Plans, seeds, labelled subjects, jobs.
    windows
        What is fine-tuned and scored on, as those of trials; by default the windows that the
        folds pretrain on.
    supervised
        Whether a fine-tuning has a supervisor; else it runs in the worker itself.

    Returns
    -------
    Compared

    Raises
    ------
    UserError
        When labels, plans or scores do not fit, before anything is trained.
    """
    runs = list_runs(folds, recipe, params, windows, supervised)
    _check(runs, params)
    paths = [result_path(run) for run in runs]
    waiting = [run for run, path in zip(runs, paths, strict=True) if not path.is_file()]
    if len(waiting) < len(runs):
        say(f"comparison: {len(runs) - len(waiting)} of {len(runs)} runs are kept")
    n_jobs = params.repeats.n_jobs if folds[0].device_plan["chosen"] == "cpu" else 1
    prune_scratch(Path(params.work_dir), "training-*", recipe.trainer, n_jobs)
    _pretrain_all(waiting, n_jobs)
    for run in tracked(carry_out, waiting, n_jobs, N_JOBS, "fine-tuning runs", trainings_of):
        say(_said(run))
    results = [read_result(run, path) for run, path in zip(runs, paths, strict=True)]
    table = pd.concat([rows for rows, _ in results], ignore_index=True)
    first = ["repeat", "fold", "seed", "method", "n_train", "n_test"]
    return Compared(
        table[[*first, *(name for name in table if name not in first)]],
        pd.concat([predictions for _, predictions in results], ignore_index=True),
        all_incidents(runs),
    )


def list_runs(
    folds: Sequence[Fold],
    recipe: LabelRecipe,
    params: ComparisonParams,
    windows: pd.DataFrame | None = None,
    supervised: bool = True,
) -> list[Run]:
    """List the runs fold by fold: baselines first, then each plan with each seed."""
    work_dir = Path(params.work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    # once, in this process: a file that changes meanwhile must not move the results of a run
    code = finetuning_provenance(recipe.trainer.precision, folds[0].device_plan)
    windows_key = "" if windows is None else hash_table(windows)
    runs = []
    for fold in folds:
        learned = fold.dataset.windows if windows is None else windows
        splits = labelled_splits(
            fold, params.labelled_subjects, params.repeats.seed, learned, recipe.label
        )
        first = Run(
            fold, fold.pretraining_key, learned, windows_key, splits, BASELINES, params.seeds[0],
            recipe, code, work_dir, supervised,
        )  # fmt: skip
        runs.append(first)
        runs += [
            replace(first, method=plan, seed=seed) for plan in params.plans for seed in params.seeds
        ]
    return runs


def all_incidents(runs: Sequence[Run]) -> str:
    """Gather what the trainings met with: those of the folds' encoders, then those of the runs."""
    found = {
        run.fold.checkpoint_path / INCIDENTS: {"method": "pretraining", **run.place}
        for run in runs
        if run.method == BASELINES
    }
    found |= {incidents_path(run): {"method": run.method, **run.place} for run in runs}
    lines = [
        json.dumps({"run": name, **json.loads(line)})
        for path, name in found.items()
        if path.is_file()
        for line in path.read_text().splitlines()
    ]
    return "".join(f"{line}\n" for line in lines)


def labelled_splits(
    fold: Fold,
    labelled_subjects: int | None,
    seed: int,
    windows: pd.DataFrame | None = None,
    label: LabelParams | None = None,
) -> pd.DataFrame:
    """Take training subjects beyond a number out of the splits; those with windows count.

    The order of the subjects depends on the seed and their classes alone, so that a fold's six
    labelled subjects are among its eight; those that stay are of every class of `label` (by
    default that of the evaluation) where it is one of subjects.

    Raises
    ------
    UserError
        When there are not as many training subjects.
    """
    splits = fold.dataset.splits
    if labelled_subjects is None:
        return splits
    table = fold.dataset.windows if windows is None else windows
    with_windows = set(table["subject"].astype(str))
    training = sorted(set(splits.loc[splits["split"] == "train", "subject"]) & with_windows)
    if labelled_subjects > len(training):
        raise UserError(
            f"finetuning_comparison.runs.labelled_subjects={labelled_subjects}: a fold has "
            f"{len(training)} training subjects; expected at most as many"
        )
    classes = class_strata(training, fold.dataset.participants, [label or fold.evaluation.label])
    chosen = spread_order(joined(classes), seed)[:labelled_subjects]
    kept = (splits["split"] != "train") | splits["subject"].isin(chosen)
    return splits[kept].reset_index(drop=True)


def compared_score(score: str | None, is_regression: bool) -> str:
    """Name the score that is compared.

    Raises
    ------
    UserError
        When it is none of this kind of label.
    """
    if score is None:
        return main_metric(is_regression)
    if (score in OF_NUMBERS) != is_regression:
        kind = "numbers" if is_regression else "classes"
        raise UserError(
            f"finetuning_comparison.runs.score={score}: not for {kind}, which the label is of; "
            f"expected {main_metric(is_regression)} or null"
        )
    return score


def _check(runs: Sequence[Run], params: ComparisonParams) -> None:
    """Find out before any training what would stop a run."""
    from hbn_foundation.training.finetune import further_targets

    targets = None
    for run in runs:
        if run.method == BASELINES:
            targets = labelled_targets(run)
            check_targets(targets, run.windows, run.splits)
            further_targets(run.dataset, run.recipe)
            if not len(places_of(run, targets, "test")):
                raise UserError(
                    f"labels: no window of the test subjects of repeat {run.fold.repeat + 1} fold "
                    f"{run.fold.fold + 1} has a known label"
                )
    assert targets is not None
    regression = targets.is_regression
    compared_score(params.score, regression)
    check_metric(runs[0].recipe.trainer.monitor, "trainer.monitor", regression)
    _check_plans([run for run in runs if run.fold is runs[0].fold], targets)


def _check_plans(runs: Sequence[Run], targets: WindowTargets) -> None:
    """Make each plan for an encoder of this kind, and forget it."""
    from hbn_foundation.models.config import MAIN
    from hbn_foundation.training.model_building import (
        HeadOf,
        build_encoder,
        build_finetuned,
        lacking_tokens,
        with_tokens,
    )
    from hbn_foundation.training.plans import make_plan
    from hbn_foundation.training.unfreezing import Block

    fold, recipe = runs[0].fold, runs[0].recipe
    encoder = build_encoder(fold.recipe.encoder, fold.dataset.sfreq, fold.dataset.n_samples)
    head = HeadOf(recipe.head, targets.n_outputs, not targets.is_regression)
    model = build_finetuned(
        with_tokens(encoder, recipe.tokens),
        {MAIN: head},
        added=lacking_tokens(encoder, recipe.tokens),
    )
    blocks = [Block(name, size) for name, size in model.sizes().items()]
    for run in runs:
        if run.method != BASELINES:
            make_plan(run.plan, blocks, recipe.trainer.epochs, is_regression=targets.is_regression)


def _pretrain_all(runs: Sequence[Run], n_jobs: int) -> None:
    """Pretrain the encoders that are not kept."""
    from hbn_foundation.training.checkpoint import METADATA_FILE

    folds = {run.pretraining_key: run.fold for run in runs}
    if not folds:
        return
    missing = [
        fold for fold in folds.values() if not (fold.checkpoint_path / METADATA_FILE).is_file()
    ]
    for fold in missing:
        fold.work_dir.mkdir(parents=True, exist_ok=True)
    if len(missing) < len(folds):
        say(f"pretrained encoders: {len(folds) - len(missing)} of {len(folds)} are kept")
    prune_scratch(runs[0].fold.work_dir, "pretraining-*", runs[0].fold.recipe.trainer, n_jobs)
    for fold in tracked(_pretrain_one, missing, n_jobs, N_JOBS, "pretraining", pretraining_of):
        say(f"pretrained repeat {fold.repeat + 1} fold {fold.fold + 1}")


def _pretrain_one(fold: Fold) -> None:
    pretrained_encoder(fold)


def _said(run: Run) -> str:
    """One line about a finished run."""
    rows, _ = read_result(run, result_path(run))
    score: Any = "nrmse" if "nrmse" in rows else "window_auroc"
    place = f"repeat {run.fold.repeat + 1} fold {run.fold.fold + 1}"
    if rows[score].isna().all():
        return f"{place}: {run.method}, seed {run.seed}: no score, one test value only"
    best = rows.loc[rows[score].idxmin() if score == "nrmse" else rows[score].idxmax()]
    name = written(str(best["method"]))
    name = f"best baseline, {name}" if run.method == BASELINES else f"{name}, seed {run.seed}"
    return f"{place}: {name}: {score.replace('_', ' ')} {best[score]:.3f}"
