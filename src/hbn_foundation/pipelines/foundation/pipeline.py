"""Wiring of the foundation pipeline."""

from kedro.pipeline import Pipeline, node

from hbn_foundation.pipelines.foundation import nodes

DATA = ["signal_store", "windows", "splits", "participants"]
TRAINING = [
    "params:foundation.encoder",
    "params:foundation.objective",
    "params:foundation.trainer",
    "params:ingestion.windows",
]


def create_pipeline(**_: object) -> Pipeline:
    """Return the pipeline from the signal store to an evaluated foundation checkpoint."""
    return Pipeline([*_training_nodes(), *_evaluation_nodes()], tags="foundation")


def _training_nodes() -> list:
    return [
        node(
            nodes.check_parameters,
            inputs=[
                "params:foundation.encoder",
                "params:foundation.objective",
                "params:foundation.evaluation",
                "params:ingestion.windows",
                "params:ingestion.cleaning",
                "params:foundation.hardware",
                "params:foundation.fault",
            ],
            outputs=None,
            name="check_parameters",
            tags="training",
        ),
        node(
            nodes.check_data,
            inputs=[
                "recordings",
                "splits",
                "participants",
                *TRAINING,
                "params:foundation.evaluation",
                "params:ingestion.cleaning",
                "run_version",
            ],
            outputs="data_check",
            name="check_data",
            tags="training",
        ),
        node(
            nodes.choose_device,
            inputs=[
                "params:foundation.hardware",
                *TRAINING,
                "params:foundation.fault",
                "signal_store",
            ],
            outputs="device_plan",
            name="choose_device",
            tags="training",
        ),
        node(
            nodes.pretrain_encoder,
            inputs=[
                *DATA,
                "device_plan",
                *TRAINING,
                "params:foundation.evaluation",
                "params:foundation.supervision",
                "params:foundation.fault",
                "run_version",
            ],
            outputs=["foundation_checkpoint", "foundation_history", "training_incidents"],
            name="pretrain_encoder",
            tags="training",
        ),
    ]


def _evaluation_nodes() -> list:
    return [
        node(
            nodes.evaluate_encoder,
            inputs=["foundation_checkpoint", *DATA, "params:foundation.evaluation"],
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
            inputs=[
                "signal_store",
                "windows",
                "participants",
                "device_plan",
                *TRAINING,
                "params:foundation.evaluation",
                "params:foundation.supervision",
            ],
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
