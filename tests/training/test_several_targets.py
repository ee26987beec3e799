"""A run that learns times, classes and numbers at once, from windows in volts, with new tokens."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from finetuning_runs import gradient, of_split, participants, prepared, tune, watched
from hbn_foundation.errors import UserError
from hbn_foundation.signals.batches import WindowReader
from hbn_foundation.signals.store import store_from_arrays
from hbn_foundation.training.checkpoint import Checkpoint
from hbn_foundation.training.finetuned import (
    load_challenge_model,
    load_finetuned,
    predict,
    predict_targets,
)
from hbn_foundation.training.finetuning_params import MoreTargets
from hbn_foundation.training.head_fitting import channel_scales
from runs import same

EXTRAS = {
    "more_targets": {
        "side": {"label": {"kind": "trial", "column": "side"}, "weight": 0.2},
        "age": {"label": {"kind": "participant", "column": "age", "type": "regression"}},
        "off": {"label": {"kind": "trial", "column": "correct"}, "weight": 0},
    },
    "tokens": {
        "tokens": ["band", "time"],
        "time": {"kind": "conv", "width": 16, "n_components": 4},
    },
    "input": {"unit": "volts"},
}
GROUPS = {
    "label": {"kind": "trial", "column": "rt", "type": "regression"},
    "head": {"kind": "distribution", "dropout": 0.0},
    "plan": {"strategy": "two_phase", "phase1_epochs": 1},
    "rates": {"head_lr": 5e-3},
    "regularisation": {"jitter_seconds": 0.3, "hide_probability": 0.0},
    "trainer": {"epochs": 6, "batch_size": 16, "monitor": "nrmse", "early_stopping_patience": 9},
    "participants": participants(),
}


@pytest.fixture(scope="module")
def band_only(short_run):
    """The shared checkpoint without its time tokens."""
    weights, metadata = short_run[0].weights, short_run[0].metadata
    encoder = {**metadata["parameters"]["encoder"], "tokens": ["band"]}
    return Checkpoint(
        {name: part for name, part in weights.items() if ".time." not in name},
        {**metadata, "parameters": {**metadata["parameters"], "encoder": encoder}},
    )


@pytest.fixture(scope="module")
def trials(store, splits, tmp_path_factory):
    """Trials with a bump of two fixed topographies where the press is: store, windows, splits."""
    random = np.random.default_rng(5)
    recordings, rows = [], []
    signals = [np.asarray(store.signal(row), dtype=np.float32) for row in range(len(store))]
    fields = np.exp(2 * (store.positions @ np.array([[-0.6, 0.6], [0.2, 0.2], [0.7, 0.7]]) - 1))
    for number, (_, row) in enumerate(store.recordings.iterrows()):
        signal = signals[number].copy()
        for trial, start in enumerate(range(100, 3700, 260)):
            rt, side = random.uniform(0.6, 2.4), random.integers(2)
            peak = start + round((rt - 0.5) * 100)
            bump = np.exp(-0.5 * ((np.arange(len(signal)) - peak) / 8) ** 2)
            signal += 6 * bump[:, None] * fields[:, side]
            name = ("left", "right")[side]
            rows.append((number, row["recording"], row["subject"], start, trial, rt, name))
        recordings.append(({key: row[key] for key in ("recording", "subject", "task")}, signal))
    made = store_from_arrays(
        tmp_path_factory.mktemp("trials"), recordings, store.channel_names, store.positions
    )
    columns = ["row", "recording", "subject", "start", "trial", "rt", "side"]
    windows = pd.DataFrame(rows, columns=columns).assign(task="task")
    return made, windows, splits


@pytest.fixture(scope="module")
def run(band_only, trials, tmp_path_factory):
    return tune(band_only, trials, tmp_path_factory.mktemp("run"), **EXTRAS, **GROUPS)


def test_it_learns_when_and_where(run, trials):
    checkpoint, history = run
    test = of_split(trials, "test")
    said = predict_targets(checkpoint, trials[0], test)
    error = test["rt"] - said.answers["main"]
    assert (error**2).mean() < 0.5 * test["rt"].var()
    sides = (said.answers["side"].argmax(1) == 1) == (test["side"] == "right")
    assert sides.mean() > 0.7
    assert said.shares["main"].shape == (len(test), 40)
    np.testing.assert_allclose(said.shares["main"].sum(1), 1, rtol=1e-5)
    assert set(said.answers) == {"main", "side", "age"}
    best = history.set_index("epoch").loc[checkpoint.metadata["best_epoch"]]
    assert best["nrmse"] == history["nrmse"].min()
    assert {"side_auroc", "age_nrmse", "side_loss", "train_side_auroc"} <= set(history)


def test_new_tokens_are_trained_with_the_head_from_the_first_step(
    band_only, trials, tmp_path, monkeypatch
):
    watch = watched(monkeypatch)
    groups = {**GROUPS, "trainer": {**GROUPS["trainer"], "epochs": 2}}
    tune(band_only, trials, tmp_path, **EXTRAS, **groups)
    assert watch.trainable == [("head",), ("band_tokens", "block_1", "block_2", "head")]
    first, second = watch.starts[0], watch.starts[1]
    assert same(first["block_1"], second["block_1"])
    assert "time_tokens" not in first
    moved = [
        name
        for name, value in first["head"].items()
        if not torch.equal(value, second["head"][name])
    ]
    assert any("layers.0.convolution" in name for name in moved)
    assert any("components.mix" in name for name in moved)
    assert watch.rates[0]["head"] == pytest.approx(5e-3, rel=1e-2)


def test_what_is_exported_says_what_the_project_says(run, trials):
    """Single windows in volts, in any order, as a submission gets them."""
    checkpoint, (store, _, _) = run[0], trials
    test = of_split(trials, "test")
    said = predict_targets(checkpoint, store, test)
    reader = WindowReader(store, 200, "volts")
    volts, _ = reader.read_scaled(test["row"].to_numpy(), test["start"].to_numpy())
    for target, limits in (("main", (0.5, 2.5)), ("age", None)):
        model = load_challenge_model(checkpoint, store.positions, target)
        assert model.limits.tolist() == list(limits or (-np.inf, np.inf))
        with torch.inference_mode():
            alone = torch.cat([model(volts[i : i + 1]) for i in range(len(test))])
        assert alone.shape == (len(test), 1)
        np.testing.assert_allclose(alone[:, 0].numpy(), said.answers[target], atol=1e-4, rtol=1e-5)


def test_the_scales_are_of_training_recordings_alone(run, trials):
    store = trials[0]
    scale = run[0].weights["input.scale"]
    rows = np.unique(of_split(trials, "train")["row"])
    np.testing.assert_allclose(scale, channel_scales(store, rows))
    assert len(rows) == 10


def test_scales_are_medians_of_good_channels():
    good = np.array([[1, np.nan, 3, np.nan], [2, 5, 3, np.nan], [9, 7, 3, np.nan]], np.float32)
    store = SimpleNamespace(good_scales=lambda row: good[row])
    np.testing.assert_allclose(channel_scales(store, [0, 1, 2]), [2, 6, 3, 3])


def test_it_is_what_it_was_after_saving_and_loading(run, trials, tmp_path):
    run[0].save(tmp_path / "checkpoint")
    again = Checkpoint.load(tmp_path / "checkpoint")
    test = of_split(trials, "test")
    np.testing.assert_array_equal(predict(again, trials[0], test), predict(run[0], trials[0], test))
    assert load_finetuned(again).head.parts.keys() == {"main", "side", "age"}
    parameters = again.metadata["parameters"]
    assert parameters["encoder"]["tokens"] == ["band", "time"]
    assert parameters["encoder"]["time"]["kind"] == "conv"
    assert again.metadata["more_targets"]["side"]["names"] == ["left", "right"]


def module_of_trials(band_only, trials, **more):
    """The module before its first step."""
    groups = {name: group for name, group in GROUPS.items() if name != "participants"} | more
    return prepared(band_only, trials, **EXTRAS, **groups)


def test_micro_batches_sum_to_the_batch_for_each_target(band_only, trials):
    """A time, a class and a number, each unknown for other windows, with the time's shares."""
    still = {"hide_probability": 0.0, "gain": 0.0, "noise": 0.0}
    module = module_of_trials(band_only, trials, regularisation=still)
    module.model.eval()
    values = module.data.training.targets
    values[::2, 1], values[1::3, 2] = torch.nan, torch.nan
    batches = [next(iter(module.data.training.training(16, 0)))]
    assert values[batches[0].index].isnan().any(0).tolist() == [False, True, True]
    found = {}
    for size in (16, 4, 3, 1):
        module.data.micro_batch = size
        found[size] = gradient(module, batches)
    for size in (4, 3, 1):
        assert (found[size] - found[16]).norm() <= 1e-6 * found[16].norm(), size


