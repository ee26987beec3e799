"""Find mistakes that would end a run only after its pretraining, before that begins.

Nothing is computed here that the run would use: the functions that would raise later are called
early, on the same tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.params import EvaluationParams
from hbn_foundation.evaluation.sample import labelled_windows
from hbn_foundation.labels.checks import check_disjoint
from hbn_foundation.labels.splits import repeated_splits
from hbn_foundation.labels.targets import window_labels
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import ObjectiveParams, TrainerParams
from hbn_foundation.training.supervision.run_folder import check_space

if TYPE_CHECKING:
    from torch import nn

    from hbn_foundation.signals.store import SignalStore

Edges = tuple[tuple[float, float], ...]


def check_parameters(
    encoder: EncoderParams,
    objective: ObjectiveParams,
    evaluation: EvaluationParams,
    *,
    window: WindowParams,
    sfreq: float,
    h_freq: float | None = None,
) -> None:
    """Make sure that the parameters fit each other; no data are needed.

    Parameters
    ----------
    encoder, objective, evaluation, window
        Parameters.
    sfreq
        Sampling rate of the clean signals in Hz.
    h_freq
        Upper edge of their pass band in Hz, where known.

    Raises
    ------
    UserError
        A band holds nothing of the windows, or the objective does not fit the encoder.
    """
    n_samples = round(window.seconds * sfreq)
    if "band" in encoder.tokens:
        _check_bands("encoder.band.edges", encoder.band.edges, sfreq, h_freq, n_samples)
    if {"band_power", "filter_bank"} & set(evaluation.baselines):
        _check_bands("evaluation.bands", evaluation.bands, sfreq, h_freq, n_samples)
    _check_objective(encoder, objective, sfreq, n_samples)


def check_before_cleaning(
    recordings: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame,
    encoder: EncoderParams,
    objective: ObjectiveParams,
    trainer: TrainerParams,
    evaluation: EvaluationParams,
    *,
    window: WindowParams,
    sfreq: float,
    folder: Path,
) -> dict[str, int]:
    """Make sure that training and evaluation can follow, before any signal is cleaned.

    Parameters
    ----------
    recordings, splits, participants
        Tables; each recording stands for its windows.
    encoder, objective, trainer, evaluation, window
        Parameters that have to fit the data and each other.
    sfreq
        Sampling rate of the clean signals in Hz.
    folder
        Where the checkpoints will lie.

    Returns
    -------
    dict
        How many subjects are labelled, by split.

    Raises
    ------
    UserError
        As `check_before_training`; the disk has no room for the checkpoints.
    """
    from hbn_foundation.training.training_state import largest_size

    for name, table in _divisions(recordings, splits, participants, evaluation):
        with _of_division(name):
            _check_labels(recordings, table, participants, objective, evaluation)
    made = _check_objective(encoder, objective, sfreq, round(window.seconds * sfreq))
    check_space(folder, *largest_size(made), trainer.keep_last)
    table = labelled_windows(recordings, splits, participants, evaluation).table
    return {str(name): int(part["subject"].nunique()) for name, part in table.groupby("split")}


def check_before_training(
    store: SignalStore,
    windows: pd.DataFrame,
    splits: pd.DataFrame | None,
    participants: pd.DataFrame,
    encoder: EncoderParams,
    objective: ObjectiveParams,
    evaluation: EvaluationParams,
    *,
    window: WindowParams,
) -> None:
    """Make sure that what follows the pretraining can be done with these tables and parameters.

    Parameters
    ----------
    store, windows, participants
        The data; no signal is read.
    splits
        `subject` and `split`; None where only the repeated splits matter.
    encoder, objective, evaluation
        Parameters that have to fit the data and each other.
    window
        The parameters that the windows were cut with.

    Raises
    ------
    UserError
        A band holds nothing of the windows, the objective does not fit the encoder, the label
        cannot be made, a split has no labelled window, or there are too few subjects to repeat.
        Where one fold is at fault, it is named.
    """
    check_parameters(
        encoder,
        objective,
        evaluation,
        window=window,
        sfreq=store.sfreq,
        h_freq=_highest_passed(store),
    )
    for name, table in _divisions(windows, splits, participants, evaluation):
        with _of_division(name):
            _check_labels(windows, table, participants, objective, evaluation)


@contextmanager
def _of_division(name: str) -> Iterator[None]:
    """Name the division of the subjects in which something is wrong."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{name}: {error}" if name else str(error)) from None


def _check_bands(
    key: str, bands: Edges, sfreq: float, h_freq: float | None, n_samples: int
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


def _highest_passed(store: SignalStore) -> float | None:
    """Highest frequency (Hz) that the filter of any recording lets pass; None where unknown."""
    if "h_freq" not in store.recordings:
        return None
    highest = store.recordings["h_freq"].max()
    return None if pd.isna(highest) else float(highest)


def _check_objective(
    encoder: EncoderParams, objective: ObjectiveParams, sfreq: float, n_samples: int
) -> nn.Module:
    """Make the objective with its encoder, and return it."""
    from hbn_foundation.training import seeding
    from hbn_foundation.training.model_building import build_encoder
    from hbn_foundation.training.objectives.make import make_objective

    with seeding.seeded(0, seeding.WEIGHTS):
        try:
            made = build_encoder(encoder, sfreq, n_samples)
        except ValueError as error:
            raise UserError(f"encoder: {error}") from None
        return make_objective(objective, made)


def _divisions(
    windows: pd.DataFrame,
    splits: pd.DataFrame | None,
    participants: pd.DataFrame,
    evaluation: EvaluationParams,
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every division of the subjects that is trained on, with its name; that of the run first."""
    if splits is not None:
        check_disjoint(splits)
        yield "", splits
    repeats = evaluation.repeats
    if repeats is None:
        return
    folds = repeated_splits(
        windows["subject"].unique().tolist(), repeats.folds, repeats.repeats, repeats.seed,
        participants=participants, label=evaluation.label,
    )  # fmt: skip
    for _, part in folds.groupby(["repeat", "fold"]):
        repeat, fold = part["repeat"].iloc[0] + 1, part["fold"].iloc[0] + 1
        yield f"evaluation.repeats, repeat {repeat} fold {fold}", part[["subject", "split"]]


def _check_labels(
    windows: pd.DataFrame,
    splits: pd.DataFrame,
    participants: pd.DataFrame,
    objective: ObjectiveParams,
    evaluation: EvaluationParams,
) -> None:
    labelled_windows(windows, splits, participants, evaluation)
    if objective.name == "task_classification":
        train = splits.loc[splits["split"] == "train", "subject"]
        window_labels(windows, participants, objective.label, train)
