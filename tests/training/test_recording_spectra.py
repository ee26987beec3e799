"""The mean spectra of a recording are the target, whoever asks and whatever the window's gain."""

import numpy as np
import pytest
import torch

from hbn_foundation.errors import UserError
from hbn_foundation.signals.batches import WindowBatches, WindowReader
from hbn_foundation.training.model_building import build_encoder
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.objectives.base import Context, TrainingWindows
from hbn_foundation.training.objectives.recording_spectra import MIN_WINDOWS, RecordingSpectra
from hbn_foundation.training.params import ObjectiveParams
from hbn_foundation.training.pretrain import pretext_scores
from runs import SHORT, SMALL, run

NAME = "recording_spectra"


@pytest.fixture
def begun(store, windows):
    """Encoder, objective with its targets, batches, positions."""
    torch.manual_seed(0)
    encoder = build_encoder(EncoderParams(**SMALL, tokens=("band",), dropout=0.0), 100, 200)
    params = ObjectiveParams(name=NAME, hide_probability=0.0, noise=0.0, gain=0.3)
    objective = RecordingSpectra(params, encoder)
    plain = WindowBatches(WindowReader(store, 200), windows, 64)
    positions = torch.as_tensor(store.positions, dtype=torch.float32)
    statistics = encoder.fit_normalisation(plain, positions)
    objective.fit(encoder, TrainingWindows(plain, positions, statistics))
    batches = objective.batches(plain, objective.prepare(windows, Context(100.0, 0)))
    objective.begin(encoder, batches, positions)
    return encoder, objective, batches, positions


def coordinates(encoder, objective, batch, positions):
    return objective.bands.project(encoder.band.tangents(batch.signals, positions, batch.mask))


def test_the_target_is_the_mean_of_the_recording(windows, begun):
    encoder, objective, batches, positions = begun
    every = torch.cat([coordinates(encoder, objective, batch, positions) for batch in batches])
    rows = windows["row"].to_numpy(copy=True)
    means = objective.means[objective.recordings]
    for row in set(rows.tolist()):
        whole = every[rows == row].mean(0)
        torch.testing.assert_close(means[rows == row], whole.expand(sum(rows == row), -1, -1))
    scores = [objective.eval()(encoder, batch, positions) for batch in batches]
    size = sum(one.size for one in scores)
    for name, expected in (
        ("trivial_copy", (every - means).square().mean()),
        ("trivial_recording_mean", means.square().mean()),
    ):
        found = sum(one.scores[name] * one.size for one in scores) / size
        assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_gain_moves_window_and_target_alike(begun):
    encoder, objective, batches, positions = begun
    batch = next(iter(batches))
    log_gains = torch.linspace(-0.5, 0.5, len(batch))
    still = coordinates(encoder, objective, batch, positions)
    batch.signals = batch.signals * log_gains.exp()[:, None, None]
    moved = coordinates(encoder, objective, batch, positions)
    by = objective.bands.of_gain(log_gains, encoder.band.scale)
    torch.testing.assert_close(moved - still, by, rtol=1e-3, atol=1e-3)
    # so copying is as good with a random gain as without, which training adds
    still_error = objective.eval()(encoder, next(iter(batches)), positions).scores["trivial_copy"]
    in_training = objective.train()(encoder, next(iter(batches)), positions).scores["trivial_copy"]
    assert in_training.item() == pytest.approx(still_error.item(), rel=1e-3)


def test_it_learns_more_than_to_copy(store, windows, splits, tmp_path):
    trainer = {**SHORT, "epochs": 20, "early_stopping_patience": 20, "learning_rate": 3e-3}
    objective = {"name": NAME, "hide_probability": 0.0, "gain": 0.0}
    checkpoint, history = run(
        store, windows, splits, tmp_path, ("band",), objective, trainer=trainer
    )
    best = history.loc[history["validation_loss"].idxmin()]
    assert best["validation_loss"] < 0.8 * best["trivial_copy"]
    # of ten recordings there is little to learn about others, but they themselves are learned
    assert history["train_loss"].iloc[-1] < 0.5 * history["trivial_recording_mean"].iloc[-1]
    # the evaluation finds the same targets; of some windows, still the means of all
    scores = pretext_scores(checkpoint, store, windows, ["5", "6"])
    assert scores["loss"] == pytest.approx(best["validation_loss"], rel=1e-4)
    some = pretext_scores(checkpoint, store, windows, ["5", "6"], most=20)
    assert some["n_windows"] == 20
    assert pretext_scores(checkpoint, store, windows, ["nobody"]) == {"n_windows": 0.0}
    assert some["trivial_recording_mean"] == pytest.approx(
        scores["trivial_recording_mean"], rel=0.3
    )


def test_recordings_of_few_windows_are_left_out(windows):
    encoder = build_encoder(EncoderParams(**SMALL, tokens=("band",)), 100, 200)
    objective = RecordingSpectra(ObjectiveParams(name=NAME), encoder)
    rank = windows.groupby("row").cumcount()
    first = windows["row"].min()
    short = windows[(windows["row"] != first) | (rank < MIN_WINDOWS - 1)]
    kept = objective.prepare(short, Context(100.0, 0))
    assert set(kept["row"]) == set(windows["row"]) - {first}
    assert np.array_equal(kept.index, np.arange(len(kept)))
    with pytest.raises(
        UserError, match=r"needs 5 windows of a recording, but none has more than 4"
    ):
        objective.prepare(windows[rank < MIN_WINDOWS - 1], Context(100.0, 0))


def test_it_needs_band_tokens():
    encoder = build_encoder(EncoderParams(**SMALL, tokens=("time",)), 100, 200)
    with pytest.raises(UserError, match="recording_spectra needs band tokens"):
        RecordingSpectra(ObjectiveParams(name=NAME), encoder)
