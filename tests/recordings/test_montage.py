from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.recordings.montage import (
    canonical_names,
    channel_positions,
    template_positions,
    to_unit_sphere,
)

TEN_TWENTY = ["Fp1", "F4", "F7", "T8", "C3", "P7", "P4", "O1", "O2", "Fz", "Cz", "Pz"]


def angle(a: str, b: str) -> float:
    first, second = template_positions([a, b])
    return float(np.degrees(np.arccos(np.clip(first @ second, -1, 1))))


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [
        ("EEG Fp1", "Fp1"),
        ("EEG Fp1-REF", "Fp1"),
        ("EEG FP1-LE", "Fp1"),
        ("FP1", "Fp1"),
        ("Fp1.", "Fp1"),
        ("Fc5..", "FC5"),
        ("T3", "T7"),
        ("EEG T6-A1", "P8"),
        ("cz", "Cz"),
        ("E129", "Cz"),
        ("VREF", "Cz"),
        ("E022", "E22"),
        ("EEG 001", "E1"),
        (" C3 ", "C3"),
        ("F3-M2", "F3"),
        ("A2-A1", None),
        ("EEG A2-A1", None),
        ("Fp1-F3", None),
        ("ECG ECG", None),
        ("EOG", None),
        ("", None),
        ("Status", None),
        ("E0", None),
    ],
)
def test_names_of_many_makers(given_name, expected):
    assert canonical_names([given_name]) == [expected]


def test_known_and_unknown_are_told_apart_in_order():
    names, positions, unknown = channel_positions(["EEG Pz", "ECG", "T4", "A2-A1"])
    assert names == ["Pz", "T8"]
    assert unknown == ["ECG", "A2-A1"]
    assert positions[0, 2] > 0.7
    assert positions[1, 0] > 0.9


def test_every_template_lies_on_the_unit_sphere():
    names = [*TEN_TWENTY, *(f"E{n}" for n in range(1, 129)), "E1@257", "E30@65"]
    np.testing.assert_allclose(np.linalg.norm(template_positions(names), axis=1), 1)


@pytest.mark.parametrize(
    ("number", "name"),
    [("E22", "Fp1"), ("E9", "Fp2"), ("E36", "C3"), ("E104", "C4"), ("E70", "O1"), ("E83", "O2"),
     ("E62", "Pz"), ("E11", "Fz"), ("E24", "F3"), ("E124", "F4"), ("E52", "P3"), ("E92", "P4"),
     ("E58", "P7"), ("E96", "P8"), ("E33", "F7"), ("E122", "F8"), ("E45", "T7"), ("E108", "T8")],
)  # fmt: skip
def test_hydrocel_numbers_lie_at_their_ten_twenty_names(number, name):
    assert angle(number, name) < 17


def test_left_is_left_front_is_front_and_up_is_up():
    fp1, o2, cz, e22, e83 = template_positions(["Fp1", "O2", "Cz", "E22", "E83"])
    for front_left, back_right in ((fp1, o2), (e22, e83)):
        assert front_left[0] < 0 < front_left[1]
        assert back_right[1] < 0 < back_right[0]
    assert cz[2] > 0.98


def test_numbers_of_another_net_are_not_taken_for_the_usual_one():
    full = [f"E{n}" for n in range(1, 257)]
    names, positions, unknown = channel_positions([*full, "E257"])
    assert unknown == []
    assert names[0] == "E1@257"
    assert names[-1] == "Cz"
    assert not np.allclose(positions[0], template_positions(["E1"])[0], atol=0.05)
    assert canonical_names([f"E{n}" for n in range(1, 65)])[0] == "E1@65"
    assert canonical_names(["E1", "E5", "E17"]) == ["E1", "E5", "E17"]


def test_digitised_heads_come_to_the_same_places():
    rng = np.random.default_rng(0)
    names = ["Fp1", "Fp2", "C3", "C4", "O1", "O2", "Cz", "T7", "T8", "Pz"]
    unit = template_positions(names)
    measured = unit * 0.09 + [0.003, 0.01, 0.045] + rng.normal(0, 0.001, (len(names), 3))
    cosines = (to_unit_sphere(measured) * unit).sum(axis=1)
    assert cosines.min() > np.cos(np.radians(6))


@given(st.lists(st.text(max_size=12), max_size=20))
def test_any_text_is_either_resolved_or_listed(names):
    known, positions, unknown = channel_positions(names)
    assert len(known) + len(unknown) == len(names)
    assert positions.shape == (len(known), 3)
    assert canonical_names(known) == known
