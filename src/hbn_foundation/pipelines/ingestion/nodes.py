"""Nodes of the ingestion pipeline: each hands its work to one function of a room below."""

from __future__ import annotations

from typing import Any

from hbn_foundation.evaluation.recipes import FoundationRecipe, LabelRecipe
from hbn_foundation.labels.params import SplitParams, TrialParams
from hbn_foundation.pipelines import types
from hbn_foundation.recordings.params import CleaningParams, SelectionParams, SourceParams
from hbn_foundation.signals.params import BuildParams, WindowParams


def prepare_source(source: SourceParams) -> dict[str, Any]:
    """Name the BIDS root to read, or the `roots`, folders or URLs; simulate one without any."""
    from hbn_foundation.recordings.find import prepare

    return prepare(source)


def list_recordings(
    bids_source: dict[str, Any], source: SourceParams, selection: SelectionParams
) -> tuple[types.DataFrame, types.DataFrame]:
    """List the selected recordings, a row each, and the participants of the BIDS roots."""
    from hbn_foundation.labels.participants import participants_of
    from hbn_foundation.recordings.find import find_in_roots, find_recordings

    # the parameters come first: what was saved may be of an earlier run
    if source.roots is not None:
        recordings = find_in_roots(source.roots, selection, source.cache, source.storage_options)
    else:
        root = source.root or bids_source["root"]
        recordings = find_recordings(root, selection, source.cache, source.storage_options)
    return recordings, participants_of(recordings)


def split_subjects(
    recordings: types.DataFrame,
    participants: types.DataFrame,
    placed_before: types.DataFrame,
    params: SplitParams,
    foundation: FoundationRecipe,
    finetuning: LabelRecipe,
) -> tuple[types.DataFrame, types.DataFrame]:
    """Assign each subject to training, validation or test before any window exists.

    The first table lists the split of each subject for later runs, the second is for this one.
    """
    from hbn_foundation.labels import splits

    subjects = sorted(recordings["subject"].unique())
    table = splits.split_subjects(
        subjects,
        participants,
        params,
        placed_before,
        (finetuning.label, foundation.evaluation.label),
    )
    return splits.placed_subjects(table, params), table


def list_trials(recordings: types.DataFrame, params: TrialParams) -> types.DataFrame:
    """List the trials that the events beside the recordings tell of; none without events."""
    from hbn_foundation.labels.trials import recording_trials

    return recording_trials(recordings, params)


def list_events(
    recordings: types.DataFrame, foundation: FoundationRecipe, finetuning: LabelRecipe
) -> types.DataFrame:
    """List the events beside the recordings, or else, for labels of events, those in the files."""
    from hbn_foundation.labels.events import recording_events

    kinds = {foundation.evaluation.label.kind, finetuning.label.kind}
    return recording_events(recordings, annotations="event" in kinds)


def clean_signals(
    recordings: types.DataFrame,
    cleaning: CleaningParams,
    build: BuildParams,
    data_check: dict[str, int],
) -> types.SignalStore:
    """Clean every new or changed recording into the signal store.

    It needs nothing of `data_check`, but comes after what is checked there.
    """
    from hbn_foundation.signals.build import build_store

    return build_store(recordings, build, cleaning)


def assess_quality(signal_store: types.SignalStore) -> tuple[types.DataFrame, Any]:
    """Tabulate and draw the quality of every recording, failed ones with their reason."""
    from hbn_foundation.evaluation.figures.dataset import quality_figure

    return signal_store.table, quality_figure(signal_store.table)


def cut_windows(
    signal_store: types.SignalStore,
    splits: types.DataFrame,
    participants: types.DataFrame,
    events: types.DataFrame,
    params: WindowParams,
) -> types.EEGDataset:
    """List the windows as (recording, start) pairs, and put all that is known beside them."""
    from hbn_foundation.signals import windows
    from hbn_foundation.signals.dataset import EEGDataset

    table = windows.cut_windows(signal_store, params)
    return EEGDataset(signal_store, table, splits, participants, params, events)


def describe_dataset(dataset: types.EEGDataset) -> tuple[dict[str, Any], types.DataFrame, Any]:
    """Count subjects, hours, windows, ages and tasks by split: as JSON, table and figure."""
    from hbn_foundation.evaluation.figures.dataset import dataset_figure
    from hbn_foundation.signals.dataset import dataset_statistics

    statistics, table = dataset_statistics(dataset)
    figure = dataset_figure(
        dataset.store.table, dataset.splits, dataset.participants, dataset.windows
    )
    return statistics, table, figure
