"""The pipelines that `kedro run --pipeline` knows."""

from kedro.pipeline import Pipeline

from hbn_foundation.pipelines import (
    experiments,
    finetuning,
    foundation,
    ingestion,
    optimization,
    submission,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline by name.

    `foundation` begins at the BIDS root, so that one command does everything; `ingestion` is
    its first part alone; `finetuning` goes on from the checkpoint of an earlier run,
    `finetuning_comparison` and `sweep` from the windows of one, `challenge1` and `challenge2` from
    both, their learning curves from the windows of those, and `submission` from the checkpoints
    of both challenges. `optimization` and `<training>_optimization` make a checkpoint faster.
    """
    data = ingestion.create_pipeline()
    pretraining = foundation.create_pipeline()
    return {
        "ingestion": data,
        "foundation": data + pretraining,
        "finetuning": finetuning.create_finetuning(),
        "finetuning_comparison": experiments.create_comparison(),
        "finetuning_learning_curve": experiments.create_learning_curve("finetuning"),
        "challenge1": finetuning.create_challenge1(),
        "challenge2": finetuning.create_challenge2(),
        "challenge1_learning_curve": experiments.create_learning_curve("challenge1"),
        "challenge2_learning_curve": experiments.create_learning_curve("challenge2"),
        "submission": submission.create_pipeline(),
        "optimization": optimization.create_foundation(),
        **{
            f"{name}_optimization": optimization.create_instance(name)
            for name in ("finetuning", "challenge1", "challenge2")
        },
        "sweep": experiments.create_sweep(),
        "__default__": data + pretraining,
    }
