"""Wiring of a sweep."""

from kedro.pipeline import Pipeline, node

from hbn_foundation.pipelines.finetuning_comparison.nodes import choose_windows
from hbn_foundation.pipelines.foundation.nodes import choose_device
from hbn_foundation.pipelines.sweep import nodes

DATA = ["dataset", "sweep_dataset"]
CLEANING = "params:ingestion.cleaning"
RECIPES = ["params:foundation", "params:finetuning", "params:sweep"]
JOBS = ["sweep_base_jobs", "sweep_finetune_jobs"]
REPORTS = ["sweep_base_report", "sweep_finetune_report"]
RUNNING = [*DATA, "sweep_device_plan", CLEANING, *RECIPES]


def create_pipeline(**_: object) -> Pipeline:
    """Return the pipeline from windows to the summary of a sweep."""
    return Pipeline([*_planning(), *_running(), *_results()], tags="sweep")


def _planning() -> list:
    return [
        node(
            choose_windows,
            inputs=["dataset", "trials", "params:finetuning"],
            outputs="sweep_dataset",
            name="choose_sweep_windows",
            tags="planning",
        ),
        node(
            nodes.plan,
            inputs=[*DATA, *RECIPES, CLEANING, "sweep_device_plan"],
            outputs=[*JOBS, "sweep_plan"],
            name="plan",
            tags="planning",
        ),
    ]


def _running() -> list:
    return [
        node(
            choose_device,
            inputs=["dataset", "params:foundation"],
            outputs="sweep_device_plan",
            name="choose_sweep_device",
            tags="training",
        ),
        node(
            nodes.train_bases,
            inputs=["sweep_base_jobs", *RUNNING],
            outputs="sweep_base_report",
            name="train_bases",
            tags="training",
        ),
        node(
            nodes.finetune,
            inputs=["sweep_base_report", *JOBS, *RUNNING],
            outputs="sweep_finetune_report",
            name="finetune",
            tags="training",
        ),
    ]


def _results() -> list:
    return [
        node(
            nodes.collect,
            inputs=[*JOBS, *REPORTS, "params:sweep", "params:finetuning"],
            outputs=[
                "sweep_jobs",
                "sweep_curves",
                "sweep_modes",
                "sweep_savings",
                "sweep_curves_figure",
                "sweep_summary",
            ],
            name="collect",
            tags="evaluation",
        ),
        node(
            nodes.check_sweep,
            inputs=[*REPORTS, "sweep_summary"],
            outputs=None,
            name="check_sweep",
            tags="evaluation",
        ),
    ]
