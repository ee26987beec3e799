"""Wiring of optimization: one template, for the foundation checkpoint and each fine-tuned one."""

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

from kedro.pipeline import Pipeline, pipeline

from hbn_foundation.evaluation.recipes import RECIPES, FoundationRecipe
from hbn_foundation.pipelines.binding import step, with_recipe
from hbn_foundation.pipelines.optimization import nodes

RECIPE, PARAMS = "params:recipe", "params:optimization"
FOR_FOUNDATION = (
    "Next: fine-tune from the checkpoint as trained, then kedro run --pipeline "
    "finetuning_optimization; whatever embeds recordings loads optimized_checkpoint as any other."
)
FOR_CHALLENGE = (
    "Next: kedro run --pipeline submission --params submission.export.{name}_entry="
    "optimized_checkpoint"
)
FOR_LABEL = "Next: whatever predicts loads {name}.optimized_checkpoint as any other checkpoint."


def create_foundation(**_: object) -> Pipeline:
    """Return the pipeline from the foundation checkpoint to its chosen variant."""
    return pipeline(
        _template(FoundationRecipe, FOR_FOUNDATION),
        inputs={"checkpoint": "foundation_checkpoint", "dataset": "dataset"},
        parameters={RECIPE: "params:foundation", PARAMS: PARAMS},
        tags="optimization",
    )


def create_instance(name: str) -> Pipeline:
    """Return the same for a fine-tuned checkpoint, in the namespace of its training."""
    following = FOR_LABEL if name == "finetuning" else FOR_CHALLENGE
    return pipeline(
        _template(RECIPES[name], following.format(name=name)),
        namespace=name,
        parameters={RECIPE: f"params:{name}", PARAMS: PARAMS},
        tags=f"{name}_optimization",
    )


def _template(recipe: type, following: str) -> Pipeline:
    score = with_recipe(nodes.score_variants, recipe)
    parts = [
        step(nodes.measure_variants, ["checkpoint", "dataset", PARAMS], "variants_speed", None),
        step(score, ["checkpoint", "dataset", RECIPE, PARAMS], "variants_scores", None),
        step(
            _bound(nodes.choose_variant, following=following),
            ["checkpoint", "variants_speed", "variants_scores", PARAMS],
            ["optimized_checkpoint", "variants_table", "optimization_figure",
             "optimization_report"],
            None,
        ),
    ]  # fmt: skip
    return Pipeline(parts)


def _bound(function: Callable[..., Any], **values: Any) -> Any:
    return update_wrapper(partial(function, **values), function)
