"""Wiring of fine-tuning: one template, an instance in a namespace for each kind of label."""

from collections.abc import Callable, Sequence
from typing import Any

from kedro.pipeline import Pipeline, pipeline

from hbn_foundation.evaluation.recipes import Challenge1Recipe, Challenge2Recipe, LabelRecipe
from hbn_foundation.pipelines.binding import tagged, with_recipe
from hbn_foundation.pipelines.finetuning import challenge_evaluation as evaluation
from hbn_foundation.pipelines.finetuning import challenge_nodes as challenge
from hbn_foundation.pipelines.finetuning import nodes

#: What other pipelines make; all else is an instance's own.
SHARED = {"foundation_checkpoint", "trials", "run_version"}
RECIPE = "params:recipe"
FOUNDATION = "params:foundation"
SCRATCH = "params:challenge.from_scratch"
EXPERIMENTS = "params:experiments"


def create_finetuning(**_: object) -> Pipeline:
    """Return the pipeline from a foundation checkpoint to an evaluated model of any label."""
    own = [
        tagged(
            nodes.evaluate_finetuned,
            ["checkpoint", "foundation_checkpoint", "dataset", RECIPE],
            ["metrics", "scores", "predictions"],
            "evaluate",
        ),
        tagged(
            nodes.draw_figures,
            ["history", "predictions", RECIPE],
            ["curves_figure", "predictions_figure", "timeline_figure"],
            "draw_figures",
        ),
        tagged(nodes.report, ["scores", "metrics", "history", RECIPE], "report", "report"),
    ]
    prepare = _prepare(nodes.prepare_finetuning, "trials")
    return in_namespace([prepare, *_training(LabelRecipe), *own], "finetuning")


def create_challenge1(**_: object) -> Pipeline:
    """Return the pipeline to a model of response time and success, and its predictions."""
    prepare = _prepare(challenge.prepare_trials, "trials", after=[FOUNDATION])
    own = _challenge_nodes(
        Challenge1Recipe,
        challenge.predict_response_times,
        (evaluation.evaluate_response_times, []),
        (evaluation.report_response_times, [RECIPE]),
    )
    return in_namespace([prepare, *_training(Challenge1Recipe), *own], "challenge1")


def create_challenge2(**_: object) -> Pipeline:
    """Return the pipeline to a model of the factors, and its predictions."""
    prepare = _prepare(challenge.prepare_crops, after=[FOUNDATION])
    own = _challenge_nodes(
        Challenge2Recipe,
        challenge.predict_factors,
        (evaluation.evaluate_factors, ["subject_predictions"]),
        (evaluation.report_factors, []),
    )
    return in_namespace([prepare, *_training(Challenge2Recipe), *own], "challenge2")


def in_namespace(nodes: list, namespace: str, tag: str | None = None) -> Pipeline:
    """Put a template into a namespace: `checkpoint` becomes `challenge1.checkpoint`, and so on.

    Its `all_windows` are the dataset of ingestion, its recipe the parameters of that name.
    """
    template = Pipeline(nodes)
    inputs = {name: name for name in SHARED & template.inputs()}
    if "all_windows" in template.inputs():
        inputs["all_windows"] = "dataset"
    parameters = {name: name for name in template.inputs() if name.startswith("params:")}
    return pipeline(
        template,
        namespace=namespace,
        inputs=inputs,
        outputs={"csv": f"{namespace}_csv"} if "csv" in template.outputs() else None,
        parameters={**parameters, RECIPE: f"params:{namespace}"},
        tags=tag or namespace,
    )


def _prepare(function: Callable[..., Any], *more: str, after: Sequence[str] = ()) -> Any:
    """Take the windows of the label, and check the fine-tuning before it begins."""
    inputs = ["foundation_checkpoint", "all_windows", *more, RECIPE, *after]
    return tagged(function, inputs, ["dataset", "lr_preview"], "prepare", "training")


def _training(recipe: type) -> list:
    return [
        tagged(
            with_recipe(nodes.choose_device, recipe),
            ["dataset", "foundation_checkpoint", RECIPE, FOUNDATION],
            "device_plan",
            "choose_device",
            "training",
        ),
        tagged(
            with_recipe(nodes.finetune_encoder, recipe),
            ["foundation_checkpoint", "dataset", RECIPE, "device_plan", "run_version"],
            ["checkpoint", "history", "incidents"],
            "finetune",
            "training",
        ),
    ]


def _challenge_nodes(
    recipe: type,
    predict: Callable[..., Any],
    evaluate: tuple[Callable[..., Any], list[str]],
    report: tuple[Callable[..., Any], list[str]],
) -> list:
    """Return what challenges have beside the training: `evaluate` has outputs, `report` inputs."""
    folds = ["fold_answers", "fold_sample"]
    return [
        tagged(
            with_recipe(challenge.train_from_scratch, recipe),
            ["foundation_checkpoint", "dataset", RECIPE, "device_plan", SCRATCH, "run_version"],
            "scratch_predictions",
            "train_from_scratch",
            "training",
        ),
        tagged(
            with_recipe(challenge.cross_validate, recipe),
            ["all_windows", "dataset", FOUNDATION, RECIPE, "device_plan", SCRATCH, EXPERIMENTS],
            folds,
            "cross_validate",
            "cross_validation",
        ),
        tagged(predict, ["checkpoint", "dataset", RECIPE], "predictions", "predict"),
        tagged(
            evaluate[0],
            ["checkpoint", "predictions", "dataset", RECIPE, "scratch_predictions", *folds],
            ["metrics", "scores", "answers", *evaluate[1], "csv"],
            "evaluate",
        ),
        tagged(
            report[0],
            ["checkpoint", "dataset", "scores", "metrics", "answers", "history", *report[1]],
            ["page", "report", "answers_figure", "spatial_figure"],
            "report",
        ),
    ]
