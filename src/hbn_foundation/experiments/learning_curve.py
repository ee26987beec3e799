"""Learn from the labels of more and more subjects: all methods on the same test windows.

Subsets of the labelled training subjects are nested for each seed, and balanced over the strata of
the scores or the classes of the label. In each fold, or on the one split, a job trains for each
subset and seed. Frozen features and classical methods of a label are fitted by one job for all
subsets; those of a challenge by the job of each subset. Validation subjects keep their labels
throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.methods import display_name
from hbn_foundation.evaluation.recipes import (
    Challenge1Recipe,
    Challenge2Recipe,
    ChallengeRecipe,
    FoundationRecipe,
    LabelRecipe,
)
from hbn_foundation.evaluation.scorers import scorer_of
from hbn_foundation.evaluation.tasks.labels import targets_of
from hbn_foundation.experiments.challenge_folds import challenge_job, identity_of
from hbn_foundation.experiments.checks import check_plan
from hbn_foundation.experiments.data import put_dataset
from hbn_foundation.experiments.folds import ENCODER, deal, make_folds, stores_in
from hbn_foundation.experiments.hashing import canonical_hash
from hbn_foundation.experiments.job import Entry
from hbn_foundation.experiments.label_tasks import (
    TASKS,
    Draw,
    training_subjects,
    with_labels_of,
)
from hbn_foundation.experiments.params import (
    ExperimentParams,
    LabelCurveParams,
    LearningCurveParams,
)
from hbn_foundation.experiments.running import (
    Run,
    at_once,
    make_job,
    read_predictions,
    read_scores,
    run_all,
)
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.targets import CHECKPOINT
from hbn_foundation.experiments.tasks import rows_of
from hbn_foundation.labels.checks import check_never_seen, check_reported, check_targets
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.people import CHOSEN, seen_subjects
from hbn_foundation.labels.strata import labelling_order, score_strata
from hbn_foundation.progress import say
from hbn_foundation.scores import WITHIN
from hbn_foundation.signals.context import check_context
from hbn_foundation.signals.windows import cut_windows

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.finetuning_params import FineTuningParams

FROZEN, TRAINED = "frozen", "trained"
FOUNDATION = "foundation_checkpoint"
NAME = "learning curve"
FEWEST = 2
"""Fewest labelled subjects of a run."""
Recipe = LabelRecipe | ChallengeRecipe
Curve = LabelCurveParams | LearningCurveParams
GROUPS = {LabelRecipe: "finetuning", Challenge1Recipe: "challenge1", Challenge2Recipe: "challenge2"}
FIRST = ["repeat", "fold", "seed", "n_subjects", "method"]


class Fold(NamedTuple):
    """A division of the subjects, and the encoder that its runs begin at."""

    name: str
    place: dict[str, int]  # repeat and fold
    splits: pd.DataFrame
    encoder: Entry

    @property
    def identity(self) -> dict[str, Any]:
        """What results depend on."""
        subjects = self.splits.sort_values("subject").to_numpy().tolist()
        return {"encoder": self.encoder.key, "subjects": subjects}


def learning_curve(
    foundation: Checkpoint,
    dataset: EEGDataset,
    recipe: Recipe,
    pretraining: FoundationRecipe,
    params: Curve,
    device_plan: dict[str, Any],
    experiments: ExperimentParams | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fit, train and score on the labels of more and more subjects.

    Results of finished runs are kept; the same call resumes one that was killed.

    Parameters
    ----------
    foundation
        The checkpoint that runs begin at without repeats, or where the recipe names another one.
        It has seen the signals of all training subjects; what grows is how many have labels.
    dataset
        With the windows of the label or the challenge.
    recipe, pretraining
        Parameters of model and evaluation; of the encoders of folds, which are those of the
        cross-validation with equal folds.
    params
        Subsets, seeds, folds, methods.
    device_plan, experiments
        Where to train, and where the runs are carried out.

    Returns
    -------
    scores : pandas.DataFrame
        One row per `repeat`, `fold`, `seed`, `n_subjects` (labelled) and `method`.
    predictions : pandas.DataFrame
        Of all of them on their test windows.

    Raises
    ------
    UserError
        When subjects, labels or parameters do not fit; before any training.
    """
    experiments = experiments or ExperimentParams()
    results = {kind: Path(params.work_dir) / kind for kind in (FROZEN, TRAINED)}
    stores = stores_in(Path(pretraining.trainer.work_dir) / "folds", experiments, results)
    encoders: list[Run] = []
    if params.repeats is None or recipe.checkpoint != FOUNDATION:
        folds = folds_of_checkpoint(foundation, dataset, recipe, pretraining, params, stores)
    else:
        encoders = encoders_of_folds(dataset, recipe, pretraining, params, stores, device_plan)
        folds = [Fold(run.name, run.place, run.splits, run.job.entry) for run in encoders]
    runs = list_runs(folds, dataset, recipe, params, stores, device_plan)
    _check(runs, None if encoders else foundation, pretraining)
    engine = at_once(experiments, params.n_jobs, device_plan)
    run_all(NAME, runs, encoders, stores, engine, device_plan, lambda run: _said(run, stores))
    table = read_scores(runs, stores)
    columns = [*FIRST, *(name for name in table if name not in FIRST)]
    return table[columns], read_predictions(runs, stores)


