"""Learn from the labels of more and more subjects: all methods on the same test windows.

Subsets of the labelled training subjects are nested for each seed, and balanced over the strata of
the scores or the classes of the label. In each fold, or on the one split, a job trains for each
subset and seed. Frozen features and classical methods of a label are fitted by one job for all
subsets; those of a challenge by the job of each subset. Validation subjects keep their labels
throughout.

The folds of a challenge are the same with all labels: each subject is predicted by a model that is
new to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.evaluate import Answers
from hbn_foundation.evaluation.folds import deal
from hbn_foundation.evaluation.methods import FINE_TUNED, SCRATCH
from hbn_foundation.evaluation.recipes import RECIPES, ChallengeRecipe, FoundationRecipe
from hbn_foundation.experiments.data import put_dataset
from hbn_foundation.experiments.folds import ENCODER, make_folds, stores_in
from hbn_foundation.experiments.hashing import canonical_hash
from hbn_foundation.experiments.job import Entry
from hbn_foundation.experiments.label_tasks import (
    Draw,
    fit_draws,
    train_draw,
    training_subjects,
    with_labels_of,
)
from hbn_foundation.experiments.listing import (
    Fold,
    Recipe,
    check_runs,
    dealt_by,
    fold_job,
    identity_of,
)
from hbn_foundation.experiments.params import (
    ExperimentParams,
    LabelCurveParams,
    LearningCurveParams,
)
from hbn_foundation.experiments.running import (
    Run,
    at_once,
    read_predictions,
    read_scores,
    result_of,
    run_all,
)
from hbn_foundation.experiments.store import METRICS
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.targets import CHECKPOINT
from hbn_foundation.experiments.tasks import answer_tests
from hbn_foundation.labels.checks import check_never_seen, check_reported
from hbn_foundation.labels.people import CHOSEN, seen_subjects
from hbn_foundation.labels.strata import labelling_order, score_strata
from hbn_foundation.signals.windows import cut_windows

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint
    from hbn_foundation.training.finetuning_params import FineTuningParams

FROZEN, TRAINED, CHALLENGE = "frozen", "trained", "challenge"
FOUNDATION = "foundation_checkpoint"
NAME = "learning curve"
FEWEST = 2
"""Fewest labelled subjects of a run."""
Curve = LabelCurveParams | LearningCurveParams
FIRST = ["repeat", "fold", "seed", "n_subjects", "method"]


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
        (group,) = (name for name, kind in RECIPES.items() if type(recipe) is kind)
        recipe.check_new_encoder(group)
        whole = dataset.replace(windows=cut_windows(dataset.store, dataset.window))
        by = dealt_by(recipe, pretraining)
        encoders = make_folds(whole, pretraining, params.repeats, stores, device_plan, by)
        folds = list(map(Fold.of, encoders))
    runs = list_runs(folds, dataset, recipe, params, stores, device_plan)
    check_runs(NAME, runs, pretraining, None if encoders else foundation)
    engine = at_once(experiments, params.n_jobs, device_plan)
    run_all(NAME, runs, encoders, stores, engine, device_plan)
    return read_scores(runs, stores, FIRST), read_predictions(runs, stores)


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
        subjects, by = dataset.windows["subject"].unique(), dealt_by(recipe, pretraining)
        parts = deal(subjects, dataset.participants, params.repeats, *by)
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
            identity = common | {"draws": [[*draw] for draw in draws], "methods": params.frozen}
            job = fold_job(FROZEN, fit_draws, fold, recipe, identity, data=data, draws=draws,
                           methods=params.frozen)  # fmt: skip
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
    labelled = with_labels_of(fold.splits, draw.subjects)
    task: Callable[..., Any] = train_draw
    identity: dict[str, Any] = {"draw": [*draw]}
    arguments: dict[str, Any] = {"draw": draw}
    if isinstance(own, ChallengeRecipe):
        evaluation = own.evaluation.model_copy(update={"seed": draw.seed})
        own = own.model_copy(update={"evaluation": evaluation})
        task, identity, arguments = answer_tests, {}, {}
        fold = fold._replace(splits=labelled)
    identity = {**common, **own.identity(), **identity, "methods": params.trained}
    arguments |= {"data": data, "methods": params.trained}
    job = fold_job(TRAINED, task, fold, own, identity, **arguments)
    name = f"{len(draw.subjects)} labelled subjects, seed {draw.seed}"
    name = f"{fold.name}, {name}" if fold.name else name
    place = {**fold.place, **draw.place}
    return Run(job, name, dataset.replace(splits=labelled), own, TRAINED, place)


def repeated(trainer: FineTuningParams, share: float) -> FineTuningParams:
    """Let a share of the training subjects be gone through more often between two validations.

    Steps and validations are about as many as with all subjects, up to a third fewer or more, as
    epochs are repeated whole. Validating after each short epoch would take most of the time.
    """
    times = max(1, round(1 / share))
    names = ("epochs", "validate_every", "checkpoint_every")
    return trainer.model_copy(update={name: times * getattr(trainer, name) for name in names})


def cross_validate_challenge(
    dataset: EEGDataset,
    learned: EEGDataset,
    foundation: FoundationRecipe,
    recipe: ChallengeRecipe,
    scratch: bool,
    device_plan: dict[str, Any],
    experiments: ExperimentParams,
) -> Answers:
    """Pretrain, fine-tune and predict anew in each fold of `recipe.evaluation.repeats`.

    The encoder of a fold is that of the cross-validation of the foundation model with equal folds.
    Results of finished folds are kept; the same call resumes one that was killed.

    Parameters
    ----------
    dataset, learned
        What encoders are pretrained on, and the windows of the challenge; their own splits do not
        matter.
    foundation, recipe
        Parameters of pretraining, and of the challenge.
    scratch
        Whether a model from random weights is trained beside each.
    device_plan, experiments
        Where to train, and where the folds run.

    Returns
    -------
    Answers
        Of all methods for the test windows of all folds, with `repeat` and `fold`; empty without
        repeats.
    """
    repeats = recipe.evaluation.repeats
    if repeats is None:
        return Answers(pd.DataFrame(), {})
    results = {CHALLENGE: Path(recipe.trainer.work_dir) / "folds"}
    stores = stores_in(Path(foundation.trainer.work_dir) / "folds", experiments, results)
    by = dealt_by(recipe, foundation)
    encoders = make_folds(dataset, foundation, repeats, stores, device_plan, by)
    data = put_dataset(learned.replace(splits=learned.splits.iloc[:0]), stores.work)
    methods = (FINE_TUNED, SCRATCH) if scratch else (FINE_TUNED,)
    common = identity_of(learned, recipe, device_plan)
    identity = {**common, **recipe.identity(), "methods": methods}
    runs = []
    for fold in map(Fold.of, encoders):
        job = fold_job(CHALLENGE, answer_tests, fold, recipe, identity, data=data, methods=methods)
        own = learned.replace(splits=fold.splits)
        runs.append(Run(job, fold.name, own, recipe, place=fold.place))
    engine = at_once(experiments, repeats.n_jobs, device_plan)
    run_all("folds of the challenge", runs, encoders, stores, engine, device_plan)
    about = [json.loads((result_of(run.job, stores) / METRICS).read_text()) for run in runs]
    return Answers(read_predictions(runs, stores), pooled(about, repeats.repeats))


def pooled(about: Sequence[dict[str, Any]], repeats: int) -> dict[str, Any]:
    """Describe the windows of all folds: those that learn and choose on average over folds."""
    counts: dict[str, dict[str, int]] = {}
    for split, of_split in about[0]["sample"].items():
        parts = repeats if split == "test" else len(about)
        counts[split] = {
            name: round(sum(one["sample"][split][name] for one in about) / parts)
            for name in of_split
        }
    return {"sample": counts, "n_channels": about[0]["n_channels"],
            "folds": len(about) // repeats, "repeats": repeats}  # fmt: skip
