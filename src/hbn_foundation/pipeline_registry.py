"""The pipelines that `kedro run --pipeline` knows."""

from kedro.pipeline import Pipeline

from hbn_foundation.pipelines import (
    finetuning,
    finetuning_comparison,
    foundation,
    ingestion,
    sweep,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline by name.

    `foundation` begins at the BIDS root, so that one command does everything; `ingestion` is
    its first part alone; `finetuning` goes on from the checkpoint of an earlier run,
    `finetuning_comparison` and `sweep` from the windows of one.
    """
    data = ingestion.create_pipeline()
    pretraining = foundation.create_pipeline()
    return {
        "ingestion": data,
        "foundation": data + pretraining,
        "finetuning": finetuning.create_pipeline(),
        "finetuning_comparison": finetuning_comparison.create_pipeline(),
        "sweep": sweep.create_pipeline(),
        "__default__": data + pretraining,
    }
