"""The scores of a submission, with what is reached without any EEG beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.evaluate import Task, evaluate
from hbn_foundation.evaluation.statistics import FEWEST_SUBJECTS, FIXED_MODEL, Part
from hbn_foundation.progress import say
from hbn_foundation.scores import nrmse
from hbn_foundation.submission.params import ScoringParams

WEIGHTS = {1: 0.3, 2: 0.7}
FEWEST_FITTED = 5  # that a regression on age and sex is fitted on
MOST_FOLDS = 50
SUBMISSION, OVERALL = "submission", "overall"
MEAN, DEMOGRAPHICS = "mean of the true values", "age and sex, other subjects"


@dataclass
class LocalScore:
    """The score of a submission on a release.

    Attributes
    ----------
    scores
        As `evaluate` gives them: NRMSE of each method for `rt`, the factor and `overall`, their
        weighted sum; NaN where an answer is not finite.
    predictions
        By challenge, one row per window: `recording`, `subject`, `task`, `run`, `start`
        (samples), of challenge 1 `trial`; the target and `predicted_<target>`.
    targets
        Name of the target, by challenge: `rt` (s) and a factor.
    skipped
        Why recordings were left out, by name.
    """

    scores: pd.DataFrame
    predictions: dict[int, pd.DataFrame]
    targets: dict[int, str]
    skipped: dict[str, str] = field(default_factory=dict)


def scores_table(
    predictions: Mapping[int, pd.DataFrame],
    targets: Mapping[int, str],
    people: pd.DataFrame,
    params: ScoringParams,
) -> pd.DataFrame:
    """Score predictions beside a constant, and beside age and sex where those are known.

    Arguments and the table are as in `LocalScore`; `people` are as `factor_table` gives them.
    """
    subjects = pd.unique(pd.concat([table["subject"] for table in predictions.values()]))
    true = {number: part[targets[number]].to_numpy(float) for number, part in predictions.items()}
    weights_of = {targets[number]: {number: 1.0} for number in predictions} | {OVERALL: WEIGHTS}

    def parts(answers: Mapping[int, np.ndarray]) -> Iterator[Part]:
        sums = {
            number: _sums(subjects, part["subject"], true[number], answers[number])
            for number, part in predictions.items()
        }
        for target, weights in weights_of.items():
            scored = np.flatnonzero(sum(sums[number][:, 0] for number in weights))
            score = partial(_weighted_nrmse, target, weights, {n: sums[n][scored] for n in weights})
            yield Part(subjects[scored], score, sum(len(true[number]) for number in weights))

    given = {n: part[f"predicted_{targets[n]}"].to_numpy(float) for n, part in predictions.items()}
    mean = {n: np.full(len(part), part.sum() / max(len(part), 1)) for n, part in true.items()}
    demographics = {
        n: from_demographics(part["subject"], true[n], people, targets[n])
        for n, part in predictions.items()
    }
    known = any(np.isfinite(answers).any() for answers in demographics.values())
    table = evaluate(
        Task(SUBMISSION, lambda answers: list(parts(answers)), "nrmse", ()),
        {SUBMISSION: given}, {DEMOGRAPHICS: demographics} if known else {}, {MEAN: mean},
        n_samples=params.bootstraps, seed=params.seed,
    )  # fmt: skip
    return table.assign(split=params.subjects)


def _sums(
    names: np.ndarray, subjects: pd.Series, true: np.ndarray, answers: np.ndarray
) -> np.ndarray:
    """Sum over the windows of each subject: number, squared error, true value, its square (S, 4).

    They are all that an NRMSE is made of, so that resampling subjects is cheap.
    """
    codes = pd.Index(names).get_indexer(subjects)
    parts = [np.ones(len(true)), (true - answers) ** 2, true, true**2]
    return np.stack([np.bincount(codes, part, len(names)) for part in parts], 1)


def _weighted_nrmse(
    target: str, weights: Mapping[int, float], sums: Mapping[int, np.ndarray], places: np.ndarray
) -> dict[tuple[str, str], float]:
    """Weighted sum of the challenges' NRMSE over subjects; NaN where one has none."""
    total = 0.0
    for number, weight in weights.items():
        n, error, true, square = sums[number][places].sum(0)
        variance = square / n - (true / n) ** 2 if n else 0.0
        valid = n and variance > 1e-9 * square / n and np.isfinite(error)
        total += weight * (error / n / variance) ** 0.5 if valid else np.nan
    return {(target, "nrmse"): float(total)}


