"""What comparisons, learning curves and challenges in folds share: their jobs, and a check of them.

Each is a list of jobs that fit or train on the labels of a fold, and predict its test subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.provenance import finetuning_provenance
from hbn_foundation.evaluation.recipes import ChallengeRecipe, FoundationRecipe, LabelRecipe
from hbn_foundation.evaluation.tasks.labels import targets_of
from hbn_foundation.experiments.checks import check_plan
from hbn_foundation.experiments.job import Entry, Job
from hbn_foundation.experiments.label_tasks import with_labels_of
from hbn_foundation.experiments.running import Run, make_job
from hbn_foundation.experiments.tasks import rows_of
from hbn_foundation.labels.checks import check_targets
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.params import former_names
from hbn_foundation.progress import say
from hbn_foundation.signals.context import check_context
from hbn_foundation.training.job import digest

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.recipes import PretrainingRecipe

Recipe = LabelRecipe | ChallengeRecipe


class Fold(NamedTuple):
    """A division of the subjects, and the encoder that its runs begin at."""

    name: str
    place: dict[str, int]  # repeat and fold
    splits: pd.DataFrame
    encoder: Entry

    @classmethod
    def of(cls, run: Run) -> Fold:
        """Make that of a run that pretrains an encoder."""
        return cls(run.name, run.place, run.splits, run.job.entry)

    @property
    def identity(self) -> dict[str, Any]:
        """What results depend on."""
        subjects = self.splits.sort_values("subject").to_numpy().tolist()
        return {"encoder": self.encoder.key, "subjects": subjects}


def fold_job(
    kind: str,
    task: Callable[..., Any],
    fold: Fold,
    recipe: Recipe,
    identity: dict[str, Any],
    **arguments: Any,
) -> Job:
    """Make the job of a fold that calls a function of `tasks` or `label_tasks`.

    `identity` is what the result depends on beside the fold, `arguments` are those of the task
    beside splits and recipe: `data`, `methods`, and the draws to fit or the draw to train on.
    """
    arguments = {"splits": fold.splits, "recipe": recipe, **arguments}
    job = make_job(kind, task, {**identity, **fold.identity}, arguments, recipe.trainer,
                   fold.encoder)  # fmt: skip
    trainings = 1 if "draws" in arguments else len(arguments["methods"])
    return replace(job, seconds=trainings * job.seconds)


def identity_of(dataset: EEGDataset, recipe: Recipe, device_plan: dict[str, Any]) -> dict[str, Any]:
    """Name what scores depend on, beside the parameters of a training, encoder and subjects."""
    left_out = {"batch_size", "bootstraps", "repeats"}
    return {
        "code": finetuning_provenance(recipe.trainer.precision, device_plan),
        "signals": dataset.store.fingerprint,
        "windows": digest(dataset.windows),
        "participants": digest(dataset.participants),
        **former_names({
            "label": recipe.label.model_dump(mode="json"),
            "context": recipe.context.model_dump(mode="json"),
            "evaluation": recipe.evaluation.model_dump(mode="json", exclude=left_out),
        }),
    }  # fmt: skip


def dealt_by(recipe: Recipe, pretraining: PretrainingRecipe) -> tuple[LabelParams, str | None]:
    """Give label and column that folds are stratified by; challenges have the foundation's."""
    if isinstance(recipe, ChallengeRecipe):
        assert isinstance(pretraining, FoundationRecipe)
        return pretraining.evaluation.label, pretraining.evaluation.stratify_scores_by
    return recipe.label, recipe.strata_column


def check_runs(
    name: str,
    runs: Sequence[Run],
    pretraining: PretrainingRecipe,
    foundation: Checkpoint | None = None,
) -> None:
    """Find out before any training what would stop a run.

    Parameters
    ----------
    name
        Of the experiment, for messages.
    runs
        With jobs of `fold_job`.
    pretraining
        Of the encoders of the folds.
    foundation
        The checkpoint that all runs begin at, instead of these.

    Raises
    ------
    UserError
        Naming the run.
    """
    for line in check_context(runs[0].dataset, runs[0].recipe.context):
        say(line)
    planned = set()
    for run in runs:
        try:
            _check_run(run, foundation)
            plan = run.recipe.plan, run.recipe.trainer.epochs
            if foundation is None and "draws" not in run.job.arguments and plan not in planned:
                planned.add(plan)
                dataset, targets = run.dataset, targets_of(run.dataset, run.recipe.label)
                check_plan(
                    pretraining.encoder, run.recipe, dataset.sfreq, dataset.n_samples, targets
                )
        except UserError as error:
            raise UserError(f"{name}, {run.name or 'all methods'}: {error}") from None


def _check_run(run: Run, foundation: Checkpoint | None) -> None:
    from hbn_foundation.training.finetune import check_finetuning, check_recipe, further_targets

    dataset, recipe, arguments = run.dataset, run.recipe, run.job.arguments
    targets = targets_of(dataset, recipe.label)
    check_targets(targets, dataset.windows, dataset.splits)
    if not len(rows_of(dataset, targets, "test")):
        raise UserError("labels: no window of the test subjects has a known label")
    if "draws" in arguments:
        for draw in arguments["draws"]:
            labelled = with_labels_of(dataset.splits, draw.subjects)
            check_targets(targets, dataset.windows, labelled, needed=("train",))
        return
    check_recipe(dataset, recipe, targets.is_regression)
    of_all = targets_of(dataset.replace(splits=arguments["splits"]), recipe.label).names
    if targets.names != of_all:
        raise UserError(
            f"labels: the labelled subjects make the classes {', '.join(targets.names)}, all "
            f"training subjects {', '.join(of_all)}; give label.threshold or more labelled subjects"
        )
    further_targets(dataset, recipe)
    if foundation is not None:
        check_finetuning(foundation, dataset, recipe)
