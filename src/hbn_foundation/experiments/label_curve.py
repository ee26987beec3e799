"""The learning curve of a label of any kind: frozen features and trained models, the same test.

Subsets of the labelled training subjects are nested for each seed, and balanced over the strata of
the scores. In each fold, or on the one split, a job fits all frozen features and classical methods,
and a job for each subset and seed trains. Validation subjects keep their labels throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.evaluate import main_metric
from hbn_foundation.evaluation.methods import display_name
from hbn_foundation.evaluation.params import RepeatParams
from hbn_foundation.evaluation.provenance import finetuning_provenance
from hbn_foundation.evaluation.recipes import LabelRecipe
from hbn_foundation.evaluation.scorers import scorer_of
from hbn_foundation.evaluation.tasks.labels import targets_of
from hbn_foundation.experiments.checks import check_plan
from hbn_foundation.experiments.curve_tasks import Draw, with_labels_of
from hbn_foundation.experiments.data import put_dataset
from hbn_foundation.experiments.folds import ENCODER, make_folds, stores_in, wanted
from hbn_foundation.experiments.hashing import canonical_hash
from hbn_foundation.experiments.job import Entry, Job
from hbn_foundation.experiments.learning_curve import (
    FEWEST,
    publish_checkpoint,
    training_subjects,
)
from hbn_foundation.experiments.params import ExperimentParams, LabelCurveParams
from hbn_foundation.experiments.running import (
    Run,
    at_once,
    make_job,
    read_scores,
    result_of,
    run_jobs,
)
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.targets import PREDICTIONS
from hbn_foundation.experiments.tasks import rows_of
from hbn_foundation.labels.checks import check_never_seen, check_reported, check_targets
from hbn_foundation.labels.people import CHOSEN, seen_subjects
from hbn_foundation.labels.splits import repeated_splits
from hbn_foundation.labels.strata import labelling_order, score_strata
from hbn_foundation.params import former_names
from hbn_foundation.progress import say
from hbn_foundation.scores import WITHIN
from hbn_foundation.signals.context import check_context
from hbn_foundation.signals.windows import cut_windows
from hbn_foundation.training.job import digest

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.finetuning_params import FineTuningParams
    from hbn_foundation.training.recipes import PretrainingRecipe

FROZEN, TRAINED = "frozen", "trained"
FOUNDATION = "foundation_checkpoint"
NAME = "learning curve"
FIRST = ["repeat", "fold", "seed", "n_subjects", "method"]


class Fold(NamedTuple):
    """A division of the subjects, and the encoder that its runs begin at."""

    name: str
    place: dict[str, int]  # repeat and fold
    splits: pd.DataFrame
    encoder: Entry


def label_curve(
    foundation: Checkpoint,
    dataset: EEGDataset,
    recipe: LabelRecipe,
    pretraining: PretrainingRecipe,
    params: LabelCurveParams,
    device_plan: dict[str, Any],
    experiments: ExperimentParams | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fit, train and score on the labels of more and more subjects.

    Results of finished runs are kept; the same call resumes one that was killed.

    Parameters
    ----------
    foundation
        The checkpoint that runs begin at without repeats, or where the recipe names another one.
    dataset
        With the windows of the label.
    recipe, pretraining
        Parameters of the label's model and evaluation; of the encoders of folds, which are those
        of the cross-validation with equal folds.
    params
        Subsets, seeds, folds, methods.
    device_plan, experiments
        Where to train, and where the runs are carried out.

    Returns
    -------
    scores : pandas.DataFrame
        One row per `repeat`, `fold`, `seed`, `n_subjects` (labelled) and `method`.
    predictions : pandas.DataFrame
        Of all of them on their test windows, with `subject`, `stratum` and `value`.

    Raises
    ------
    UserError
        When subjects, labels or parameters do not fit; before any training.
    """
    experiments = experiments or ExperimentParams()
    stores = stores_of(pretraining, params, experiments)
    encoders: list[Run] = []
    if params.repeats is None or recipe.checkpoint != FOUNDATION:
        folds = folds_of_checkpoint(foundation, dataset, recipe, params.repeats, stores)
    else:
        encoders = encoders_of_folds(dataset, recipe, pretraining, params, stores, device_plan)
        folds = [Fold(run.name, run.place, run.splits, run.job.entry) for run in encoders]
    runs = list_runs(folds, dataset, recipe, params, stores, device_plan)
    _check(runs, None if encoders else foundation, pretraining)
    by_job = {run.job.id: run for run in runs}

    def tell(job: Job) -> None:
        if job.id in by_job:
            say(_said(by_job[job.id], stores))

    jobs = [run.job for run in runs]
    jobs = [*wanted(encoders, jobs, stores), *jobs]
    engine = at_once(experiments, params.n_jobs, device_plan)
    run_jobs(NAME, jobs, stores, engine, device_plan, recipe, tell)
    return _read(runs, stores)


