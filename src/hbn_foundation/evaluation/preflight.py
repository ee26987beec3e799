"""Find mistakes that would end a run only after its pretraining, before that begins.

Nothing is computed here that the run would use: the functions that would raise later are called
early, on the same tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.folds import deal
from hbn_foundation.evaluation.params import ChallengeEvaluationParams, EvaluationParams
from hbn_foundation.evaluation.recipes import ChallengeRecipe, FoundationRecipe
from hbn_foundation.evaluation.sample import labelled_windows
from hbn_foundation.evaluation.tasks.challenge_baselines import check_known
from hbn_foundation.evaluation.tasks.labels import targets_of
from hbn_foundation.labels.checks import check_disjoint, check_targets
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.strata import score_strata
from hbn_foundation.labels.targets import window_labels
from hbn_foundation.progress import say
from hbn_foundation.signals.context import check_context
from hbn_foundation.signals.label_windows import probe_windows
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.training.external import check_store
from hbn_foundation.training.finetune import further_targets
from hbn_foundation.training.params import UNTRAINED
from hbn_foundation.training.pretrain import make_pretext
from hbn_foundation.training.supervision.run_folder import check_space

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset


def check_parameters(
    recipe: FoundationRecipe, window: WindowParams, sfreq: float, h_freq: float | None = None
) -> None:
    """Make sure that the parameters fit each other; no data are needed.

    Parameters
    ----------
    recipe, window
        Parameters of the pretraining and its evaluation, and of the windows.
    sfreq, h_freq
        Sampling rate of the clean signals, and upper edge of their pass band where known, in Hz.

    Raises
    ------
    UserError
        A band holds nothing of the windows, or the objective does not fit the encoder.
    """
    n_samples = round(window.seconds * sfreq)
    encoder, evaluation = recipe.encoder, recipe.evaluation
    if "band" in encoder.tokens and not encoder.is_external:
        _check_bands("encoder.band.edges", encoder.band.edges, sfreq, h_freq, n_samples)
    if {"band_power", "filter_bank"} & set(evaluation.baselines):
        _check_bands("evaluation.bands", evaluation.bands, sfreq, h_freq, n_samples)
    make_pretext(recipe, sfreq, n_samples)


def check_before_cleaning(
    recordings: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame,
    recipe: FoundationRecipe,
    *,
    window: WindowParams,
    sfreq: float,
) -> dict[str, int]:
    """Make sure that training and evaluation can follow, before any signal is cleaned.

    Parameters
    ----------
    recordings, splits, participants
        Tables; each recording, or each event of the label, stands for its windows.
    recipe, window, sfreq
        As for `check_parameters`.

    Returns
    -------
    dict
        How many subjects are labelled, by split.

    Raises
    ------
    UserError
        As `check_before_training`; the disk has no room for the checkpoints; a device that is
        asked for, and may not be replaced, does not answer.
    """
    from torch import nn

    from hbn_foundation.training import device
    from hbn_foundation.training.checkpoint_io import largest_size

    _check_labels(recordings, splits, participants, recipe)
    n_samples = round(window.seconds * sfreq)
    made = nn.ModuleList(make_pretext(recipe, sfreq, n_samples))
    folder = Path(recipe.trainer.work_dir, "run")  # of a new run, which has nothing yet
    check_space(folder, *largest_size(made), recipe.trainer.epochs_kept)
    hardware = recipe.hardware
    if (
        recipe.objective.name != UNTRAINED
        and hardware.device in ("cuda", "mps")
        and not hardware.allow_fallback
    ):
        job = device.ProbeJob(encoder=recipe.encoder, objective=recipe.objective, sfreq=sfreq,
                              n_samples=n_samples)  # fmt: skip
        device.choose_device(hardware, job)
    table = labelled_windows(recordings, splits, participants, recipe.evaluation).table
    return {str(name): int(part["subject"].nunique()) for name, part in table.groupby("split")}


def check_before_training(
    dataset: EEGDataset, recipe: FoundationRecipe, *, own_splits: bool = True
) -> None:
    """Make sure that what follows the pretraining can be done with these tables and parameters.

    Parameters
    ----------
    dataset, recipe
        Data, of which no signal is read, and parameters.
    own_splits
        Whether the dataset's splits matter, beside the repeated ones.

    Raises
    ------
    UserError
        A band holds nothing of the windows, the objective does not fit the encoder, the label
        cannot be made, a split has no labelled window, or there are too few subjects to repeat.
        Where one fold is at fault, it is named.
    """
    highest = dataset.store.recordings.get("h_freq", pd.Series(dtype=float)).max()
    h_freq = None if pd.isna(highest) else float(highest)
    check_parameters(recipe, dataset.window, dataset.sfreq, h_freq)
    for line in check_context(dataset, recipe.evaluation.context):
        say(line)
    if recipe.encoder.is_external:  # what it has to say is said with the evaluation
        list(check_store(recipe.encoder, dataset.store))
    splits = dataset.splits if own_splits else None
    windows = probe_windows(dataset, recipe.evaluation.label)
    _check_labels(windows, splits, dataset.participants, recipe)


def _check_labels(
    windows: pd.DataFrame,
    splits: pd.DataFrame | None,
    participants: pd.DataFrame,
    recipe: FoundationRecipe,
) -> None:
    """Make the labels of every division of the subjects that is trained on."""
    evaluation = recipe.evaluation
    if splits is not None:
        check_disjoint(splits)
    subjects = windows["subject"].unique().tolist()
    if evaluation.stratify_scores_by is not None:
        score_strata(subjects, participants, evaluation.stratify_scores_by)
    folds = _folds(subjects, participants, evaluation, evaluation.label)
    own = {} if splits is None else {"": splits}
    for name, table in (own | folds).items():
        try:
            labelled_windows(windows, table, participants, evaluation)
            if recipe.objective.name == "task_classification":
                train = table.loc[table["split"] == "train", "subject"]
                window_labels(windows, participants, recipe.objective.label, train)
        except UserError as error:
            raise UserError(f"{name}{error}") from None


def check_challenge(
    dataset: EEGDataset, learned: EEGDataset, recipe: ChallengeRecipe, label: LabelParams
) -> None:
    """Make sure that the split can be scored, or each fold trained, before anything is trained.

    Parameters
    ----------
    dataset, learned
        All data, whose subjects are dealt into folds, and the windows of the challenge.
    recipe
        Of the challenge.
    label
        That of the foundation model, by which the folds are stratified.

    Raises
    ------
    UserError
        What is to be predicted is known of too few subjects, with the fold at fault or what to do;
        or folds are to begin from a checkpoint that is not their own.
    """
    subjects = dataset.windows["subject"].unique().tolist()
    folds = _folds(subjects, dataset.participants, recipe.evaluation, label)
    of_trials = recipe.label.kind == "trial"
    name, fewest = ("challenge1", 1) if of_trials else ("challenge2", 2)
    labels = [recipe.label, *(one.label for one in recipe.more_targets.chosen.values())]
    columns = [str(one.column) for one in labels if one.column in learned.windows]
    columns = columns[:1] if of_trials else columns
    if folds:
        recipe.check_new_encoder(f"with {name}.evaluation.repeats, {name}")
    for fold, splits in folds.items():
        # without the test subjects, who may lack a class: the folds are scored together
        of_fold = learned.replace(splits=splits[splits["split"] != "test"])
        try:
            check_targets(targets_of(of_fold, recipe.label), learned.windows, of_fold.splits)
            further_targets(of_fold, recipe)
            check_known(learned.windows, splits, columns, fewest, 1)
        except UserError as error:
            raise UserError(f"{name}.{fold}{error}") from None
    if not folds:
        try:
            check_known(learned.windows, learned.splits, columns, fewest, fewest)
        except UserError as error:
            raise UserError(
                f"{error}; {name}.evaluation.repeats.folds=5 tests each subject once, or give "
                "ingestion.splits.test a larger share"
            ) from None


def _folds(
    subjects: list[str],
    participants: pd.DataFrame,
    params: EvaluationParams | ChallengeEvaluationParams,
    label: LabelParams,
) -> dict[str, pd.DataFrame]:
    """Divide the subjects as the folds do; by the words that name a fold in a message."""
    repeats = params.repeats
    if repeats is None:
        return {}
    stratify = params.stratify_scores_by if isinstance(params, EvaluationParams) else None
    folds = deal(subjects, participants, repeats, label, stratify)
    return {f"evaluation.repeats, {name}: ": splits for name, _, splits in folds}


def _check_bands(
    key: str,
    bands: tuple[tuple[float, float], ...],
    sfreq: float,
    h_freq: float | None,
    n_samples: int,
) -> None:
    from hbn_foundation.models.band_tokens import band_bins

    for low, high in bands:
        if high > sfreq / 2:
            raise UserError(
                f"{key}: band ({low:g}, {high:g}) Hz ends above {sfreq / 2:g} Hz, half the "
                "sampling rate; lower it or raise cleaning.sfreq"
            )
        if h_freq is not None and low >= h_freq:
            raise UserError(
                f"{key}: band ({low:g}, {high:g}) Hz lies above {h_freq:g} Hz, where the "
                "recordings are cut off; lower it or raise cleaning.h_freq"
            )
    try:
        band_bins(bands, sfreq, n_samples)
    except ValueError as error:
        raise UserError(f"{key}: {error}; widen it or raise windows.seconds") from None
