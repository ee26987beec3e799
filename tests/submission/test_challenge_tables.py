"""Tables of predictions hold what they should, or one line says what is wrong."""

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.submission.tables import challenge1_table, challenge2_table


def trials(**changes: object) -> pd.DataFrame:
    columns = {
        "recording": ["b", "a", "a"],
        "subject": ["2", "1", "1"],
        "trial": [1, 10, 2],
        "rt": [1.0, 2.0, np.nan],
        "predicted_rt": [1.5, 0.5, 2.5],
        "p_correct": [0.0, 1.0, 0.5],
    }
    return pd.DataFrame(columns | changes)


def subjects(**changes: object) -> pd.DataFrame:
    factors = ["p_factor", "attention", "internalizing", "externalizing"]
    columns = {"subject": ["2", "1"], "n_windows": [3, 4]}
    columns |= {f"predicted_{name}": [0.1, -3.0] for name in factors}
    return pd.DataFrame(columns | changes)


def test_one_row_per_trial():
    table = challenge1_table(trials())
    assert list(table.columns) == ["recording", "trial", "predicted_rt", "p_correct"]
    assert table["trial"].tolist() == [2, 10, 1]
    assert table["predicted_rt"].tolist() == [2.5, 0.5, 1.5]


def test_one_row_per_subject_of_its_windows():
    factors = ["p_factor", "attention", "internalizing", "externalizing"]
    assert challenge2_table(subjects())["subject"].tolist() == ["1", "2"]
    windows = pd.concat([subjects(), subjects(predicted_attention=[2.1, 1.0])])
    table = challenge2_table(windows)
    assert list(table.columns) == ["subject", *(f"predicted_{name}" for name in factors)]
    assert table["predicted_attention"].tolist() == pytest.approx([-1.0, 1.1])
    assert table["predicted_p_factor"].tolist() == pytest.approx([-3.0, 0.1])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"predicted_rt": [1.0, 2.6, 1.0]},
         "challenge1.csv: recording a, trial 10: predicted_rt is 2.6; expected a number from 0.5 "
         "to 2.5"),
        ({"predicted_rt": [1.0, np.nan, 1.0]}, "recording a, trial 10: predicted_rt is nan"),
        ({"predicted_rt": ["1", "2", "soon"]}, "recording a, trial 2: predicted_rt is soon"),
        ({"p_correct": [0.0, -0.1, 0.0]}, "trial 10: p_correct is -0.1; expected a"),
        ({"trial": [1, 2, 2]}, "challenge1.csv: recording a, trial 2: it is there more than once"),
        ({"recording": ["b", "a", None]}, "recording nan, trial 2: there is no recording"),
    ],
)  # fmt: skip
def test_wrong_values(changes, expected):
    with pytest.raises(UserError) as caught:
        challenge1_table(trials(**changes))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (subjects(predicted_attention=[0.0, np.inf]), "subject 1: predicted_attention is inf; exp"),
        (subjects().iloc[:0], r"challenge2\.csv: no rows; expected one for each subject"),
        (subjects()[["subject"]], r"challenge2\.csv: no column predicted_p_factor; found subject"),
    ],
)
def test_wrong_factors(table, expected):
    with pytest.raises(UserError, match=expected):
        challenge2_table(table)
