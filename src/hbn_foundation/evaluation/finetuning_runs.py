"""One run of a comparison: a plan, or all baselines, in one fold; its result kept on disk.

The name of what is kept is a hash of everything it depends on. `finetuning_folds.py` lists the
runs and brings their results together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.cross_validation import (
    Fold,
    hash_of,
    hash_table,
    pretrained_encoder,
    remove_folder,
)
from hbn_foundation.evaluation.evaluate import evaluate, main_metric, plain, window_task
from hbn_foundation.evaluation.recipes import LabelRecipe
from hbn_foundation.evaluation.scorers import scorer_of
from hbn_foundation.evaluation.side_by_side import TRAINING, finetuned_in
from hbn_foundation.evaluation.tasks.labels import TARGET, answer_label_baselines, targets_of
from hbn_foundation.files import renamed_when_done
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.training.finetuning_params import FineTuningParams, PlanParams
from hbn_foundation.training.params import NOT_IN_THE_WEIGHTS

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

BASELINES = "baselines"
NOT_IN_THE_SCORES = ("batch_size", "bootstraps")


@dataclass(frozen=True)
class Run:
    """One plan and seed, or all baselines, in one fold; ready to be sent to another process.

    Attributes
    ----------
    fold
        Data, and how its encoder is pretrained.
    pretraining_key
        The fold's, which takes a while to find.
    windows
        What is learned from: the fold's, or those of the trials.
    windows_key
        Hash of them with their labels; "" for the fold's, which are in its own key.
    splits
        `subject` and `split` of the subjects with a label.
    method
        A strategy, or `BASELINES`.
    seed
        Of the fine-tuning.
    recipe
        Parameters.
    code
        Hash of the program, of `finetuning_provenance`.
    work_dir
        Where results are kept.
    supervised
        Whether a training has a supervisor; else it runs in the worker itself.
    """

    fold: Fold
    pretraining_key: str
    windows: pd.DataFrame
    windows_key: str
    splits: pd.DataFrame
    method: str
    seed: int
    recipe: LabelRecipe
    code: str
    work_dir: Path
    supervised: bool = True

    @property
    def key(self) -> str:
        """Hash of what the result depends on."""
        recipe = self.recipe
        common = (
            self.pretraining_key,
            self.code,
            *([self.windows_key] if self.windows_key else []),
            hash_table(self.fold.dataset.participants),
            self.splits.sort_values("subject")[["subject", "split"]].values.tolist(),
            recipe.label.model_dump(mode="json"),
        )
        if self.method == BASELINES:
            settings = recipe.evaluation.model_dump(mode="json", exclude=set(NOT_IN_THE_SCORES))
            return hash_of(*common, BASELINES, settings)
        return hash_of(
            *common,
            self.plan.model_dump(mode="json"),
            recipe.head.model_dump(mode="json"),
            recipe.rates.model_dump(mode="json"),
            recipe.regularisation.model_dump(mode="json"),
            recipe.model_dump(mode="json", include={"more_targets", "tokens", "input"}),
            self.trainer.model_dump(mode="json", exclude=set(NOT_IN_THE_WEIGHTS)),
        )

    @property
    def plan(self) -> PlanParams:
        """The plan with the strategy of this run."""
        return self.recipe.plan.model_copy(update={"strategy": self.method})

    @property
    def trainer(self) -> FineTuningParams:
        """The trainer with the seed of this run."""
        return self.recipe.trainer.model_copy(update={"seed": self.seed})

    @property
    def dataset(self) -> EEGDataset:
        """What is learned from and scored on."""
        return self.fold.dataset.replace(windows=self.windows, splits=self.splits)

    @property
    def place(self) -> dict[str, int]:
        """Repeat, fold and seed."""
        return {"repeat": self.fold.repeat, "fold": self.fold.fold, "seed": self.seed}


def result_path(run: Run) -> Path:
    """Where the scores of a run are kept; its predictions lie beside them."""
    return run.work_dir / f"run-{run.key}.json"


def incidents_path(run: Run) -> Path:
    """Where the incidents of a run's training are kept, as JSON lines."""
    return result_path(run).with_suffix(".incidents.jsonl")