def _dealt_by(recipe: Recipe, pretraining: FoundationRecipe) -> tuple[LabelParams, str | None]:
    """Give label and column that folds are stratified by; challenges have the foundation's."""
    if isinstance(recipe, ChallengeRecipe):
        return pretraining.evaluation.label, pretraining.evaluation.stratify_scores_by
    return recipe.label, recipe.strata_column


def encoders_of_folds(
    dataset: EEGDataset,
    recipe: Recipe,
    pretraining: FoundationRecipe,
    params: Curve,
    stores: Stores,
    device_plan: dict[str, Any],
) -> list[Run]:
    """List the folds, each with the job that pretrains its encoder on all windows."""
    assert params.repeats is not None
    recipe.check_new_encoder(GROUPS[type(recipe)])
    whole = dataset.replace(windows=cut_windows(dataset.store, dataset.window))
    label, column = _dealt_by(recipe, pretraining)
    return make_folds(
        whole, pretraining, params.repeats, stores, device_plan=device_plan, label=label,
        stratify=column,
    )  # fmt: skip


def folds_of_checkpoint(
    foundation: Checkpoint,
    dataset: EEGDataset,
    recipe: Recipe,
    pretraining: FoundationRecipe,
    params: Curve,
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
    entry = Entry(ENCODER, canonical_hash({"weights": metadata.get("weights_sha256")}))
    if params.repeats is None:
        splits = dataset.splits[["subject", "split"]]
        seen = seen_subjects(metadata, CHOSEN, splits["subject"], datasets)
        check_reported(splits, dataset.participants, seen)
        folds = [Fold("", {"repeat": 0, "fold": 0}, splits, entry)]
    else:
        parts = deal(dataset, params.repeats, *_dealt_by(recipe, pretraining))
        folds = [Fold(*part, entry) for part in parts]
    for fold in folds:
        tested, held = (
            fold.splits.loc[fold.splits["split"] == one, "subject"]
            for one in ("test", "validation")
        )
        check_never_seen(metadata, tested, held, datasets)
    if stores.get(*entry) is None:  # workers elsewhere get it by its hash
        folder = stores.work / f"{entry.id}.checkpoint"
        foundation.save(folder / CHECKPOINT)
        stores.store(entry.kind).publish(entry.key, folder)
    stores.send(*entry)
    return folds


def list_draws(
    fold: Fold, dataset: EEGDataset, recipe: Recipe, params: Curve, whole: int | None = None
) -> list[Draw]:
    """List the labelled subjects of each seed and number, the smallest first.

    A subset that another seed has drawn, as that of all subjects, is listed with each. Shares are
    of `whole` subjects, by default those of the fold.

    Raises
    ------
    UserError
        When there are fewer subjects than asked for, or more strata.
    """
    training = training_subjects(fold.splits, dataset.windows)
    if len(training) < FEWEST:
        raise UserError(
            f"{NAME}: {len(training)} training subjects have windows; expected {FEWEST} or more"
        )
    counts = [max(FEWEST, round(share * (whole or len(training)))) for share in params.shares]
    if params.subjects is not None:
        counts = list(params.subjects)
        if max(counts) > len(training):
            raise UserError(
                f"{params.KEY}.subjects has {max(counts)}: {fold.name or 'it'} has {len(training)} "
                "training subjects with windows; expected at most as many"
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
    recipe: Recipe,
    params: Curve,
    stores: Stores,
    device_plan: dict[str, Any],
) -> list[Run]:
    """List the runs: what is fitted in each fold, then what is trained, the smallest first."""
    data = put_dataset(dataset.replace(splits=dataset.splits.iloc[:0]), stores.work)
    common = identity_of(dataset, recipe, device_plan)
    fitted, trained = [], []
    # so that each number of subjects is of all folds, which may differ by one
    least = min(len(training_subjects(fold.splits, dataset.windows)) for fold in folds)
    for fold in folds:
        draws = list_draws(fold, dataset, recipe, params, least)
        if params.frozen:
            identity = {**common, **fold.identity, "draws": [[*draw] for draw in draws],
                        "methods": params.frozen}  # fmt: skip
            arguments = {"data": data, "splits": fold.splits, "recipe": recipe, "draws": draws,
                         "methods": params.frozen}  # fmt: skip
            job = make_job(FROZEN, f"{TASKS}:fit_draws", identity, arguments, recipe.trainer,
                           fold.encoder)  # fmt: skip
            own = dataset.replace(splits=fold.splits)
            fitted.append(Run(job, fold.name, own, recipe, FROZEN, fold.place))
        for draw in draws:
            if params.trained and draw.seed in params.trained_seeds:
                trained.append(_training(fold, dataset, recipe, params, draw, data, common))
    by_size = sorted(trained, key=lambda run: int(run.place["n_subjects"]))
    return [*fitted, *by_size]


def _training(
    fold: Fold, dataset: EEGDataset, recipe: Recipe, params: Curve, draw: Draw, data: Path,
    common: dict[str, Any],
) -> Run:  # fmt: skip
    """Make the run that trains on a draw."""
    share = len(draw.subjects) / len(training_subjects(fold.splits, dataset.windows))
    trainer = repeated(recipe.trainer, share) if params.same_steps else recipe.trainer
    trainer = trainer.model_copy(update={"seed": draw.seed, "start": "foundation"})
    # lengthened epochs are not those that phase2_epochs is a check of
    plan = recipe.plan.model_copy(update={"phase2_epochs": None})
    own = recipe.model_copy(update={"trainer": trainer, "plan": plan})
    labelled = dataset.replace(splits=with_labels_of(fold.splits, draw.subjects))
    if isinstance(own, ChallengeRecipe):
        evaluation = own.evaluation.model_copy(update={"seed": draw.seed})
        own = own.model_copy(update={"evaluation": evaluation})
        job = challenge_job(
            TRAINED, fold.encoder, data, labelled.splits, own, params.trained, common
        )
    else:
        identity = {**common, **fold.identity, **own.identity(), "draw": [*draw],
                    "methods": params.trained}  # fmt: skip
        arguments = {"data": data, "splits": fold.splits, "recipe": own, "draw": draw,
                     "methods": params.trained}  # fmt: skip
        job = make_job(TRAINED, f"{TASKS}:train_draw", identity, arguments, trainer,
                       fold.encoder)  # fmt: skip
        job = replace(job, seconds=len(params.trained) * job.seconds)
    name = f"{len(draw.subjects)} labelled subjects, seed {draw.seed}"
    name = f"{fold.name}, {name}" if fold.name else name
    return Run(job, name, labelled, own, TRAINED, {**fold.place, **draw.place})


def repeated(trainer: FineTuningParams, share: float) -> FineTuningParams:
    """Let a share of the training subjects be gone through more often between two validations.

    Steps and validations are about as many as with all subjects, up to a third fewer or more, as
    epochs are repeated whole. Validating after each short epoch would take most of the time.
    """
    times = max(1, round(1 / share))
    names = ("epochs", "validate_every", "checkpoint_every")
    return trainer.model_copy(update={name: times * getattr(trainer, name) for name in names})


def _check(
    runs: Sequence[Run], foundation: Checkpoint | None, pretraining: FoundationRecipe
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


def _said(run: Run, stores: Stores) -> str:
    """One line about a finished run."""
    rows = read_scores([run], stores)
    score = next(name for name in (WITHIN, "nrmse", "window_nrmse", "window_auroc") if name in rows)
    means = rows.groupby("method")[score].mean()
    words = ", ".join(f"{display_name(str(name))} {value:.3f}" for name, value in means.items())
    start = f"{run.name}: " if run.name else ""
    return f"{start}{scorer_of(score).display_name} {words}"
