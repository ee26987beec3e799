"""Repeated subject splits: resumable, and nothing pretrained twice."""

from __future__ import annotations

import pandas as pd
import pytest

from hbn_foundation.evaluation import cross_validation
from hbn_foundation.evaluation.cross_validation import cross_validate, summarise_folds
from hbn_foundation.evaluation.params import RepeatParams
from hbn_foundation.evaluation.provenance import (
    EVALUATION,
    PACKAGE,
    PRETRAINING,
    Provenance,
    hash_code,
    provenance,
)
from hbn_foundation.evaluation.tables import FOLD_COLUMNS, SUMMARY_COLUMNS
from hbn_foundation.signals.dataset import EEGDataset

FOLD = {
    "probe": {"pretrained": {"window_auroc": 0.5}},
    "pretext": {"test": {}},
    "subjects": {"train": 9, "test": 3},
}


@pytest.fixture
def run(toy, quick, recipe, tmp_path):
    def run(work_dir=tmp_path, n_jobs=1, **changes):
        repeats = RepeatParams(folds=3, repeats=1, n_jobs=n_jobs)
        changes = {"repeats": repeats, "baselines": ("band_power", "majority"), **changes}
        params = quick.model_copy(update=changes)
        return cross_validate(EEGDataset(*toy), recipe, params, work_dir, supervised=False)

    return run


def test_no_repeats_no_folds(run):
    folds = run(repeats=None)
    assert folds.empty
    assert tuple(folds.columns) == FOLD_COLUMNS
    summary = summarise_folds(folds)
    assert summary.empty
    assert tuple(summary.columns) == SUMMARY_COLUMNS


def test_folds_are_kept_and_a_killed_run_goes_on(run, tmp_path, monkeypatch):
    counted = []
    original = cross_validation.run_fold

    def counting(fold):
        if len(counted) == 2:
            raise KeyboardInterrupt
        counted.append(fold.fold)
        return original(fold)

    monkeypatch.setattr(cross_validation, "run_fold", counting)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(
        cross_validation, "run_fold", lambda fold: (counted.append(9), original(fold))[1]
    )
    folds = run()
    assert counted == [0, 1, 9]
    assert len(folds) == 9
    assert tuple(folds.columns) == FOLD_COLUMNS
    assert folds.groupby("fold")["method"].apply(set).map(len).eq(3).all()
    assert folds.loc[folds["method"] == "pretrained", "pretext_improvement"].notna().all()
    assert folds["n_test"].eq(5).all()
    assert folds.loc[folds["method"] == "pretrained", "windows_per_second"].gt(0).all()
    run()
    assert counted == [0, 1, 9]
    check_that_nothing_is_pretrained_anew(run, tmp_path, monkeypatch)


def test_results_of_other_code_or_arithmetic_are_not_taken_up(run, tmp_path, monkeypatch):
    monkeypatch.setattr(cross_validation, "run_fold", lambda fold: folds.append(fold) or fold)
    monkeypatch.setattr(cross_validation, "_read", lambda _: FOLD)
    found = []
    for origin in (Provenance("a", "x"), Provenance("a", "y"), Provenance("b", "x")):
        folds = []
        monkeypatch.setattr(cross_validation, "provenance", lambda *_, o=origin: o)
        run()
        found.append((folds[0].checkpoint_path.name, folds[0].result_path.name))
    encoders, results = zip(*found, strict=True)
    assert encoders[0] == encoders[1] != encoders[2]
    assert len(set(results)) == 3


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
    for place in (*PRETRAINING, *EVALUATION):
        assert (PACKAGE / place).exists()


def check_that_nothing_is_pretrained_anew(run, tmp_path, monkeypatch):
    """Another evaluation of the same folds takes the encoders that are kept."""
    from hbn_foundation.training import pretrain

    def never(*_args, **_options):
        raise AssertionError("pretrained twice")

    monkeypatch.setattr(pretrain, "pretrain", never)
    folds = run(baselines=("majority",))
    assert set(folds["method"]) == {"pretrained", "majority"}
    assert not list(tmp_path.glob("pretraining-*"))


@pytest.mark.slow
def test_processes_give_what_one_process_gives(run, tmp_path):
    one = run(tmp_path / "one")
    two = run(tmp_path / "two", n_jobs=2)
    speed = "windows_per_second"
    pd.testing.assert_frame_equal(one.drop(columns=speed), two.drop(columns=speed), atol=5e-3)


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
