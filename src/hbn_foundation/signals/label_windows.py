"""The windows that a label is learned from, or probed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hbn_foundation.errors import UserError
from hbn_foundation.signals.event_windows import cut_event_windows
from hbn_foundation.signals.windows import cut_trial_windows, window_length

if TYPE_CHECKING:
    import pandas as pd

    from hbn_foundation.labels.params import LabelParams
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.signals.params import TrialWindowParams
    from hbn_foundation.signals.store import SignalStore


def probe_windows(
    dataset: EEGDataset, label: LabelParams, seconds: float | None = None
) -> pd.DataFrame:
    """Return the windows that a frozen encoder is probed on: of events, or all of the dataset."""
    if label.kind != "event":
        return dataset.windows
    return cut_event_windows(
        dataset.store, dataset.events, label, seconds or dataset.window.seconds
    )


def windows_of_label(
    label: LabelParams,
    dataset: EEGDataset,
    trials: pd.DataFrame,
    params: TrialWindowParams,
    seconds: float,
) -> pd.DataFrame:
    """Return the windows that a label is learned from: of trials, of events, or the dataset's."""
    if label.kind == "trial":
        return windows_of_trials(label, dataset.store, trials, params, seconds)
    return probe_windows(dataset, label, seconds)


def windows_of_trials(
    label: LabelParams,
    store: SignalStore,
    trials: pd.DataFrame,
    params: TrialWindowParams,
    seconds: float,
) -> pd.DataFrame:
    """Return the windows of the trials, as `cut_trial_windows` does.

    It is a UserError if the label is not one of trials, the encoder takes windows of another length
    (`seconds`), there are no trials, or none of them has a window.
    """
    if label.kind != "trial":
        raise UserError(
            f"label.kind={label.kind}: the windows here are those of trials; take trial"
        )
    if window_length(params.seconds, store.sfreq) != window_length(seconds, store.sfreq):
        raise UserError(
            f"trial_windows.seconds={params.seconds:g}: the encoder takes windows of {seconds:g} s"
        )
    if trials.empty:
        raise UserError(
            "labels: kind: trial, but the recordings have no trials: no events.tsv beside them "
            "has the events that ingestion.trials names"
        )
    chosen = cut_trial_windows(store, trials, params)
    if chosen.empty:
        reasons = trials["excluded"].replace("", "without a whole window in a usable recording")
        words = (f"{count} {reason}" for reason, count in reasons.value_counts().items())
        raise UserError(
            f"labels: kind: trial, but of {len(trials)} trials none is left: {', '.join(words)}"
        )
    return chosen