def read_result(run: Run, path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the scores, one row per method, and the predictions of a finished run.

    A score that there is none of, as where a test fold has one class only, is NaN.
    """
    rows = pd.DataFrame(json.loads(path.read_text())).fillna(np.nan).infer_objects()
    return rows.assign(**run.place), pd.read_parquet(path.with_suffix(".parquet")).assign(
        **run.place
    )


def carry_out(run: Run) -> None:
    """Fine-tune or fit, score the test windows, and keep what was found."""
    path = result_path(run)
    (training,) = trainings_of(run)
    scratch = training.parent
    rows, predictions = _baselines(run) if run.method == BASELINES else _finetuned(run, scratch)
    with renamed_when_done(path.with_suffix(".parquet")) as temporary:
        predictions.to_parquet(temporary, index=False)
    with renamed_when_done(path) as temporary:  # the last to be written says that the run is done
        temporary.write_text(json.dumps(plain(rows), indent=1))
    remove_folder(scratch)


def trainings_of(run: Run) -> list[Path]:
    """Folder of a run's training, while that lasts."""
    path = result_path(run)
    return [path.with_name(f"training-{path.stem}") / TRAINING]


def labelled_targets(run: Run) -> WindowTargets:
    """Targets of all windows, as the labelled training subjects define them."""
    return targets_of(run.dataset, run.recipe.label)


def _finetuned(run: Run, folder: Path) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Fine-tune by one plan, and score it."""
    from hbn_foundation.training.finetuned import predict

    store, evaluation = run.fold.dataset.store, run.recipe.evaluation
    recipe = run.recipe.model_copy(update={"plan": run.plan, "trainer": run.trainer})
    tuned, history, incidents = finetuned_in(
        folder, pretrained_encoder(run.fold), run.dataset, recipe, run.fold.device_plan,
        supervised=run.supervised,
    )  # fmt: skip
    with renamed_when_done(incidents_path(run)) as temporary:
        temporary.write_text(incidents)
    targets = labelled_targets(run)
    batch_size = evaluation.batch_size
    validation = places_of(run, targets, "validation")
    answers = predict(tuned, store, _at(run.windows, validation), batch_size)
    test = places_of(run, targets, "test")
    costs = {
        "validation": scorer_of(main_metric(targets.is_regression)).function(
            targets.values[validation], answers
        ),
        "epochs": len(history),
        "seconds": float(history["seconds"].sum()),
        "trainable": _trained_parameters(tuned, history),
    }
    predictions = predict(tuned, store, _at(run.windows, test), batch_size)
    windows, values = _at(run.windows, test), targets.values[test]
    row, table = _scored(run, targets, windows, values, run.method, predictions)
    return [row | costs], table


def _baselines(run: Run) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Fit all baselines on the same subjects and windows."""
    from hbn_foundation.training.checkpoint import load_encoder

    checkpoint = pretrained_encoder(run.fold)
    targets = labelled_targets(run)
    chosen, answers = answer_label_baselines(
        run.dataset, targets, run.recipe.label, run.recipe.evaluation,
        checkpoint.metadata["n_samples"], load_encoder(checkpoint),
    )  # fmt: skip
    test = chosen.test
    rows, tables = [], []
    for method, answer in answers.items():
        values = test[TARGET].to_numpy()
        row, table = _scored(run, targets, test, values, method, answer.predictions[0])
        costs = {
            "validation": answer.fits[0].validation,
            "epochs": np.nan,
            "seconds": answer.seconds,
            "trainable": answer.n_features,
        }
        rows.append(row | costs)
        tables.append(table)
    return rows, pd.concat(tables, ignore_index=True)


def _scored(
    run: Run, targets: WindowTargets, windows: pd.DataFrame, values: np.ndarray, method: str,
    predictions: np.ndarray,
) -> tuple[dict[str, Any], pd.DataFrame]:  # fmt: skip
    """Scores of one method on the test windows, and its predictions to be stacked."""
    subjects = windows["subject"].astype(str).to_numpy()
    task = window_task(method, TARGET, values, windows)
    scores = evaluate(task, {method: predictions}, {}, n_samples=0)
    numbers = dict(zip(scores["metric"], scores["value"], strict=True))
    numbers |= {
        "n_windows": len(windows),
        "n_recordings": windows["recording"].nunique(),
        "n_subjects": windows["subject"].nunique(),
    }
    with_windows = run.splits["subject"].astype(str).isin(run.windows["subject"].astype(str))
    counts = run.splits.loc[with_windows, "split"].value_counts()
    n_windows = len(places_of(run, targets, "train"))
    row = {
        "method": method,
        "n_train": int(counts["train"]),
        "n_test": int(counts["test"]),
        "train_windows": n_windows,
        "fitted_windows": min(n_windows, run.recipe.evaluation.max_windows),
        "n_channels": len(run.fold.dataset.store.positions),
    }
    return row | numbers, long_predictions({"method": method}, subjects, values, predictions)


def long_predictions(
    place: dict[str, object], subjects: np.ndarray, values: np.ndarray, predictions: np.ndarray
) -> pd.DataFrame:
    """Predictions of one run on its test windows, to be stacked with those of others.

    Parameters
    ----------
    place
        `repeat`, `fold`, `seed` and `method` of the run, as far as known.
    subjects, values
        Subject and class or number of each window (N,).
    predictions
        Log probabilities (N, K), or numbers (N,).

    Returns
    -------
    pandas.DataFrame
        N rows: the place, `subject`, `value`, and `predicted` or `log_p_0`, `log_p_1`, …
    """
    columns = [predictions] if predictions.ndim == 1 else list(predictions.T)
    names = ["predicted"] if predictions.ndim == 1 else [f"log_p_{k}" for k in range(len(columns))]
    return pd.DataFrame(
        {**place, "subject": subjects, "value": values, **dict(zip(names, columns, strict=True))}
    )


def places_of(run: Run, targets: WindowTargets, split: str) -> np.ndarray:
    """Places (n,) of the windows of a split whose target is known."""
    subjects = run.splits.loc[run.splits["split"] == split, "subject"].astype(str)
    inside = run.windows["subject"].astype(str).isin(subjects).to_numpy()
    return np.flatnonzero(inside & targets.known)


def _at(windows: pd.DataFrame, places: np.ndarray) -> pd.DataFrame:
    return windows.iloc[places].reset_index(drop=True)


def _trained_parameters(checkpoint: Checkpoint, history: pd.DataFrame) -> int:
    """Count the parameters of the blocks that were trained in any epoch."""
    from hbn_foundation.training.finetuned import load_finetuned

    sizes = load_finetuned(checkpoint).sizes()
    return sum(sizes[name] for name in {*",".join(history["trainable"]).split(",")} if name)
