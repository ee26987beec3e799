"""Wiring of the ingestion pipeline."""

from kedro.pipeline import Pipeline, node

from hbn_foundation.pipelines.ingestion import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Return the pipeline from a BIDS root to windows, trials, splits and statistics."""
    return Pipeline([*_tables(), *_signals()], tags="ingestion")


def _tables() -> list:
    return [
        node(
            nodes.prepare_source,
            inputs="params:ingestion.source",
            outputs="bids_source",
            name="prepare_source",
        ),
        node(
            nodes.list_recordings,
            inputs=["bids_source", "params:ingestion.source", "params:ingestion.selection"],
            outputs=["recordings", "participants"],
            name="list_recordings",
        ),
        node(
            nodes.split_subjects,
            inputs=[
                "recordings",
                "participants",
                "placed_before",
                "params:ingestion.splits",
                "params:foundation",
                "params:finetuning",
            ],
            outputs=["placed_subjects", "splits"],
            name="split_subjects",
        ),
        node(
            nodes.list_trials,
            inputs=["recordings", "params:ingestion.trials"],
            outputs="trials",
            name="list_trials",
        ),
    ]


def _signals() -> list:
    return [
        node(
            nodes.clean_signals,
            # data_check: what follows is checked first where anything does
            inputs=[
                "recordings",
                "params:ingestion.cleaning",
                "params:ingestion.store",
                "data_check",
            ],
            outputs="signal_store",
            name="clean_signals",
        ),
        node(
            nodes.assess_quality,
            inputs="signal_store",
            outputs=["quality", "quality_figure"],
            name="assess_quality",
        ),
        node(
            nodes.cut_windows,
            inputs=["signal_store", "splits", "participants", "params:ingestion.windows"],
            outputs="dataset",
            name="cut_windows",
        ),
        node(
            nodes.describe_dataset,
            inputs="dataset",
            outputs=["dataset_statistics", "dataset_table", "dataset_figure"],
            name="describe_dataset",
        ),
    ]
