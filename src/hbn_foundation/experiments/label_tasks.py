"""What the jobs of comparisons and of a label's learning curve call, each in its own process.

The test windows, and the definition of the label, are those of all labelled subsets of a fold.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.baselines import BASELINES, fit_baseline, predict_in_parts
from hbn_foundation.evaluation.evaluate import evaluate, window_task
from hbn_foundation.evaluation.features import FeatureExtractor, FrozenEncoders
from hbn_foundation.evaluation.methods import FROZEN_PROBE, PRETRAINED, RANDOM
from hbn_foundation.evaluation.params import FineTuningEvaluationParams
from hbn_foundation.evaluation.recipes import LabelRecipe
from hbn_foundation.evaluation.sample import choose_windows
from hbn_foundation.evaluation.tasks.labels import TARGET, target_of, targets_of
from hbn_foundation.experiments.data import load_dataset
from hbn_foundation.experiments.job import RunContext
from hbn_foundation.experiments.targets import answer_columns
from hbn_foundation.experiments.tasks import (
    beating,
    each_trained,
    load_base,
    main_score,
    rows_of,
    write_scores,
)
from hbn_foundation.labels.strata import STRATUM
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.training.finetune import stratified

if TYPE_CHECKING:
    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

PLACE = "place"


class Draw(NamedTuple):
    """Subjects whose labels are learned from."""

    seed: int
    subjects: tuple[str, ...]

    @property
    def place(self) -> dict[str, int]:
        """What sets its rows apart."""
        return {"seed": self.seed, "n_subjects": len(self.subjects)}


def with_labels_of(splits: pd.DataFrame, chosen: Sequence[str]) -> pd.DataFrame:
    """Take all training subjects but some out of the splits."""
    kept = (splits["split"] != "train") | splits["subject"].astype(str).isin(chosen)
    return splits[kept].reset_index(drop=True)


def training_subjects(splits: pd.DataFrame, windows: pd.DataFrame) -> list[str]:
    """Sorted training subjects that have windows."""
    names = splits.loc[splits["split"] == "train", "subject"].astype(str)
    return sorted(set(names) & set(windows["subject"].astype(str)))


class Labelled(NamedTuple):
    """The windows of a fold, and the label as all its training subjects define it."""

    dataset: EEGDataset  # with strata
    targets: WindowTargets

    @classmethod
    def of(cls, dataset: EEGDataset, recipe: LabelRecipe) -> Labelled:
        """Label the windows of a dataset."""
        return cls(stratified(dataset, recipe), targets_of(dataset, recipe.label))

    def split(self, name: str) -> tuple[pd.DataFrame, np.ndarray]:
        """Windows of a split whose label is known, and their values."""
        rows = rows_of(self.dataset, self.targets, name)
        return self.dataset.windows.iloc[rows].reset_index(drop=True), self.targets.values[rows]

    def learned(self, draw: Draw, params: FineTuningEvaluationParams) -> pd.DataFrame:
        """Training windows of a draw and validation windows, with their places."""
        windows = self.dataset.windows
        windows = windows.assign(**{TARGET: self.targets.values, PLACE: np.arange(len(windows))})
        splits = with_labels_of(self.dataset.splits, draw.subjects)
        table = choose_windows(windows, splits, self.targets.known, params, "label").table
        return table[table["split"] != "test"].reset_index(drop=True)

    def counts(self, draw: Draw, params: FineTuningEvaluationParams) -> dict[str, int]:
        """Count the subjects that have windows, and the training windows of a draw."""
        splits, windows = self.dataset.splits, self.dataset.windows
        splits = with_labels_of(splits, draw.subjects)
        there = splits["subject"].astype(str).isin(windows["subject"].astype(str))
        subjects = splits.loc[there, "split"].value_counts()
        n_windows = len(rows_of(self.dataset.replace(splits=splits), self.targets, "train"))
        return {
            "n_train": int(subjects["train"]),
            "n_test": int(subjects["test"]),
            "train_windows": n_windows,
            "fitted_windows": min(n_windows, params.max_windows),
            "n_channels": len(self.dataset.store.positions),
        }


def fit_draws(
    run: RunContext,
    data: Path,
    splits: pd.DataFrame,
    recipe: LabelRecipe,
    draws: Sequence[Draw],
    methods: Sequence[str],
) -> dict[str, Any]:
    """Measure the windows of a fold once, and fit each method on the labels of each draw.

    What a method fits without labels, such as the mean of covariances, it fits on all training
    subjects, as the encoder was pretrained on them. What several seeds draw is fitted once.
    """
    with beating(run.link):
        labelled = Labelled.of(load_dataset(data).replace(splits=splits), recipe)
        extractor = _extractor(load_base(run), labelled.dataset, recipe, methods)
        samples = {draw.subjects: labelled.learned(draw, recipe.evaluation) for draw in draws}
        places = np.unique(np.concatenate([sample[PLACE] for sample in samples.values()]))
        split_of = splits.set_index(splits["subject"].astype(str))["split"]
        learned = labelled.dataset.windows.iloc[places].reset_index(drop=True)
        learned["split"] = learned["subject"].astype(str).map(split_of)
        features: dict[str | None, np.ndarray] = {None: np.empty((len(learned), 0))}
        features.update(extractor.fit(learned))
        # what the extractor has left out, as the input of an external encoder
        methods = [one for one in methods if BASELINES[one].features in features]
        if not methods:
            raise UserError("frozen: none of the methods can be measured with this encoder")
        target = target_of(labelled.targets, recipe.label)
        fits, costs = {}, {}
        for subjects, sample in samples.items():
            rows = np.searchsorted(places, sample[PLACE])
            for method in methods:
                inputs, start = features[BASELINES[method].features][rows], time.perf_counter()
                fitted = fit_baseline(method, inputs, sample, target, recipe.evaluation)
                fits[subjects, method] = method, fitted
                costs[subjects, method] = {
                    "validation": fitted.validation, "epochs": np.nan,
                    "seconds": time.perf_counter() - start, "trainable": inputs.shape[1],
                }  # fmt: skip
        del features
        answers = predict_in_parts(fits, extractor, labelled.split("test")[0])
    scored = [
        _scored(labelled, recipe, draw, method, answers[draw.subjects, method],
                costs[draw.subjects, method])
        for draw in draws for method in methods
    ]  # fmt: skip
    _write(run, scored)
    return {"stopped": "scored"}


def train_draw(
    run: RunContext,
    data: Path,
    splits: pd.DataFrame,
    recipe: LabelRecipe,
    draw: Draw,
    methods: Sequence[str],
) -> dict[str, Any]:
    """Train models on the labels of a draw, and predict the test subjects of its fold."""
    from hbn_foundation.training.finetuned import predict

    whole, foundation = load_dataset(data).replace(splits=splits), load_base(run)
    labelled, batch_size = Labelled.of(whole, recipe), recipe.evaluation.batch_size
    learned = whole.replace(splits=with_labels_of(splits, draw.subjects))
    scored = []
    for method, tuned, history in each_trained(run, foundation, learned, recipe, methods):
        with beating(run.link):
            (held, of_held), (test, _) = map(labelled.split, ("validation", "test"))
            answers = predict(tuned, whole.store, held, batch_size)
            costs = {
                "validation": main_score(held, of_held, answers),
                "epochs": len(history),
                "seconds": float(history["seconds"].sum()),
                "trainable": _trained_parameters(tuned, history),
            }
            answers = predict(tuned, whole.store, test, batch_size)
            scored.append(_scored(labelled, recipe, draw, method, answers, costs))
    _write(run, scored)
    return {"stopped": "scored"}


def _extractor(
    checkpoint: Checkpoint, dataset: EEGDataset, recipe: LabelRecipe, methods: Sequence[str]
) -> FeatureExtractor:
    """Make what measures windows for these methods, in the context of the recipe."""
    from hbn_foundation.training.checkpoint import load_encoder, random_encoder

    encoder = load_encoder(checkpoint)
    encoders: dict[str, Encoder] = {PRETRAINED: encoder, FROZEN_PROBE: encoder}
    if RANDOM in methods:
        encoders[RANDOM] = random_encoder(checkpoint, recipe.evaluation.seed)
    wanted = {name for method in methods if (name := BASELINES[method].features)}
    return FeatureExtractor(
        wanted, dataset.store, checkpoint.metadata["n_samples"], recipe.evaluation,
        FrozenEncoders(encoders), context=recipe.context,
    )  # fmt: skip


def _scored(
    labelled: Labelled, recipe: LabelRecipe, draw: Draw, method: str, predictions: np.ndarray,
    costs: dict[str, Any],
) -> tuple[dict[str, Any], pd.DataFrame]:  # fmt: skip
    """Scores of the test windows beside what sets them apart, and the predictions."""
    test, values = labelled.split("test")
    task = window_task(method, TARGET, values, test)
    scores = evaluate(task, {method: predictions}, {}, n_samples=0)
    row = {
        "method": method,
        **draw.place,
        **labelled.counts(draw, recipe.evaluation),
        **dict(zip(scores["metric"], scores["value"], strict=True)),
        "n_windows": len(test),
        **costs,
    }
    known = [name for name in ("recording", "subject", STRATUM) if name in test]
    named: dict[str, Any] = {"method": method, **draw.place}
    return row, test[known].assign(**named, value=values, **answer_columns(predictions))


def _trained_parameters(checkpoint: Checkpoint, history: pd.DataFrame) -> int:
    """Count the parameters of the blocks that were trained in any epoch."""
    from hbn_foundation.training.finetuned import load_finetuned

    sizes = load_finetuned(checkpoint).sizes()
    return sum(sizes[name] for name in {*",".join(history["trainable"]).split(",")} if name)


def _write(run: RunContext, scored: Sequence[tuple[dict[str, Any], pd.DataFrame]]) -> None:
    rows, tables = zip(*scored, strict=True)
    write_scores(run, list(rows), pd.concat(tables, ignore_index=True))
