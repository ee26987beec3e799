"""Strata of scores: levels, weights of cells, and orders that are as balanced as they can be."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils import compute_sample_weight

from hbn_foundation.errors import UserError
from hbn_foundation.labels.strata import balanced_order, cell_weights, score_strata, with_strata


def people(n: int, **columns) -> pd.DataFrame:
    return pd.DataFrame({"subject": [f"P{i:03}" for i in range(n)], **columns})


def test_strata_of_scores_are_levels_and_unknown_is_one():
    table = people(6, began=["open", "closed", None, "open", "closed", "closed"])
    names = table["subject"].tolist()
    found = score_strata(names[::-1], table, "began")
    assert found[names].tolist() == ["open", "closed", "unknown", "open", "closed", "closed"]
    windows = pd.DataFrame({"subject": [names[1], names[0], names[1]]})
    levels = with_strata(windows, table, "began")["stratum"]
    assert levels.tolist() == ["closed", "open", "closed"]
    assert with_strata(windows, table, None) is windows
    numbers = score_strata(names, table.assign(score=range(6)), "score")
    assert numbers.nunique() == 3  # quantile bins


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("begun", r"stratify_scores_by=begun: expected a column of participants.tsv, which has .*"),
        ("began", r"stratify_scores_by=began: expected two values .* all 3 subjects have open"),
    ],
)
def test_strata_that_cannot_be(column, says):
    with pytest.raises(UserError, match=says):
        score_strata(["P000", "P001", "P002"], people(3, began=["open"] * 3), column)


def test_cells_of_class_and_stratum_weigh_alike():
    classes = np.repeat([0, 0, 1, 1, 1], [6, 2, 3, 1, 4])
    strata = np.repeat(["a", "b", "a", "b", "c"], [6, 2, 3, 1, 4])
    weights = cell_weights(classes, strata)
    assert weights.mean() == pytest.approx(1)
    sums = pd.Series(weights).groupby([classes, strata]).sum()
    np.testing.assert_allclose(sums[0], 4)  # half of 16, in two strata
    np.testing.assert_allclose(sums[1], 8 / 3)
    training = np.arange(16) < 8  # of class 0 alone
    of_training = cell_weights(classes, strata, training)
    assert of_training[:8].mean() == pytest.approx(1)
    assert (of_training[8:] == 1).all()
    balanced = compute_sample_weight("balanced", classes)
    np.testing.assert_allclose(cell_weights(classes, np.full(16, "a")), balanced)


@given(st.lists(st.sampled_from("abc"), min_size=3, max_size=40), st.integers(0, 9))
def test_every_beginning_is_as_balanced_as_it_can_be(levels, seed):
    strata = pd.Series(levels, index=[f"s{n:02}" for n in range(len(levels))])
    order = balanced_order(strata, seed)
    assert sorted(order) == sorted(strata.index)
    assert order == balanced_order(strata.sample(frac=1, random_state=seed), seed)
    sizes = strata.value_counts()
    for n in range(1, len(order) + 1):
        counts = strata[order[:n]].value_counts().reindex(sizes.index, fill_value=0)
        left = counts[counts < sizes]  # those that have subjects left are level, or one ahead
        assert left.empty or counts.max() - left.min() <= 1
        assert (counts > 0).sum() == min(n, len(sizes))


def test_of_five_people_two_are_of_the_rare_stratum():
    strata = pd.Series(["closed"] * 37 + ["open"] * 5, index=[f"s{n:02}" for n in range(42)])
    for seed in range(5):
        order = balanced_order(strata, seed)
        found = [int((strata[order[:n]] == "open").sum()) for n in (2, 5, 20, 42)]
        assert found == [1, 2, 5, 5]
