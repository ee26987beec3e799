"""The reports hold everything, say who wins and who loses, and need no other file."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from challenge_tables import FACTORS, factor_tables

from hbn_foundation.evaluation.challenge.aims import factor_aims, response_time_aims
from hbn_foundation.evaluation.challenge.factor_report import (
    factor_figures,
    factor_page,
    factor_text,
)
from hbn_foundation.evaluation.challenge.factors import evaluate_factors
from hbn_foundation.evaluation.challenge.learning_curve import learning_curve_figure
from hbn_foundation.evaluation.challenge.params import (
    FactorEvaluationParams,
    ResponseTimeEvaluationParams,
)
from hbn_foundation.evaluation.challenge.response_time import evaluate_response_times
from hbn_foundation.evaluation.challenge.response_time_report import (
    response_time_figures,
    response_time_page,
    response_time_text,
)
from hbn_foundation.evaluation.challenge.subjects import subject_predictions
from hbn_foundation.evaluation.challenge.wording import number, verdict_text

PARAMS = ResponseTimeEvaluationParams(
    bootstraps=60, baselines=("constant", "median", "age_sex", "band_power")
)
FACTOR_PARAMS = FactorEvaluationParams(bootstraps=60, baselines=("constant", "age_sex"))
HISTORY = pd.DataFrame({"epoch": range(1, 4), "train_loss": [1.0, 0.8, 0.7], "gap": [0.1, 0.2, 0.3],
                        "validation_loss": [1.1, 1.0, 1.2], "nrmse": [1.0, 0.9, 0.95]})  # fmt: skip


class Parts(HTMLParser):
    """What a page is made of, and whether its tags close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.text: list[str] = []
        self.references: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.references += [found[name] for name in ("src", "href") if name in found]
        if tag == "img":
            self.images.append(found["src"])
        elif tag not in ("meta", "line", "circle", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in ("line", "circle")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def answered(planted):
    test = planted.windows[planted.windows["subject"] >= "s16"].reset_index(drop=True)
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.3, len(test))
    predictions = test.assign(
        predicted_rt=1.6 + 0.5 * (test["rt"] - 1.6 + noise),
        p_correct=np.clip(0.8 + 0.1 * test["correct"] + 0.1 * random.normal(size=len(test)), 0, 1),
    )
    return predictions, evaluate_response_times(predictions, *planted, PARAMS, 200)


@pytest.fixture(scope="module")
def factors_answered(planted):
    windows = planted.windows[["row", "recording", "subject", "task", "run", "start"]]
    test = windows[windows["subject"] >= "s16"].reset_index(drop=True)
    truth = planted.people.set_index("subject").loc[test["subject"]]
    random = np.random.default_rng(0)
    predictions = test.assign(
        **{f"predicted_{f}": 0.3 * truth[f].to_numpy() + 0.3 * random.normal(size=len(test))
           for f in FACTORS}
    )  # fmt: skip
    data = planted._replace(windows=windows)
    return predictions, evaluate_factors(predictions, *data, FACTORS, FACTOR_PARAMS, 200)


def check_page(page: str, n_images: int) -> str:
    parts = Parts(page)
    assert parts.open == []
    assert len(parts.images) == n_images
    # nothing is fetched: all references are the figures themselves
    assert all(place.startswith("data:image/png;base64,") for place in parts.references)
    assert not re.search(r"https?://|@import|url\(", page)
    for image in parts.images:
        assert base64.b64decode(image.split(",", 1)[1]).startswith(b"\x89PNG")
    text = " ".join(" ".join(parts.text).split())
    assert "nan" not in re.findall(r"\b\w+\b", text.lower())
    return text


def test_the_page_on_response_times(planted, answered):
    predictions, result = answered
    figures = response_time_figures(predictions, planted.store, HISTORY)
    assert list(figures) == ["answers", "within_subject", "training"]
    page = response_time_page(result.scores, result.metrics, figures, "Of version <7>.")
    text = check_page(page, 3)
    assert "Of version <7>." in text
    assert "&lt;7&gt;" in page
    for name in result.scores["name"]:
        assert name in text
    assert "ahead of the best baseline" in text
    assert "no fair methods" in text
    ours = result.scores.iloc[0]
    assert f"{ours['nrmse']:.3f} {ours['nrmse_low']:.3f} to {ours['nrmse_high']:.3f}" in text
    assert "met" in text


def test_the_page_on_factors(planted, factors_answered):
    _, result = factors_answered
    figures = factor_figures(result.subjects, FACTORS, planted.store, HISTORY)
    assert list(figures) == ["answers", "errors", "training"]
    text = check_page(factor_page(result.scores, result.metrics, figures), 3)
    assert "Externalizing, which the challenge scores" in text
    assert "mean of the factors" in text
    assert "p factor" in text


def test_the_same_in_plain_text(answered, factors_answered):
    text = response_time_text(answered[1].scores, answered[1].metrics)
    assert "own mean, same trials †" in text
    assert "AUROC" in text
    assert max(map(len, text.splitlines())) <= 110
    text = factor_text(factors_answered[1].scores, factors_answered[1].metrics)
    assert "age and sex" in text
    assert "calibration" not in text
    assert max(map(len, text.splitlines())) <= 110


