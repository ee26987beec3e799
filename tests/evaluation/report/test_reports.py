"""Reports compare the model with baselines; pages are self-contained."""

from __future__ import annotations

import base64
import json
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from score_tables import (
    FACTORS,
    FINE_TUNED,
    PROBE,
    TIMES,
    factor_scores,
    fold_table,
    history,
    probe_scores,
    tidy,
    time_scores,
)

from hbn_foundation.evaluation.figures.training import finetuning_figure
from hbn_foundation.evaluation.folds import comparison_table, summarise_folds
from hbn_foundation.evaluation.frame import by_method
from hbn_foundation.evaluation.recipes import LabelRecipe
from hbn_foundation.evaluation.report.challenges import factor_report, response_time_report
from hbn_foundation.evaluation.report.criteria import COLUMNS
from hbn_foundation.evaluation.report.finetuning import comparison_report, finetuning_report
from hbn_foundation.evaluation.report.foundation import foundation_report, probe_folds
from hbn_foundation.evaluation.report.render import render_page, render_text, show, text_table
from hbn_foundation.evaluation.report.sections import Report
from hbn_foundation.evaluation.report.verdicts import split_verdict
from hbn_foundation.evaluation.wording import count_text, number

CRITERIA = pd.DataFrame([["training time", "< 6 h", "1.0 min", "met"]], columns=list(COLUMNS))
PROBABLY = {"pretrained": [0.80, 0.78, 0.82, 0.81], "band_power": [0.70, 0.69, 0.71, 0.72]}


def words(report: Report) -> str:
    """Return the text on one line; every report keeps to the width of a page."""
    text = render_text(report)
    assert max(map(len, text.splitlines())) <= 120
    assert "\x1b" not in text
    assert "nan" not in re.findall(r"\b\w+\b", text)
    return " ".join(text.split())


def foundation(metrics=PROBE, scores=None, folds=None) -> Report:
    return foundation_report(metrics, probe_scores() if scores is None else scores, folds, CRITERIA)


def test_a_foundation_model(capsys):
    said = words(foundation())
    assert ("On one split, the pretrained encoder is ahead of the best baseline, Riemannian "
            "broadband (0.790), by 0.010") in said  # fmt: skip
    assert "the interval includes zero" in said
    assert "rest / film - 20 training, 10 validation, 12 test subjects" in said
    assert "train 100 of 300, subsampled evenly, of 20 subjects" in said
    assert "they hold the trained model fixed" in said
    assert "test subjects, loss 0.600 0.800 +25.0%" in said
    show(render_text(foundation()))
    assert "training time" in capsys.readouterr().out


def test_why_a_number_is_missing_is_said():
    missing = {"interval": "3 test subjects, an interval needs 10"}
    scores = probe_scores(intervals=False)
    said = words(foundation({**PROBE, "missing": missing}, scores))
    assert "No interval: 3 test subjects, an interval needs 10." in said
    assert "they hold the trained model fixed" not in said
    none = {**PROBE, "missing": {"score": "one class only"}, "pretext": {"test": {"n_windows": 0}}}
    said = words(foundation(none, scores))
    assert "No score: one class only." in said
    assert "best baseline" not in said
    assert "test subjects: no window can be used" in said
    of_test = {"slow_loss": 0.6, "improvement_slow_loss": 0.1, "drift_1": 0.25, "drift_2": 0.5}
    slow = {**PROBE, "pretext": {"test": of_test}}
    assert "a line in time predicts, test subjects: 0.250, 0.500." in words(foundation(slow))
    marked = {**PROBE, "objective": {"shuffled": True}}
    assert "Pretext task, LABELS SHUFFLED" in words(foundation(marked))


def test_a_report_survives_json_and_csv(tmp_path):
    """What the catalog writes and reads back gives the same report."""
    tables = [probe_scores(), summarise_folds(fold_table(PROBABLY))]
    read = []
    for number_, one in enumerate(tables):
        one.to_csv(tmp_path / f"{number_}.csv", index=False)
        read.append(pd.read_csv(tmp_path / f"{number_}.csv"))
    before = words(foundation(PROBE, *tables))
    assert words(foundation(json.loads(json.dumps(PROBE)), *read)) == before
    assert "Frozen probe over 4 folds" in before