def stores_of(
    pretraining: PretrainingRecipe, params: LabelCurveParams, experiments: ExperimentParams
) -> Stores:
    """Give the stores: encoders where the cross-validation keeps them, results of the runs."""
    results = {kind: Path(params.work_dir) / kind for kind in (FROZEN, TRAINED)}
    return stores_in(Path(pretraining.trainer.work_dir) / "folds", experiments, results)


def encoders_of_folds(
    dataset: EEGDataset,
    recipe: LabelRecipe,
    pretraining: PretrainingRecipe,
    params: LabelCurveParams,
    stores: Stores,
    device_plan: dict[str, Any],
) -> list[Run]:
    """List the folds, each with the job that pretrains its encoder on all windows."""
    assert params.repeats is not None
    recipe.check_new_encoder("finetuning")
    whole = dataset.replace(windows=cut_windows(dataset.store, dataset.window))
    return make_folds(
        whole, pretraining, params.repeats, stores, device_plan=device_plan, label=recipe.label,
        stratify=recipe.strata_column,
    )  # fmt: skip


def folds_of_checkpoint(
    foundation: Checkpoint,
    dataset: EEGDataset,
    recipe: LabelRecipe,
    repeats: RepeatParams | None,
    stores: Stores,
) -> list[Fold]:
    """List the folds, or the one split of the dataset; all begin at one checkpoint.

    Raises
    ------
    UserError
        When it has seen a subject that is tested, or signals of another kind.
    """
    from hbn_foundation.training.checkpoint import check_signals

    metadata, datasets = foundation.metadata, dataset.store.datasets
    check_signals(foundation, dataset.sfreq, metadata["n_samples"])
    table = dataset.splits[["subject", "split"]].assign(repeat=0, fold=0)
    if repeats is None:
        seen = seen_subjects(metadata, CHOSEN, table["subject"], datasets)
        check_reported(table, dataset.participants, seen)
    else:
        table = repeated_splits(
            dataset.windows["subject"].unique().tolist(), repeats.folds, repeats.repeats,
            repeats.seed, participants=dataset.participants, label=recipe.label,
            stratify=recipe.strata_column,
        )  # fmt: skip
    entry = Entry(ENCODER, canonical_hash({"weights": metadata.get("weights_sha256")}))
    folds = []
    for _, part in table.groupby(["repeat", "fold"]):
        repeat, fold = int(part["repeat"].iloc[0]), int(part["fold"].iloc[0])
        splits = part[["subject", "split"]].reset_index(drop=True)
        tested, held = (
            splits.loc[splits["split"] == one, "subject"] for one in ("test", "validation")
        )
        check_never_seen(metadata, tested, held, datasets)
        name = "" if repeats is None else f"repeat {repeat + 1} fold {fold + 1}"
        folds.append(Fold(name, {"repeat": repeat, "fold": fold}, splits, entry))
    publish_checkpoint(foundation, entry, stores)
    return folds


