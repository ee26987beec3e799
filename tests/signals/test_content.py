"""The hash of a recording's content follows every file that its reader opens."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import mne
import pytest

from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.signals import content
from hbn_foundation.signals.content import cleaning_hash, content_hash, file_signature
from recordings.eeg_files import bids_file, noise, raw_array, write


def hashed(root: Path) -> str:
    row = find_recordings(root).iloc[0].to_dict()
    return content_hash(root, file_signature(row))


def counts(root: Path, path: Path) -> bool:
    """Tell whether the hash changes with the content of a file."""
    before = hashed(root)
    path.write_bytes(path.read_bytes()[:-4] + b"1234")
    return hashed(root) != before


@pytest.mark.parametrize("named", ["proband1", "Müller"])
@pytest.mark.parametrize("ending", [".eeg", ".vmrk"])
def test_files_that_a_brainvision_header_names(tmp_path, named, ending):
    header = write(raw_array(noise(4, 512, 128.0), 128.0), bids_file(tmp_path, ".vhdr"))
    for own in (".eeg", ".vmrk"):
        header.with_suffix(own).rename(header.with_name(f"{named}{own}"))
    header.write_text(header.read_text().replace(f"File={header.stem}.", f"File={named}."))
    data = header.with_name(f"{named}.eeg")
    assert mne.io.read_raw(header, verbose="ERROR").filenames[0] == data
    assert counts(tmp_path, data.with_suffix(ending))


@pytest.mark.parametrize("line", ["DataFile=" + "x" * 9000, "DataFile=/dev/zero", "DataFile=a\0b"])
def test_names_that_cannot_be_read_do_not_end_it(tmp_path, line):
    bids_file(tmp_path, ".vhdr").write_text(f"[Common Infos]\n{line}\n")
    assert hashed(tmp_path)


def test_data_of_eeglab_of_another_name_and_not_another_recording_s(tmp_path):
    header, other = bids_file(tmp_path, ".set"), bids_file(tmp_path, ".set", task="x")
    for path in (header, other, other.with_suffix(".fdt"), header.with_name("proband.fdt")):
        path.write_bytes(b"signal")
    assert not counts(tmp_path, other.with_suffix(".fdt"))
    assert counts(tmp_path, header.with_name("proband.fdt"))


@pytest.mark.parametrize("second", ["_split-02_eeg.fif", "_split-01_eeg-1.fif"])
def test_further_files_of_fif_and_parts_of_folders(tmp_path, second):
    first = bids_file(tmp_path, ".fif", task="rest_split-01")
    for path in (first, first.with_name(f"sub-1_task-rest{second}")):
        path.write_bytes(b"signal")
    assert counts(tmp_path, path)
    part = bids_file(tmp_path / "mff", ".mff") / "signal1.bin"
    part.parent.mkdir()
    part.write_bytes(b"signal")
    assert counts(tmp_path / "mff", part)


def test_sidecars_of_the_whole_data_set(tmp_path):
    bids_file(tmp_path, ".edf").write_bytes(b"signal")
    hashes = {hashed(tmp_path)}
    for name in ("task-rest_eeg.json", "task-rest_channels.tsv", "electrodes.tsv"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path, ns=(1, len(hashes)))  # names are listed again
        hashes.add(hashed(tmp_path))
        assert counts(tmp_path, tmp_path / name)
    assert len(hashes) == 4


def test_another_version_of_a_package_cleans_again(monkeypatch):
    before = cleaning_hash(CleaningParams())
    for of_mne, same in {"9.1.0": False, "9.1.7": True, "9.2.0": False}.items():
        versions = {"mne": of_mne}
        monkeypatch.setattr(
            content, "version", lambda name, v=versions: v.get(name) or metadata.version(name)
        )
        assert (cleaning_hash(CleaningParams()) == before) is same
        before = cleaning_hash(CleaningParams())