def of_folds(scores) -> str:
    return words(Report("", "", "", [probe_folds(summarise_folds(fold_table(scores)))]))


def test_folds_say_who_wins_and_who_loses():
    said = of_folds(PROBABLY)
    assert "The pretrained encoder is ahead of the best baseline, log band power, by 0.098" in said
    assert "in 4 of 4 folds (p" in said
    assert "Significantly worse: log band power." in said
    assert "+25.0% against the best trivial predictor (folds: +10.0% to +40.0%)" in said
    assert "350 windows/s" in said
    said = of_folds({"pretrained": [0.80, 0.78, 0.82], "band_power": [0.81, 0.80, 0.82]})
    assert "is not ahead of the best baseline, log band power: behind by 0.010" in said
    assert "not significant" in said
    assert "Equal or better: log band power." in said
    said = of_folds({"pretrained": [0.8, 0.7], "band_power": [0.8, 0.7]})
    assert "is level with the best baseline" in said
    assert "No interval and no p for log band power: the same difference in every fold." in said


@pytest.mark.parametrize("few", [True, False])
def test_a_fine_tuned_model(few):
    missing = "9 test subjects, an interval needs 10" if few else ""
    metrics = {**FINE_TUNED, "interval_missing": missing, "n_subjects": 9}
    methods = {"fine_tuned": "model", "riemann": "baseline"}
    scores = tidy(methods, {"window_auroc": 0.7, "f1": 0.6}, "window_auroc", intervals=not few)
    history = pd.DataFrame({"epoch": [1], "phase": [1], "validation_loss": [0.5]})
    said = words(finetuning_report(scores, metrics, history, LabelRecipe()))
    assert "train 100 of 300, subsampled evenly, of 20 subjects" in said
    assert "the model is trained on all" in said
    assert "All methods use all 129 channels, by principal components" in said
    assert ("they hold the trained model fixed" in said) == (not few)
    assert (f"No intervals: {missing}." in said) == few
    assert "the fine-tuned model is ahead of the best baseline, Riemannian broadband" in said
    nothing = scores.assign(value=np.nan)
    assert "No score" in words(finetuning_report(nothing, metrics, history, LabelRecipe()))


def test_a_comparison_of_plans():
    folds = fold_table({"two_phase": [0.9, 0.88, 0.91], "scratch": [0.8, 0.82, 0.8],
                        "riemann": [0.85, 0.84, 0.83]})  # fmt: skip
    folds = folds.assign(epochs=5, seconds=1000.0, trainable=4100, train_windows=2400,
                         fitted_windows=2000, n_windows=80, n_channels=129)  # fmt: skip
    summary = comparison_table(folds, "window_auroc")
    said = words(comparison_report(summary, "window_auroc", "rest against arithmetic"))
    assert "Fine-tuning for rest against arithmetic over 3 folds" in said
    assert "two phases *" in said
    assert "1,000 4.1 k" in said
    assert "each of 12 training subjects with 2,400 windows" in said
    assert "(the baselines' are subsampled evenly to 2,000) and 4 test subjects with 80" in said
    assert "is ahead of the best baseline, Riemannian broadband, by" in said
    assert "is ahead of training from scratch, by" in said
    assert "no fold was finished" in words(comparison_report(summary[:0], "nrmse")).lower()


def page_words(report: Report, n_images: int) -> str:
    page = render_page(report)
    assert not re.search(r"https?://|@import|url\(", page)  # nothing is fetched
    tree = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))  # all tags are closed
    images = [image.get("src") for image in tree.iter("img")]
    assert len(images) == n_images
    for image in images:
        data = image.removeprefix("data:image/png;base64,")
        assert base64.b64decode(data).startswith(b"\x89PNG")
    text = " ".join(" ".join(tree.find("body").itertext()).split())
    assert "nan" not in re.findall(r"\b\w+\b", text.lower())
    return text