def test_a_time_moves_with_its_window(band_only, trials):
    module = module_of_trials(band_only, trials)
    data = module.data.training
    batch = next(iter(data.training(64, 0, module.data.jitter)))
    assert batch.shift.abs().max() > 10
    moved, still = data.of(batch), data.targets[batch.index]
    seconds = (moved - still)[:, 0] * module.losses.targets["main"].sd
    torch.testing.assert_close(seconds, -batch.shift / 100, atol=1e-5, rtol=1e-4)
    assert torch.equal(moved[:, 1:], still[:, 1:])
    batch.shift = None
    assert torch.equal(data.of(batch), still)
    validation = module.data.validation
    assert not validation.of(next(iter(validation.plain(8, 8)))).isnan().any()


def test_volts_of_other_channels_are_refused(run, trials, short_run, store):
    checkpoint = run[0]
    metadata = {**checkpoint.metadata, "channel_names": list(store.channel_names)[::-1]}
    with pytest.raises(UserError, match="takes volts of 19 channels in their order"):
        predict(Checkpoint(checkpoint.weights, metadata), trials[0], of_split(trials, "test"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"x": {"label": {"kind": "trial", "column": "correct"}}}, "more_targets.x: labels: "),
        (
            {"x": {"label": {"kind": "participant", "column": "age", "type": "multiclass"}}},
            "more_targets.x: labels: type: multiclass, but age has 8",
        ),
    ],
)
def test_a_further_target_that_cannot_be_learned_is_named(
    band_only, trials, tmp_path, more, message
):
    with pytest.raises(UserError, match=message):
        tune(band_only, trials, tmp_path, **{**EXTRAS, "more_targets": more}, **GROUPS)


def test_mistakes_in_further_targets_are_one_line():
    with pytest.raises(UserError, match=r"success.weigth=0.2: no such parameter; .*weight"):
        MoreTargets.model_validate({"success": {"label": {"kind": "task"}, "weigth": 0.2}})
    with pytest.raises(UserError, match="'main' is no name for a further target"):
        MoreTargets.model_validate({"main": {"label": {"kind": "task"}}})
