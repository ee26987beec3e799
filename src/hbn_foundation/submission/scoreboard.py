"""The table of scores of a submission, with what is reached without any EEG beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from hbn_foundation.progress import say
from hbn_foundation.scores import nrmse

WEIGHTS = {1: 0.3, 2: 0.7}
FEWEST_SUBJECTS = 5  # that a regression on age and sex is fitted on
MOST_FOLDS = 50


@dataclass
class LocalScore:
    """The score of a submission on a release.

    Attributes
    ----------
    scores
        One row per method: `method`, `challenge1`, `challenge2`, `overall`; NRMSE, NaN where
        there is none or an answer is not finite.
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
    predictions: Mapping[int, pd.DataFrame], targets: Mapping[int, str], people: pd.DataFrame
) -> pd.DataFrame:
    """Score predictions, and beside them a constant, and age and sex where those are known.

    Parameters
    ----------
    predictions, targets
        As in `LocalScore`.
    people
        As `factor_table` gives them.

    Returns
    -------
    pandas.DataFrame
        As in `LocalScore`.
    """
    methods: dict[str, Callable[[pd.DataFrame, int], np.ndarray | None]] = {
        "submission": lambda table, number: table[f"predicted_{targets[number]}"].to_numpy(float),
        "mean of the true values": lambda table, number: np.full(
            len(table), table[targets[number]].mean()
        ),
        "age and sex, other subjects": lambda table, number: from_demographics(
            table["subject"], table[targets[number]].to_numpy(float), people, targets[number]
        ),
    }
    rows = []
    for name, predict in methods.items():
        found = {}
        for number, table in predictions.items():
            values = None if table.empty else predict(table, number)
            true = table[targets[number]].to_numpy(float)
            valid = values is not None and np.isfinite(values).all()
            found[number] = nrmse(true, np.asarray(values)) if valid else np.nan
        if name == "submission" or not all(np.isnan(value) for value in found.values()):
            overall = sum(WEIGHTS[number] * value for number, value in found.items())
            scores = {f"challenge{number}": value for number, value in found.items()}
            rows.append({"method": name, **scores, "overall": overall})
    return pd.DataFrame(rows)


def invalid(windows: pd.DataFrame, target: str) -> str | None:
    """Say why there is no valid score: answers that are not finite, the first with its place.

    Parameters
    ----------
    windows
        As in `LocalScore`.
    target
        Name of the target.
    """
    answers = windows[f"predicted_{target}"].to_numpy(float)
    wrong = np.flatnonzero(~np.isfinite(answers))
    if not len(wrong):
        return None
    first = windows.iloc[wrong[0]]
    where = f"trial {first['trial']}" if "trial" in windows else f"the window at {first['start']}"
    count = "1 answer is" if len(wrong) == 1 else f"{len(wrong):,} answers are"
    return (
        f"the score is invalid: {count} not finite of {len(windows):,}, such as "
        f"{answers[wrong[0]]} for {where} of {first['recording']}"
    )


def from_demographics(
    subjects: pd.Series, values: np.ndarray, people: pd.DataFrame, target: str
) -> np.ndarray | None:
    """Predict each subject's mean from age and sex by what holds for other subjects.

    Ordinary least squares on subjects, left out in turn (in at most 50 groups). Of a factor the
    others are all that the release knows, of response times those that are scored.

    Parameters
    ----------
    subjects, values
        Subject and true value of each window (N,).
    people
        `subject`, `age`, `sex` (NaN where unknown; the mean is taken), factors.
    target
        What is predicted; where `people` have it, they are learned from, too.

    Returns
    -------
    numpy.ndarray or None
        (N,); None where age and sex of too few subjects are known.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    known = people.set_index("subject")
    means = pd.Series(values, dtype=float).groupby(subjects.to_numpy()).mean()
    if target in known:
        means = means.combine_first(known[target].dropna())
    inputs = known[["age", "sex"]].reindex(means.index)
    if inputs.notna().all(axis=1).sum() < FEWEST_SUBJECTS:
        return None
    model = make_pipeline(SimpleImputer(keep_empty_features=True), LinearRegression())
    folds = KFold(min(MOST_FOLDS, len(means)), shuffle=True, random_state=0)
    predicted = cross_val_predict(model, inputs.to_numpy(), means.to_numpy(), cv=folds)
    return pd.Series(predicted, means.index).reindex(subjects).to_numpy()


def score_text(score: LocalScore) -> str:
    """Write the table of scores, and what it is of, as plain text."""
    from hbn_foundation.evaluation.report import table

    def number(value: float) -> str:
        return "-" if pd.isna(value) else f"{value:.4f}"

    header = ["NRMSE, lower is better", "1: response time", f"2: {score.targets[2]}",
              "0.3 · C1 + 0.7 · C2"]  # fmt: skip
    rows = [
        [str(row["method"]), *(number(row[c]) for c in ("challenge1", "challenge2", "overall"))]
        for _, row in score.scores.iterrows()
    ]
    lines = [table("Score of the challenge", header, rows), ""]
    for challenge, windows in score.predictions.items():
        subjects = windows["subject"].nunique()
        recordings = windows["recording"].nunique()
        lines.append(
            f"Challenge {challenge}: {len(windows):,} windows of {recordings:,} recordings, "
            f"{subjects:,} subjects."
        )
        problem = invalid(windows, score.targets[challenge])
        if problem is not None:
            finite = np.isfinite(windows[f"predicted_{score.targets[challenge]}"])
            others = nrmse(
                windows.loc[finite, score.targets[challenge]].to_numpy(float),
                windows.loc[finite, f"predicted_{score.targets[challenge]}"].to_numpy(float),
            )
            lines.append(
                f"Challenge {challenge}: {problem}. NRMSE of the finite ones: {number(others)}."
            )
    if score.skipped:
        name, reason = next(iter(score.skipped.items()))
        lines.append(f"Left out: {len(score.skipped)} recordings, such as {name}: {reason}.")
    return "\n".join(lines) + "\n"


def save_score(score: LocalScore, folder: str | Path) -> list[Path]:
    """Write scores and predictions as CSV files, and the text."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"scores.csv": score.scores}
    tables |= {f"predictions{n}.csv": table for n, table in score.predictions.items()}
    for name, content in tables.items():
        content.to_csv(folder / name, index=False)
    (folder / "scores.txt").write_text(score_text(score), encoding="utf-8")
    say(f"Scores and predictions are in {folder}")
    return [folder / name for name in [*tables, "scores.txt"]]