def list_draws(
    fold: Fold, dataset: EEGDataset, recipe: LabelRecipe, params: LabelCurveParams
) -> list[Draw]:
    """List the labelled subjects of each seed and number, the smallest first.

    A subset that another seed has drawn, as that of all subjects, is listed with each.

    Raises
    ------
    UserError
        When there are fewer subjects than asked for, or more strata.
    """
    training = training_subjects(fold.splits, dataset.windows)
    counts = [max(FEWEST, round(share * len(training))) for share in params.shares]
    if params.subjects is not None:
        counts = list(params.subjects)
        if max(counts) > len(training):
            raise UserError(
                f"finetuning_learning_curve.runs.subjects has {max(counts)}: {fold.name or 'it'} "
                f"has {len(training)} training subjects with windows; expected at most as many"
            )
    column = recipe.strata_column
    if column is not None:
        levels = score_strata(dataset.windows["subject"].unique(), dataset.participants, column)
        found = levels[training].nunique()
        if min(counts) < found:
            raise UserError(
                f"{NAME}: {min(counts)} labelled subjects cannot be of all {found} strata of "
                f"{column}; expected at least as many"
            )
    orders = {
        seed: labelling_order(training, dataset.participants, recipe.label, column, seed)
        for seed in params.seeds
    }
    return [
        Draw(seed, tuple(sorted(order[:count])))
        for count in sorted(set(counts))
        for seed, order in orders.items()
    ]


def list_runs(
    folds: Sequence[Fold],
    dataset: EEGDataset,
    recipe: LabelRecipe,
    params: LabelCurveParams,
    stores: Stores,
    device_plan: dict[str, Any],
) -> list[Run]:
    """List the runs: what is fitted in each fold, then what is trained, the smallest first."""
    data = put_dataset(dataset.replace(splits=dataset.splits.iloc[:0]), stores.work)
    settings = recipe.evaluation.model_dump(mode="json", exclude={"batch_size", "bootstraps"})
    common = {
        "code": finetuning_provenance(recipe.trainer.precision, device_plan),
        "signals": dataset.store.fingerprint,
        "windows": digest(dataset.windows),
        "participants": digest(dataset.participants),
        **former_names({
            "label": recipe.label.model_dump(mode="json"),
            "context": recipe.context.model_dump(mode="json"),
            "evaluation": settings,
        }),
    }  # fmt: skip
    fitted, trained = [], []
    for fold in folds:
        own = dataset.replace(splits=fold.splits)
        draws = list_draws(fold, dataset, recipe, params)
        known = {**common, "encoder": fold.encoder.key,
                 "subjects": fold.splits.sort_values("subject").to_numpy().tolist()}  # fmt: skip
        given = {"data": data, "splits": fold.splits}
        if params.frozen:
            identity = {**known, "draws": [[*draw] for draw in draws], "methods": params.frozen}
            arguments = {**given, "recipe": recipe, "draws": draws, "methods": params.frozen}
            job = make_job(FROZEN, CURVE_TASKS + "fit_draws", identity, arguments, recipe.trainer,
                           fold.encoder)  # fmt: skip
            fitted.append(Run(job, fold.name, own, recipe, FROZEN, fold.place))
        for draw in draws if params.trained else []:
            if draw.seed in params.trained_seeds:
                trained.append(_training(fold, own, recipe, params, draw, known, given))
    by_size = sorted(trained, key=lambda run: len(run.job.arguments["draw"].subjects))
    return [*fitted, *by_size]


CURVE_TASKS = "hbn_foundation.experiments.curve_tasks:"


def _training(
    fold: Fold, dataset: EEGDataset, recipe: LabelRecipe, params: LabelCurveParams, draw: Draw,
    known: dict[str, Any], given: dict[str, Any],
) -> Run:  # fmt: skip
    """Make the run that trains on a draw."""
    n_training = len(training_subjects(fold.splits, dataset.windows))
    share = len(draw.subjects) / n_training
    trainer = repeated(recipe.trainer, share) if params.same_steps else recipe.trainer
    trainer = trainer.model_copy(update={"seed": draw.seed})
    # lengthened epochs are not those that phase2_epochs is a check of
    plan = recipe.plan.model_copy(update={"phase2_epochs": None})
    own = recipe.model_copy(update={"trainer": trainer, "plan": plan})
    identity = {**known, **own.identity(), "draw": [*draw], "methods": params.trained}
    arguments = {**given, "recipe": own, "draw": draw, "methods": params.trained}
    job = make_job(TRAINED, CURVE_TASKS + "train_draw", identity, arguments, trainer, fold.encoder)
    job = replace(job, seconds=len(params.trained) * job.seconds)
    labelled = dataset.replace(splits=with_labels_of(fold.splits, draw.subjects))
    name = f"{len(draw.subjects)} labelled subjects, seed {draw.seed}"
    name = f"{fold.name}, {name}" if fold.name else name
    return Run(job, name, labelled, own, TRAINED, fold.place)


