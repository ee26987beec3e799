"""What a sweep says: curves over subjects, modes compared on the same ones, time saved."""

import re

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.evaluation.figures.learning import sweep_figure
from hbn_foundation.evaluation.report.experiments import sweep_report
from hbn_foundation.evaluation.report.render import render_text
from hbn_foundation.experiments.collecting import (
    MODES,
    compare_modes,
    learning_curves,
    measured_savings,
)
from hbn_foundation.experiments.targets import score_predictions

SHARES = (0.05, 0.25, 1.0)


def made_up(n_targets: int = 12, seeds: int = 2):
    """A table of jobs and their scores: the more of a target's data, the better."""
    random = np.random.default_rng(0)
    rows = [
        {"kind": "base", "hash": f"base{t}", "status": "done", "seconds": 100.0}
        for t in range(n_targets)
    ]
    for target in range(n_targets):
        ease = random.normal(0, 0.4)
        for place, mode in enumerate(MODES):
            for share in SHARES:
                for seed in range(seeds):
                    key = f"{target}-{mode}-{share}-{seed}"
                    strength = 1.2 - 0.5 * place + 0.5 * share + ease
                    value = random.integers(0, 2, 60)
                    answer = strength * (2 * value - 1) + random.normal(size=60)
                    columns = {"log_p_0": -np.logaddexp(0, answer),
                               "log_p_1": -np.logaddexp(0, -answer)}  # fmt: skip
                    rows.append(
                        {"kind": "finetune", "hash": key, "status": "done", "seconds": 10.0,
                         "base_hash": None if mode == "target_only" else f"base{target}",
                         "target": f"S{target}", "mode": mode, "target_data_pct": share,
                         "n_train": 40 * share,
                         **score_predictions(pd.DataFrame({"value": value, **columns}))}
                    )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def scored():
    return made_up()


def test_curves_are_means_over_subjects_with_bands_around_them(scored):
    curves = learning_curves(scored, "window_auroc")
    assert curves["mode"].tolist() == [mode for mode in MODES for _ in SHARES]
    assert curves["target_data_pct"].tolist() == list(SHARES) * 3
    first = scored[(scored["mode"] == MODES[0]) & (scored["target_data_pct"] == 0.05)]
    assert curves["score"][0] == pytest.approx(
        first.groupby("target")["window_auroc"].mean().mean()
    )
    assert ((curves["low"] < curves["score"]) & (curves["score"] < curves["high"])).all()
    assert set(curves["n_targets"]) == {12}
    assert set(curves["n_jobs"]) == {24}


def test_seeds_are_no_subjects(scored):
    """More seeds make no band narrower."""
    twice = pd.concat([scored, scored], ignore_index=True)
    pd.testing.assert_frame_equal(
        learning_curves(twice, "window_auroc").drop(columns="n_jobs"),
        learning_curves(scored, "window_auroc").drop(columns="n_jobs"),
    )
    pd.testing.assert_frame_equal(
        compare_modes(twice, "window_auroc"), compare_modes(scored, "window_auroc")
    )


def test_few_subjects_give_no_bands():
    scored = made_up(n_targets=9)
    assert learning_curves(scored, "window_auroc")[["low", "high"]].isna().all(axis=None)


def test_modes_are_compared_in_pairs_and_corrected_by_families(scored):
    pairs = compare_modes(scored, "window_auroc")
    assert len(pairs) == 3 * (len(SHARES) + 1)
    worst = pairs[(pairs["first"] == MODES[0]) & (pairs["second"] == MODES[2])]
    assert (worst["ahead_by"] > 0).all()
    assert worst["p"].iloc[-1] == pytest.approx(2 / 2**12)  # all of twelve: exact
    assert worst["p_holm"].iloc[-1] == pytest.approx(3 * 2 / 2**12)  # of three over all shares
    assert worst["p_holm"].iloc[0] == pytest.approx(9 * 2 / 2**12)  # of nine at single ones
    assert (pairs["p_holm"] >= pairs["p"]).all()
    reverse = compare_modes(scored.assign(nrmse=-scored["window_auroc"]), "nrmse")
    np.testing.assert_allclose(reverse["ahead_by"], pairs["ahead_by"])


def test_a_subject_without_one_mode_is_left_out_of_its_comparison(scored):
    gone = scored[~((scored["target"] == "S3") & (scored["mode"] == MODES[2]))]
    pairs = compare_modes(gone, "window_auroc").set_index(["first", "second"])
    assert set(pairs.loc[(MODES[0], MODES[1]), "n_targets"]) == {12}
    assert set(pairs.loc[(MODES[0], MODES[2]), "n_targets"]) == {11}


def test_savings_count_what_each_fine_tuning_would_have_trained(scored):
    found = measured_savings(scored)
    n = 12 * 3 * 3 * 2
    assert found["base_seconds"] == 1200
    assert found["finetune_seconds"] == 10 * n
    assert found["alone_seconds"] == 10 * n + 100 * n * 2 / 3
    assert found["ratio"] == pytest.approx((1200 + 10 * n) / found["alone_seconds"])


@pytest.mark.parametrize("state", ["whole", "one mode", "empty"])
def test_figure_and_page_of_whatever_there_is(scored, state):
    table = {"whole": scored, "one mode": scored[scored["mode"] == MODES[0]],
             "empty": scored.assign(status="failed")}[state]  # fmt: skip
    curves, pairs = learning_curves(table, "window_auroc"), compare_modes(table, "window_auroc")
    savings = measured_savings(table)
    sweep_figure(curves, pairs, "window AUROC").canvas.draw()
    report = sweep_report(table, curves, pairs, savings, "window_auroc", "task")
    page = render_text(report, markdown=True)
    assert (
        len(re.findall(r"\n\| base \+ target data +\|", page))
        == ({"whole": 3 + 4 * 2, "one mode": 3, "empty": 0}[state])
    )


@pytest.mark.parametrize("n_targets", [3, 12])
def test_a_star_is_explained_where_there_is_one(n_targets):
    scored = made_up(n_targets=n_targets, seeds=1)
    curves, pairs = learning_curves(scored, "window_auroc"), compare_modes(scored, "window_auroc")
    _, right = sweep_figure(curves, pairs, "window AUROC").axes
    stars = [text for text in right.texts if text.get_text().endswith("*")]
    assert bool(stars) == (n_targets == 12)
    assert ("* p < .05" in right.get_xlabel()) == bool(stars)
