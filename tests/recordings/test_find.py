from __future__ import annotations

import time

import pytest

from hbn_foundation.bids import entities, recording_name, sidecar
from hbn_foundation.errors import UserError
from hbn_foundation.labels.participants import read_participants
from hbn_foundation.recordings.find import (
    dataset_names,
    find_in_roots,
    find_recordings,
    prepare,
)
from hbn_foundation.recordings.params import SelectionParams, SourceParams


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


@pytest.fixture
def root(tmp_path):
    for subject in ("01", "02", "03"):
        for task in ("task-rest", "task-ccd_run-1", "task-ccd_run-2"):
            touch(tmp_path, f"sub-{subject}/eeg/sub-{subject}_{task}_eeg.bdf")
            touch(tmp_path, f"sub-{subject}/eeg/sub-{subject}_{task}_channels.tsv")
    touch(tmp_path, "sub-04/ses-b/eeg/sub-04_ses-b_task-rest_eeg.vhdr")
    touch(tmp_path, "sub-04/ses-b/eeg/sub-04_ses-b_task-rest_eeg.eeg", "sub-05/anat/x.nii")
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tsex\tage\nsub-01\tF\t8\nsub-02\tM\t9.0\nsub-03\tF\tn/a\nsub-04\tM\t7\n"
    )
    return tmp_path


def found(root, **selection):
    return list(find_recordings(root, SelectionParams(**selection))["recording"])


def test_one_row_for_each_recording(root, caplog):
    touch(root, "sub-06/eeg/sub-06_task-rest_eeg.cnt", "sub-07/eeg/sub-07_task-rest_eeg.edf.gz")
    with caplog.at_level("INFO"):
        table = find_recordings(root)
    assert "no recording of 05, 06, 07 (expected sub-*" in caplog.text
    assert len(table) == 10
    first, last = table.iloc[0], table.iloc[-1]
    assert (first["recording"], first["run"]) == ("sub-01_task-ccd_run-1", "1")
    assert (last["session"], last["run"], last["format"]) == ("b", None, "BrainVision")
    assert (root / last["path"]).is_file()
    assert list(table["subject"].unique()) == ["01", "02", "03", "04"]


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        ({"subjects": ["sub-02", 3]}, 6),
        ({"exclude_subjects": ["01", "sub-04"]}, 6),
        ({"tasks": ["ccd"], "runs": [2]}, 3),
        ({"runs": ["01"]}, 3),
        ({"sessions": ["ses-b"]}, 1),
        ({"participants": {"sex": ["M"]}}, 4),
        ({"participants": {"age": [9, "n/a"]}}, 6),
        ({"tasks": ["task-rest"], "max_subjects": 2}, 2),
        ({"sessions": ["b"], "max_subjects": 1}, 1),
        ({"exclude_subjects": ["01"], "tasks": ["rest"], "max_subjects": 1}, 1),
    ],
)
def test_selection(root, selection, count):
    assert len(found(root, **selection)) == count


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"tasks": ["restt"]}, r"selection.tasks = \[restt\]; there are: ccd, rest"),
        ({"tasks": ["ccd"], "runs": [7]}, r"selection.runs = \[7\]; there are: 1, 2"),
        ({"subjects": ["99"]}, r"selection.subjects = \[99\]; there are: 01, 02, 03, 04, 05"),
        ({"participants": {"sex": ["X"]}}, r"selection.participants.sex = \[X\]; .*: F, M"),
        ({"participants": {"height": [1]}}, r"no column 'height'.*there are sex, age"),
        ({"sessions": ["a"]}, r"selection.sessions = \[a\]; there are: b"),
        ({"subjects": ["05"]}, r"no EEG recording under the sub-\* folders"),
    ],
)
def test_an_empty_selection_names_the_filter_and_what_there_is(root, selection, message):
    with pytest.raises(UserError, match=message) as caught:
        find_recordings(root, SelectionParams(**selection))
    assert "\n" not in str(caught.value)


def test_oddities_of_participants_are_told_once(root, caplog):
    path = root / "participants.tsv"
    path.write_text(path.read_text().replace("n/a", "89+"))
    with caplog.at_level("INFO"):
        found(root, participants={"sex": ["F"]})
        read_participants(root)
    assert caplog.text.count("89+") == 1


def test_participants_are_needed_only_when_asked_for(root):
    (root / "participants.tsv").unlink()
    assert len(found(root)) == 10
    with pytest.raises(UserError, match=r"participants.tsv is missing"):
        found(root, participants={"sex": ["F"]})


