"""Nodes of optimization: each hands its work to one function of a room below."""

from __future__ import annotations

from typing import Any

from hbn_foundation.optimization.params import OptimizationParams
from hbn_foundation.pipelines import types


def measure_variants(
    checkpoint: Any, dataset: types.EEGDataset, optimization: OptimizationParams
) -> types.DataFrame:
    """Measure latency, throughput, cold start, memory and size of each variant."""
    from hbn_foundation.optimization import measure

    return measure.measure_variants(checkpoint, dataset, optimization)


def score_variants(
    checkpoint: Any,
    dataset: types.EEGDataset,
    recipe: Any,
    optimization: OptimizationParams,
) -> types.DataFrame:
    """Score each variant on the same test subjects."""
    from hbn_foundation.optimization import scores

    return scores.score_variants(checkpoint, dataset, recipe, optimization)


def choose_variant(
    checkpoint: Any,
    speed: types.DataFrame,
    variant_scores: types.DataFrame,
    optimization: OptimizationParams,
    following: str,
) -> tuple[Any, types.DataFrame, Any, str]:
    """Choose a variant by the rule, make it, and report.

    Returns
    -------
    optimized_checkpoint : Checkpoint
        The chosen variant.
    table : DataFrame
        A row per variant.
    figure : Figure
        Change of the metric against latency.
    report : str
        Table, choice and what to run next.
    """
    from hbn_foundation.evaluation.figures.variants import variants_figure
    from hbn_foundation.evaluation.report.render import render_text, show
    from hbn_foundation.optimization.choice import choose, optimization_report, variants_table
    from hbn_foundation.optimization.variants import make_variant

    table = variants_table(speed.assign(failed=speed["failed"].fillna("")), variant_scores,
                           optimization)  # fmt: skip
    choice = choose(table, optimization)
    text = show(render_text(optimization_report(table, choice, optimization, following)))
    figure = variants_figure(table, choice.name, optimization.largest_loss)
    return make_variant(checkpoint, choice.name, why=choice.why), table, figure, text
