"""Wiring of the comparison."""

from kedro.pipeline import Pipeline, node

from hbn_foundation.pipelines.finetuning_comparison import nodes
from hbn_foundation.pipelines.foundation.nodes import choose_device

RUNS = "params:finetuning_comparison.runs"


def create_pipeline(**_: object) -> Pipeline:
    """Return the pipeline from windows to the table of ways to fine-tune."""
    return Pipeline([*_runs(), *_results()], tags="finetuning_comparison")


def _runs() -> list:
    return [
        node(
            choose_device,
            inputs=["dataset", "params:foundation"],
            outputs="comparison_device_plan",
            name="choose_comparison_device",
            tags="training",
        ),
        node(
            nodes.choose_windows,
            inputs=["dataset", "trials", "params:finetuning"],
            outputs="comparison_dataset",
            name="choose_comparison_windows",
            tags="training",
        ),
        node(
            nodes.compare_plans,
            inputs=[
                "dataset",
                "comparison_dataset",
                "comparison_device_plan",
                "params:foundation",
                "params:finetuning",
                RUNS,
            ],
            outputs=["comparison_folds", "comparison_predictions", "comparison_incidents"],
            name="compare_plans",
            tags="training",
        ),
    ]


def _results() -> list:
    return [
        node(
            nodes.summarise_comparison,
            inputs=["comparison_folds", RUNS],
            outputs="comparison_summary",
            name="summarise_comparison",
            tags="evaluation",
        ),
        node(
            nodes.draw_comparison,
            inputs=["comparison_folds", "comparison_summary", RUNS],
            outputs="comparison_figure",
            name="draw_comparison",
            tags="evaluation",
        ),
        node(
            nodes.report_comparison,
            inputs=["comparison_folds", "comparison_summary", "params:finetuning", RUNS],
            outputs="comparison_report",
            name="report_comparison",
            tags="evaluation",
        ),
    ]
