"""Runs of the learning curve of a label, and scores of subjects, for several benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from hbn_foundation.evaluation.methods import display_name
from hbn_foundation.evaluation.statistics import bootstrap_interval
from hbn_foundation.scores import stratified_mean, subject_aurocs

PROJECT = Path(__file__).parents[1]
OURS, SCRATCH = "pretrained", "scratch"
OTHERS = ("slow_features", "encoder_input", "random_weights", "band_power")
CURVE = "finetuning_learning_curve"
SUBJECT = ["subject", "stratum"]
BOOTSTRAPS = 1000


def kedro(
    env: str, pipeline: str, given: Sequence[str], params: dict[str, Any], *more: str
) -> None:
    """Run a pipeline with these parameters; those given as on a command line come last."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "run.yml"
        merged = OmegaConf.merge(params, OmegaConf.from_dotlist(list(given)))
        run = {"env": env, "pipeline": pipeline, "params": merged}
        OmegaConf.save(OmegaConf.create({"run": run}), file)
        command = [sys.executable, "-m", "kedro", "run", "--config", str(file), *more]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
        subprocess.run(command, check=True, cwd=PROJECT, env=environment)


def prepare(env: str, given: Sequence[str]) -> None:
    """Make what the curves take: the data, and a checkpoint beside the encoders of the folds."""
    if not any((PROJECT / f"data/{env}/06_models/foundation_checkpoint").glob("*")):
        kedro(env, "foundation", given, {"foundation": {"evaluation": {"repeats": None}}})
    kedro(env, "finetuning", given, {}, "--to-nodes", "finetuning.choose_device")


def subjects_scores(
    env: str, given: Sequence[str], params: dict[str, Any], **runs: Any
) -> pd.DataFrame:
    """Run a curve; return the AUROC of each subject by method and number of labelled subjects."""
    kedro(env, CURVE, given, {**params, CURVE: {"runs": {"frozen": [], "trained": [], **runs}}})
    folder = PROJECT / f"data/{env}/07_model_output/{CURVE}_predictions.parquet"
    return subject_table(pd.read_parquet(max(folder.glob("*/*.parquet"))))


def subject_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """AUROC of each subject in each run, from the predictions of a curve."""
    rows = []
    place = ["method", "n_subjects", "seed", "repeat", "fold"]
    for key, part in predictions.groupby(place):
        labels, logs = part["value"].to_numpy(int), part[["log_p_0", "log_p_1"]].to_numpy()
        names, areas = subject_aurocs(labels, logs, part["subject"].to_numpy(str))
        known = pd.DataFrame({"subject": names, "stratum": "all", "auroc": areas})
        if "stratum" in part:
            strata = part.drop_duplicates("subject").set_index("subject")["stratum"].loc[names]
            known["stratum"] = strata.to_numpy()
        rows.append(known.assign(**dict(zip(place, key, strict=True))))
    return pd.concat(rows)


class Mean(NamedTuple):
    """A mean over strata of values by subject, with its interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: pd.Series, strata: pd.Series) -> Mean:
        """Score values (S,) of subjects in these strata (S,)."""
        codes = pd.factorize(strata)[0]

        def score(chosen: np.ndarray) -> float:
            return stratified_mean(values.to_numpy()[chosen], codes[chosen], codes.max() + 1)

        interval = bootstrap_interval(score, values.index.to_numpy(str), BOOTSTRAPS)
        return cls(score(np.arange(len(values))), interval.low, interval.high)

    def __str__(self) -> str:
        value, low, high = (f"{round(one, 3) + 0.0:.3f}" for one in self)
        return f"{value} ({low} to {high})"


def tell(table: pd.DataFrame, ours: str = OURS) -> dict[tuple[str, int, str], Mean]:
    """Print the scores by context and number of labelled subjects; return them.

    The table has a row per `context`, `n_subjects`, `method`, `subject` and whatever is averaged;
    the differences from `ours` are paired over subjects.
    """
    strata = table.drop_duplicates("subject").set_index("subject")["stratum"].sort_index()
    means = table.groupby(["context", "n_subjects", "method", "subject"])["auroc"].mean()
    scores = {}
    for context in table["context"].unique():
        print(f"\n{context}")
        for count in sorted(table["n_subjects"].unique()):
            print(f"  {count} labelled subjects")
            by_subject = means[context, count].unstack("method").loc[strata.index]
            for method in by_subject:
                scores[context, count, method] = Mean.of(by_subject[method], strata)
                line = f"    {display_name(method):30} {scores[context, count, method]}"
                if method != ours and ours in by_subject:
                    gap = Mean.of(by_subject[ours] - by_subject[method], strata)
                    line += f"   {display_name(ours)} ahead by {gap}"
                print(line)
    return scores
