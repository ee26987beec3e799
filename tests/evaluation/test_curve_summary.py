"""The summary of a curve: subjects' scores averaged over draws, intervals paired over subjects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.evaluation.curve_summary import curve_summary
from hbn_foundation.evaluation.figures.learning import learning_curve_figure
from hbn_foundation.evaluation.params import FineTuningEvaluationParams
from hbn_foundation.evaluation.report.experiments import learning_curve_report
from hbn_foundation.evaluation.report.render import render_text
from hbn_foundation.scores import auroc

SKILLS = {"pretrained": 2.0, "band_power": 1.0, "fine_tuned": 2.5}


def params(bootstraps: int) -> FineTuningEvaluationParams:
    return FineTuningEvaluationParams(bootstraps=bootstraps)


def predictions(n_subjects=24, n_windows=20, n_folds=2) -> pd.DataFrame:
    """Windows of subjects in two strata, tested in one fold each; two draws, one is trained."""
    random = np.random.default_rng(0)
    rows = []
    for method, skill in SKILLS.items():
        for amount in (5, 20):
            for seed in (0, 1) if method != "fine_tuned" else (0,):
                for number in range(n_subjects):
                    values = np.arange(n_windows) % 2
                    own = skill * (1 + amount / 20) / 2 * (0.3 if number < 6 else 1.0)
                    answers = values * own + random.normal(size=n_windows) + 0.02 * number
                    rows.append(pd.DataFrame({
                        "repeat": 0, "fold": number % n_folds, "seed": seed, "method": method,
                        "n_subjects": amount, "recording": f"r{number:02}",
                        "subject": f"s{number:02}", "stratum": "rare" if number < 6 else "usual",
                        "value": values, "log_p_0": 0.0, "log_p_1": answers,
                    }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


@pytest.fixture(scope="module")
def table():
    return predictions()


@pytest.fixture(scope="module")
def summary(table):
    return curve_summary(table, params(200))


def by_hand(table, method, amount, seeds=(0, 1)):
    """Mean over strata of subjects' mean AUROC over draws."""
    part = table.query("method == @method and n_subjects == @amount and seed in @seeds")
    areas = part.groupby(["stratum", "subject", "seed"]).apply(
        lambda own: auroc(own["value"].to_numpy(), own[["log_p_0", "log_p_1"]].to_numpy()),
        include_groups=False,
    )
    return areas.groupby(["stratum", "subject"]).mean().groupby("stratum").mean().mean()


def test_subjects_are_averaged_over_draws_then_strata(table, summary):
    found = summary.set_index(["method", "n_subjects"])
    for method, amount in found.index:
        expected = by_hand(table, method, amount)
        row = found.loc[(method, amount)]
        assert row["score"] == pytest.approx(expected)
        assert row["low"] < expected < row["high"]
    assert found["metric"].unique().tolist() == ["within_auroc"]
    assert found["n_draws"].to_dict() == {
        key: 1 if key[0] == "fine_tuned" else 2 for key in found.index
    }
    assert (found["n_test"] == 24).all()
    assert (found["n_folds"] == 2).all()
    assert summary["method"].unique().tolist() == ["fine_tuned", "pretrained", "band_power"]


def test_differences_are_paired_on_the_draws_of_both(table, summary):
    found = summary.set_index(["method", "n_subjects"])
    gap = found.loc[("band_power", 5), "fine_tuned_ahead"]
    assert gap == pytest.approx(
        by_hand(table, "fine_tuned", 5) - by_hand(table, "band_power", 5, (0,))
    )
    ours = found.loc[("band_power", 20)]
    assert ours["pretrained_ahead"] == pytest.approx(
        by_hand(table, "pretrained", 20) - by_hand(table, "band_power", 20)
    )
    assert 0 < ours["pretrained_ahead_low"] < ours["pretrained_ahead"]
    assert ours["pretrained_ahead_high"] - ours["pretrained_ahead_low"] < (
        ours["high"] - ours["low"] + found.loc[("pretrained", 20)][["low", "high"]].diff().iloc[1]
    )
    assert np.isnan(found.loc[("pretrained", 5), "pretrained_ahead"])


def test_without_strata_each_fold_and_draw_is_scored_and_averaged(table):
    plain = table.drop(columns="stratum")
    found = curve_summary(plain, params(50)).set_index(["method", "n_subjects"])
    cells = plain.query("method == 'pretrained' and n_subjects == 5").groupby(["fold", "seed"])
    expected = [
        auroc(own["value"].to_numpy(), own[["log_p_0", "log_p_1"]].to_numpy()) for _, own in cells
    ]
    row = found.loc[("pretrained", 5)]
    assert row["score"] == pytest.approx(np.mean(expected))
    assert row["metric"] == "window_auroc"
    assert row["low"] < row["score"] < row["high"]


def test_numbers_have_a_curve_and_less_is_better(table):
    columns = {"log_p_1": "predicted"}
    plain = table.drop(columns=["stratum", "log_p_0"]).rename(columns=columns)
    numbers = plain.assign(value=plain["value"] + np.arange(len(plain)) % 7.0)
    found = curve_summary(numbers, params(0))
    assert set(found["metric"]) == {"nrmse"}
    most = found[found["n_subjects"] == 20].set_index("method")["score"]
    assert most.index[0] == most.idxmin()
    assert (found["missing"] == "none asked for").all()


def test_the_curve_is_drawn_and_told(summary):
    (panel,) = learning_curve_figure(summary, "Curve").axes
    labels = panel.get_legend_handles_labels()[1]
    assert labels == ["fine-tuned", "pretrained encoder", "log band power"]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["5", "20"]
    text = render_text(learning_curve_report(summary, "eyes", "relative to the mean"))
    assert "24 test subjects, 2 folds, draws of labelled subjects: fine-tuned 1" in text
    assert "Features of frozen rows: relative to the mean." in text
    assert "fine-tuned ahead by" in text
    row = summary[summary["n_subjects"] == 20].iloc[0]
    assert f"{row['score']:.3f} ({row['low']:.3f} to {row['high']:.3f})" in text
    bare = summary.assign(low=np.nan, high=np.nan, missing="none asked for")
    assert "No intervals: none asked for." in render_text(learning_curve_report(bare, "eyes"))
    learning_curve_figure(bare, "Curve").canvas.draw()
