"""Intervals over subjects, the corrected resampled t-test and Holm's correction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, ttest_rel

from hbn_foundation.evaluation.statistics import (
    Part,
    ahead,
    bca_interval,
    bootstrap_interval,
    compare,
    count_of,
    holm,
    mean_interval,
    resampled,
    score_part,
)
from hbn_foundation.scores import auroc

SCORES = np.array([0.71, 0.72, 0.73, 0.74])


def subject_interval(labels, logs, subjects, n_samples):
    def score(chosen):
        return {"auroc": auroc(labels[chosen], logs[chosen])}

    part = Part(subjects, score, without="hold one class only")
    return score_part(part, n_samples)["auroc"].interval


def test_the_corrected_t_test_of_a_worked_example():
    # differences .01 .02 .03 .04: mean .025, variance 1/6000; t = .025 / sqrt((1/4 + 1/3) / 6000)
    # = 2.5355 with 3 degrees of freedom
    result = compare(SCORES, np.full(4, 0.7), 1 / 3)
    assert result.difference == pytest.approx(0.025)
    assert result.wins == 4
    assert result.p == pytest.approx(0.0850, abs=1e-4)


def test_without_shared_subjects_it_is_the_paired_t_test():
    random = np.random.default_rng(0)
    first, second = random.normal(0.1, 1, 12), random.normal(size=12)
    plain, theirs = compare(first, second, 0.0), ttest_rel(first, second)
    assert plain.p == pytest.approx(theirs.pvalue)
    ends = theirs.confidence_interval()
    assert plain.interval[:2] == pytest.approx((ends.low, ends.high))


def test_the_interval_is_that_of_the_test():
    first, second = np.array([0.71, 0.74, 0.70, 0.76, 0.73]), np.full(5, 0.71)
    result = compare(first, second, 0.25)
    assert result.interval.low < result.difference < result.interval.high
    assert (result.interval.low > 0) == (result.p < 0.05)
    moved = compare(first - result.interval.low, second, 0.25)  # at its end p is the level
    assert moved.p == pytest.approx(0.05)
    back = compare(second, first, 0.25)
    assert back.p == pytest.approx(result.p)
    assert (result.wins, back.wins) == (3, 1)  # a tie is won by none


@pytest.mark.parametrize(
    ("first", "second", "missing", "wins"),
    [
        ([0.7, np.nan, 0.8, 0.9, 0.75], 0.6, "1 of 5 folds without a score", 4),
        ([0.7] * 3, 0.7, "the same difference in every fold", 0),
        ([0.8] * 3, 0.7, "the same difference in every fold", 3),
        ([0.7], 0.6, "one fold only", 1),
    ],
)
def test_where_there_is_no_certainty_it_is_said(first, second, missing, wins):
    result = compare(np.array(first), np.full(len(first), second), 0.3)
    assert np.isnan([result.p, *result.interval[:2]]).all()
    assert result.interval.missing == missing
    assert result.wins == wins
    assert result.difference == pytest.approx(np.nanmean(first) - second)


def test_bca_is_that_of_scipy():
    random = np.random.default_rng(0)
    values = random.exponential(size=25)  # skewed: the percentile interval is another one
    draws, left_out = resampled(lambda chosen: values[chosen].mean(), np.arange(25), 4000)
    found = bca_interval(values.mean(), draws, left_out)
    theirs = bootstrap((values,), np.mean, n_resamples=9, method="percentile")
    theirs.bootstrap_distribution = draws
    wanted = bootstrap((values,), np.mean, n_resamples=0, method="BCa", bootstrap_result=theirs)
    assert found[:2] == pytest.approx(tuple(wanted.confidence_interval), rel=1e-6)
    assert abs(found.low - np.quantile(draws, 0.025)) > 0.005


def test_nine_subjects_have_no_interval_and_ten_have():
    random = np.random.default_rng(0)
    for n in (1, 9, 10):
        subjects = np.repeat(np.arange(n), 4)
        values = random.normal(size=4 * n)
        ends = bootstrap_interval(lambda chosen, of=values: of[chosen].mean(), subjects, 200)
        assert np.isfinite(ends[:2]).all() == (n == 10)
        if n < 10:
            assert ends.missing == f"{count_of(n, 'test subject')}, an interval needs 10"
    assert count_of(1, "test subject") == "1 test subject"


def test_interval_resamples_subjects_not_windows():
    # Each subject answers all its windows alike: the windows add no certainty.
    random = np.random.default_rng(0)
    subjects = np.repeat([f"s{i}" for i in range(12)], 100)
    labels = np.tile([0, 1], 600)
    skill = np.repeat(np.tile([1.0, -1.0, 1.0, -1.0, 1.0, 1.0], 2), 100)
    odds = skill * (labels - 0.5) * 2 + random.normal(size=1200)
    interval = subject_interval(labels, np.stack([-odds / 2, odds / 2], 1), subjects, 300)
    assert interval.high - interval.low > 0.2
    assert interval.missing == ""


def test_too_many_resamples_of_one_class_give_no_interval():
    random = np.random.default_rng(0)
    subjects = np.repeat([f"s{i}" for i in range(12)], 20)
    logs = np.log(random.dirichlet(np.ones(2), size=240))
    rare = (subjects == "s0").astype(int)  # a third of the resamples lack the subject
    one_class = subject_interval(rare, logs, subjects, 300)
    assert np.isnan(one_class[:2]).all()
    assert "of the resamples hold one class only" in one_class.missing
    half = np.isin(subjects, [f"s{i}" for i in range(6)]).astype(int)
    assert np.isfinite(subject_interval(half, logs, subjects, 300)[:2]).all()
    perfect = np.log(np.eye(2)[half] * 0.8 + 0.1)
    assert subject_interval(half, perfect, subjects, 100).missing == "all resamples score alike"


def test_resamples_draw_whole_subjects_and_the_same_ones_for_every_score():
    subjects = np.array(list("abcabcabdd"))
    drawn, left_out = resampled(lambda c: np.bincount(c, minlength=10), subjects, 20)
    for subject in "abcd":
        counts = drawn[:, subjects == subject]
        assert (counts == counts[:, :1]).all()
    assert (drawn[:, [0, 1, 2, 8]].sum(1) == 4).all()
    again, _ = resampled(lambda chosen: float(chosen.sum()), subjects, 20)
    np.testing.assert_array_equal(again, drawn @ np.arange(10))
    for subject, counts in zip("abcd", left_out, strict=True):
        np.testing.assert_array_equal(counts, subjects != subject)


def test_ahead_is_paired_and_turned_for_errors():
    random = np.random.default_rng(0)
    subjects, hard = np.repeat(np.arange(15), 6), np.repeat(random.normal(0, 1, 15), 6)

    def scored(error):
        part = Part(subjects, lambda chosen: {"mae": float(error[chosen].mean())})
        return score_part(part, 300)["mae"]

    better, worse = scored(5 + hard), scored(5.1 + hard + random.normal(0, 0.02, 90))
    gap, ends = ahead(better, worse, greater_is_better=False)
    assert gap == pytest.approx(0.1, abs=0.02)
    assert 0 < ends.low < gap < ends.high < 0.15  # what both share cancels out
    assert better.interval.high - better.interval.low > 0.5
    assert ahead(better, better, False)[1].missing == "all resamples score alike"
    assert ahead(better, worse, greater_is_better=True)[0] == -gap


def test_subjects_without_a_number_are_left_out_of_a_mean():
    values = np.r_[np.random.default_rng(0).normal(size=12), np.nan]
    assert mean_interval(values, 100) == mean_interval(values[:12], 100)
    assert np.isnan(mean_interval(values[3:], 100).low)


def test_holm_on_a_known_example():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, np.nan, 0.005])),
                               [0.03, 0.06, 0.06, np.nan, 0.02])  # fmt: skip


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(values):
    p = np.array(values)
    corrected = holm(p)
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(p * len(p), 1) + 1e-12).all()
    assert (np.diff(corrected[np.argsort(p, kind="stable")]) >= 0).all()
