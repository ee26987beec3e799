"""Positions of electrodes.tsv, of the file and of templates come to the same unit sphere."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.recordings.montage import canonical_names, template_positions
from hbn_foundation.recordings.positions import FRONT_LEFT_UP, place_electrodes
from hbn_foundation.recordings.sphere import angles, to_unit_sphere
from recordings.eeg_files import in_head_coordinates

CAP = "biosemi16"
NOWHERE = np.full((16, 3), np.nan)
LANDMARKS = {"NAS": [0, 0.1, 0], "LPA": [-0.08, 0, 0], "RPA": [0.08, 0, 0]}


class Placed(NamedTuple):
    """What `place_electrodes` returns, and what it notes."""

    positions: np.ndarray
    sources: list[str]
    notes: list[str]


def placed(names, canonical, in_file, root, path="sub-1/eeg/sub-1_task-rest_eeg.edf"):
    notes = []
    return Placed(*place_electrodes(names, canonical, in_file, root, path, notes), notes)


@pytest.fixture(scope="module")
def cap():
    """(16, 3) positions of a cap in metres in head coordinates."""
    return np.array(list(in_head_coordinates(CAP).values()))


@pytest.fixture
def place(tmp_path):
    """Write electrodes.tsv with coordsystem.json, and place the channels of a recording."""

    def write_and_place(points, names=None, comma=False, in_file=NOWHERE, **system):
        names = names or [f"ch{i + 1}" for i in range(len(points))]
        folder = tmp_path / "sub-1" / "eeg"
        folder.mkdir(parents=True, exist_ok=True)
        cells = [[n, *(f"{x:.5f}" for x in p)] for n, p in zip(names, points, strict=True)]
        text = "\n".join(map("\t".join, [["name", "x", "y", "z"], *cells]))
        text = text.replace(".", ",") if comma else text
        (folder / "sub-1_electrodes.tsv").write_text(text.replace("nan", "n/a"))
        (folder / "sub-1_coordsystem.json").unlink(missing_ok=True)
        if system:
            (folder / "sub-1_coordsystem.json").write_text(json.dumps(system))
        return placed(names, canonical_names(names), in_file, tmp_path)

    return write_and_place


def off(places, cap):
    return angles(places.positions, to_unit_sphere(np.array(cap))).max()


NAMES = mne.channels.make_standard_montage(CAP).ch_names


def declared(system, unit="m", **more):
    return {"EEGCoordinateSystem": system, "EEGCoordinateUnits": unit, **more}


@pytest.mark.parametrize(("unit", "factor"), [("m", 1), ("cm", 100), ("mm", 1000)])
@pytest.mark.parametrize("said", ["m", "cm", "mm"])
@pytest.mark.parametrize("comma", [False, True])
def test_units_are_those_of_a_head_whatever_is_declared(place, cap, unit, factor, said, comma):
    places = place(cap * factor, comma=comma, **declared("CapTrak", said))
    assert off(places, cap) < 0.1
    assert set(places.sources) == {"electrodes.tsv"}
    assert any("scaled by" in note for note in places.notes) == (unit != said)
    assert any("decimal commas" in note for note in places.notes) == comma


@pytest.mark.parametrize("system", ["MNI152NLin2009aSym", "fsaverage", "ACPC"])
def test_axes_of_the_commissures_are_turned_to_those_of_the_head(place, system):
    montage = mne.channels.make_standard_montage("colin27_1020")
    points = np.array(list(montage.get_positions()["ch_pos"].values()))
    nowhere = np.full_like(points, np.nan)
    places = place(1000 * points, in_file=nowhere, **declared(system, "mm"))
    assert off(places, list(in_head_coordinates("colin27_1020").values())) < 1


FRONT = "x is front, y is left, z is up"


@pytest.mark.parametrize(
    ("axes", "names", "system", "told"),
    [
        *(
            (FRONT_LEFT_UP, None, system, f"has no landmarks: {FRONT}, as {system} has them")
            for system in ("CTF", "EEGLAB", "EEGLAB-HJ", "4DBti", "KitYokogawa", "ALS")
        ),
        (-np.eye(3), None, "LPI", "x is left, y is back, z is down, as LPI has them"),
        (np.eye(3), None, None, "no axes are declared"),
        (FRONT_LEFT_UP, None, "Other", f"by the symmetry of its electrodes {FRONT}"),
        (FRONT_LEFT_UP, None, "CapTrak", f"by the symmetry of its electrodes {FRONT}"),
        (FRONT_LEFT_UP, NAMES, "CapTrak", f"by the names of its electrodes {FRONT}"),
        (np.eye(3), NAMES, "CTF", "by the names of its electrodes x is right, y is front"),
    ],
)
def test_axes_are_those_declared_unless_names_or_symmetry_show_others(
    place, cap, axes, names, system, told
):
    places = place(cap @ axes, names, **(declared(system) if system else {}))
    assert off(places, cap) < 0.1
    assert told in "; ".join(places.notes)


@pytest.mark.parametrize("unit", ["m", "mm"])
def test_landmarks_tell_the_axes(place, cap, unit):
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    landmarks = {name: list(np.array(p) @ turn + 0.01) for name, p in LANDMARKS.items()}
    given = declared("Other", unit, AnatomicalLandmarkCoordinates=landmarks)
    places = place((cap @ turn + 0.01) * (1000 if unit == "mm" else 1), **given)
    assert off(places, cap) < 0.1
    assert places.notes == []


def test_landmarks_that_fit_no_head_are_told_and_not_used(place, cap):
    swapped = {**LANDMARKS, "LPA": LANDMARKS["RPA"], "RPA": LANDMARKS["LPA"]}
    places = place(cap, **declared("CapTrak", AnatomicalLandmarkCoordinates=swapped))
    assert off(places, cap) < 0.1
    assert any("fit no head" in note for note in places.notes)
    far = {**LANDMARKS, "LPA": [1e300] * 3}
    assert off(place(cap, **declared("CapTrak", AnatomicalLandmarkCoordinates=far)), cap) < 0.1


def test_a_measured_position_outranks_a_name(place, cap):
    moved = cap.copy()
    moved[:3] = cap[[2, 0, 1]]
    moved[5] = np.nan
    in_file = np.full_like(cap, np.nan)
    places = place(moved, NAMES, in_file=in_file, **declared("CapTrak"))
    assert angles(places.positions[:3], to_unit_sphere(cap)[[2, 0, 1]]).max() < 1
    assert places.sources[:6] == ["electrodes.tsv"] * 5 + ["template 10-05"]
    np.testing.assert_allclose(places.positions[5], template_positions(["T7"])[0])


def test_positions_that_contradict_their_names_are_told(place, cap):
    shuffled = np.random.default_rng(0).permutation(16)
    places = place(cap[shuffled], NAMES, **declared("CapTrak"))
    assert off(places, cap[shuffled]) < 0.1
    assert "from where the names of the electrodes say" in places.notes[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x * 3, "a head with a radius of 2[0-9.]+ cm, expected 5 to 15 cm"),
        (lambda x: x * [1, 1, 0], "all electrodes lie in a plane"),
    ],
)
def test_positions_on_no_head_are_not_used(place, cap, change, reason):
    places = place(change(cap), **declared("CapTrak"))
    assert set(places.sources) == {""}
    assert re.search(reason, places.notes[0])


def test_positions_in_the_file_come_next(place, cap):
    places = place(np.full_like(cap, np.nan), in_file=cap / 10)
    assert off(places, cap) < 0.1
    assert set(places.sources) == {"file"}
    assert any("positions in the file" in note for note in places.notes)


def test_an_electrode_far_outside_does_not_move_the_others(place, cap):
    points = cap.copy()
    points[4] *= 10
    names = [f"n{i}" for i in range(16)]
    places = place(points, names, **declared("CapTrak"))
    assert [i for i, source in enumerate(places.sources) if not source] == [4]
    kept = np.arange(16) != 4
    assert angles(places.positions[kept], to_unit_sphere(cap)[kept]).max() < 2
    assert "sub-1_electrodes.tsv: 1 electrodes lie far outside the head" in places.notes[0]
    places = place(np.full_like(cap, np.nan), names, in_file=points)
    assert places.sources == [*["file"] * 4, "", *["file"] * 11]


def test_a_row_of_zeros_is_no_position(place, cap):
    points = cap.copy()
    points[::3] = 0.0
    places = place(points, NAMES, **declared("CapTrak"))
    expected = np.where(points.any(axis=1), "electrodes.tsv", "template 10-05")
    assert places.sources == expected.tolist()
    assert off(places, cap) < 15  # the caps' templates differ by as much


def test_an_electrodes_tsv_of_no_use_is_told(place, cap, tmp_path):
    place(cap, [f"x{i}" for i in range(16)])
    file = tmp_path / "sub-1/eeg/sub-1_electrodes.tsv"
    for content, reason in (
        (None, "names no channel of the file"),
        (b"name\tx\ty\nCz\t0\t0\n", "expected columns name, x, y, z"),
        (b"\xff\xfea", "no text"),
        (b"name\tx\ty\tz\na\tfar\t0\t0\n", "no coordinates: far"),
        (b"name\tx\ty\tz\na\t1\t1\tn/a\nb\t0\t0\t0\n", "has x, y and z of no channel"),
    ):
        if content is not None:
            file.write_bytes(content)
        notes = placed(["a", "b"], [None, None], NOWHERE[:2], tmp_path).notes
        assert f"{file.name}" in notes[0]
        assert reason in notes[0]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(*[st.floats()] * 3), min_size=1, max_size=12),
    st.sampled_from(["CTF", "CapTrak", "Other", None]),
    st.sampled_from(["mm", "m", None, "pixels"]),
    st.dictionaries(st.sampled_from(["NAS", "LPA", "RPA"]), st.lists(st.floats(-200, 200))),
)
def test_any_positions_are_unit_vectors_or_none(tmp_path_factory, points, system, unit, landmarks):
    folder = tmp_path_factory.getbasetemp() / "any" / "sub-1"
    folder.mkdir(parents=True, exist_ok=True)
    names = ["Fp1", "Cz", "O2", "T7", *(f"ch{i}" for i in range(8))][: len(points)]
    rows = ["\t".join([name, *map(str, p)]) for name, p in zip(names, points, strict=True)]
    (folder / "sub-1_electrodes.tsv").write_text("\n".join(["name\tx\ty\tz", *rows]))
    content = declared(system, unit, AnatomicalLandmarkCoordinates=landmarks)
    (folder / "sub-1_coordsystem.json").write_text(json.dumps(content))
    for in_file in (NOWHERE[: len(points)], np.array(points)):
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            path = "sub-1/sub-1_eeg.edf"
            places = placed(names, canonical_names(names), in_file, folder.parent, path)
        known = np.isfinite(places.positions).all(axis=1)
        assert [bool(source) for source in places.sources] == known.tolist()
        np.testing.assert_allclose(np.linalg.norm(places.positions[known], axis=1), 1)
