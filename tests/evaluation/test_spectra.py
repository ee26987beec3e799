"""Band power and covariances measure what was put into the signals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hbn_foundation import progress
from hbn_foundation.evaluation import baselines, spectra
from hbn_foundation.evaluation.params import BaselineParams, EvaluationParams
from hbn_foundation.evaluation.wording import channels_text
from hbn_foundation.models.spatial import DIRECTIONS_10_20
from hbn_foundation.signals.store import store_from_arrays

BANDS = EvaluationParams().bands
POSITIONS = np.array(list(DIRECTIONS_10_20.values()), dtype=np.float32)


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


def test_a_flat_window_is_still_positive_definite():
    matrices = spectra.covariances(np.zeros((1, 4, 200), np.float32), BANDS, 100.0, 0.1)
    assert np.linalg.eigvalsh(matrices).min() > 0


def test_unusable_channels_are_missing_from_band_power():
    signals = np.zeros((2, 3, 200), np.float32)
    mask = np.array([[True, False, True], [True, True, True]])
    power = spectra.log_band_power(signals, mask, BANDS, 100.0)
    missing = np.isnan(power).reshape(2, len(BANDS), 3)
    np.testing.assert_array_equal(missing, np.repeat(~mask[:, None], len(BANDS), 1))


def test_few_channels_stay_themselves_and_bad_ones_come_from_their_neighbours():
    mask = np.ones((3, 19), bool)
    mask[1, 9] = False
    weights = spectra.electrode_weights(POSITIONS, mask)
    np.testing.assert_array_equal(weights[0], np.eye(19))
    np.testing.assert_array_equal(weights[2], np.eye(19))
    assert weights[1, 9, 9] == 0
    assert weights[1, 9].sum() == pytest.approx(1, abs=1e-5)
    near = np.argsort(weights[1, 9])[-4:]
    assert set(near) == {4, 8, 10, 14}  # Fz, C3, C4, Pz around Cz


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
    components = baselines.fit_components(
        ("riemann",), store, windows.iloc[:2], 200, BaselineParams()
    )
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
    features = baselines.classical_features(
        ("riemann", "filter_bank"), store, windows, np.array([True, True, False]), 200,
        BaselineParams(),
    )  # fmt: skip
    assert features["riemann"].shape == (3, size * (size + 1) // 2)
    assert features["filter_bank"].shape == (3, 6 * 32 * 33 // 2)
    assert np.isfinite(features["filter_bank"]).all()
    said = channels_text(["riemann", "band_power"], n_channels)
    assert f"all {n_channels} channels" in said
    assert (
        "by principal components fitted on training windows: Riemannian broadband 64." in said
    ) == (n_channels == 129)


def test_tangent_space_of_the_training_mean():
    random = np.random.default_rng(0)
    noise = random.normal(size=(40, 2, 4, 50))
    matrices = noise @ noise.swapaxes(-1, -2) / 50
    train = np.arange(40) < 20
    vectors = baselines.tangent_vectors(matrices, train)
    assert vectors.shape == (40, 2 * 10)
    np.testing.assert_allclose(vectors[train].mean(0), 0, atol=1e-4)
    other = matrices.copy()
    other[~train] *= 5  # what is held out does not move the mean
    np.testing.assert_allclose(baselines.tangent_vectors(other, train)[train], vectors[train])


def test_reading_in_batches_changes_nothing(toy):
    windows = toy.windows[toy.windows["subject"].isin(["02", "03"])].reset_index(drop=True)
    whole, small = (
        baselines.measure(
            ("band_power", "riemann", "filter_bank", "majority"), toy.store, windows, 200,
            EvaluationParams(batch_size=size),
        )
        for size in (64, 7)
    )  # fmt: skip
    assert set(whole) == {"band_power", "riemann", "filter_bank"}
    for name, values in whole.items():
        np.testing.assert_allclose(values, small[name], rtol=1e-5)
    bad = (windows["subject"] == "03").to_numpy(dtype=bool)
    assert bad.any()
    np.testing.assert_array_equal(np.isnan(whole["band_power"]).any(1), bad)


def test_measuring_says_how_far_it_is(toy, monkeypatch, caplog):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    params = EvaluationParams(batch_size=7)
    with caplog.at_level("INFO"):
        found = baselines.measure(("filter_bank",), toy.store, toy.windows, 200, params)
        baselines.tangent_vectors(found["filter_bank"], np.ones(len(toy.windows), dtype=bool))
    assert f"batches measured for baselines: 1 of {-(-len(toy.windows) // 7)}" in caplog.text
    assert f"mean covariances of bands: 1 of {len(params.bands)}" in caplog.text
