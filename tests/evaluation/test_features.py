"""Band power, covariances and time bins measure what was put into the signals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation import spectra
from hbn_foundation.evaluation.features import (
    FeatureExtractor,
    FrozenEncoders,
    encoder_features,
)
from hbn_foundation.evaluation.params import BaselineParams, EvaluationParams
from hbn_foundation.models.spatial import DIRECTIONS_10_20
from hbn_foundation.signals.batches import WindowBatches
from hbn_foundation.signals.context import in_context, surroundings
from hbn_foundation.signals.denoising import denoised, winsorised
from hbn_foundation.signals.params import ContextParams, WindowParams
from hbn_foundation.signals.reader import WindowReader
from hbn_foundation.signals.store import store_from_arrays
from hbn_foundation.signals.windows import cut_windows
from hbn_foundation.training.checkpoint import load_encoder
from hbn_foundation.training.model_building import build_encoder
from hbn_foundation.training.model_params import EncoderParams

BANDS = EvaluationParams().bands
POSITIONS = np.array(list(DIRECTIONS_10_20.values()), dtype=np.float32)
NAMES = ("band_power", "riemann", "filter_bank", "time_bins")


def with_split(windows, train=None):
    split = np.where(np.ones(len(windows), bool) if train is None else train, "train", "test")
    return windows.assign(split=split)


@pytest.mark.parametrize(("frequency", "band"), [(2, 0), (6, 1), (10, 2), (16, 3), (25, 4)])
def test_a_sine_lies_in_its_band(frequency, band):
    time = np.arange(200) / 100
    signals = np.sin(2 * np.pi * frequency * time)[None, None].astype(np.float32)
    power = spectra.log_band_power(signals, np.ones((1, 1), bool), BANDS, 100.0)
    assert power[0].argmax() == band
    matrices = spectra.covariances(signals, BANDS, 100.0, 0.0)
    assert matrices[0, :, 0, 0].argmax() == band
    assert matrices[0, band, 0, 0] == pytest.approx(0.5, rel=0.01)


def test_broadband_covariance_is_the_covariance():
    signals = np.random.default_rng(0).normal(size=(3, 5, 201)).astype(np.float32)
    matrices = spectra.covariances(signals, None, 100.0, 0.0)
    expected = [np.cov(window, bias=True) for window in signals]
    # The one constant coefficient of the spectrum is zero and every other counts twice.
    np.testing.assert_allclose(matrices[:, 0], expected, rtol=1e-4, atol=1e-5)
    flat = spectra.covariances(np.zeros((1, 4, 200), np.float32), BANDS, 100.0, 0.1)
    assert np.linalg.eigvalsh(flat).min() > 0


def test_time_bins_are_means_over_time():
    signals = np.random.default_rng(0).normal(size=(3, 19, 200)).astype(np.float32)
    bins = spectra.time_bins(signals, 5).reshape(3, 19, 40)
    np.testing.assert_allclose(bins[1, 4, 7], signals[1, 4, 35:40].mean(), rtol=1e-5)
    assert spectra.time_bins(signals, 7).shape == (3, 19 * 28)


def test_few_channels_stay_themselves_and_bad_ones_come_from_their_neighbours():
    mask = np.ones((3, 19), bool)
    mask[1, 9] = False
    weights = spectra.electrode_weights(POSITIONS, mask)
    np.testing.assert_array_equal(weights[[0, 2]], [np.eye(19)] * 2)
    assert weights[1, 9, 9] == 0
    assert weights[1, 9].sum() == pytest.approx(1, abs=1e-5)
    assert set(np.argsort(weights[1, 9])[-4:]) == {4, 8, 10, 14}  # Fz, C3, C4, Pz around Cz


@pytest.mark.parametrize("n_channels", [32, 129])
def test_every_channel_of_a_dense_cap_reaches_the_baselines(n_channels, tmp_path):
    random = np.random.default_rng(0)
    positions = random.normal(size=(n_channels, 3))
    positions /= np.linalg.norm(positions, axis=1, keepdims=True)
    names = tuple(f"E{k}" for k in range(n_channels))
    signals = random.normal(size=(2000, n_channels)).astype(np.float32)
    recordings = [({"recording": f"r{k}", "subject": f"s{k}", "task": "rest"}, signals + k)
                  for k in range(2)]  # fmt: skip
    store = store_from_arrays(tmp_path / "store", recordings, names, positions)
    windows = pd.DataFrame({"row": [0, 0, 1], "start": [0, 200, 0]})
    components = spectra.principal_components(store, windows.iloc[:2], 200, 256)
    if n_channels == 32:
        assert components is None
        components = np.eye(32)
    size = min(n_channels, 64)
    np.testing.assert_allclose(components @ components.T, np.eye(size), atol=1e-5)
    assert (np.abs(components).max(0) > 0).all()  # no channel is left out
    bad = np.ones((1, n_channels), bool)
    bad[0, 5] = False
    weights = spectra.electrode_weights(positions, bad, components)
    assert weights.shape == (1, size, n_channels)
    assert (weights[0, :, 5] == 0).all()
    extractor = FeatureExtractor(("riemann", "filter_bank"), store, 200, BaselineParams())
    features = extractor.fit(with_split(windows, [True, True, False]))
    assert features["riemann"].shape == (3, size * (size + 1) // 2)
    assert features["filter_bank"].shape == (3, 6 * 32 * 33 // 2)
    assert np.isfinite(features["filter_bank"]).all()


def test_what_is_held_out_moves_no_fit(toy):
    """The tangent space is at the mean of the training windows."""
    windows = with_split(toy.windows, toy.windows["subject"] < "09")
    train = (windows["split"] == "train").to_numpy()
    extractor = FeatureExtractor(("riemann",), toy.store, 200, BaselineParams())
    vectors = extractor.fit(windows)["riemann"]
    assert vectors.shape == (len(windows), 190)
    np.testing.assert_allclose(vectors[train].mean(0), 0, atol=1e-3)
    alone = extractor.fit(windows[train])["riemann"]
    np.testing.assert_allclose(alone, vectors[train], atol=1e-5)
    np.testing.assert_allclose(extractor(windows[~train])["riemann"], vectors[~train], atol=1e-5)


def test_reading_in_batches_changes_nothing(toy):
    windows = toy.windows[toy.windows["subject"].isin(["02", "03"])].reset_index(drop=True)
    windows = with_split(windows)
    whole, small = (
        FeatureExtractor(NAMES, toy.store, 200, BaselineParams(batch_size=size)).fit(windows)
        for size in (64, 7)
    )
    assert set(whole) == set(NAMES)
    for name, values in whole.items():
        np.testing.assert_allclose(values, small[name], rtol=1e-5, atol=1e-5)
    # channels that cannot be used are missing from band power alone
    bad = (windows["subject"] == "03").to_numpy(dtype=bool)
    assert bad.any()
    for name, values in whole.items():
        np.testing.assert_array_equal(np.isnan(values).any(1), bad & (name == "band_power"))


def test_encoders_are_asked_once_and_follow_the_table(toy, pretrained):
    encoder = load_encoder(pretrained[0])
    windows = toy.windows.sample(20, random_state=0).reset_index(drop=True)
    whole, small = (
        encoder_features({"a": encoder}, toy.store, windows, size, input_of="a") for size in (64, 3)
    )
    assert whole["a"].shape == (20, encoder.n_features)
    assert whole["encoder_input"].shape == (20, len(encoder.band) * 190)
    for name, values in whole.items():
        np.testing.assert_allclose(values, small[name], atol=1e-4)
    backwards = encoder_features({"a": encoder}, toy.store, windows.iloc[::-1], 64)
    np.testing.assert_allclose(backwards["a"][::-1], whole["a"], atol=1e-4)
    (batch,) = WindowBatches(WindowReader(toy.store, encoder.n_samples), windows, 20)
    with torch.no_grad():
        own = encoder.features(batch.signals, torch.from_numpy(toy.store.positions), batch.mask)
    np.testing.assert_allclose(whole["a"], own.numpy(), atol=1e-4)


def test_slow_features_are_fitted_on_all_windows_of_the_training_recordings(toy, pretrained):
    """Whichever of them have a label."""
    encoder = load_encoder(pretrained[0])
    windows = with_split(toy.windows, toy.windows["subject"] < "05")

    def fitted(of_fit: pd.DataFrame) -> np.ndarray:
        extractor = FeatureExtractor(
            ("slow_features",), toy.store, 200, BaselineParams(), FrozenEncoders({"a": encoder})
        )
        extractor.fit(of_fit.reset_index(drop=True))
        (features,) = extractor(windows).values()
        return features

    whole, some = fitted(windows), fitted(windows[(windows["start"] > 500).to_numpy()])
    assert whole.shape == (len(windows), 5)
    scale = whole.std(0)
    np.testing.assert_allclose(np.abs(some) / scale, np.abs(whole) / scale, atol=0.02)


def test_slow_features_of_recordings_that_are_too_short_are_left_out(tmp_path, pretrained, caplog):
    caplog.set_level("INFO")
    signals = np.random.default_rng(0).normal(size=(4, 200, 19)).astype(np.float32)
    rows = [{"recording": str(n), "subject": str(n)} for n in range(4)]
    names = tuple(DIRECTIONS_10_20)
    store = store_from_arrays(tmp_path / "store", zip(rows, signals, strict=True), names, POSITIONS)
    windows = with_split(cut_windows(store, WindowParams(seconds=2.0, stride=2.0)))
    made = FrozenEncoders({"a": load_encoder(pretrained[0])})
    wanted = ("slow_features", "encoder_input")
    found = FeatureExtractor(wanted, store, 200, BaselineParams(), made).fit(windows)
    assert list(found) == ["encoder_input"]
    assert "linear slow features left out: slow features: no two windows" in caplog.text


def test_an_encoder_for_other_windows_is_refused(planted, random_encoder):
    store, names = planted.store, ("random_weights",)
    with pytest.raises(UserError, match="the encoder is made for windows of 200 samples"):
        FeatureExtractor(names, store, 150, BaselineParams(), random_encoder)
    FeatureExtractor(("band_power",), store, 150, BaselineParams(), random_encoder)


@pytest.mark.parametrize("denoise", [False, True])
def test_slow_outputs_are_of_tangents_relative_to_the_recording(toy, pretrained, denoise):
    """By hand, for recordings of windows that tile them."""
    checkpoint = pretrained[0]
    params = EncoderParams(tokens=("band",), hidden_dim=32, n_heads=4, n_layers=1, n_slow=2)
    encoder = build_encoder(params, toy.store.sfreq, checkpoint.metadata["n_samples"]).eval()
    for parameter in encoder.slow.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    encoder.slow.weight.normal_(std=0.1)
    chosen = toy.windows[toy.windows["row"] < 2].reset_index(drop=True)
    made = FrozenEncoders({"pretrained": encoder, "random_weights": load_encoder(checkpoint)})
    context = ContextParams(of="recording", denoise=denoise)
    given = [*made.by_name, "encoder_input"], toy.store, encoder.n_samples, BaselineParams(), made
    found = FeatureExtractor(*given, context=context)(chosen)
    plain = FeatureExtractor(*given, context=ContextParams(of="recording"))(chosen)
    inputs = torch.from_numpy(plain["encoder_input"]).unflatten(1, (-1, 190))
    limited, around = inputs, surroundings(toy.store, chosen, encoder.n_samples, context)
    if denoise:
        raw = FeatureExtractor(*given)(chosen)["encoder_input"]
        of_limited = in_context(winsorised(raw, around, context), around, context)
        limited = torch.from_numpy(of_limited).unflatten(1, (-1, 190))
    with torch.inference_mode():
        outputs = encoder.slow_outputs(limited).numpy()
        beside = encoder.slow.linear_features(inputs).numpy()
    if denoise:
        both = denoised(np.concatenate([outputs, beside], 1), around, context)
        outputs = both[:, :2] + both[:, 2:4]
        expected = winsorised(plain["encoder_input"], around, context)
        expected -= np.stack([expected[chosen["row"] == row].mean(0) for row in chosen["row"]])
        np.testing.assert_allclose(found["encoder_input"], expected, atol=1e-4)
    for row in (0, 1):
        own = (chosen["row"] == row).to_numpy()
        expected = outputs[own] - outputs[own].mean(0)
        np.testing.assert_allclose(found["pretrained"][own], expected, rtol=1e-3, atol=1e-3)


def test_pretrained_features_and_the_input_beside_them_count_alike(toy, pretrained):
    encoder = load_encoder(pretrained[0])
    windows = with_split(toy.windows, toy.windows["subject"] < "05")
    train = (windows["split"] == "train").to_numpy()
    extractor = FeatureExtractor(
        ("pretrained_and_input",), toy.store, 200, BaselineParams(),
        FrozenEncoders({"pretrained": encoder}),
    )  # fmt: skip
    found = extractor.fit(windows)
    assert set(found) == {"pretrained_and_input"}
    values = found["pretrained_and_input"]
    assert values.shape[1] == encoder.n_features + len(encoder.band) * 190
    for part in np.split(values[train], [encoder.n_features], axis=1):
        assert part.var(0).sum() == pytest.approx(1.0, rel=1e-4)
    rest = windows[~train].reset_index(drop=True)
    again = extractor(rest)["pretrained_and_input"]
    np.testing.assert_allclose(again, values[~train], atol=1e-4)
