from __future__ import annotations

import codecs

import mne
import numpy as np
import pytest

from hbn_foundation.recordings.channels import eeg_channels
from hbn_foundation.recordings.clean import clean_recording
from hbn_foundation.recordings.integrity import UnreadableRecording
from hbn_foundation.recordings.montage import template_positions
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.recordings.read import read_raw
from recordings.eeg_files import (
    NAMES,
    bids_file,
    noise,
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
def signal():
    return noise(14, int(10 * SFREQ), SFREQ)


def channels(root, path, **options):
    return eeg_channels(read_raw(path), root, path.relative_to(root).as_posix(), **options)


def edf(root, names, units=None, seconds=4):
    """Write an EDF file of noise of about 10 µV under any names, which may occur twice."""
    import edfio

    path = bids_file(root, ".edf")
    microvolts = noise(len(names), int(seconds * SFREQ), SFREQ) * 1e6
    units = units or ["uV"] * len(names)
    edfio.Edf(
        [
            edfio.EdfSignal(x, SFREQ, label=name, physical_dimension=unit)
            for x, name, unit in zip(microvolts, names, units, strict=True)
        ]
    ).write(path)
    return path


def beside(path, suffix):
    return path.with_name(path.name.replace("_eeg.edf", f"_{suffix}"))


def test_channels_tsv_says_what_is_eeg_and_what_is_bad(tmp_path, signal):
    path = write(raw_array(signal, SFREQ), bids_file(tmp_path, ".edf"))
    write_channels(path, [("Fp1", "EOG", "good"), ("F3", "EEG", "bad"), ("Fp2", "n/a", "n/a")])
    found = channels(tmp_path, path)
    assert "Fp1" not in found.names
    assert {"Fp2", "F3", "C3"} <= set(found.names)
    assert found.bad == {"F3": "channels.tsv"}


def test_channels_without_a_place_are_listed(tmp_path, signal):
    names = ("Fp1", "EEG C3-REF", "Cz.", "X9", "ECG", "A2-A1")
    path = write(raw_array(signal[:6], SFREQ, names), bids_file(tmp_path, ".edf"))
    found = channels(tmp_path, path)
    assert found.names == ["Fp1", "C3", "Cz"]
    assert found.unknown == ["X9", "ECG", "A2-A1"]


def test_digitised_positions_place_unknown_names(tmp_path, signal):
    import mne

    names = [f"ch{i}" for i in range(10)]
    places = template_positions(NAMES[:10]) * 0.095 + [0, 0, 0.04]
    raw = raw_array(signal[:10], SFREQ, tuple(names))
    raw.set_montage(
        mne.channels.make_dig_montage(dict(zip(names, places, strict=True)), coord_frame="head")
    )
    path = write(raw, bids_file(tmp_path, ".fif"))
    found = channels(tmp_path, path)
    assert found.names == names
    cosines = (found.positions * template_positions(NAMES[:10])).sum(axis=1)
    assert cosines.min() > 0.99


def test_electrodes_tsv_places_unknown_names(tmp_path, signal):
    names = [f"ch{i}" for i in range(10)]
    path = write(raw_array(signal[:10], SFREQ, tuple(names)), bids_file(tmp_path, ".edf"))
    places = template_positions(NAMES[:10]) * 0.095 + [0, 0, 0.04]
    lines = [f"{n}\t{x}\t{y}\t{z}" for n, (x, y, z) in zip(names, places, strict=True)]
    (path.parent / "sub-1_space-CapTrak_electrodes.tsv").write_text(
        "name\tx\ty\tz\n" + "\n".join(lines) + "\n"
    )
    (path.parent / "sub-1_space-CapTrak_coordsystem.json").write_text(
        '{"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "m"}'
    )
    found = channels(tmp_path, path)
    assert found.names == names
    cosines = (found.positions * template_positions(NAMES[:10])).sum(axis=1)
    assert cosines.min() > 0.98


@pytest.mark.parametrize(
    ("names", "types", "reason"),
    [
        (("a", "b", "c"), "eeg", r"no positions for 3 of 3 EEG channels \(a, b, c\)"),
        (("Fp1", "C3", "T3"), "misc", "no EEG channel among 3 \\(MISC\\)"),
        (("Fp1", "T3", "T7"), "eeg", r"duplicate channel names: T7 \(in the file: T3, T7\)"),
    ],
)
def test_channels_that_cannot_be_used(tmp_path, signal, names, types, reason):
    path = write(raw_array(signal[:3], SFREQ, names, types), bids_file(tmp_path, ".fif"))
    with pytest.raises(UnreadableRecording, match=reason):
        channels(tmp_path, path)


def test_a_name_that_occurs_twice_in_the_file(tmp_path, signal):
    path = write(raw_array(signal[:3], SFREQ, ("Fp1", "C3", "C4")), bids_file(tmp_path, ".edf"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"C4              ", b"C3              ", 1))
    with pytest.raises(UnreadableRecording, match="duplicate channel names: C3"):
        channels(tmp_path, path)


@pytest.mark.parametrize("names", [("Fp1", "Fz"), ("FP1", "FZ"), ("EEG Fp1-Ref", "EEG FZ-REF")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_channels_tsv_is_read_in_any_encoding_and_names_match(tmp_path, names, encoding):
    path = edf(tmp_path, [f"EEG {name}-Ref" for name in ("Fp1", "Fp2", "Fz", "Cz")])
    table = TABLE.replace("Fp1", names[0]).replace("Fz", names[1])
    if names[0] == "FP1":
        table = table.replace("name\ttype", "Name\tType")
    beside(path, "channels.tsv").write_bytes(table.encode(encoding))
    found = channels(tmp_path, path)
    assert found.names == ["Fp2", "Fz", "Cz"]
    assert found.bad == {"Fz": "channels.tsv"}
    assert any("read as" in note for note in found.notes) == (not encoding.startswith("utf-8"))


def test_a_sidecar_that_cannot_be_read_or_matched_is_told(tmp_path):
    path = edf(tmp_path, NAMES[:4])
    table, json = beside(path, "channels.tsv"), beside(path, "eeg.json")
    table.symlink_to(tmp_path / "annex")
    json.write_text("{")
    notes = channels(tmp_path, path).notes
    assert any(
        note.startswith(f"{table.name}: a link to a file that is not there") for note in notes
    )
    assert any(note.startswith(f"{json.name}: not JSON") for note in notes)
    table.unlink()
    table.write_text("name\ttype\nX1\tEOG\n")
    assert f"{table.name} names no channel of the file (X1)" in " ".join(
        channels(tmp_path, path).notes
    )
    table.write_text("name\ttype\nFp1\tEOG\nX1\tEOG\n")
    found = channels(tmp_path, path)
    assert "Fp1" not in found.names
    assert f"{table.name} names channels that the file lacks: X1" in found.notes
    table.write_bytes(codecs.BOM_UTF16_LE + b"a")
    assert f"{table.name}: no text" in " ".join(channels(tmp_path, path).notes)


def test_of_several_rows_of_a_channel_the_first_counts(tmp_path):
    path = edf(tmp_path, ["Fz", "Cz"])
    beside(path, "channels.tsv").write_text("name\ttype\tstatus\nFz\tEEG\tbad\nFz\tEEG\tgood\n")
    found = channels(tmp_path, path)
    assert found.bad == {"Fz": "channels.tsv"}
    assert found.notes == ["sub-1_task-rest_channels.tsv has several rows of Fz: the first counts"]


def test_a_bipolar_montage_is_refused_with_that_reason(tmp_path):
    path = edf(tmp_path, BANANA.split())
    with pytest.raises(UnreadableRecording, match=r"bipolar derivations \(FP1-F7, .*: 23 of 23"):
        channels(tmp_path, path)


def test_a_bipolar_montage_is_read_at_midpoints_where_that_is_asked(tmp_path):
    path = edf(tmp_path, BANANA.split())
    found = channels(tmp_path, path, bipolar="midpoint")
    assert found.names[:2] == ["Fp1-F7", "F7-T7"]
    assert len(found.names) == 21
    assert found.unknown == ["FT9-FT10"]
    middle = template_positions(["Fp1", "F7"]).sum(axis=0)
    np.testing.assert_allclose(found.positions[0], middle / np.linalg.norm(middle))
    assert "1 derivations that occur again left out" in found.notes
    cleaned = clean_recording(
        row(tmp_path, path), CleaningParams(bipolar="midpoint"), tmp_path / "out.npy"
    )
    assert len(cleaned.names) == 21
    assert "bipolar" in cleaned.quality["note"]


def test_a_common_reference_is_no_bipolar_montage(tmp_path):
    path = edf(tmp_path, ["Fp1-Cz", "Fz-Cz", "Pz-Cz", "EOG-Cz"])
    assert channels(tmp_path, path).names == ["Fp1", "Fz", "Pz"]
    path = edf(tmp_path, ["Fp1-G2", "Fz-G2", "T3-G2"])
    assert channels(tmp_path, path).names == ["Fp1", "Fz", "T7"]


def test_few_bipolar_among_referential_channels_are_left_out(tmp_path):
    path = edf(tmp_path, ["Fp1", "Fp2", "C3", "Fz-Cz", "T7-T8", "Pz-Oz"])
    found = channels(tmp_path, path)
    assert found.names == ["Fp1", "Fp2", "C3"]
    assert found.notes == ["bipolar derivations left out: Fz-Cz, T7-T8, Pz-Oz"]


def test_derivations_prevail_though_other_names_tell_what_is_recorded(tmp_path):
    path = edf(tmp_path, ["EEG Fz-Ref", "EEG Cz-Ref", *BANANA.split()[:8]])
    with pytest.raises(UnreadableRecording, match=r"bipolar derivations .*: 8 of 10"):
        channels(tmp_path, path)


def test_one_derivation_among_digitised_electrodes_is_left_out(tmp_path, signal):
    names = tuple(f"ch{i}" for i in range(13))
    points = template_positions(NAMES[:13]) * 0.095 + [0, 0, 0.04]
    raw = raw_array(signal, SFREQ, (*names, "Fz-Cz"))
    montage = mne.channels.make_dig_montage(
        dict(zip(names, points, strict=True)), coord_frame="head"
    )
    raw.set_montage(montage, on_missing="ignore")
    path = write(raw, bids_file(tmp_path, ".fif"))
    found = channels(tmp_path, path)
    assert found.names == list(names)
    assert found.notes == ["bipolar derivations left out: Fz-Cz"]


def test_eye_electrodes_and_other_signals_are_no_eeg(tmp_path):
    path = edf(tmp_path, ["F3", "F4", "E1", "E2-M1", "Chin", "ECG", "RESP", "SpO2"])
    found = channels(tmp_path, path)
    assert found.names == ["F3", "F4"]
    assert found.unknown == ["E1", "E2-M1", "Chin", "ECG", "RESP", "SpO2"]
    assert found.positions_from == "template 10-05"


@pytest.mark.parametrize(
    ("named", "others", "units"),
    [
        ("EEG {}-Ref", [f"POL X{i}" for i in range(1, 9)] + ["POL $A1", "EEG Mark1"], None),
        ("EEG.{}", ["CQ.Fz", "CQ.Cz", "MOT.Q0", "EQ.Rate", "EEG.Counter", "EEG.RawCq"], None),
        ("{}", ["COUNTER", "TIME_STAMP_s", "CQ_Fz", "CQ_Cz", "RAW_CQ", "INTERPOLATED"], None),
        ("{}", ["a", "b", "c", "d", "e"], ["%", "bpm", "DegC", "mmHg", "l/min"]),
    ],
)
def test_what_names_or_units_call_something_else_is_no_eeg(tmp_path, named, others, units):
    eeg = [named.format(name) for name in ("Fz", "Cz", "Pz")]
    path = edf(tmp_path, [*eeg, *others], ["uV"] * 3 + (units or ["uV"] * len(others)))
    found = channels(tmp_path, path)
    assert found.names == ["Fz", "Cz", "Pz"]
    assert found.unknown == others
    with pytest.raises(UnreadableRecording, match=r"no EEG channel: by channels\.tsv, their"):
        channels(tmp_path, edf(tmp_path, ["SpO2", "x"], ["%", "bpm"]))


def test_a_few_numbers_are_those_of_a_net_where_the_maker_is_told(tmp_path):
    path = edf(tmp_path, ["E11", "E22", "E62"])
    with pytest.raises(UnreadableRecording, match="no positions for 3 of 3"):
        channels(tmp_path, path)
    write_sidecar(path, CapManufacturersModelName="HydroCel GSN 128")
    found = channels(tmp_path, path)
    assert found.names == ["E11", "E22", "E62"]
    assert found.positions_from == "template GSN-HydroCel-129"


def test_biosemi_labels_are_neither_ears_nor_10_20_sites(tmp_path):
    labels = mne.channels.make_standard_montage("biosemi128").ch_names
    found = channels(tmp_path, edf(tmp_path, labels, seconds=2))
    assert found.positions_from == "template biosemi128"
    place = dict(zip(found.names, found.positions, strict=True))
    assert place["A1@biosemi128"][2] > 0.99
    found = channels(tmp_path, edf(tmp_path, [*labels[:32], "EXG1", "EXG2"], seconds=2))
    assert found.names == mne.channels.make_standard_montage("biosemi32").ch_names
    assert found.unknown == ["EXG1", "EXG2"]


def test_most_channels_need_a_position(tmp_path):
    path = edf(tmp_path, ["Fz", "Cz", "a", "b", "c"])
    with pytest.raises(UnreadableRecording, match=r"3 of 5 EEG channels \(a, b, c\)"):
        channels(tmp_path, path)
    path = edf(tmp_path, ["Fz", "Cz", "a", "b"])
    assert channels(tmp_path, path).unknown == ["a", "b"]


@pytest.mark.parametrize("written", ["", ".V", "UV", "uV", "microV"])
def test_units_that_the_file_lacks_come_from_channels_tsv(tmp_path, written):
    path = edf(tmp_path, NAMES[:10], [written] * 10)
    rows = "".join(f"{name}\tEEG\tµV\n" for name in NAMES[:10])
    beside(path, "channels.tsv").write_text("name\ttype\tunits\n" + rows)
    cleaned = clean_recording(row(tmp_path, path), CleaningParams(), tmp_path / "out.npy")
    plain = clean_recording(
        row(tmp_path, edf(tmp_path, NAMES[:10])), CleaningParams(), tmp_path / "plain.npy"
    )
    assert cleaned.quality["amplitude_uv"] == pytest.approx(plain.quality["amplitude_uv"])
    assert cleaned.quality["note"] == ""


def test_a_unit_that_nothing_tells_and_its_amplitude_are_told(tmp_path):
    path = edf(tmp_path, NAMES[:10], [""] * 10)
    quality = clean_recording(row(tmp_path, path), CleaningParams(), tmp_path / "out.npy").quality
    assert "neither the file nor channels.tsv has a unit for Fp1" in quality["note"]
    assert "expected 0.5 to 500 µV: its unit is probably wrong" in quality["note"]
    assert quality["amplitude_uv"] > 1e6


def test_a_unit_whose_first_sign_was_lost_is_taken_for_microvolts(tmp_path):
    path = edf(tmp_path, NAMES[:10], [".V"] * 10)
    quality = clean_recording(row(tmp_path, path), CleaningParams(), tmp_path / "out.npy").quality
    assert quality["note"] == "unit '.V' of the file taken for µV"
    assert 1 < quality["amplitude_uv"] < 50


def test_a_micro_sign_in_utf_8_is_one(tmp_path):
    path = edf(tmp_path, NAMES[:10], ["__V"] * 10)
    path.write_bytes(path.read_bytes().replace(b"__V ", "µV ".encode()))
    found = channels(tmp_path, path)
    assert found.factors == pytest.approx(1e-6)
    assert found.notes == []


@pytest.mark.parametrize(
    ("scale", "unit", "factor", "note"),
    [
        (1.0, "µV", 1.0, ""),
        (1e-6, "V", 1e6, "unit of channels.tsv: V"),
        (1e-3, "mV", 1e3, "unit of channels.tsv: mV"),
        (1.0, "V", 1.0, "channels.tsv has the unit V: by their amplitude signals are in µV"),
    ],
)
def test_units_of_eeglab_files_come_from_channels_tsv(tmp_path, signal, scale, unit, factor, note):
    path = write(raw_array(signal * scale, SFREQ), bids_file(tmp_path, ".set"))
    rows = "".join(f"{name}\tEEG\t{unit}\n" for name in NAMES)
    path.with_name("sub-1_task-rest_channels.tsv").write_text("name\ttype\tunits\n" + rows)
    found = channels(tmp_path, path)
    assert found.factors == pytest.approx(factor)
    assert "; ".join(found.notes) == note
