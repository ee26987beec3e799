"""Wiring of the learning curves of both challenges."""

from kedro.pipeline import Pipeline, node

from hbn_foundation.evaluation.recipes import Challenge1Recipe, Challenge2Recipe
from hbn_foundation.pipelines.binding import with_recipe
from hbn_foundation.pipelines.challenge import learning_curve
from hbn_foundation.pipelines.finetuning.pipeline import RECIPE, in_namespace

CURVE = "params:learning_curve.runs"


def create_learning_curve1(**_: object) -> Pipeline:
    """Return the pipeline to challenge 1 learned from more and more subjects."""
    return _learning_curve("challenge1", Challenge1Recipe)


def create_learning_curve2(**_: object) -> Pipeline:
    """Return the pipeline to challenge 2 learned from more and more subjects."""
    return _learning_curve("challenge2", Challenge2Recipe)


def _learning_curve(namespace: str, recipe: type) -> Pipeline:
    """Go on from the windows and the device that the challenge's pipeline has chosen."""
    nodes = [
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
    return in_namespace(nodes, namespace, tag=f"{namespace}_learning_curve")
