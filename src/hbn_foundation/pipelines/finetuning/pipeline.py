"""Wiring of fine-tuning: one template, an instance in a namespace for each kind of label."""

from collections.abc import Callable, Sequence
from typing import Any

from kedro.pipeline import Pipeline, pipeline

from hbn_foundation.evaluation.recipes import Challenge1Recipe, Challenge2Recipe, LabelRecipe
from hbn_foundation.pipelines.binding import step, with_recipe
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
        step(
            nodes.evaluate_finetuned,
            ["checkpoint", "foundation_checkpoint", "dataset", RECIPE],
            ["metrics", "scores", "predictions"],
            name="evaluate",
        ),
        step(
            nodes.draw_figures,
            ["history", "predictions", RECIPE],
            ["curves_figure", "predictions_figure", "timeline_figure"],
        ),
        step(nodes.report, ["scores", "metrics", "history", RECIPE], "report"),
    ]
    prepare = _prepare(nodes.prepare_finetuning, "trials")
    return in_namespace([prepare, *_training(LabelRecipe), *own], "finetuning")


def create_challenge1(**_: object) -> Pipeline:
    """Return the pipeline to a model of response time and success, and its predictions."""
    prepare = _prepare(challenge.prepare_trials, "trials", after=[FOUNDATION])
    own = _challenge_nodes(Challenge1Recipe)
    return in_namespace([prepare, *_training(Challenge1Recipe), *own], "challenge1")


def create_challenge2(**_: object) -> Pipeline:
    """Return the pipeline to a model of the factors, and its predictions."""
    prepare = _prepare(challenge.prepare_crops, after=[FOUNDATION])
    own = _challenge_nodes(Challenge2Recipe, "subject_predictions")
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
    return step(function, inputs, ["dataset", "lr_preview"], "training", "prepare")


def _training(recipe: type) -> list:
    return [
        step(
            with_recipe(nodes.choose_device, recipe),
            ["dataset", "foundation_checkpoint", RECIPE, FOUNDATION],
            "device_plan",
            "training",
        ),
        step(
            with_recipe(nodes.finetune_encoder, recipe),
            ["foundation_checkpoint", "dataset", RECIPE, "device_plan", "run_version"],
            ["checkpoint", "history", "incidents"],
            "training",
            "finetune",
        ),
    ]


def _challenge_nodes(recipe: type, *outputs: str) -> list:
    """Return what challenges have beside the training; the evaluation may have more outputs."""
    folds = ["fold_answers", "fold_sample"]
    return [
        step(
            with_recipe(challenge.train_from_scratch, recipe),
            ["foundation_checkpoint", "dataset", RECIPE, "device_plan", SCRATCH, "run_version"],
            "scratch_predictions",
            "training",
        ),
        step(
            with_recipe(challenge.cross_validate, recipe),
            ["all_windows", "dataset", FOUNDATION, RECIPE, "device_plan", SCRATCH, EXPERIMENTS],
            folds,
            "cross_validation",
        ),
        step(
            with_recipe(challenge.predict, recipe),
            ["checkpoint", "dataset", RECIPE],
            "predictions",
        ),
        step(
            with_recipe(challenge.evaluate, recipe),
            ["checkpoint", "predictions", "dataset", RECIPE, "scratch_predictions", *folds],
            ["metrics", "scores", "answers", *outputs, "csv"],
            name="evaluate",
        ),
        step(
            with_recipe(challenge.report, recipe),
            ["checkpoint", "dataset", "scores", "metrics", "answers", "history", RECIPE],
            ["page", "report", "answers_figure", "spatial_figure"],
        ),
    ]
