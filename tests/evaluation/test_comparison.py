"""The corrected resampled t-test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from hbn_foundation.evaluation.comparison import compare


def test_without_shared_subjects_it_is_the_paired_t_test():
    random = np.random.default_rng(0)
    first, second = random.normal(0.1, 1, 12), random.normal(size=12)
    assert compare(first, second, 0.0).p == pytest.approx(ttest_rel(first, second).pvalue)


def test_a_worked_example():
    # differences .01 .02 .03 .04: mean .025, variance 1/6000; t = .025 / sqrt((1/4 + 1/3) / 6000)
    # = 2.5355 with 3 degrees of freedom
    result = compare(np.array([0.71, 0.72, 0.73, 0.74]), np.full(4, 0.7), 1 / 3)
    assert result.difference == pytest.approx(0.025)
    assert (result.wins, result.folds) == (4, 4)
    assert result.p == pytest.approx(0.0850, abs=1e-4)


def test_correction_makes_it_harder_to_be_sure():
    first = np.array([0.71, 0.72, 0.73, 0.74])
    assert compare(first, np.full(4, 0.7), 1 / 3).p > compare(first, np.full(4, 0.7), 0).p


def test_it_is_symmetric_and_ties_win_nothing():
    first, second = np.array([0.7, 0.6, 0.8]), np.array([0.6, 0.6, 0.9])
    there, back = compare(first, second, 0.3), compare(second, first, 0.3)
    assert there.p == pytest.approx(back.p)
    assert (there.wins, back.wins) == (1, 1)


def test_degenerate_folds():
    same = np.full(3, 0.7)
    assert compare(same, same, 0.3).p == 1.0
    assert np.isnan(compare(same[:1], same[:1], 0.3).p)
    assert compare(np.array([np.nan, 0.7]), np.array([0.6, 0.6]), 0.3).folds == 1
