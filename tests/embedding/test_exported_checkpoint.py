"""An exported checkpoint is read again, and names nobody."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import hbn_foundation
from embedding.as_pipeline import changed, first_subject, pipeline_features
from hbn_foundation.cli import cli
from hbn_foundation.embedding.export import export
from hbn_foundation.errors import UserError
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.checkpoint import Checkpoint, load_encoder
from hbn_foundation.training.origin import differences
from hbn_foundation.training.variants import KEY, stored, variant_of
from recordings.eeg_files import noise, raw_array
from runs import run

RAW = raw_array(noise(8, 1200, 100.0), 100.0)


@pytest.fixture(scope="module")
def with_history(version, tmp_path_factory):
    """A run's checkpoint and scores where the catalog has them; it has ancestors of its own."""
    data, name = tmp_path_factory.mktemp("data"), version.parent.name
    before = {"training_subjects": ["NDARANCESTOR"], "validation_subjects": ["NDARBEFORE"]}
    entry = data / "06_models" / "foundation_checkpoint" / name / "foundation_checkpoint"
    changed(version, entry, ancestors=[before], device_plan={"subject": "NDARPLAN"})
    scores = data / "08_reporting" / "foundation_scores.csv" / name / "foundation_scores.csv"
    scores.parent.mkdir(parents=True)
    row = {
        "target": "task",
        "metric": "window_auroc",
        "split": "test",
        "kind": "model",
        "value": 0.812,
        "ci_low": 0.7,
        "ci_high": 0.9,
        "n_subjects": 12,
        "n_windows": 99,
    }
    unknown = row | {"metric": "f1", "ci_low": np.nan, "ci_high": np.nan}
    pd.DataFrame([row, unknown, row | {"kind": "baseline", "value": 0.111}]).to_csv(scores)
    return entry


def test_it_names_nobody_and_is_read_again(with_history, tmp_path):
    folder = export(str(with_history), tmp_path / "out", "cc-by-sa-4.0")
    metadata = Checkpoint.load(with_history).metadata
    people = {*metadata["training_subjects"], *metadata["validation_subjects"]}
    assert len(people) == 5
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(files) == ["README.md", "config.json", "metadata.json", "weights.safetensors"]
    for name in (*people, "NDARANCESTOR", "NDARBEFORE", "NDARPLAN"):
        assert not [file for file, content in files.items() if name.encode() in content]
    np.testing.assert_array_equal(
        hbn_foundation.load(folder).embed(RAW), hbn_foundation.load(with_history).embed(RAW)
    )
    card = files["README.md"].decode()
    assert "license: cc-by-sa-4.0" in card
    assert "4 in training, 3 to choose the epoch" in card
    assert "| task | window_auroc | 0.812 | 0.700 to 0.900 | 12 | 99 |" in card
    assert "| task | f1 | 0.812 | none | 12 | 99 |" in card
    assert "0.111" not in card
    again = export(str(folder), tmp_path / "again")  # counts are kept
    assert "4 in training, 3 to choose" in (again / "README.md").read_text()
    assert "None are known" in (again / "README.md").read_text()


def test_a_variant_stays_one(version, tmp_path):
    model = Checkpoint.load(version)
    metadata = {**model.metadata, KEY: {"name": "bf16"}}
    weights = stored("bf16", model.weights, load_encoder(model))
    there = Checkpoint(weights, metadata).save(tmp_path / "bf16")
    exported = export(str(there), tmp_path / "out")
    assert variant_of(Checkpoint.load(exported).metadata) == "bf16"
    found, expected = (hbn_foundation.load(folder).embed(RAW) for folder in (exported, there))
    np.testing.assert_array_equal(found, expected)
    assert "in bfloat16" in (exported / "README.md").read_text()


def test_who_was_seen_is_said_to_be_unknown(with_history, tiny_data, tmp_path):
    exported = Checkpoint.load(export(str(with_history), tmp_path / "out"))
    dataset = EEGDataset(*tiny_data, pd.DataFrame())
    assert any("names none of the people" in line for line in differences(exported, dataset))


def test_a_name_that_would_leave_and_a_folder_of_others_are_refused(version, tmp_path):
    (name, *_) = Checkpoint.load(version).metadata["training_subjects"]
    named = changed(version, tmp_path / "named", datasets={"": name})
    with pytest.raises(UserError, match=rf"the name of a person \({name}\) would be exported"):
        export(str(named), tmp_path / "out")
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "mine", version):
        with pytest.raises(UserError, match="was not exported; give another folder"):
            export(str(version), folder)


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Path:
    """A folder that stands for the hub: what is sent lies there, and is fetched from there."""
    there = tmp_path / "hub"

    class Api:
        def create_repo(self, repo_id, *, private, exist_ok):
            if repo_id.startswith("other/"):
                raise PermissionError("403\nForbidden")
            (there / repo_id).mkdir(parents=True)
            return f"https://hub/{repo_id}"

        def upload_folder(self, *, repo_id, folder_path):
            shutil.copytree(folder_path, there / repo_id, dirs_exist_ok=True)

    fetched = SimpleNamespace(HfApi=Api, snapshot_download=lambda name, **_: str(there / name))
    monkeypatch.setitem(sys.modules, "huggingface_hub", fetched)
    return there


def test_it_is_sent_to_the_hub_and_fetched_from_there(with_history, hub, tmp_path):
    def sent(repository: str):
        arguments = ["--checkpoint", str(with_history), "--push-to-hub", repository]
        return CliRunner().invoke(cli, ["export", str(tmp_path / "out"), *arguments])

    result = sent("me/model")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert "Sent to https://hub/me/model" in lines
    assert lines[-1] == "Next: hbn-foundation embed <file> --checkpoint me/model"
    assert {path.name for path in (hub / "me/model").iterdir()} == {
        path.name for path in (tmp_path / "out").iterdir()
    }
    assert hbn_foundation.load("me/model").embed(RAW).shape[0] == 6
    result = sent("other/model")
    assert result.exit_code == 1
    assert "other/model: not sent (403 Forbidden)" in result.output


def test_huggingface_hub_takes_these_calls():
    import inspect

    hub = pytest.importorskip("huggingface_hub")
    inspect.signature(hub.HfApi.create_repo).bind(None, "a/b", private=True, exist_ok=True)
    inspect.signature(hub.HfApi.upload_folder).bind(None, repo_id="a/b", folder_path="x")
    inspect.signature(hub.snapshot_download).bind("a/b", allow_patterns=["*.json"])


def test_an_external_encoder_is_embedded_and_exported_like_ours(tiny_data, tiny_bids, tmp_path):
    adapter = {"head": "head", "unit": "uV", "scale": 0.1}
    encoder = {"kind": "external", "target": "small_external:SmallBrain", "adapter": adapter}
    checkpoint, _ = run(*tiny_data, tmp_path / "run", objective={"name": "none"}, **encoder)
    checkpoint.metadata["parameters"]["encoder"]["weights"] = "/home/someone/weights.pt"
    folder = export(str(checkpoint.save(tmp_path / "model")), tmp_path / "out")
    assert b"someone" not in (folder / "metadata.json").read_bytes()
    file = first_subject(tiny_bids)[0]
    _, expected = pipeline_features(folder, tiny_bids, tmp_path, subjects=[file.parts[-3]])
    found = hbn_foundation.load(folder).embed(file)
    np.testing.assert_allclose(found, expected[: len(found)], atol=1e-5)
