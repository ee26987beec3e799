"""Wiring of the foundation pipeline."""

from kedro.pipeline import Pipeline

from hbn_foundation.pipelines.binding import step
from hbn_foundation.pipelines.foundation import nodes

RECIPE = "params:foundation"
CHECKPOINT, HISTORY, SCORES = "foundation_checkpoint", "foundation_history", "foundation_scores"
METRICS, PREDICTIONS = "foundation_metrics", "foundation_predictions"
EMBEDDING, FOLDS = "foundation_embedding", "foundation_folds"
SUMMARY = "foundation_fold_summary"


def create_pipeline(**_: object) -> Pipeline:
    """Return the pipeline from the dataset to an evaluated foundation checkpoint."""
    return Pipeline([*_training_nodes(), *_evaluation_nodes()], tags="foundation")


def _training_nodes() -> list:
    return [
        step(
            nodes.check_data,
            ["recordings", "events", "splits", "participants", RECIPE,
             "params:ingestion.windows", "params:ingestion.cleaning"],
            "data_check",
            "training",
        ),
        step(nodes.choose_device, ["dataset", RECIPE], "device_plan", "training"),
        step(
            nodes.pretrain_encoder,
            ["dataset", RECIPE, "device_plan", "run_version"],
            [CHECKPOINT, HISTORY, "training_incidents"],
            "training",
        ),
    ]  # fmt: skip


def _evaluation_nodes() -> list:
    return [
        step(
            nodes.evaluate_encoder,
            [CHECKPOINT, "dataset", RECIPE],
            [METRICS, SCORES, PREDICTIONS, EMBEDDING],
        ),
        step(
            nodes.cross_validate_encoder,
            ["dataset", RECIPE, "device_plan", "params:experiments"],
            [FOLDS, SUMMARY],
            "cross_validation",
        ),
        step(
            nodes.draw_figures,
            [HISTORY, SCORES, PREDICTIONS, EMBEDDING, FOLDS],
            ["training_curves_figure", "scores_figure", "confusion_matrix_figure",
             "embedding_figure"],
        ),
        step(
            nodes.report,
            [CHECKPOINT, HISTORY, METRICS, SCORES, SUMMARY],
            ["foundation_criteria", "foundation_report"],
        ),
    ]  # fmt: skip