def test_why_there_are_no_intervals_is_said(answered, factors_answered):
    for words, (_, result) in ((response_time_text, answered), (factor_text, factors_answered)):
        said = " ".join(words(result.scores, result.metrics).split())
        assert "No intervals" not in said
        assert "they hold the trained model fixed" in said
        assert "Windows: train 240 of 12 subjects; validation 80 of 4 subjects; test 240" in said
        assert "All methods see all 19 channels." in said
        few = {**result.metrics, "interval_missing": "4 test subjects, an interval needs 10"}
        said = " ".join(words(result.scores, few).split())
        assert "No intervals: 4 test subjects, an interval needs 10." in said


def test_aims_are_met_or_not_and_never_asked_for(answered, factors_answered):
    scores = answered[1].scores.copy()
    ours = scores["method"] == "fine_tuned"
    scores.loc[ours, ["r", "auroc"]] = [0.31, 0.69]
    assert response_time_aims(scores, {"n_subjects": 10})["verdict"].tolist() == ["met", "not met"]
    for problem, said, verdict in ((None, "valid", "met"), ("no rows", "no rows", "not met")):
        last = response_time_aims(scores, {"n_subjects": 12, "table_problem": problem}).iloc[-1]
        assert (last["aim"], last["value"], last["verdict"]) == ("valid", said, verdict)
    scores.loc[ours, "auroc"] = np.nan
    assert response_time_aims(scores, {"n_subjects": 10})["verdict"].tolist() == [
        "met",
        "not applicable",
    ]
    scores = factors_answered[1].scores.copy()
    scores["subject_r"] = np.where(scores["factor"] == "attention", 0.1, 0.18)
    table = factor_aims(scores, {"n_subjects": 10})
    assert table["criterion"].iloc[0].startswith("mean of the factors")
    assert table["verdict"].tolist() == ["not met", "met", "not met", "met", "met"]
    assert set(factor_aims(scores, {"n_subjects": 9})["verdict"]) == {"undecided"}


@pytest.mark.parametrize(
    ("gap", "low", "high", "expected"),
    [
        (0.02, 0.01, 0.03, "It is ahead of the best baseline, band power (0.950), by 0.020 "
         "(95 % 0.010 to 0.030)."),
        (0.02, -0.01, 0.03, "by 0.020 (95 % −0.010 to 0.030): not surely, the interval includes"),
        (-0.02, -0.03, -0.01, "It is NOT ahead of the best baseline, band power (0.950): behind by "
         "0.020 (95 % 0.010 to 0.030)."),
        (-0.02, -0.05, 0.01, "behind by 0.020 (95 % −0.010 to 0.050): not surely"),
        (0.02, np.nan, np.nan, "by 0.020; how surely is not known."),
        (0.0, 0.0, 0.0, "It is level with"),
        (np.nan, np.nan, np.nan, "It cannot be compared with"),
    ],
)  # fmt: skip
def test_who_wins_is_said_in_words(gap, low, high, expected):
    scores = pd.DataFrame({"name": ["model", "band power"], "kind": ["model", "baseline"],
                           "nrmse": [0.93, 0.95], "nrmse_ahead": [np.nan, gap],
                           "nrmse_ahead_low": low, "nrmse_ahead_high": high})  # fmt: skip
    assert expected in verdict_text(scores, "nrmse")


def test_numbers_have_no_minus_before_zero():
    assert number(-0.0001, 2) == "0.00"
    assert number(-0.0001, 2, signed=True) == "0.00"
    assert number(-0.5, 2, signed=True) == "−0.50"
    assert number(0.2291, 0, 1000) == "229"
    assert number(np.nan) == ""


def test_figures_bear_what_is_missing(planted):
    windows, people = factor_tables(12, 3)
    subjects = subject_predictions(windows, people, FACTORS, FactorEvaluationParams())
    unknown = subjects.assign(age=np.nan, method="fine_tuned")
    factor_figures(unknown, FACTORS, planted.store)


def test_a_learning_curve_has_a_line_per_method():
    rows = [
        {"method": method, "share": share, "n_subjects": int(100 * share), "seed": seed,
         "nrmse": 1 - share * gain + 0.01 * seed, "r": np.nan}
        for method, gain in (("scratch", 0.1), ("fine_tuned", 0.2), ("constant", 0.0))
        for share in (0.1, 0.5, 1.0)
        for seed in (0, 1)
    ]  # fmt: skip
    figure = learning_curve_figure(pd.DataFrame(rows))
    (panel,) = figure.axes
    lines = {line.get_label(): line for line in panel.lines}
    assert list(lines) == ["fine-tuned", "from scratch", "training mean"]
    np.testing.assert_allclose(lines["fine-tuned"].get_ydata(), [0.985, 0.905, 0.805])
    assert lines["fine-tuned"].get_xdata().tolist() == [10, 50, 100]
    assert learning_curve_figure(pd.DataFrame(columns=["method", "n_subjects"])).axes