def test_a_recording_in_two_formats_is_read_from_one(root, caplog):
    touch(root, "sub-01/eeg/sub-01_task-rest_eeg.set", "sub-01/eeg/sub-01_task-rest_eeg.edf")
    with caplog.at_level("INFO"):
        table = find_recordings(root)
    assert len(table) == 10
    assert "sub-01/eeg/sub-01_task-rest_eeg.edf" in set(table["path"])
    assert "2 recordings are there in another format, too: not read are" in caplog.text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "no such folder"),
        ("readme.txt", "a file, expected the folder"),
        ("empty", "empty folder"),
        (".", r"not a BIDS data set \(no dataset_description"),
        ("described", r"no sub-\* folder in it"),
    ],
)
def test_a_wrong_root_is_told_at_once(tmp_path, name, message):
    touch(tmp_path, "readme.txt", "described/dataset_description.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message) as caught:
        find_recordings(tmp_path / name)
    assert "\n" not in str(caught.value)
    source = SourceParams(root=str(tmp_path / name), how_to_get="download it from x.org")
    with pytest.raises(UserError, match=rf"{message}.*; download it from x\.org$"):
        prepare(source)


def test_the_source_names_its_root(root):
    (root / "dataset_description.json").unlink()  # which is forgiven
    assert len(found(root)) == 10
    source = prepare(SourceParams(root=str(root)))
    assert (source["root"], source["simulated"]) == (str(root), False)
    source = prepare(SourceParams(root="s3://bucket/release", cache="there"))
    assert source["root"] == "s3://bucket/release"
    assert (source["simulated"], source["cache"]) == (False, "there")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub-1_task-x_eeg.SET", "sub-1_task-x"),
        ("sub-1_task-x_split-01_eeg.fif", "sub-1_task-x"),
        ("sub-1_task-x_split-02_eeg.fif", None),
        ("sub-1_task-x_split-a_eeg.fif", "sub-1_task-x_split-a"),
        ("sub-1_task-x_split-²_eeg.fif", "sub-1_task-x_split-²"),
        ("sub-1_task-x_split-_eeg.fif", "sub-1_task-x_split-"),
        ("sub-1_task-x_eeg.mff", "sub-1_task-x"),
        ("sub-1_task-x_eeg.eeg", None),
        ("sub-1_task-x_eeg.json", None),
        ("sub-1_task-x_events.tsv", None),
        ("._sub-1_task-x_eeg.bdf", None),
    ],
)
def test_what_is_a_recording(name, expected):
    assert recording_name(name) == expected


def test_sidecars_are_inherited_from_the_nearest_folder(tmp_path):
    path = "sub-1/eeg/sub-1_task-x_run-1_eeg.bdf"
    hidden = "sub-1/eeg/._sub-1_task-x_run-1_channels.tsv"
    touch(tmp_path, path, "task-x_channels.tsv", "channels.tsv", "task-y_eeg.json", hidden)
    assert entities(path) == {"sub": "1", "task": "x", "run": "1"}
    assert sidecar(tmp_path, path, "channels.tsv") == tmp_path / "task-x_channels.tsv"
    assert sidecar(tmp_path, path, "eeg.json") is None
    touch(tmp_path, "sub-1/eeg/sub-1_task-x_channels.tsv")
    assert sidecar(tmp_path, path, "channels.tsv").parent.name == "eeg"


def test_thousands_of_recordings_are_listed_and_selected_quickly(tmp_path):
    subjects = [f"NDAR{i:04}" for i in range(600)]
    for subject in subjects:
        touch(tmp_path, *(f"sub-{subject}/eeg/sub-{subject}_task-{t}_eeg.bdf" for t in "abcde"))
    lines = "".join(f"sub-{s}\t{s[4:]}\n" for s in subjects)
    (tmp_path / "participants.tsv").write_text("participant_id\tage\n" + lines)
    selection = SelectionParams(
        subjects=[f"sub-{s}" for s in subjects],
        exclude_subjects=subjects[::10],
        participants={"age": list(range(600))},
    )
    started = time.perf_counter()
    assert len(find_recordings(tmp_path, selection)) == 2700
    assert time.perf_counter() - started < 3


def test_labels_that_only_look_like_numbers(tmp_path):
    for subject in ("1e3", "1000", "12345678901234567890", "12345678901234567891"):
        touch(tmp_path, f"sub-{subject}/eeg/sub-{subject}_task-x_eeg.bdf")
    assert found(tmp_path, subjects=["1000"]) == ["sub-1000_task-x"]
    assert found(tmp_path, subjects=["1e3"]) == ["sub-1e3_task-x"]
    long = "12345678901234567890"
    assert found(tmp_path, subjects=[long]) == [f"sub-{long}_task-x"]


