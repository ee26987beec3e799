"""Which channels are EEG, which are bad, and in which unit they are."""

from __future__ import annotations

import codecs

import mne
import numpy as np
import pytest

from hbn_foundation.recordings.clean import clean_recording
from hbn_foundation.recordings.montage import template_positions
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.recordings.read import UnreadableRecording
from recordings.eeg_files import (
    NAMES,
    beside,
    bids_file,
    edf,
    noise,
    opened,
    raw_array,
    row,
    write,
    write_channels,
    write_sidecar,
)

SFREQ = 128.0
BANANA = (
    "FP1-F7 F7-T7 T7-P7 P7-O1 FP1-F3 F3-C3 C3-P3 P3-O1 FP2-F4 F4-C4 C4-P4 P4-O2 FP2-F8 F8-T8 T8-P8 "
    "P8-O2 FZ-CZ CZ-PZ P7-T7 T7-FT9 FT9-FT10 FT10-T8 T8-P8"
)
TABLE = "name\ttype\tunits\tstatus\nFp1\tEOG\tµV\tgood\nFz\tEEG\tµV\tbad\n"


@pytest.fixture
def named(tmp_path):
    """Make the path of an EDF file of noise whose channels have these names and units."""

    def write_edf(names, units="uV", seconds=4):
        signals = noise(len(names), int(seconds * SFREQ), SFREQ)
        return edf(bids_file(tmp_path, ".edf"), signals, SFREQ, names, units=units)

    return write_edf


def quality(root, path, **params):
    return clean_recording(row(root, path), CleaningParams(**params), root / "out.npy").quality


def test_channels_tsv_says_what_is_eeg_and_what_is_bad(tmp_path, named):
    path = named(NAMES)
    rows = [("Fp1", "EOG", "good"), ("F3", "EEG", "bad"), ("Fp2", "n/a", "n/a")]
    write_channels(path, rows)
    found = opened(tmp_path, path).channels
    assert "Fp1" not in found.names
    assert {"Fp2", "F3", "C3"} <= set(found.names)
    assert found.bad == {"F3": "channels.tsv"}


