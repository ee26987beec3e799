"""The pipelines that `kedro run --pipeline` knows."""

from kedro.pipeline import Pipeline

from hbn_foundation.pipelines import foundation, ingestion


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline by name.

    `foundation` begins at the BIDS root, so that one command does everything; `ingestion` is
    its first part alone.
    """
    data = ingestion.create_pipeline()
    pretraining = foundation.create_pipeline()
    return {
        "ingestion": data,
        "foundation": data + pretraining,
        "__default__": data + pretraining,
    }
