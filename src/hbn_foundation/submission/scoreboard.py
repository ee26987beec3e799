"""The scores of a submission, with what is reached without any EEG beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from hbn_foundation.errors import count_of
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
    parts_of = []
    for number, part in predictions.items():
        true, said = (part[f"{what}{targets[number]}"].astype(float) for what in ("", "predicted_"))
        parts_of.append(pd.DataFrame({
            "challenge": number, "subject": part["subject"], "true": true,
            SUBMISSION: said.where(np.isfinite(said)), MEAN: true.mean(),
            DEMOGRAPHICS: from_demographics(part["subject"], true, people, targets[number]),
        }))  # fmt: skip
    windows = pd.concat(parts_of, ignore_index=True)
    weights_of = {targets[number]: {number: 1.0} for number in predictions} | {OVERALL: WEIGHTS}

    def parts(answers: np.ndarray) -> Iterator[Part]:
        for target, weights in weights_of.items():
            scored = windows["challenge"].isin(list(weights)).to_numpy()
            score = partial(_weighted_nrmse, target, weights, windows[scored], answers[scored])
            yield Part(windows.loc[scored, "subject"].to_numpy(object), score, int(scored.sum()))

    known = [DEMOGRAPHICS] if windows[DEMOGRAPHICS].notna().any() else []
    table = evaluate(
        Task(SUBMISSION, lambda answers: list(parts(answers)), "nrmse", ()),
        *({name: windows[name].to_numpy() for name in names}
          for names in ([SUBMISSION], known, [MEAN])),
        n_samples=params.bootstraps, seed=params.seed,
    )  # fmt: skip
    return table.assign(split=params.subjects)


def _weighted_nrmse(
    target: str,
    weights: Mapping[int, float],
    windows: pd.DataFrame,
    answers: np.ndarray,
    chosen: np.ndarray,
) -> dict[tuple[str, str], float]:
    """Weighted sum of the challenges' NRMSE over some windows; NaN where one has none."""
    challenge, true = (windows[name].to_numpy()[chosen] for name in ("challenge", "true"))
    said = answers[chosen]
    each = [
        weight * nrmse(true[challenge == number], said[challenge == number])
        for number, weight in weights.items()
    ]
    return {(target, "nrmse"): float(sum(each))}


def from_demographics(
    subjects: pd.Series, values: pd.Series | np.ndarray, people: pd.DataFrame, target: str
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
    means = pd.Series(np.asarray(values, float)).groupby(subjects.to_numpy()).mean()
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
    """Say why there is no valid score: truth that does not vary, or an answer not finite."""
    answers = windows[f"predicted_{target}"].to_numpy(float)
    wrong = np.flatnonzero(~np.isfinite(answers))
    if not len(wrong):
        alike = len(windows) and windows[target].nunique() == 1
        return "no score, for all true values are the same" if alike else None
    first = windows.iloc[wrong[0]]
    where = f"trial {first['trial']}" if "trial" in windows else f"the window at {first['start']}"
    count = "1 answer is" if len(wrong) == 1 else f"{len(wrong):,} answers are"
    return (
        f"the score is invalid: {count} not finite of {len(windows):,}, such as "
        f"{answers[wrong[0]]} for {where} of {first['recording']}"
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
        lines.append(
            f"Left out: {count_of(len(score.skipped), 'recording')}, such as {name}: {reason}."
        )
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
