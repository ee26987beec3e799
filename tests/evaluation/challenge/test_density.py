"""Predicted distributions are held against what came."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from hbn_foundation.evaluation.challenge.density import (
    coverage,
    density_of,
    probability_transform,
)

EDGES = np.linspace(0.5, 2.5, 41)


def shares_of(middle: np.ndarray, spread: float) -> np.ndarray:
    shares = np.diff(norm.cdf(EDGES[None], middle[:, None], spread), axis=1)
    return shares / shares.sum(1, keepdims=True)


def test_right_distributions_are_flat_and_cover_what_they_say():
    random = np.random.default_rng(0)
    middle = random.uniform(1.2, 1.8, 3000)
    times = middle + 0.15 * random.normal(size=3000)
    shares = shares_of(middle, 0.15)
    assert kstest(probability_transform(times, EDGES, shares), "uniform").pvalue > 0.01
    levels = np.array([0.5, 0.8, 0.95])
    np.testing.assert_allclose(coverage(times, EDGES, shares, levels), levels, atol=0.03)
    narrow = coverage(times, EDGES, shares_of(middle, 0.08), levels)
    wide = coverage(times, EDGES, shares_of(middle, 0.3), levels)
    assert (narrow < levels - 0.04).all()
    assert (wide[:2] > levels[:2] + 0.1).all()


@given(st.integers(0, 100), st.integers(1, 50))
def test_later_times_have_more_before_them(seed, n_bins):
    random = np.random.default_rng(seed)
    edges = np.linspace(0.5, 2.5, n_bins + 1)
    shares = np.tile(random.dirichlet(np.ones(n_bins)), (30, 1))
    times = np.sort(random.uniform(0.2, 2.8, 30))
    places = probability_transform(times, edges, shares)
    assert (np.diff(places) >= -1e-12).all()
    assert (places[times <= 0.5] == 0).all()
    np.testing.assert_allclose(places[times >= 2.5], 1)


def test_bins_are_read_in_order_and_sum_to_one():
    table = pd.DataFrame({"density_01": [3.0], "density_00": [1.0], "rt": [1.0]})
    edges, shares = density_of(table)
    np.testing.assert_allclose(edges, [0.5, 1.5, 2.5])
    np.testing.assert_allclose(shares, [[0.25, 0.75]])
    assert density_of(table[["rt"]])[1] is None
