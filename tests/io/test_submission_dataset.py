"""A submission's zip as a versioned catalog entry."""

import json
import zipfile

from kedro.io.core import Version

from hbn_foundation.io.submission import SubmissionDataset
from hbn_foundation.submission.archive import Submission

CONTENT = Submission({"submission.py": b"pass", "weights_challenge_1.pt": b"12345"})


def dataset(folder, version: str) -> SubmissionDataset:
    path = str(folder / "submission.zip")
    return SubmissionDataset(filepath=path, version=Version(version, version))


def test_versions_are_zips_side_by_side(tmp_path):
    dataset(tmp_path, "1").save(CONTENT)
    dataset(tmp_path, "2").save(Submission({"submission.py": b"2"}))
    path = tmp_path / "submission.zip" / "1" / "submission.zip"
    assert sorted(zipfile.ZipFile(path).namelist()) == sorted(CONTENT.files)
    assert dataset(tmp_path, "1").load() == CONTENT
    assert dataset(tmp_path, "2").load().files["submission.py"] == b"2"
    assert dataset(tmp_path, "1").exists()
    assert not dataset(tmp_path, "3").exists()


def test_preview(tmp_path):
    one = dataset(tmp_path, "1")
    one.save(CONTENT)
    assert json.loads(one.preview()) == {"submission.py": 4, "weights_challenge_1.pt": 5}