def test_real_hbn_names(hbn_metadata_root):
    root = hbn_metadata_root / "ds005507"
    with pytest.raises(UserError, match="no EEG recording"):
        find_recordings(root)
    events = sorted(root.glob("sub-*/eeg/*_events.tsv"))
    names = [recording_name(p.name.replace("_events.tsv", "_eeg.bdf")) for p in events]
    assert None not in names
    assert {entities(n)["run"] for n in names if "contrastChange" in n} == {"1", "2", "3"}


def test_participants_are_selected_as_they_are_read_elsewhere(tmp_path):
    """Numbers without zeros, decimal commas and another encoding do not hide anybody."""
    for name in ("001", "002", "003"):
        touch(tmp_path, f"sub-{name}/eeg/sub-{name}_task-rest_eeg.edf")
    text = "participant_id\tage\tsex\tsite\n1\t8,5\tf\tKöln\n2\t9\tF\tKöln\n3\t8.5\tm\tUlm\n"
    (tmp_path / "participants.tsv").write_bytes(text.encode("cp1252"))
    for wanted, subjects in [
        ({"age": [8.5]}, ["001", "003"]),
        ({"sex": ["F"]}, ["001", "002"]),
        ({"site": ["Köln"]}, ["001", "002"]),
    ]:
        table = find_recordings(tmp_path, SelectionParams(participants=wanted))
        assert table["subject"].tolist() == subjects


@pytest.fixture
def roots(root, tmp_path_factory):
    """Two data sets, of subjects of the same names."""
    other = tmp_path_factory.mktemp("other")
    for subject in ("01", "002"):
        touch(other, f"sub-{subject}/eeg/sub-{subject}_task-rest_eeg.edf")
    (other / "dataset_description.json").write_text('{"Name": " Other "}')
    return {"hbn": str(root), "other_1": str(other)}


def test_subjects_and_recordings_of_several_roots_are_named_by_their_data_set(roots):
    table = find_in_roots(roots, SelectionParams(tasks=["rest"]))
    assert table["recording"].is_unique
    assert table["dataset"].tolist() == ["hbn"] * 4 + ["other_1"] * 2
    assert table["subject"].tolist()[3:] == ["hbn-04", "other_1-002", "other_1-01"]
    assert table["recording"].tolist()[-1] == "other_1-sub-01_task-rest"
    assert table["path"].tolist()[-1] == "sub-01/eeg/sub-01_task-rest_eeg.edf"
    assert dataset_names(table) == {"hbn": None, "other_1": "Other"}
    assert dataset_names(find_recordings(roots["other_1"])) == {"": "Other"}
    source = SourceParams(roots=roots)
    assert (prepare(source)["roots"], prepare(source)["simulated"]) == (roots, False)


@pytest.mark.parametrize(
    ("selection", "subjects"),
    [
        ({"max_subjects": 1}, ["hbn-01", "other_1-002"]),
        ({"subjects": ["hbn-3", "other_1-sub-002"]}, ["hbn-03", "other_1-002"]),
        ({"subjects": [2]}, ["hbn-02", "other_1-002"]),
        ({"subjects": ["other_1-1"]}, ["other_1-01"]),
        ({"exclude_subjects": ["hbn-01", "02"]}, ["hbn-03", "hbn-04", "other_1-01"]),
    ],
)
def test_selection_in_several_roots(roots, selection, subjects):
    table = find_in_roots(roots, SelectionParams(**selection))
    assert sorted(set(table["subject"])) == subjects


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"roots": {}}, r"^roots: no data set is named; expected \{name: folder or URL, …\}$"),
        ({"roots": {"a-b": "x"}}, "^roots: a-b: expected a name of letters, digits and _$"),
        ({"roots": {"a": "x"}, "root": "y"}, "^root=y and roots are both given; expected one"),
        ({"roots": {"a": "x"}}, r"^ingestion\.source\.roots\.a: x: no such folder"),
    ],
)
def test_wrong_roots_are_told_in_one_line(given, message):
    with pytest.raises(UserError, match=message) as caught:
        prepare(SourceParams.model_validate(given))
    assert "\n" not in str(caught.value)


def test_a_root_is_that_of_one_data_set(roots, tmp_path):
    again = {**roots, "again": f"{roots['hbn']}/."}
    with pytest.raises(UserError, match=r"roots\.again: .* is that of hbn, too; expected another"):
        prepare(SourceParams(roots=again))
    touch(tmp_path, "empty/readme")
    with pytest.raises(
        UserError, match=r"^ingestion\.source\.roots\.empty: .* not a BIDS data set"
    ):
        prepare(SourceParams(roots={**roots, "empty": str(tmp_path / "empty")}))
    with pytest.raises(UserError, match=r"names none; the data sets are hbn, other_1$"):
        find_in_roots(roots, SelectionParams(subjects=[]))
