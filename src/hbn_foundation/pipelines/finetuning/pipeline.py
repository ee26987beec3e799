"""Wiring of the fine-tuning pipeline."""

from kedro.pipeline import Pipeline, node

from hbn_foundation.evaluation.recipes import LabelRecipe
from hbn_foundation.pipelines.binding import with_recipe
from hbn_foundation.pipelines.finetuning import nodes

RECIPE = "params:finetuning"


def create_pipeline(**_: object) -> Pipeline:
    """Return the pipeline from a foundation checkpoint to an evaluated fine-tuned one."""
    return Pipeline([*_training_nodes(), *_evaluation_nodes()], tags="finetuning")


def _training_nodes() -> list:
    return [
        node(
            nodes.prepare_finetuning,
            inputs=["foundation_checkpoint", "dataset", "trials", RECIPE],
            outputs=["finetuning_dataset", "lr_preview"],
            name="prepare_finetuning",
            tags="training",
        ),
        node(
            with_recipe(nodes.choose_device, LabelRecipe),
            inputs=["finetuning_dataset", "foundation_checkpoint", RECIPE, "params:foundation"],
            outputs="finetuning_device_plan",
            name="choose_finetuning_device",
            tags="training",
        ),
        node(
            with_recipe(nodes.finetune_encoder, LabelRecipe),
            inputs=[
                "foundation_checkpoint",
                "finetuning_dataset",
                RECIPE,
                "finetuning_device_plan",
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
                "finetuning_dataset",
                RECIPE,
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
