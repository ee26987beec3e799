"""Wiring of the ingestion pipeline."""

from kedro.pipeline import Pipeline, node

from hbn_foundation.pipelines.ingestion import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Return the pipeline from a BIDS root to windows, trials, splits and statistics."""
    return Pipeline([*_tables(), *_signals()], tags="ingestion")


def _tables() -> list:
    return [
        node(nodes.prepare_source, "params:ingestion.source", "bids_source", name="prepare_source"),
        node(
            nodes.list_recordings,
            ["bids_source", "params:ingestion.source", "params:ingestion.selection"],
            ["recordings", "participants"],
            name="list_recordings",
        ),
        node(
            nodes.split_subjects,
            [
                *("recordings", "participants", "placed_before"),
                *("params:ingestion.splits", "params:foundation", "params:finetuning"),
            ],
            ["placed_subjects", "splits"],
            name="split_subjects",
        ),
        node(
            nodes.list_trials,
            ["recordings", "params:ingestion.trials"],
            "trials",
            name="list_trials",
        ),
        node(
            nodes.list_events,
            ["recordings", "params:foundation", "params:finetuning"],
            "events",
            name="list_events",
        ),
    ]


def _signals() -> list:
    return [
        node(
            nodes.clean_signals,
            # data_check: what follows is checked first where anything does
            ["recordings", "params:ingestion.cleaning", "params:ingestion.store", "data_check"],
            "signal_store",
            name="clean_signals",
        ),
        node(
            nodes.assess_quality,
            "signal_store",
            ["quality", "quality_figure"],
            name="assess_quality",
        ),
        node(
            nodes.cut_windows,
            ["signal_store", "splits", "participants", "events", "params:ingestion.windows"],
            "dataset",
            name="cut_windows",
        ),
        node(
            nodes.describe_dataset,
            "dataset",
            ["dataset_statistics", "dataset_table", "dataset_figure"],
            name="describe_dataset",
        ),
    ]