@pytest.mark.parametrize("names", [("Fp1", "Fz"), ("FP1", "FZ"), ("EEG Fp1-Ref", "EEG FZ-REF")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_channels_tsv_is_read_in_any_encoding_and_names_match(tmp_path, named, names, encoding):
    path = named([f"EEG {name}-Ref" for name in ("Fp1", "Fp2", "Fz", "Cz")])
    table = TABLE.replace("Fp1", names[0]).replace("Fz", names[1])
    if names[0] == "FP1":
        table = table.replace("name\ttype", "Name\tType")
    beside(path, "channels.tsv").write_bytes(table.encode(encoding))
    found = opened(tmp_path, path)
    assert found.channels.names == ["Fp2", "Fz", "Cz"]
    assert found.channels.bad == {"Fz": "channels.tsv"}
    assert any("read as" in note for note in found.file.notes) == (not encoding.startswith("utf-8"))


def test_a_sidecar_that_cannot_be_read_or_matched_is_told(tmp_path, named):
    path = named(NAMES[:4])
    table, json = beside(path, "channels.tsv"), beside(path, "eeg.json")
    table.symlink_to(tmp_path / "annex")
    json.write_text("{")
    found = opened(tmp_path, path)
    notes = found.file.notes
    assert found.file.info == {}
    assert len(found.channels.names) == 4
    assert any(n.startswith(f"{table.name}: a link to a file that is not there") for n in notes)
    assert any(n.startswith(f"{json.name}: not JSON") for n in notes)
    table.unlink()
    for content, told in (
        (b"name\ttype\nX1\tEOG\n", " names no channel of the file (X1)"),
        (b"name\ttype\nFp1\tEOG\nX1\tEOG\n", " names channels that the file lacks: X1"),
        (codecs.BOM_UTF16_LE + b"a", ": no text"),
        (b"name\tstatus\nFp2\tbad\nFp2\tgood\n", " has several rows of Fp2: the first counts"),
    ):
        table.write_bytes(content)
        found = opened(tmp_path, path)
        assert f"{table.name}{told}" in "; ".join(found.file.notes)
        assert ("Fp1" not in found.channels.names) == (b"Fp1" in content)
    assert found.channels.bad == {"Fp2": "channels.tsv"}


@pytest.mark.parametrize("kind", ["electrodes.tsv", "file"])
def test_measured_positions_place_unknown_names(tmp_path, kind):
    """But not a derivation among them."""
    names = tuple(f"ch{i}" for i in range(10))
    points = template_positions(NAMES[:10]) * 0.095 + [0, 0, 0.04]
    raw = raw_array(noise(11, 1280, SFREQ), SFREQ, (*names, "Fz-Cz"))
    if kind == "file":
        places = dict(zip(names, points, strict=True))
        montage = mne.channels.make_dig_montage(places, coord_frame="head")
        raw.set_montage(montage, on_missing="ignore")
    path = write(raw, bids_file(tmp_path, ".fif"))
    if kind == "electrodes.tsv":
        lines = [f"{n}\t{x}\t{y}\t{z}" for n, (x, y, z) in zip(names, points, strict=True)]
        table = path.parent / "sub-1_space-CapTrak_electrodes.tsv"
        table.write_text("\n".join(["name\tx\ty\tz", *lines]))
        table.with_name("sub-1_space-CapTrak_coordsystem.json").write_text(
            '{"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "m"}'
        )
    found = opened(tmp_path, path)
    assert found.channels.names == list(names)
    assert found.channels.positions_from == kind
    assert (found.channels.positions * template_positions(NAMES[:10])).sum(axis=1).min() > 0.98
    assert found.file.notes == ["bipolar derivations left out: Fz-Cz"]


@pytest.mark.parametrize(
    ("names", "types", "reason"),
    [
        (("a", "b", "c"), "eeg", r"no positions for 3 of 3 EEG channels \(a, b, c\)"),
        (("Fz", "Cz", "a", "b", "c"), "eeg", r"3 of 5 EEG channels \(a, b, c\)"),
        (("Fp1", "C3", "T3"), "misc", "no EEG channel among 3 \\(MISC\\)"),
        (("Fp1", "T3", "T7"), "eeg", r"duplicate channel names: T7 \(in the file: T3, T7\)"),
    ],
)
def test_channels_that_cannot_be_used(tmp_path, names, types, reason):
    raw = raw_array(noise(len(names), 1280, SFREQ), SFREQ, names, types)
    with pytest.raises(UnreadableRecording, match=reason):
        opened(tmp_path, write(raw, bids_file(tmp_path, ".fif")))


def test_a_name_that_occurs_twice_in_the_file(tmp_path, named):
    with pytest.raises(UnreadableRecording, match="duplicate channel names: C3"):
        opened(tmp_path, named(["Fp1", "C3", "C3"]))


def test_a_bipolar_montage_is_refused_or_read_at_midpoints_where_that_is_asked(tmp_path, named):
    path = named(BANANA.split())
    with pytest.raises(UnreadableRecording, match=r"bipolar derivations \(FP1-F7, .*: 23 of 23"):
        opened(tmp_path, path)
    recording = opened(tmp_path, path, bipolar="midpoint")
    found = recording.channels
    assert found.names[:2] == ["Fp1-F7", "F7-T7"]
    assert len(found.names) == 21
    assert found.unknown == ["FT9-FT10"]
    middle = template_positions(["Fp1", "F7"]).sum(axis=0)
    np.testing.assert_allclose(found.positions[0], middle / np.linalg.norm(middle))
    assert "1 derivations that occur again left out" in recording.file.notes
    assert "bipolar" in quality(tmp_path, path, bipolar="midpoint")["note"]
    path = named(["EEG Fz-Ref", "EEG Cz-Ref", *BANANA.split()[:8]])
    with pytest.raises(UnreadableRecording, match=r"bipolar derivations .*: 8 of 10"):
        opened(tmp_path, path)


@pytest.mark.parametrize(
    ("names", "kept", "left_out"),
    [
        (["Fp1-Cz", "Fz-Cz", "Pz-Cz", "EOG-Cz"], ["Fp1", "Fz", "Pz"], ""),
        (["Fp1-G2", "Fz-G2", "T3-G2"], ["Fp1", "Fz", "T7"], ""),
        (["Fp1", "Fp2", "C3", "Fz-Cz", "T7-T8"], ["Fp1", "Fp2", "C3"], "Fz-Cz, T7-T8"),
    ],
)
def test_a_common_reference_is_none_and_few_derivations_are_left_out(
    tmp_path, named, names, kept, left_out
):
    found = opened(tmp_path, named(names))
    assert found.channels.names == kept
    assert found.file.notes == ([f"bipolar derivations left out: {left_out}"] if left_out else [])


@pytest.mark.parametrize(
    ("pattern", "others", "units"),
    [
        ("{}", ["E1", "E2-M1", "Chin", "ECG", "RESP", "SpO2"], "uV"),
        ("{}", ["X9", "A2-A1"], "uV"),
        ("EEG {}-Ref", [f"POL X{i}" for i in range(1, 9)] + ["POL $A1", "EEG Mark1"], "uV"),
        ("EEG.{}", ["CQ.Fz", "CQ.Cz", "MOT.Q0", "EQ.Rate", "EEG.Counter", "EEG.RawCq"], "uV"),
        ("{}", ["COUNTER", "TIME_STAMP_s", "CQ_Fz", "CQ_Cz", "RAW_CQ", "INTERPOLATED"], "uV"),
        ("{}", ["a", "b", "c", "d", "e"], ["%", "bpm", "DegC", "mmHg", "l/min"]),
    ],
)
def test_what_names_or_units_call_something_else_is_no_eeg(tmp_path, named, pattern, others, units):
    eeg = [pattern.format(name) for name in ("Fz", "Cz", "Pz")]
    units = ["uV"] * 3 + (units if isinstance(units, list) else [units] * len(others))
    found = opened(tmp_path, named([*eeg, *others], units)).channels
    assert found.names == ["Fz", "Cz", "Pz"]
    assert found.unknown == others
    assert found.positions_from == "template 10-05"
    with pytest.raises(UnreadableRecording, match=r"no EEG channel: by channels\.tsv, their"):
        opened(tmp_path, named(["SpO2", "x"], ["%", "bpm"]))


def test_a_few_numbers_are_those_of_a_net_where_the_maker_is_told(tmp_path, named):
    path = named(["E11", "E22", "E62"])
    with pytest.raises(UnreadableRecording, match="no positions for 3 of 3"):
        opened(tmp_path, path)
    write_sidecar(path, CapManufacturersModelName="HydroCel GSN 128")
    found = opened(tmp_path, path).channels
    assert found.names == ["E11", "E22", "E62"]
    assert found.positions_from == "template GSN-HydroCel-129"


def test_biosemi_labels_are_neither_ears_nor_10_20_sites(tmp_path, named):
    labels = mne.channels.make_standard_montage("biosemi128").ch_names
    found = opened(tmp_path, named(labels, seconds=2)).channels
    assert found.positions_from == "template biosemi128"
    assert found.positions[found.names.index("A1@biosemi128")][2] > 0.99
    found = opened(tmp_path, named([*labels[:32], "EXG1", "EXG2"], seconds=2)).channels
    assert found.names == mne.channels.make_standard_montage("biosemi32").ch_names
    assert found.unknown == ["EXG1", "EXG2"]


@pytest.mark.parametrize("unit", ["", ".V", "UV", "uV", "microV"])
def test_units_that_the_file_lacks_come_from_channels_tsv(tmp_path, named, unit):
    plain = quality(tmp_path, named(NAMES[:10]))
    path = named(NAMES[:10], unit)
    rows = "".join(f"{name}\tEEG\tµV\n" for name in NAMES[:10])
    beside(path, "channels.tsv").write_text("name\ttype\tunits\n" + rows)
    found = quality(tmp_path, path)
    assert found["amplitude_uv"] == pytest.approx(plain["amplitude_uv"])
    assert found["note"] == ""


def test_a_unit_that_nothing_tells_is_told(tmp_path, named):
    found = quality(tmp_path, named(NAMES[:10], ""))
    assert "neither the file nor channels.tsv has a unit for Fp1" in found["note"]
    assert "expected 0.5 to 500 µV: its unit is probably wrong" in found["note"]
    assert found["amplitude_uv"] > 1e6
    found = quality(tmp_path, named(NAMES[:10], ".V"))
    assert found["note"] == "unit '.V' of the file taken for µV"
    assert 1 < found["amplitude_uv"] < 50


def test_a_micro_sign_in_utf_8_is_one(tmp_path, named):
    path = named(NAMES[:10], "__V")
    path.write_bytes(path.read_bytes().replace(b"__V ", "µV ".encode()))
    found = opened(tmp_path, path)
    assert found.channels.factors == pytest.approx(1e-6)
    assert found.file.notes == []


@pytest.mark.parametrize(
    ("scale", "unit", "factor", "note"),
    [
        (1.0, "µV", 1.0, ""),
        (1e-6, "V", 1e6, "unit of channels.tsv: V"),
        (1e-3, "mV", 1e3, "unit of channels.tsv: mV"),
        (1.0, "V", 1.0, "channels.tsv has the unit V: by their amplitude signals are in µV"),
    ],
)
def test_units_of_eeglab_files_come_from_channels_tsv(tmp_path, scale, unit, factor, note):
    raw = raw_array(noise(14, 1280, SFREQ) * scale, SFREQ)
    path = write(raw, bids_file(tmp_path, ".set"))
    rows = "".join(f"{name}\tEEG\t{unit}\n" for name in NAMES)
    beside(path, "channels.tsv").write_text("name\ttype\tunits\n" + rows)
    found = opened(tmp_path, path)
    assert found.channels.factors == pytest.approx(factor)
    assert "; ".join(found.file.notes) == note
