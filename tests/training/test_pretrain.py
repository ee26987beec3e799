"""Pretraining from end to end on a small data set with something to learn."""

import json
import logging
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from hbn_foundation.errors import UserError
from hbn_foundation.training.checkpoint import load_encoder
from hbn_foundation.training.pretrain import pretext_scores
from hbn_foundation.training.supervision.display import Display
from runs import SHORT, run, same


def folders(run_folder):
    return sorted(path.name for path in run_folder.iterdir() if path.is_dir())


def test_the_history_has_a_row_per_epoch(short_run):
    _, history, _ = short_run
    assert history["epoch"].tolist() == [1, 2]
    losses = {"train_loss", "validation_loss", "band_loss", "patch_loss"}
    trivial = {"trivial_copy", "trivial_band_mean", "trivial_patch_mean"}
    others = {"trivial_visible_patches", "learning_rate", "windows_per_second", "seconds", "device"}
    assert losses | trivial | others <= set(history.columns)
    assert history.drop(columns="device").map(np.isfinite).all(axis=None)
    # the same windows and masks in each epoch, so that the trivial scores stand still
    for name in trivial:
        assert history[name].nunique() == 1


def test_the_checkpoint_says_where_it_comes_from(short_run, store):
    checkpoint, history, folder = short_run
    metadata = json.loads(json.dumps(checkpoint.metadata))
    expected = {
        "training_subjects": ["0", "1", "2", "3", "4"],
        "validation_subjects": ["5", "6"],
        "store_fingerprint": store.fingerprint,
        "best_epoch": int(history["validation_loss"].idxmin()) + 1,
        "sfreq": 100.0,
        "n_samples": 200,
        "run_id": "run",
        "threads": torch.get_num_threads(),
        "stopped": "all epochs",
        "parent_version": None,
    }
    assert {name: metadata[name] for name in expected} == expected
    assert metadata["scores"]["validation_loss"] == history["validation_loss"].min()
    assert metadata["parameters"]["trainer"]["epochs"] == 2
    assert metadata["precision"] in ("32-true", "bf16-mixed")
    assert {"python", "torch", "hbn-foundation"} <= set(metadata["versions"])
    assert folders(folder) == ["best", "epoch-001", "epoch-002"]


def test_the_same_seed_gives_the_same_weights(short_run, store, windows, splits, tmp_path):
    """Whatever random numbers were drawn before and whatever test subjects there are."""
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    torch.rand(1)
    without = windows[windows["subject"] != "7"].reset_index(drop=True)
    again, history = run(store, without, splits, tmp_path / "again")
    assert same(again.weights, short_run[0].weights)
    assert history["validation_loss"].tolist() == short_run[1]["validation_loss"].tolist()
    assert torch.equal(torch.rand(1), expected[1:])  # the caller's random state is left alone
    seed = {**SHORT, "epochs": 1, "seed": 1}
    other, _ = run(store, windows, splits, tmp_path / "other", trainer=seed)
    assert not same(other.weights, short_run[0].weights)


def test_band_completion_learns(store, windows, splits, tmp_path):
    trainer = {**SHORT, "epochs": 25, "early_stopping_patience": 25, "learning_rate": 3e-3}
    objective = {"name": "band_completion"}
    _, history = run(store, windows, splits, tmp_path, ("band",), objective, trainer)
    best = history.loc[history["validation_loss"].idxmin()]
    assert best["validation_loss"] < 0.85 * history["validation_loss"].iloc[0]
    assert best["validation_loss"] < 0.85 * best["trivial_band_mean"]


def test_checkpoints_are_thinned_and_validation_skipped(store, windows, splits, tmp_path):
    trainer = {
        **SHORT,
        "epochs": 6,
        "checkpoint_keep": 2,
        "validate_every": 3,
        "checkpoint_every": 2,
    }
    checkpoint, history = run(store, windows, splits, tmp_path, trainer=trainer)
    assert folders(tmp_path) == ["best", "epoch-004", "epoch-006"]
    assert history["validation_loss"].notna().tolist() == [False, False, True] * 2
    assert checkpoint.metadata["best_epoch"] in (3, 6)


def test_training_stops_when_validation_no_longer_improves(
    store, windows, splits, tmp_path, caplog
):
    caplog.set_level("INFO")
    trainer = {**SHORT, "epochs": 30, "early_stopping_patience": 1, "learning_rate": 0.3}
    checkpoint, history = run(store, windows, splits, tmp_path, trainer=trainer)
    assert len(history) == checkpoint.metadata["best_epoch"] + 1 < 30
    assert checkpoint.metadata["stopped"] == "no better validation for 1 validations"
    line = f"training stopped after epoch {len(history)} of 30: no better validation for 1"
    assert line in caplog.text


