"""Wiring of the ingestion pipeline."""

from kedro.pipeline import Pipeline

from hbn_foundation.pipelines.binding import step
from hbn_foundation.pipelines.ingestion import nodes

TAG = "ingestion"


def create_pipeline(**_: object) -> Pipeline:
    """Return the pipeline from a BIDS root to windows, trials, splits and statistics."""
    return Pipeline([*_tables(), *_signals()])


def _tables() -> list:
    return [
        step(nodes.prepare_source, "params:ingestion.source", "bids_source", TAG),
        step(
            nodes.list_recordings,
            ["bids_source", "params:ingestion.source", "params:ingestion.selection"],
            ["recordings", "participants"],
            TAG,
        ),
        step(
            nodes.split_subjects,
            ["recordings", "participants", "placed_before", "params:ingestion.splits",
             "params:foundation", "params:finetuning"],
            ["placed_subjects", "splits"],
            TAG,
        ),
        step(nodes.list_trials, ["recordings", "params:ingestion.trials"], "trials", TAG),
        step(
            nodes.list_events,
            ["recordings", "params:foundation", "params:finetuning"],
            "events",
            TAG,
        ),
    ]  # fmt: skip


def _signals() -> list:
    return [
        step(
            nodes.clean_signals,
            # data_check: what follows is checked first where anything does
            ["recordings", "params:ingestion.cleaning", "params:ingestion.store", "data_check"],
            "signal_store",
            TAG,
        ),
        step(nodes.assess_quality, "signal_store", ["quality", "quality_figure"], TAG),
        step(
            nodes.cut_windows,
            ["signal_store", "splits", "participants", "events", "params:ingestion.windows"],
            "dataset",
            TAG,
        ),
        step(
            nodes.describe_dataset,
            "dataset",
            ["dataset_statistics", "dataset_table", "dataset_figure"],
            TAG,
        ),
    ]
