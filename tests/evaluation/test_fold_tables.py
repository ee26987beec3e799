"""The tables of folds, and the hash of the code that a kept result depends on."""

from __future__ import annotations

import pytest

from hbn_foundation.evaluation.provenance import (
    BESIDE,
    EVALUATION,
    OF_FINE_TUNING,
    PACKAGE,
    PRETRAINING,
    hash_code,
    provenance,
)
from hbn_foundation.evaluation.tables import (
    FOLD_COLUMNS,
    SUMMARY_COLUMNS,
    fold_table,
    summarise_folds,
)


def test_no_folds_have_a_table_and_a_summary_without_rows():
    folds = fold_table([])
    assert tuple(folds.columns) == FOLD_COLUMNS
    summary = summarise_folds(folds)
    assert summary.empty
    assert tuple(summary.columns) == SUMMARY_COLUMNS


def test_the_code_counts_and_comments_and_docstrings_do_not(tmp_path):
    (tmp_path / "models").mkdir()
    file = tmp_path / "models" / "net.py"
    hashes = []
    plain = "class Net:\n    def f(self, x='a'):\n        return x\n"
    for text in (
        plain,
        plain.replace("Net:", "Net:  # one"),
        '"""Nets."""\n' + plain.replace("):\n", '):\n        """Pass x on."""\n'),
        plain.replace("    def", '    y = 1\n    """What y is."""\n    def'),
        plain.replace("'a'", "'b'"),
    ):
        file.write_text(text)
        hashes.append(hash_code(["models"], package=tmp_path))
    assert hashes[0] == hashes[1] == hashes[2]
    assert len(set(hashes)) == 3  # an attribute counts, and so does a default, not what is said
    assert hash_code(["models"], ["torch 2"], tmp_path) != hashes[-1]
    single, half = (provenance(arithmetic, {"chosen": "cpu"}) for arithmetic in ("32", "bf16"))
    assert single.pretraining != half.pretraining
    assert single.evaluation == half.evaluation
    for place in {*PRETRAINING, *EVALUATION, *OF_FINE_TUNING, *BESIDE}:
        assert (PACKAGE / place).exists()


def test_summary_is_best_first_and_says_who_is_ahead(folds_of):
    summary = summarise_folds(
        folds_of(
            {
                "pretrained": [0.80, 0.78, 0.82],
                "band_power": [0.81, 0.80, 0.80],
                "riemann": [0.7, 0.7, 0.7],
            }
        )
    ).set_index("method")
    assert summary["reference"].to_dict() == {
        "band_power": False, "pretrained": True, "riemann": False,
    }  # fmt: skip
    assert summary["is_baseline"].tolist() == [True, False, True]
    assert summary.loc["band_power", "ahead_by"] == pytest.approx(-0.01 / 3)
    assert summary.loc["band_power", "ahead_in"] == 1
    assert summary.loc["riemann", "ahead_in"] == 3
    assert summary.loc["pretrained", "window_auroc_sd"] == pytest.approx(0.02)


def test_p_values_of_the_methods_are_corrected_by_holm(folds_of):
    summary = summarise_folds(
        folds_of(
            {
                "pretrained": [0.80, 0.78, 0.82, 0.81],
                "band_power": [0.70, 0.71, 0.70, 0.73],
                "riemann": [0.75, 0.70, 0.79, 0.74],
            }
        )
    ).set_index("method")
    p = summary["p"].dropna()
    assert p["band_power"] < p["riemann"]
    assert summary.loc["band_power", "p_holm"] == pytest.approx(2 * p["band_power"])
    expected = max(p["riemann"], 2 * p["band_power"])
    assert summary.loc["riemann", "p_holm"] == pytest.approx(expected)