def test_training_stops_when_the_time_is_up(store, windows, splits, tmp_path, caplog):
    caplog.set_level("INFO")
    trainer = {**SHORT, "epochs": 10_000, "early_stopping_patience": 10_000}
    trainer["max_training_time"] = 3.0
    checkpoint, history = run(store, windows, splits, tmp_path, trainer=trainer)
    assert 0 < len(history) < 1000
    assert checkpoint.metadata["best_epoch"] <= len(history)
    assert checkpoint.metadata["stopped"] == "time limit, max_training_time 3 s"
    assert "of 10000: time limit" in caplog.text


@pytest.mark.parametrize("options", [{"max_training_time": 0.001}, {"validate_every": 5}])
def test_without_a_validation_the_last_weights_are_kept(store, windows, splits, tmp_path, options):
    checkpoint, history = run(store, windows, splits, tmp_path, trainer={**SHORT, **options})
    assert checkpoint.metadata["best_epoch"] == len(history)
    assert history["validation_loss"].isna().all() == ("validate_every" in options)


def test_bf16_trains_and_leaves_single_precision_weights(store, windows, splits, tmp_path):
    trainer = {**SHORT, "epochs": 1, "precision": "bf16"}
    checkpoint, history = run(store, windows, splits, tmp_path, trainer=trainer)
    assert np.isfinite(history["validation_loss"]).all()
    assert {tensor.dtype for tensor in checkpoint.weights.values()} == {torch.float32}


def test_nothing_but_our_own_lines_is_said(store, windows, splits, tmp_path, caplog, capfd):
    with warnings.catch_warnings(), caplog.at_level(logging.INFO):
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        run(store, windows, splits, tmp_path)
    assert {record.name for record in caplog.records} == {"hbn_foundation"}
    lines = [record.message.split(":")[0] for record in caplog.records]
    epochs = [line for line in lines if not line.startswith("training in ")]
    assert epochs == ["epoch 1 of 2", "epoch 2 of 2"]
    assert capfd.readouterr().out == ""


def test_a_checkpoint_embeds_another_montage(short_run):
    encoder = load_encoder(short_run[0])
    positions = torch.nn.functional.normalize(torch.randn(129, 3), dim=1)
    mask = torch.rand(4, 129) > 0.1
    features = encoder.features(torch.randn(4, 129, 200), positions, mask)
    assert features.shape == (4, encoder.n_features)
    assert features.isfinite().all()


def test_pretext_scores_are_those_of_the_best_epoch(short_run, store, windows):
    checkpoint, history, _ = short_run
    scores = pretext_scores(checkpoint, store, windows, ["5", "6"])
    best = history.iloc[checkpoint.metadata["best_epoch"] - 1]
    assert scores["n_windows"] == 80
    assert scores["loss"] == pytest.approx(best["validation_loss"], rel=1e-5)
    assert scores["trivial_copy"] == pytest.approx(best["trivial_copy"], rel=1e-5)


@pytest.mark.parametrize(
    ("split", "given", "message"),
    [
        ({"split": "train"}, {}, "no validation subject has a window"),
        ({"subject": "x"}, {}, "no train subject has a window"),
        (
            {},
            {"tokens": ("band",), "objective": {"name": "masked_patches"}},
            "masked_patches needs time tokens",
        ),
        ({}, {"tokens": ("time",), "time": {"patch_seconds": 0.005}}, "is 0 samples at 100 Hz"),
    ],
)
def test_wrong_input_is_one_line(store, windows, splits, tmp_path, split, given, message):
    with pytest.raises(UserError, match=message) as caught:
        run(store, windows, pd.DataFrame(splits).assign(**split), tmp_path, **given)
    assert "\n" not in str(caught.value)


def test_without_a_supervisor_it_draws_itself(store, windows, splits, tmp_path, monkeypatch):
    beats, lines = [], []
    monkeypatch.setattr(Display, "show", lambda _, beat: beats.append(beat))
    monkeypatch.setattr(Display, "line", lambda _, text: lines.append(text))
    _, history = run(store, windows, splits, tmp_path)
    assert [line.partition(":")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert beats[-1].step == beats[-1].steps == 2 * (beats[-1].steps // len(history))
    assert {beat.device for beat in beats if beat.section == "step"} == {"cpu"}
