"""Wiring of experiments: comparison of plans, learning curves of both challenges, sweep."""

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Pipeline, node

from hbn_foundation.evaluation.recipes import Challenge1Recipe, Challenge2Recipe, LabelRecipe
from hbn_foundation.pipelines.binding import with_recipe
from hbn_foundation.pipelines.experiments import nodes, sweep_nodes
from hbn_foundation.pipelines.finetuning.pipeline import RECIPE, in_namespace
from hbn_foundation.pipelines.foundation.nodes import choose_device

EXPERIMENTS = "params:experiments"
FOUNDATION, FINETUNING = "params:foundation", "params:finetuning"
RUNS = "params:finetuning_comparison.runs"
CURVE = "params:learning_curve.runs"
LABEL_CURVE = "params:finetuning_learning_curve.runs"
SWEEP = "params:sweep"
CLEANING = "params:ingestion.cleaning"
JOBS = ["sweep_base_jobs", "sweep_finetune_jobs"]
REPORTS = ["sweep_base_report", "sweep_finetune_report"]


def create_comparison(**_: object) -> Pipeline:
    """Return the pipeline from windows to the table of ways to fine-tune."""
    made = ["comparison_folds", "comparison_predictions", "comparison_incidents"]
    table = ["comparison_folds", "comparison_summary"]
    return Pipeline(
        [
            *_windows_and_device("comparison"),
            _node(
                nodes.compare_plans,
                ["dataset", "comparison_dataset", "comparison_device_plan", FOUNDATION,
                 FINETUNING, RUNS, EXPERIMENTS],
                made,
                "compare_plans",
                "training",
            ),
            _node(nodes.summarise_comparison, [table[0], RUNS], table[1], "summarise_comparison"),
            _node(nodes.draw_comparison, [*table, RUNS], "comparison_figure", "draw_comparison"),
            _node(
                nodes.report_comparison,
                [*table, FINETUNING, RUNS],
                "comparison_report",
                "report_comparison",
            ),
        ],
        tags="finetuning_comparison",
    )  # fmt: skip


def create_learning_curve1(**_: object) -> Pipeline:
    """Return the pipeline to challenge 1 learned from more and more subjects."""
    return _learning_curve("challenge1", Challenge1Recipe)


def create_learning_curve2(**_: object) -> Pipeline:
    """Return the pipeline to challenge 2 learned from more and more subjects."""
    return _learning_curve("challenge2", Challenge2Recipe)


def _learning_curve(namespace: str, recipe: type) -> Pipeline:
    """Go on from the windows and the device that the challenge's pipeline has chosen."""
    return in_namespace(
        [
            _node(
                with_recipe(nodes.learn_from_shares, recipe),
                ["foundation_checkpoint", "dataset", RECIPE, "device_plan", CURVE, EXPERIMENTS],
                "learning_curve",
                "learn_from_shares",
                "training",
            ),
            _node(
                nodes.report_learning_curve,
                "learning_curve",
                ["learning_curve_figure", "learning_curve_report"],
                "report_learning_curve",
            ),
        ],
        namespace,
        tag=f"{namespace}_learning_curve",
    )


def create_label_curve(**_: object) -> Pipeline:
    """Return the pipeline to a label of any kind learned from more and more subjects."""
    made = ["learning_curve", "learning_curve_predictions"]
    return in_namespace(
        [
            _node(
                with_recipe(nodes.learn_from_subjects, LabelRecipe),
                ["foundation_checkpoint", "dataset", RECIPE, FOUNDATION, "device_plan",
                 LABEL_CURVE, EXPERIMENTS],
                made,
                "learn_from_subjects",
                "training",
            ),
            _node(
                with_recipe(nodes.report_label_curve, LabelRecipe),
                [made[1], RECIPE],
                ["learning_curve_summary", "learning_curve_figure", "learning_curve_report"],
                "report_label_curve",
            ),
        ],
        "finetuning",
        tag="finetuning_learning_curve",
    )  # fmt: skip


def create_sweep(**_: object) -> Pipeline:
    """Return the pipeline from windows to the summary of a sweep."""
    running = ["sweep_data", "sweep_device_plan", FOUNDATION, SWEEP]
    return Pipeline(
        [
            *_windows_and_device("sweep", "planning"),
            _node(
                sweep_nodes.plan,
                ["dataset", "sweep_dataset", FOUNDATION, FINETUNING, SWEEP, CLEANING,
                 "sweep_device_plan"],
                [*JOBS, "sweep_data", "sweep_plan"],
                "plan",
                "planning",
            ),
            _node(
                sweep_nodes.train_bases, [JOBS[0], *running], REPORTS[0], "train_bases", "training"
            ),
            _node(
                sweep_nodes.finetune,
                [REPORTS[0], *JOBS, *running],
                REPORTS[1],
                "finetune",
                "training",
            ),
            _node(
                sweep_nodes.collect,
                [*JOBS, *REPORTS, SWEEP, FINETUNING],
                ["sweep_jobs", "sweep_curves", "sweep_modes", "sweep_savings",
                 "sweep_curves_figure", "sweep_summary"],
                "collect",
            ),
            _node(sweep_nodes.check_sweep, [*REPORTS, "sweep_summary"], None, "check_sweep"),
        ],
        tags="sweep",
    )  # fmt: skip


def _windows_and_device(name: str, tag: str = "training") -> list:
    """Choose the windows that the label is learned from, and the device."""
    return [
        _node(
            nodes.choose_windows,
            ["dataset", "trials", FINETUNING],
            f"{name}_dataset",
            f"choose_{name}_windows",
            tag,
        ),
        _node(
            choose_device,
            ["dataset", FOUNDATION],
            f"{name}_device_plan",
            f"choose_{name}_device",
            "training",
        ),
    ]


def _node(
    function: Callable[..., Any],
    inputs: list[str] | str,
    outputs: list[str] | str | None,
    name: str,
    tag: str = "evaluation",
) -> Any:
    return node(function, inputs=inputs, outputs=outputs, name=name, tags=tag)
