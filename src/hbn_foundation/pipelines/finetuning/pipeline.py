"""Wiring of the fine-tuning pipeline."""

from kedro.pipeline import Pipeline, node

from hbn_foundation.pipelines.finetuning import nodes

DATA = ["signal_store", "finetuning_windows", "splits", "participants"]
LABEL = "params:finetuning.label"
MODEL = [
    "params:finetuning.head",
    "params:finetuning.plan",
    "params:finetuning.rates",
]
EXTRAS = [
    "params:finetuning.more_targets",
    "params:finetuning.tokens",
    "params:finetuning.input",
]


def create_pipeline(**_: object) -> Pipeline:
    """Return the pipeline from a foundation checkpoint to an evaluated fine-tuned one."""
    return Pipeline([*_training_nodes(), *_evaluation_nodes()], tags="finetuning")


def _training_nodes() -> list:
    return [
        node(
            nodes.prepare_finetuning,
            inputs=[
                "foundation_checkpoint",
                "signal_store",
                "windows",
                "trials",
                "splits",
                "participants",
                LABEL,
                "params:finetuning.trial_windows",
                *MODEL,
                "params:finetuning.trainer",
                *EXTRAS,
                "params:finetuning.fault",
            ],
            outputs=["finetuning_windows", "lr_preview"],
            name="prepare_finetuning",
            tags="training",
        ),
        node(
            nodes.choose_device,
            inputs=[
                "params:foundation.hardware",
                "params:finetuning.trainer",
                "params:finetuning.tokens",
                "params:finetuning.fault",
                "signal_store",
                "foundation_checkpoint",
            ],
            outputs="finetuning_device_plan",
            name="choose_finetuning_device",
            tags="training",
        ),
        node(
            nodes.finetune_encoder,
            inputs=[
                "foundation_checkpoint",
                *DATA,
                LABEL,
                *MODEL,
                "params:finetuning.regularisation",
                "params:finetuning.trainer",
                *EXTRAS,
                "finetuning_device_plan",
                "params:finetuning.supervision",
                "params:finetuning.fault",
                "run_version",
            ],
            outputs=["finetuning_checkpoint", "finetuning_history", "finetuning_incidents"],
            name="finetune_encoder",
            tags="training",
        ),
    ]


def _evaluation_nodes() -> list:
    return [
        node(
            nodes.evaluate_finetuned,
            inputs=[
                "finetuning_checkpoint",
                "foundation_checkpoint",
                *DATA,
                LABEL,
                "params:finetuning.evaluation",
            ],
            outputs=["finetuning_metrics", "finetuning_scores", "finetuning_predictions"],
            name="evaluate_finetuned",
            tags="evaluation",
        ),
        node(
            nodes.draw_figures,
            inputs=["finetuning_history", "finetuning_predictions"],
            outputs=["finetuning_curves_figure", "finetuning_predictions_figure"],
            name="draw_finetuning_figures",
            tags="evaluation",
        ),
        node(
            nodes.report,
            inputs=["finetuning_scores", "finetuning_metrics"],
            outputs="finetuning_report",
            name="report_finetuning",
            tags="evaluation",
        ),
    ]
