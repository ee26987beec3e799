"""Wiring of the foundation pipeline."""

from kedro.pipeline import Pipeline, node

from hbn_foundation.pipelines.foundation import nodes

RECIPE = "params:foundation"


def create_pipeline(**_: object) -> Pipeline:
    """Return the pipeline from the dataset to an evaluated foundation checkpoint."""
    return Pipeline([*_training_nodes(), *_evaluation_nodes()], tags="foundation")


def _training_nodes() -> list:
    return [
        node(
            nodes.check_data,
            inputs=[
                "recordings",
                "events",
                "splits",
                "participants",
                RECIPE,
                "params:ingestion.windows",
                "params:ingestion.cleaning",
            ],
            outputs="data_check",
            name="check_data",
            tags="training",
        ),
        node(
            nodes.choose_device,
            inputs=["dataset", RECIPE],
            outputs="device_plan",
            name="choose_device",
            tags="training",
        ),
        node(
            nodes.pretrain_encoder,
            inputs=["dataset", RECIPE, "device_plan", "run_version"],
            outputs=["foundation_checkpoint", "foundation_history", "training_incidents"],
            name="pretrain_encoder",
            tags="training",
        ),
    ]


def _evaluation_nodes() -> list:
    return [
        node(
            nodes.evaluate_encoder,
            inputs=["foundation_checkpoint", "dataset", RECIPE],
            outputs=[
                "foundation_metrics",
                "foundation_scores",
                "foundation_predictions",
                "foundation_embedding",
            ],
            name="evaluate_encoder",
            tags="evaluation",
        ),
        node(
            nodes.cross_validate_encoder,
            inputs=["dataset", RECIPE, "device_plan", "params:experiments"],
            outputs=["foundation_folds", "foundation_fold_summary"],
            name="cross_validate_encoder",
            tags="cross_validation",
        ),
        node(
            nodes.draw_figures,
            inputs=[
                "foundation_history",
                "foundation_scores",
                "foundation_predictions",
                "foundation_embedding",
                "foundation_folds",
            ],
            outputs=[
                "training_curves_figure",
                "scores_figure",
                "confusion_matrix_figure",
                "embedding_figure",
            ],
            name="draw_figures",
            tags="evaluation",
        ),
        node(
            nodes.report,
            inputs=[
                "foundation_checkpoint",
                "foundation_history",
                "foundation_metrics",
                "foundation_scores",
                "foundation_fold_summary",
            ],
            outputs=["foundation_criteria", "foundation_report"],
            name="report",
            tags="evaluation",
        ),
    ]