def test_the_page_on_response_times():
    scores = time_scores()
    figures = {"training": finetuning_figure(history([1.0, 0.8]))}
    report = response_time_report(scores, TIMES, figures, "Of version <7>.")
    text = page_words(report, 1)
    assert "Of version <7>." in text
    assert "&lt;7&gt;" in render_page(report)
    for name in by_method(scores)["name"]:
        assert name in text
    assert "own mean, same trials †" in text
    assert "not comparable" in text
    assert "0.900 (0.880 to 0.920)" in text
    assert "250 " in text  # ms
    assert "Root mean square error" in text
    said = words(report)
    assert "It is ahead of the best baseline, log band power (0.910), by 0.010" in said
    assert "Root mean square error" not in said
    few = {**TIMES, "interval_missing": "4 test subjects, an interval needs 10"}
    assert "No intervals: 4 test subjects, an interval needs 10." in words(
        response_time_report(scores, few, {})
    )


def test_the_page_on_factors():
    report = factor_report(factor_scores(), FACTORS, {})
    text = page_words(report, 0)
    assert "Externalizing, which the challenge scores" in text
    assert "mean of the factors" in text
    assert "age and sex" in words(report)
    assert "0.950 (0.930 to 0.970)" in words(report)


@pytest.mark.parametrize(
    ("gap", "low", "high", "expected"),
    [
        (0.02, 0.01, 0.03, "It is ahead of the best baseline, band power (0.950), by 0.020 "
         "(95 % 0.010 to 0.030)."),
        (0.02, -0.01, 0.03, "by 0.020 (95 % −0.010 to 0.030); the interval includes"),
        (-0.02, -0.03, -0.01, "It is not ahead of the best baseline, band power (0.950): behind by "
         "0.020 (95 % 0.010 to 0.030)."),
        (-0.02, -0.05, 0.01, "behind by 0.020 (95 % −0.010 to 0.050); the interval includes"),
        (0.02, np.nan, np.nan, "by 0.020, without an interval."),
        (0.0, 0.0, 0.0, "It is level with"),
        (np.nan, np.nan, np.nan, "It cannot be compared with"),
    ],
)  # fmt: skip
def test_who_wins_is_said_in_words(gap, low, high, expected):
    scores = pd.DataFrame({"name": ["model", "band power"], "kind": ["model", "baseline"],
                           "nrmse": [0.93, 0.95], "nrmse_ahead": [np.nan, gap],
                           "nrmse_ahead_low": low, "nrmse_ahead_high": high})  # fmt: skip
    assert expected in split_verdict(scores, "nrmse")


def test_numbers_are_short_and_have_no_minus_before_zero():
    assert number(-0.0001, 2) == "0.00"
    assert number(-0.0001, 2, signed=True) == "0.00"
    assert number(-0.5, 2, signed=True) == "−0.50"
    assert number(0.2291, 0, 1000) == "229"
    assert number(np.nan) == number(None) == ""
    assert [count_text(n) for n in (12, 4100, 3.2e6, np.nan)] == ["12", "4.1 k", "3.2 M", ""]


def test_scores_and_intervals_stay_on_one_line():
    header = ["method", "window AUROC", "recording", "balanced", "ahead by", "95 %", "folds",
              "p (Holm)"]  # fmt: skip
    row = ["Riemannian filter bank", *["0.774 ± 0.081"] * 3, "+0.018", "−0.040 to +0.076", "10/10",
           "1.000"]  # fmt: skip
    lines = text_table(header, [row]).splitlines()
    assert len(lines) == 3
    assert all(word in lines[-1] for word in row)
    assert text_table(["a", "b"], [["1", "2"]], markdown=True).splitlines() == [
        "| a | b |", "|---|---|", "| 1 | 2 |",
    ]  # fmt: skip
