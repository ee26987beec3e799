"""Wiring of both challenges: one template, an instance of it in a namespace for each."""

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Pipeline, node, pipeline

from hbn_foundation.evaluation.recipes import Challenge1Recipe, Challenge2Recipe
from hbn_foundation.pipelines.binding import with_recipe
from hbn_foundation.pipelines.challenge import evaluation, learning_curve, nodes
from hbn_foundation.pipelines.finetuning import nodes as finetuning

#: What other pipelines make; all else is an instance's own.
SHARED = {"foundation_checkpoint", "trials"}
RUN = "run_version"
RECIPE = "params:recipe"
FOUNDATION = "params:foundation"
CURVE = "params:learning_curve.runs"
SCRATCH = "params:challenge.from_scratch"


def create_challenge1(**_: object) -> Pipeline:
    """Return the pipeline to a model of response time and success, and its predictions."""
    prepare = node(
        nodes.prepare_trials,
        inputs=["foundation_checkpoint", "all_windows", "trials", RECIPE],
        outputs=["dataset", "lr_preview"],
        name="prepare",
        tags="training",
    )
    return _instance(
        "challenge1",
        Challenge1Recipe,
        [prepare, _prediction(nodes.predict_response_times), *_response_time_evaluation()],
    )


def create_challenge2(**_: object) -> Pipeline:
    """Return the pipeline to a model of the factors, and its predictions."""
    prepare = node(
        nodes.prepare_crops,
        inputs=["foundation_checkpoint", "all_windows", RECIPE],
        outputs=["dataset", "lr_preview"],
        name="prepare",
        tags="training",
    )
    return _instance(
        "challenge2",
        Challenge2Recipe,
        [prepare, _prediction(nodes.predict_factors), *_factor_evaluation()],
    )


def create_learning_curve1(**_: object) -> Pipeline:
    """Return the pipeline to challenge 1 learned from more and more subjects."""
    return _learning_curve("challenge1", Challenge1Recipe)


def create_learning_curve2(**_: object) -> Pipeline:
    """Return the pipeline to challenge 2 learned from more and more subjects."""
    return _learning_curve("challenge2", Challenge2Recipe)


def _learning_curve(namespace: str, recipe: type) -> Pipeline:
    """Go on from the windows and the device that the challenge's pipeline has chosen."""
    template = Pipeline(
        [
            node(
                with_recipe(learning_curve.learn_from_shares, recipe),
                inputs=["foundation_checkpoint", "dataset", RECIPE, "device_plan", CURVE],
                outputs="learning_curve",
                name="learn_from_shares",
                tags="training",
            ),
            node(
                learning_curve.report_learning_curve,
                inputs="learning_curve",
                outputs=["learning_curve_figure", "learning_curve_report"],
                name="report_learning_curve",
                tags="evaluation",
            ),
        ]
    )
    return _in_namespace(template, namespace, tag=f"{namespace}_learning_curve")


def _instance(namespace: str, recipe: type, own: list) -> Pipeline:
    """Put the template into a namespace: `dataset` becomes `challenge1.dataset`, and so on."""
    return _in_namespace(Pipeline([*own, *_training_nodes(recipe)]), namespace, tag=namespace)


def _in_namespace(template: Pipeline, namespace: str, tag: str) -> Pipeline:
    inputs = {name: name for name in {*SHARED, RUN} & template.inputs()}
    if "all_windows" in template.inputs():
        inputs["all_windows"] = "dataset"
    shared = {FOUNDATION, CURVE, SCRATCH} & template.inputs()
    parameters = {RECIPE: f"params:{namespace}", **{name: name for name in shared}}
    return pipeline(template, namespace=namespace, inputs=inputs, parameters=parameters, tags=tag)


def _training_nodes(recipe: type) -> list:
    return [
        node(
            with_recipe(finetuning.choose_device, recipe),
            inputs=["dataset", "foundation_checkpoint", RECIPE, FOUNDATION],
            outputs="device_plan",
            name="choose_device",
            tags="training",
        ),
        node(
            with_recipe(finetuning.finetune_encoder, recipe),
            inputs=["foundation_checkpoint", "dataset", RECIPE, "device_plan", RUN],
            outputs=["checkpoint", "history", "incidents"],
            name="finetune",
            tags="training",
        ),
        node(
            with_recipe(nodes.train_from_scratch, recipe),
            inputs=["foundation_checkpoint", "dataset", RECIPE, "device_plan", SCRATCH, RUN],
            outputs="scratch_predictions",
            name="train_from_scratch",
            tags="training",
        ),
    ]


def _prediction(predict: Callable[..., Any]) -> Any:
    return node(
        predict,
        inputs=["checkpoint", "dataset", RECIPE],
        outputs="predictions",
        name="predict",
        tags="evaluation",
    )


def _response_time_evaluation() -> list:
    return [
        node(
            evaluation.evaluate_response_times,
            inputs=["checkpoint", "predictions", "dataset", RECIPE, "scratch_predictions"],
            outputs=["metrics", "scores", "answers"],
            name="evaluate",
            tags="evaluation",
        ),
        node(
            evaluation.report_response_times,
            inputs=[
                "checkpoint",
                "predictions",
                "dataset",
                "scores",
                "metrics",
                "history",
                RECIPE,
            ],
            outputs=["page", "report", "answers_figure", "spatial_figure"],
            name="report",
            tags="evaluation",
        ),
    ]


def _factor_evaluation() -> list:
    return [
        node(
            evaluation.evaluate_factors,
            inputs=["checkpoint", "predictions", "dataset", RECIPE, "scratch_predictions"],
            outputs=["metrics", "scores", "answers", "subject_predictions"],
            name="evaluate",
            tags="evaluation",
        ),
        node(
            evaluation.report_factors,
            inputs=[
                "checkpoint",
                "predictions",
                "dataset",
                "scores",
                "metrics",
                "answers",
                "history",
                RECIPE,
            ],
            outputs=["page", "report", "answers_figure", "spatial_figure"],
            name="report",
            tags="evaluation",
        ),
    ]
