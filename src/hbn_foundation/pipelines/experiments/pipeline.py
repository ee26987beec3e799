"""Wiring of experiments: comparison of plans, learning curves, sweep."""

from kedro.pipeline import Pipeline

from hbn_foundation.evaluation.recipes import RECIPES
from hbn_foundation.experiments.params import LabelCurveParams, LearningCurveParams
from hbn_foundation.pipelines.binding import step, with_recipe
from hbn_foundation.pipelines.experiments import nodes
from hbn_foundation.pipelines.finetuning.pipeline import RECIPE, in_namespace
from hbn_foundation.pipelines.foundation.nodes import choose_device

EXPERIMENTS = "params:experiments"
FOUNDATION, FINETUNING = "params:foundation", "params:finetuning"
RUNS = "params:finetuning_comparison.runs"
SWEEP = "params:sweep"
CLEANING = "params:ingestion.cleaning"
JOBS = ["sweep_base_jobs", "sweep_finetune_jobs"]
REPORTS = ["sweep_base_report", "sweep_finetune_report"]


def create_comparison(**_: object) -> Pipeline:
    """Return the pipeline from windows to the table of ways to fine-tune."""
    made = ["comparison_folds", "comparison_predictions", "comparison_incidents"]
    return Pipeline(
        [
            *_windows_and_device("comparison"),
            step(
                nodes.compare_plans,
                ["dataset", "comparison_dataset", "comparison_device_plan", FOUNDATION,
                 FINETUNING, RUNS, EXPERIMENTS],
                made,
                "training",
            ),
            step(
                nodes.report_comparison,
                [made[0], FINETUNING, RUNS],
                ["comparison_summary", "comparison_figure", "comparison_report"],
            ),
        ],
        tags="finetuning_comparison",
    )  # fmt: skip


def create_learning_curve(namespace: str) -> Pipeline:
    """Return the pipeline to a label or a challenge learned from more and more subjects.

    It goes on from the windows and the device that the pipeline of that name has chosen.
    """
    recipe = RECIPES[namespace]
    params = LabelCurveParams if namespace == "finetuning" else LearningCurveParams
    runs = f"params:{params.KEY}"
    made = ["learning_curve", "learning_curve_predictions"]
    return in_namespace(
        [
            step(
                with_recipe(nodes.learn_from_subjects, recipe, runs=params),
                ["foundation_checkpoint", "dataset", RECIPE, FOUNDATION, "device_plan", runs,
                 EXPERIMENTS],
                made,
                "training",
            ),
            step(
                with_recipe(nodes.report_learning_curve, recipe),
                [made[1], RECIPE],
                ["learning_curve_summary", "learning_curve_figure", "learning_curve_report"],
            ),
        ],
        namespace,
        tag=f"{namespace}_learning_curve",
    )  # fmt: skip


def create_sweep(**_: object) -> Pipeline:
    """Return the pipeline from windows to the summary of a sweep."""
    bases = [JOBS[0], "sweep_data", "sweep_device_plan", FOUNDATION, SWEEP]
    return Pipeline(
        [
            *_windows_and_device("sweep", "planning"),
            step(
                nodes.plan,
                ["dataset", "sweep_dataset", FOUNDATION, FINETUNING, SWEEP, CLEANING,
                 "sweep_device_plan"],
                [*JOBS, "sweep_data", "sweep_plan"],
                "planning",
            ),
            step(nodes.run_jobs, bases, REPORTS[0], "training", "train_bases"),
            step(
                nodes.run_jobs,
                [*bases, JOBS[1], REPORTS[0]],
                REPORTS[1],
                "training",
                "finetune",
            ),
            step(
                nodes.collect,
                [*JOBS, *REPORTS, SWEEP, FINETUNING],
                ["sweep_jobs", "sweep_curves", "sweep_modes", "sweep_savings",
                 "sweep_curves_figure", "sweep_summary"],
            ),
            step(nodes.check_sweep, [*REPORTS, "sweep_summary"], None),
        ],
        tags="sweep",
    )  # fmt: skip


def _windows_and_device(name: str, tag: str = "training") -> list:
    """Choose the windows that the label is learned from, and the device."""
    return [
        step(
            nodes.choose_windows,
            ["dataset", "trials", FINETUNING],
            f"{name}_dataset",
            tag,
            f"choose_{name}_windows",
        ),
        step(
            choose_device,
            ["dataset", FOUNDATION],
            f"{name}_device_plan",
            "training",
            f"choose_{name}_device",
        ),
    ]
