"""Linear slow features find what is slow, whatever else varies more."""

import numpy as np
import pytest
from sklearn.base import clone

from hbn_foundation.errors import UserError
from hbn_foundation.training.slow_features import LinearSlowFeatures


@pytest.fixture(scope="module")
def windows():
    """Six recordings of 60 windows of 2 s: one slow source among nine fast and stronger ones."""
    random = np.random.default_rng(0)
    recordings, onsets = np.repeat(np.arange(6), 60), np.tile(2.0 * np.arange(60), 6)
    slow = np.sin(2 * np.pi * onsets / 60 + recordings)
    sources = np.column_stack([slow, 3 * random.standard_normal((360, 9))])
    trait = 10 * random.standard_normal((6, 10))[recordings]  # constant within a recording
    mixing = np.linalg.qr(random.standard_normal((10, 10)))[0]
    return sources @ mixing + trait, recordings, onsets, slow


def fitted(windows, **options) -> LinearSlowFeatures:
    values, recordings, onsets, _ = windows
    return LinearSlowFeatures(**options).fit(values, recordings=recordings, onsets=onsets)


def within(values, recordings) -> np.ndarray:
    means = np.stack([values[recordings == one].mean(0) for one in np.unique(recordings)])
    return values - means[recordings]


def test_the_slow_source_is_the_first_feature(windows):
    values, recordings, _, slow = windows
    model = fitted(windows, n_components=3, shrinkage=0.0, between=0.0)
    found = within(model.transform(values), recordings)
    assert abs(np.corrcoef(found[:, 0], slow)[0, 1]) > 0.98
    assert model.slowness_[0] < 0.5 < 1.5 < model.slowness_[1] <= model.slowness_[2]
    signal = 1 - model.slowness_ / 2  # the rest is white noise, of slowness 2
    expected = np.diag(signal / (1 - signal)) / (signal / (1 - signal)).mean()
    np.testing.assert_allclose(found.T @ found / (len(found) - 6), expected, rtol=1e-3, atol=1e-3)


def test_a_constant_of_each_recording_counts_by_its_share_alone(windows):
    values, recordings, onsets, slow = windows
    moved = values + 50 * np.random.default_rng(1).standard_normal((6, 10))[recordings]
    before, after = (
        fitted((one, recordings, onsets, slow), between=0.0) for one in (values, moved)
    )
    np.testing.assert_allclose(np.abs(after.components_), np.abs(before.components_), atol=1e-6)


def test_of_two_slow_sources_the_one_that_tells_recordings_apart_comes_second():
    random = np.random.default_rng(0)
    recordings, onsets = np.repeat(np.arange(20), 60), np.tile(2.0 * np.arange(60), 20)
    slow = [np.sin(2 * np.pi * onsets / period + recordings) for period in (80, 60)]
    trait = 5 * random.standard_normal(20)[recordings]
    values = np.column_stack([slow[0] + trait, slow[1], *random.standard_normal((3, 1200))])
    for between, first in (0.0, 0), (0.015, 1):
        model = LinearSlowFeatures(2, 10.0, 0.0, between)
        model.fit(values, recordings=recordings, onsets=onsets)
        assert np.abs(model.components_).argmax(0).tolist() == [first, 1 - first]
        assert model.slowness_[first] < model.slowness_[1 - first]  # of the recordings alone
    weighed = within(model.transform(values), recordings).std(0)
    noise = model.slowness_ / 2 + 0.015 * np.array([0, trait.var() / slow[0].var()])
    expected = np.sqrt((1 - model.slowness_ / 2) / noise)
    np.testing.assert_allclose(weighed[0] / weighed[1], expected[0] / expected[1], rtol=0.1)


def test_pairs_are_near_in_real_time_and_of_one_recording():
    values = np.random.default_rng(0).standard_normal((7, 2))
    recordings, onsets = np.array([1, 0, 0, 0, 1, 0, 1]), np.array([0.0, 0, 2, 40, 10, 50, 20])
    model = LinearSlowFeatures(2, 10.0, 0.0, 0.0).fit(values, recordings=recordings, onsets=onsets)
    apart = np.diff(values[[[1, 2], [3, 5], [0, 4], [4, 6]]], axis=1)[:, 0]
    inner = within(values, recordings)
    ratio = np.linalg.solve(inner.T @ inner / 5, apart.T @ apart / 4)
    np.testing.assert_allclose(model.slowness_, np.sort(np.linalg.eigvals(ratio)), rtol=1e-6)


def test_the_variance_is_that_of_groups_of_recordings_and_pairs_stay_in_them():
    values = np.random.default_rng(0).standard_normal((6, 2))
    recordings, onsets = np.array([0, 0, 1, 1, 2, 2]), np.tile([0.0, 2.0], 3)
    groups = np.array([0, 0, 0, 0, 1, 1])
    model = LinearSlowFeatures(2, 10.0, 0.0, 0.0)
    model.fit(values, recordings=recordings, onsets=onsets, groups=groups)
    apart, inner = np.diff(values.reshape(3, 2, 2), axis=1)[:, 0], within(values, groups)
    ratio = np.linalg.solve(inner.T @ inner / 4, apart.T @ apart / 3)
    np.testing.assert_allclose(model.slowness_, np.sort(np.linalg.eigvals(ratio)), rtol=1e-6)


def test_recordings_no_longer_than_the_lag_say_nothing_of_slowness():
    random, recordings = np.random.default_rng(0), np.repeat(np.arange(40), 5)
    values, onsets = random.standard_normal((200, 4)), np.tile(2.0 * np.arange(5), 40)
    values[:, 0] += 2 * (onsets > 4)
    for kept in (slice(None), onsets < 8 - 4 * (recordings % 2)):  # of one length and of two
        with pytest.raises(UserError, match=r"10 s nothing .* at most [68] s apart"):
            LinearSlowFeatures(2, 10.0).fit(
                values[kept], recordings=recordings[kept], onsets=onsets[kept]
            )
    model = LinearSlowFeatures(2, 4.0, 0.0).fit(values, recordings=recordings, onsets=onsets)
    assert np.abs(model.components_[:, 0]).argmax() == 0


def test_it_is_an_estimator_and_names_what_it_lacks(windows):
    model = clone(LinearSlowFeatures(n_components=2, max_lag=4.0))
    assert model.get_params() == {
        "n_components": 2, "max_lag": 4.0, "shrinkage": 0.2, "between": 0.015
    }  # fmt: skip
    values = windows[0]
    with pytest.raises(UserError, match="no two windows of a recording begin within 4 s"):
        model.fit(values[:3], recordings=[0, 0, 1], onsets=[0.0, 50.0, 0.0])
    assert list(fitted(windows).get_feature_names_out()) == [f"slow{n}" for n in range(5)]
