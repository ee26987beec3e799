"""What variants cost in the metric of their task, on the same test subjects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hbn_foundation.evaluation.evaluate import Task, window_task
from hbn_foundation.evaluation.methods import FINE_TUNED
from hbn_foundation.evaluation.recipes import (
    Challenge1Recipe,
    Challenge2Recipe,
    FoundationRecipe,
    LabelRecipe,
)
from hbn_foundation.evaluation.scorers import scorer_of
from hbn_foundation.evaluation.statistics import ALIKE, Interval, Score, ahead, score_part
from hbn_foundation.optimization.params import OptimizationParams
from hbn_foundation.optimization.variants import make_variants
from hbn_foundation.progress import say, track
from hbn_foundation.training.variant_names import FP32

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

Recipe = FoundationRecipe | LabelRecipe | Challenge1Recipe | Challenge2Recipe


class Judged(NamedTuple):
    """How a model is scored."""

    task: Task
    target: str  # whose main metric counts
    predict: Callable[[Checkpoint], Any]  # predictions of the task


def score_variants(
    checkpoint: Checkpoint, dataset: EEGDataset, recipe: Recipe, params: OptimizationParams
) -> pd.DataFrame:
    """Score each variant on the test subjects, and its change from fp32.

    Parameters
    ----------
    checkpoint, dataset, recipe
        A foundation or a fine-tuned checkpoint with the data and parameters of its evaluation. A
        foundation checkpoint is scored by its frozen probe, fitted anew on each variant's features.
    params
        Variants and resamples.

    Returns
    -------
    pandas.DataFrame
        A row per variant that can be made: `variant`, `metric`, `n_subjects`, `n_windows`,
        `score`, `change` (positive: better), `change_low`, `change_high` (95 %, paired over
        subjects, NaN where there is none), `missing` (why).
    """
    made, _ = make_variants(checkpoint, params.variants)
    judged = _judged(made[FP32], dataset, recipe)
    metric, rows = judged.task.main, list[dict[str, Any]]()
    ours: Score | None = None
    for name, variant in track(list(made.items()), "variants scored"):
        score, part = _score(judged, judged.predict(variant), params)
        ours = score if ours is None else ours
        better = scorer_of(metric).greater_is_better
        gap, ends = ahead(score, ours, better)
        if ends.missing == ALIKE:  # each resample has the same difference
            ends = Interval(gap, gap)
        say(f"{name}: {metric} {score.value:.4f}, change {gap:+.5f}")
        rows.append(
            {"variant": name, "metric": metric, **part, "score": score.value, "change": gap,
             "change_low": ends.low, "change_high": ends.high, "missing": ends.missing}
        )  # fmt: skip
    return pd.DataFrame(rows)


def _score(
    judged: Judged, predictions: Any, params: OptimizationParams
) -> tuple[Score, dict[str, int]]:
    """Score the main metric, resampled."""
    key = judged.target, judged.task.main
    for part in judged.task.parts(predictions):
        if key in part.score(range(len(part.subjects))):  # type: ignore[arg-type]
            found = score_part(part._replace(resample=True), params.bootstraps, params.seed)[key]
            n_subjects = len(pd.unique(part.subjects))
            return found, {"n_subjects": n_subjects, "n_windows": part.n_windows}
    raise KeyError(key)


def _judged(checkpoint: Checkpoint, dataset: EEGDataset, recipe: Recipe) -> Judged:
    """Find out how the models of a recipe are scored."""
    if isinstance(recipe, FoundationRecipe):
        return _of_probe(checkpoint, dataset, recipe)
    if isinstance(recipe, Challenge1Recipe):
        return _of_response_times(checkpoint, dataset, recipe)
    if isinstance(recipe, Challenge2Recipe):
        return _of_factors(checkpoint, dataset, recipe)
    return _of_label(checkpoint, dataset, recipe)


def _of_probe(checkpoint: Checkpoint, dataset: EEGDataset, recipe: FoundationRecipe) -> Judged:
    from hbn_foundation.evaluation.tasks.foundation import probe_sample, probe_task, probes
    from hbn_foundation.training.checkpoint import load_encoder

    params = recipe.evaluation.model_copy(update={"baselines": ()})
    sample = probe_sample(checkpoint, dataset, params)
    task = probe_task(sample, params)

    def predict(variant: Checkpoint) -> Any:
        answers = probes({task.model: load_encoder(variant)}, sample, dataset, params)
        return answers[task.model].predictions[0]

    return Judged(task, params.label.column or "task", predict)


def _of_label(checkpoint: Checkpoint, dataset: EEGDataset, recipe: LabelRecipe) -> Judged:
    from hbn_foundation.evaluation.predictions import test_windows
    from hbn_foundation.evaluation.tasks.labels import targets_of
    from hbn_foundation.labels.strata import with_strata
    from hbn_foundation.training.finetuned import predict

    people, by = dataset.participants, recipe.evaluation.stratify_scores_by
    windows = with_strata(dataset.windows, people, by)
    known = windows.assign(target=targets_of(dataset, recipe.label).values)
    test = test_windows(checkpoint, dataset.replace(windows=known))
    target = recipe.label.column or recipe.label.kind
    task = window_task(FINE_TUNED, target, test["target"].to_numpy(), test)
    size = recipe.evaluation.batch_size
    return Judged(task, target, lambda variant: predict(variant, dataset.store, test, size))


def _of_response_times(
    checkpoint: Checkpoint, dataset: EEGDataset, recipe: Challenge1Recipe
) -> Judged:
    from hbn_foundation.evaluation.predictions import predict_response_times, test_windows
    from hbn_foundation.evaluation.tasks.response_times import response_time_task

    windows = dataset.windows[dataset.windows["rt"].notna()].reset_index(drop=True)
    timed = dataset.replace(windows=windows)
    task = response_time_task(test_windows(checkpoint, timed), 0.5)
    return Judged(task, "rt", lambda variant: predict_response_times(variant, timed))


def _of_factors(checkpoint: Checkpoint, dataset: EEGDataset, recipe: Challenge2Recipe) -> Judged:
    from hbn_foundation.evaluation.baselines import DEMOGRAPHICS
    from hbn_foundation.evaluation.predictions import predict_numbers
    from hbn_foundation.evaluation.sample import with_columns
    from hbn_foundation.evaluation.tasks.challenge_baselines import people_of
    from hbn_foundation.evaluation.tasks.factors import (
        PREDICTED,
        factor_task,
        main_factor,
        predicted_factors,
    )

    table = predict_numbers(checkpoint, dataset)
    factors = predicted_factors(table)
    people = people_of(dataset.participants, factors)
    test = with_columns(table, people, [*factors, *DEMOGRAPHICS])
    columns = [PREDICTED + name for name in factors]
    return Judged(
        factor_task(test, factors, recipe.evaluation),
        main_factor(factors),
        lambda variant: predict_numbers(variant, dataset)[columns].to_numpy(),
    )