def repeated(trainer: FineTuningParams, share: float) -> FineTuningParams:
    """Let a share of the training subjects be gone through more often between two validations.

    Steps and validations are as many as with all subjects; validating after each short epoch would
    take most of the time.
    """
    times = max(1, round(1 / share))
    names = ("epochs", "validate_every", "checkpoint_every")
    return trainer.model_copy(update={name: times * getattr(trainer, name) for name in names})


def _check(
    runs: Sequence[Run], foundation: Checkpoint | None, pretraining: PretrainingRecipe
) -> None:
    """Find out before any training what would stop a run.

    `foundation` is None where each fold has an encoder of its own.
    """
    from hbn_foundation.training.finetune import check_finetuning, check_recipe, further_targets

    for line in check_context(runs[0].dataset.store, runs[0].recipe.context):
        say(line)
    for run in runs:
        dataset, recipe = run.dataset, run.recipe
        try:
            targets = targets_of(dataset, recipe.label)
            check_targets(targets, dataset.windows, dataset.splits)
            if not len(rows_of(dataset, targets, "test")):
                raise UserError("labels: no window of the test subjects has a known label")
            if run.method == FROZEN:
                for draw in run.job.arguments["draws"]:
                    labelled = with_labels_of(dataset.splits, draw.subjects)
                    check_targets(targets, dataset.windows, labelled, needed=("train",))
                continue
            check_recipe(dataset, recipe, targets.is_regression)
            whole = dataset.replace(splits=run.job.arguments["splits"])
            _check_same(targets.names, targets_of(whole, recipe.label).names)
            further_targets(dataset, recipe)
            if foundation is not None:
                check_finetuning(foundation, dataset, recipe)
        except UserError as error:
            raise UserError(f"{NAME}, {run.name or 'all methods'}: {error}") from None
    last = runs[-1]
    if foundation is None and last.method == TRAINED:
        dataset, targets = last.dataset, targets_of(last.dataset, last.recipe.label)
        check_plan(pretraining.encoder, last.recipe, dataset.sfreq, dataset.n_samples, targets)


def _check_same(classes: Sequence[str], of_all: Sequence[str]) -> None:
    """Make sure that labelled subjects define the label as all training subjects do."""
    if tuple(classes) != tuple(of_all):
        raise UserError(
            f"labels: the labelled subjects make the classes {', '.join(classes)}, all training "
            f"subjects {', '.join(of_all)}; give label.threshold or more labelled subjects"
        )


def _read(runs: Sequence[Run], stores: Stores) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read scores and predictions of all runs."""
    table = pd.concat([read_scores(run, stores) for run in runs], ignore_index=True)
    predictions = [
        pd.read_parquet(result_of(run.job, stores) / PREDICTIONS).assign(**run.place)
        for run in runs
    ]
    columns = [*FIRST, *(name for name in table if name not in FIRST)]
    return table[columns], pd.concat(predictions, ignore_index=True)


def _said(run: Run, stores: Stores) -> str:
    """One line about a finished run."""
    rows = read_scores(run, stores)
    score = main_metric("nrmse" in rows, WITHIN in rows)
    means = rows.groupby("method")[score].mean()
    words = ", ".join(f"{display_name(str(name))} {value:.3f}" for name, value in means.items())
    start = f"{run.name}: " if run.name else ""
    return f"{start}{scorer_of(score).display_name} {words}"
