"""Methods are compared by fold, over subjects: ways of fine-tuning, and the frozen probe."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from score_tables import fold_table as folds_of

from hbn_foundation.evaluation.folds import (
    FOLD_COLUMNS,
    PROBE_COLUMNS,
    best_plan,
    comparison_table,
    fold_table,
    summarise_folds,
)
from hbn_foundation.evaluation.statistics import compare, holm

N_FOLDS = 5
SKILL = {"two_phase": 0.85, "head_only": 0.8, "scratch": 0.65, "riemann": 0.7, "majority": 0.5}


def simulated(seeds=2):
    """Folds of methods, one better than the other but for some noise."""
    random = np.random.default_rng(0)
    tables = []
    for seed in range(seeds):
        of_seed = SKILL if seed == 0 else {"two_phase": 0.85, "head_only": 0.8, "scratch": 0.65}
        scores = {method: skill + 0.02 * random.normal(size=N_FOLDS)
                  for method, skill in of_seed.items()}  # fmt: skip
        tables.append(folds_of(scores).assign(seed=seed))
    folds = pd.concat(tables, ignore_index=True)
    return folds.assign(validation=folds["window_auroc"])


def test_the_table_is_what_the_folds_say():
    folds = simulated()
    table = comparison_table(folds, "window_auroc")
    by_method = table.set_index("method")
    assert table["method"].iloc[0] == "two_phase"
    assert table["score"].is_monotonic_decreasing
    assert by_method["reference"].idxmax() == "two_phase"
    assert by_method["is_baseline"].to_dict() == {
        name: name in ("riemann", "majority") for name in SKILL
    }
    of_fold = folds.groupby(["method", "fold"])["window_auroc"].mean()
    assert by_method.loc["head_only", "score"] == pytest.approx(of_fold["head_only"].mean())
    assert by_method.loc["head_only", "score_sd"] == pytest.approx(of_fold["head_only"].std())
    # seeds are averaged before the test: they are no further subjects
    expected = compare(of_fold["two_phase"].to_numpy(), of_fold["riemann"].to_numpy(), 4 / 12)
    row = by_method.loc["riemann"]
    assert tuple(row[["ahead_low", "ahead_high"]]) == pytest.approx(expected.interval[:2])
    assert row["p"] == pytest.approx(expected.p)
    assert (row["ahead_in"], row["folds"]) == (expected.wins, N_FOLDS)
    assert np.isnan(by_method.loc["two_phase", "p"])
    np.testing.assert_allclose(table["p_holm"], holm(table["p"].to_numpy(dtype=float)))
    assert np.nanmax(table["p_holm"] / table["p"]) >= 3.99  # of four comparisons


def test_smaller_errors_are_ahead():
    folds = simulated()
    errors = 1 - folds["window_auroc"]
    table = comparison_table(folds.assign(nrmse=errors, validation=errors), "nrmse")
    assert table["method"].iloc[0] == "two_phase"
    assert (table["ahead_by"].dropna() > 0).all()
    assert (table["ahead_low"].dropna() < table["ahead_by"].dropna()).all()


def test_the_reference_is_chosen_on_validation_subjects_and_never_from_scratch():
    folds = simulated()
    folds.loc[folds["method"] == "head_only", "validation"] = 0.99
    folds.loc[folds["method"].isin(["scratch", "riemann"]), "validation"] = 1.0
    assert best_plan(folds, "window_auroc") == "head_only"
    for alone in ("scratch", "riemann"):
        assert best_plan(folds[folds["method"] == alone], "window_auroc") == alone


def test_a_fold_without_a_score_leaves_the_pair_without_an_interval():
    folds = simulated(seeds=1)
    folds.loc[folds["fold"] == 2, "window_auroc"] = np.nan  # its subjects have one class
    table = comparison_table(folds, "window_auroc")
    others = table[~table["reference"]]
    assert others[["ahead_low", "ahead_high", "p", "p_holm"]].isna().all(axis=None)
    assert set(others["missing"]) == {"1 of 5 folds without a score"}


def test_the_pretrained_encoder_is_compared_with_every_method():
    scores = {
        "pretrained": [0.80, 0.78, 0.82],
        "band_power": [0.81, 0.80, 0.80],
        "riemann": [0.7, 0.7, 0.7],
    }
    summary = summarise_folds(folds_of(scores)).set_index("method")
    assert summary["reference"].to_dict() == {
        "band_power": False, "pretrained": True, "riemann": False,
    }  # fmt: skip
    assert summary["is_baseline"].tolist() == [True, False, True]  # best first
    assert summary.loc["band_power", "ahead_by"] == pytest.approx(-0.01 / 3)
    assert summary["ahead_in"].dropna().to_dict() == {"band_power": 1, "riemann": 3}
    assert summary.loc["pretrained", "window_auroc_sd"] == pytest.approx(0.02)


def test_no_folds_have_a_table_and_a_summary_without_rows():
    folds = fold_table([])
    assert tuple(folds.columns) == FOLD_COLUMNS
    summary = summarise_folds(folds)
    assert summary.empty
    assert tuple(summary.columns) == PROBE_COLUMNS
