"""Factors, age and sex are what participants.tsv says, unknown where it says nothing."""

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.labels.participants import (
    EXCLUDED_SUBJECTS,
    FACTORS,
    challenge_subjects,
    factor_table,
    read_participants,
)

RELEASES = {"ds005505": 136, "ds005506": 150, "ds005507": 184, "ds005508": 324, "ds005509": 330}


@pytest.fixture
def participants() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject": ["a", "b", "NDARWV769JM7", "d"],
            "sex": ["F", "male", None, "O"],
            "age": [8.5, None, 10.0, 11.0],
            "p_factor": [0.5, -1.0, 0.0, None],
            "attention": [0.1, 0.2, 0.3, None],
            "internalizing": [1.0, 2.0, 3.0, None],
            "externalizing": [-1.0, -2.0, -3.0, None],
        }
    )


def test_values_and_gaps(participants):
    table = factor_table(participants.set_index(pd.Index([7, 3, 1, 0])))
    assert table.columns.tolist() == ["subject", *FACTORS, "age", "sex"]
    np.testing.assert_array_equal(table["sex"], [0, 1, np.nan, np.nan])
    np.testing.assert_array_equal(table["age"], [8.5, np.nan, 10, 11])
    np.testing.assert_array_equal(table["externalizing"], [-1, -2, -3, np.nan])


def test_the_challenge_drops_its_excluded_subjects_and_those_without_factors(participants):
    assert challenge_subjects(factor_table(participants))["subject"].tolist() == ["a", "b"]
    assert len(EXCLUDED_SUBJECTS) == 9


def test_other_data_sets_have_them_unknown():
    table = factor_table(pd.DataFrame({"subject": ["1", "2"]}))
    assert table.drop(columns="subject").isna().all(axis=None)
    assert table.drop(columns="subject").dtypes.eq(float).all()


def test_a_word_for_a_number_is_told(participants):
    participants["attention"] = ["low", "0.2", None, None]
    with pytest.raises(UserError, match="attention of subject a is low, expected a number"):
        factor_table(participants)


def test_real_participants(hbn_metadata_root):
    tables = {name: factor_table(read_participants(hbn_metadata_root / name)) for name in RELEASES}
    assert {name: len(table) for name, table in tables.items()} == RELEASES
    table = pd.concat(tables.values(), ignore_index=True)
    assert not table["subject"].duplicated().any()
    unknown = table[list(FACTORS)].isna()
    assert (unknown.all(axis=1) == unknown.any(axis=1)).all()  # all four are missing together
    assert table["sex"].isin([0, 1]).all()
    assert table["age"].between(5, 22).all()
