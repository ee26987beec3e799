"""What the jobs of a label's learning curve call, each in its own process.

The test windows, and the definition of the label, are those of all labelled subsets of a fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.baselines import (
    BASELINES,
    MOST_AT_ONCE,
    Fitted,
    Target,
    fit_baseline,
)
from hbn_foundation.evaluation.evaluate import evaluate, window_task
from hbn_foundation.evaluation.features import FeatureExtractor, FrozenEncoders
from hbn_foundation.evaluation.methods import PRETRAINED, RANDOM, SCRATCH
from hbn_foundation.evaluation.params import FineTuningEvaluationParams
from hbn_foundation.evaluation.recipes import LabelRecipe
from hbn_foundation.evaluation.sample import choose_windows
from hbn_foundation.evaluation.tasks.labels import TARGET, targets_of
from hbn_foundation.experiments.data import load_dataset
from hbn_foundation.experiments.job import RunContext
from hbn_foundation.experiments.targets import answer_columns, ended, tune
from hbn_foundation.experiments.tasks import (
    beating,
    beside,
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
        target = _target(labelled.targets, recipe)
        fits = {}
        for subjects, sample in samples.items():
            rows = np.searchsorted(places, sample[PLACE])
            for method in methods:
                inputs = features[BASELINES[method].features][rows]
                fits[subjects, method] = fit_baseline(
                    method, inputs, sample, target, recipe.evaluation
                )
        del features
        test, values = labelled.split("test")
        answers = _predict(fits, extractor, test)
    scored = []
    for draw in draws:
        for method in methods:
            fitted = fits[draw.subjects, method]
            row = {"method": method, **draw.place, "validation": fitted.validation}
            scored.append(_scored(test, values, row, answers[draw.subjects, method]))
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
    scored, result = [], {"stopped": "nothing to train"}
    for number, method in enumerate(methods):
        start = "from_scratch" if method == SCRATCH else "foundation"
        trainer = recipe.trainer.model_copy(update={"start": start})
        own = recipe.model_copy(update={"trainer": trainer})
        of_method = beside(run) if number else run
        result = tune(of_method, foundation, learned, own)
        tuned, history = ended(of_method.folder, result["stopped"])
        with beating(run.link):
            (held, of_held), (test, values) = map(labelled.split, ("validation", "test"))
            answers = predict(tuned, whole.store, held, batch_size)
            row = {"method": method, **draw.place,
                   "validation": main_score(held, of_held, answers),
                   "epochs": len(history), "seconds": float(history["seconds"].sum())}  # fmt: skip
            scored.append(_scored(test, values, row, predict(tuned, whole.store, test, batch_size)))
    _write(run, scored)
    return result


def _extractor(
    checkpoint: Checkpoint, dataset: EEGDataset, recipe: LabelRecipe, methods: Sequence[str]
) -> FeatureExtractor:
    """Make what measures windows for these methods, in the context of the recipe."""
    from hbn_foundation.training.checkpoint import load_encoder, random_encoder

    encoders: dict[str, Encoder] = {PRETRAINED: load_encoder(checkpoint)}
    if RANDOM in methods:
        encoders[RANDOM] = random_encoder(checkpoint, recipe.evaluation.seed)
    wanted = {name for method in methods if (name := BASELINES[method].features)}
    return FeatureExtractor(
        wanted, dataset.store, checkpoint.metadata["n_samples"], recipe.evaluation,
        FrozenEncoders(encoders), context=recipe.context,
    )  # fmt: skip


def _target(targets: WindowTargets, recipe: LabelRecipe) -> Target:
    if targets.is_regression:
        return Target(TARGET, per_subject=recipe.label.kind == "participant")
    return Target(TARGET, "class", targets.n_outputs)


def _predict(
    fits: Mapping[tuple[Any, str], Fitted], extractor: FeatureExtractor, test: pd.DataFrame
) -> dict[tuple[Any, str], np.ndarray]:
    """Predict a few thousand windows at a time, so that their features need little memory."""
    parts: dict[tuple[Any, str], list[np.ndarray]] = {key: [] for key in fits}
    for first in range(0, len(test), MOST_AT_ONCE):
        windows = test.iloc[first : first + MOST_AT_ONCE]
        found = extractor(windows)
        for key, fitted in fits.items():
            inputs = found.get(BASELINES[key[1]].features or "")
            parts[key].append(fitted.predict(inputs, windows))
    return {key: np.concatenate(part) for key, part in parts.items()}


def _scored(
    test: pd.DataFrame, values: np.ndarray, row: dict[str, Any], predictions: np.ndarray
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Scores of test windows beside what sets them apart, and the predictions."""
    task = window_task(row["method"], TARGET, values, test)
    scores = evaluate(task, {row["method"]: predictions}, {}, n_samples=0)
    named = {name: row[name] for name in ("method", "seed", "n_subjects")}
    known = [name for name in ("recording", "subject", STRATUM) if name in test]
    table = test[known].assign(**named, value=values, **answer_columns(predictions))
    counts = {"n_test": test["subject"].nunique(), "n_windows": len(test)}
    return row | dict(zip(scores["metric"], scores["value"], strict=True)) | counts, table


def _write(run: RunContext, scored: Sequence[tuple[dict[str, Any], pd.DataFrame]]) -> None:
    rows, tables = zip(*scored, strict=True)
    write_scores(run, list(rows), pd.concat(tables, ignore_index=True))