def from_demographics(
    subjects: pd.Series, values: np.ndarray, people: pd.DataFrame, target: str
) -> np.ndarray:
    """Predict windows (N,) from age and sex, by what holds for other subjects.

    Ordinary least squares on the subjects' means, left out in turn (in at most 50 groups). Of a
    factor the others are all `people` of the release, of response times those that are scored. An
    age or sex that is not known is the mean; NaN where too few are known.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    known = people.set_index("subject")
    means = pd.Series(values, dtype=float).groupby(subjects.to_numpy()).mean()
    if target in known and len(means):
        means = means.combine_first(known[target].dropna())
    inputs = known[["age", "sex"]].reindex(means.index)
    if inputs.notna().all(axis=1).sum() < FEWEST_FITTED:
        return np.full(len(values), np.nan)
    model = make_pipeline(SimpleImputer(keep_empty_features=True), LinearRegression())
    folds = KFold(min(MOST_FOLDS, len(means)), shuffle=True, random_state=0)
    predicted = cross_val_predict(model, inputs.to_numpy(), means.to_numpy(), cv=folds)
    return pd.Series(predicted, means.index).reindex(subjects).to_numpy()


def invalid(windows: pd.DataFrame, target: str) -> str | None:
    """Say why there is no valid score: answers that are not finite, the first with its place."""
    answers = windows[f"predicted_{target}"].to_numpy(float)
    wrong = np.flatnonzero(~np.isfinite(answers))
    if not len(wrong):
        return None
    first = windows.iloc[wrong[0]]
    where = f"trial {first['trial']}" if "trial" in windows else f"the window at {first['start']}"
    count = "1 answer is" if len(wrong) == 1 else f"{len(wrong):,} answers are"
    finite = windows[np.isfinite(answers)]
    rest = nrmse(finite[target].to_numpy(float), finite[f"predicted_{target}"].to_numpy(float))
    return (
        f"the score is invalid: {count} not finite of {len(windows):,}, such as "
        f"{answers[wrong[0]]} for {where} of {first['recording']}. NRMSE of the finite ones: "
        f"{_number(rest)}"
    )


def score_text(score: LocalScore) -> str:
    """Write the table of scores, and what it is of, as plain text."""
    from hbn_foundation.evaluation.report.render import text_table

    titles = {score.targets[1]: "1: response time", score.targets[2]: f"2: {score.targets[2]}",
              OVERALL: "0.3 · C1 + 0.7 · C2"}  # fmt: skip
    cells = {
        (row["method"], row["target"]): _number(row["value"])
        + ("" if pd.isna(row["ci_low"]) else f" [{row['ci_low']:.3f}, {row['ci_high']:.3f}]")
        for _, row in score.scores.iterrows()
    }
    methods = list(dict.fromkeys(score.scores["method"]))
    rows = [[method, *(cells[method, target] for target in titles)] for method in methods]
    header = ["NRMSE, lower is better", *titles.values()]
    sentence = f"{FIXED_MODEL} They need {FEWEST_SUBJECTS} subjects."
    lines = ["Score of the challenge", text_table(header, rows), "", sentence]
    for challenge, windows in score.predictions.items():
        lines.append(
            f"Challenge {challenge}: {len(windows):,} windows of "
            f"{windows['recording'].nunique():,} recordings, {windows['subject'].nunique():,} "
            "subjects."
        )
        problem = invalid(windows, score.targets[challenge])
        if problem is not None:
            lines.append(f"Challenge {challenge}: {problem}.")
    if score.skipped:
        name, reason = next(iter(score.skipped.items()))
        lines.append(f"Left out: {len(score.skipped)} recordings, such as {name}: {reason}.")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.4f}"


def save_score(score: LocalScore, folder: str | Path) -> None:
    """Write scores and predictions as CSV files, and the text."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"scores.csv": score.scores}
    tables |= {f"predictions{n}.csv": table for n, table in score.predictions.items()}
    for name, content in tables.items():
        content.to_csv(folder / name, index=False)
    (folder / "scores.txt").write_text(score_text(score), encoding="utf-8")
    say(f"Scores and predictions are in {folder}")
