from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.recordings.montage import (
    bipolar_pairs,
    canonical_names,
    match_names,
    template_positions,
)
from hbn_foundation.recordings.sphere import angles, to_unit_sphere
from recordings.eeg_files import in_head_coordinates

FROM_FEW_TO_MANY = "F3 F4 C3 C4 O1 O2 AF3 AF4 F7 F8 T7 T8 P7 P8 Fp1 Fp2 Fz Cz Pz"
TEN_TWENTY = ["Fp1", "F4", "F7", "T8", "C3", "P7", "P4", "O1", "O2", "Fz", "Cz", "Pz"]


def test_names_of_many_makers():
    known = {
        "Fp1": ["EEG Fp1", "EEG Fp1-REF", "EEG FP1-LE", "EEGFp1", "FP1", "Fp1."],
        "Cz": ["cz", "VREF"],
        "C3": [" C3 "],
        "C4": ["C4A1"],
        "F3": ["F3-M2"],
        "FC5": ["Fc5.."],
        "T7": ["T3"],
        "P8": ["EEG T6-A1"],
        "O2": ["O2_A1"],
        "A1": ["A1"],
        None: ["EEG 001", "E22", "E0", "FZ-CZ", "FP1F7", "Fp1-F3", "A2-A1", "EEG A2-A1", "ECG ECG",
               "EOG", "", "Status"],
    }  # fmt: skip
    for canonical, names in known.items():
        assert [canonical_names([name]) for name in names] == [[canonical]] * len(names)


def test_hydrocel_numbers_lie_at_their_ten_twenty_names():
    pairs = (
        "E22 Fp1 E9 Fp2 E36 C3 E104 C4 E70 O1 E83 O2 E62 Pz E11 Fz E24 F3 E124 F4 E52 P3 E92 P4 "
        "E58 P7 E96 P8 E33 F7 E122 F8 E45 T7 E108 T8"
    )
    places = template_positions(pairs.split())
    assert angles(places[::2], places[1::2]).max() < 17


def test_templates_lie_on_the_unit_sphere_left_front_and_up():
    names = [*TEN_TWENTY, *(f"E{n}" for n in range(1, 129)), "E1@257", "E30@65"]
    np.testing.assert_allclose(np.linalg.norm(template_positions(names), axis=1), 1)
    fp1, o2, cz, e22, e83 = template_positions(["Fp1", "O2", "Cz", "E22", "E83"])
    for front_left, back_right in ((fp1, o2), (e22, e83)):
        assert front_left[0] < 0 < front_left[1]
        assert back_right[1] < 0 < back_right[0]
    assert cz[2] > 0.98


def test_numbers_of_another_net_are_not_taken_for_the_usual_one():
    names = canonical_names([f"E{n}" for n in range(1, 258)])
    assert names[0] == "E1@257"
    assert names[-1] == "Cz"
    first, usual = template_positions(["E1@257", "E1"])
    assert not np.allclose(first, usual, atol=0.05)
    assert canonical_names([f"E{n}" for n in range(1, 65)])[0] == "E1@65"
    assert canonical_names([f"EEG E{n:03d}" for n in range(1, 130)])[::64] == ["E1", "E65", "Cz"]


def test_numbers_speak_for_a_net_only_where_most_are_there():
    assert canonical_names([f"E{n}" for n in range(1, 33)]) == [None] * 32
    assert canonical_names([f"E{n}" for n in range(1, 33)], "EGI")[0] == "E1@33"
    assert canonical_names(["E1", "E5", "E17"], "Geodesic") == ["E1", "E5", "E17"]
    assert canonical_names(["F3", "F4", "E1", "E2"]) == ["F3", "F4", None, None]
    assert canonical_names([f"EEG {n:03d}" for n in range(1, 129)]) == [None] * 128


@pytest.mark.parametrize("size", [16, 32, 64, 128, 160, 256])
def test_biosemi_labels_are_those_of_the_cap_that_they_fill(size):
    import mne

    labels = [f"{'ABCDEFGH'[i // 32]}{i % 32 + 1}" for i in range(size)]
    montage = mne.channels.make_standard_montage(f"biosemi{size}")
    names = canonical_names(labels)
    if size <= 64:
        assert names == montage.ch_names
    else:
        assert names == [f"{label}@biosemi{size}" for label in labels]
    true = np.array(list(montage.get_positions()["ch_pos"].values()))
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    assert angles(template_positions(names), true).max() < 17


def test_counted_names_are_no_ten_twenty_sites():
    assert canonical_names([f"C{n}" for n in range(1, 33)]) == [None] * 32
    few = ["C1", "C2", "C3", "F9", "T1", "T3", "T4"]
    assert canonical_names(few)[:4] == few[:4]


def test_pairs_are_derivations_unless_they_share_their_second_end():
    assert bipolar_pairs(["FP1-F7", "EEG F7 - T3", "FZ-CZ", "Fz-Ref", "C3-A2"]) == {
        0: ("Fp1", "F7"),
        1: ("F7", "T7"),
        2: ("Fz", "Cz"),
    }
    assert bipolar_pairs(["Fz-Cz", "Pz-Cz", "Oz-Cz"]) == {}
    assert bipolar_pairs(["Fp1 F7", "T3  T5"]) == {0: ("Fp1", "F7"), 1: ("T7", "P7")}
    assert canonical_names(["Fz-FCz", "Pz-FCz", "T5-FCz"]) == ["Fz", "Pz", "P7"]


def test_names_of_a_sidecar_match_in_other_writings():
    own = ["EEG Fz-Ref", "EEG T3-Ref", "ch01", "EEG 002", "EOG L"]
    other = ["T7", "FZ", "Ch1", "EEG002", "eog_l", "nothing"]
    assert match_names(own, other) == {0: 1, 1: 0, 2: 2, 3: 3, 4: 4}
    assert match_names(["EEG N1-REF", "EEG N2-REF"], ["n2", "n1"]) == {0: 1, 1: 0}
    assert match_names(["Fz-A1", "Fz-A2"], ["Fz"]) == {}


@pytest.mark.parametrize("size", [6, 14, 19])
@pytest.mark.parametrize("origin", [0.0, 0.038])
def test_few_electrodes_of_a_real_head_are_placed_around_its_centre(size, origin):
    names, places = FROM_FEW_TO_MANY.split()[:size], in_head_coordinates("colin27_1005")
    points = np.array([places[name] for name in names])
    unit = to_unit_sphere(points - [0, 0.015 if origin == 0 else 0, 0.038 - origin])
    assert angles(unit, template_positions(names)).max() < 5


@given(st.lists(st.text(max_size=12), max_size=20))
def test_any_names_are_resolved_to_places_or_not(names):
    found = canonical_names(names)
    assert len(found) == len(names)
    known = [name for name in found if name is not None]
    assert template_positions(known).shape == (len(known), 3)
    assert set(match_names(names, names)) >= {i for i, n in enumerate(names) if n.strip()}
