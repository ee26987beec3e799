"""Checkpoints are whole or refused, in one line."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.training.checkpoint import (
    Checkpoint,
    check_signals,
    load_encoder,
    random_encoder,
)
from hbn_foundation.training.supervision.run_folder import METADATA, OWN_DIGEST, WEIGHTS, own_digest


@pytest.fixture
def checkpoint(short_run):
    original = short_run[0]
    return Checkpoint(dict(original.weights), dict(original.metadata))


def test_it_comes_back_as_it_was(checkpoint, tmp_path):
    found = Checkpoint.load(checkpoint.save(tmp_path / "a" / "b"))
    assert found.metadata["training_subjects"] == checkpoint.metadata["training_subjects"]
    assert found.weights.keys() == checkpoint.weights.keys()
    for name, tensor in checkpoint.weights.items():
        assert torch.equal(found.weights[name], tensor)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_saving_again_replaces_it_and_a_write_that_fails_leaves_the_one_before(
    checkpoint, tmp_path
):
    checkpoint.save(tmp_path / "c")
    checkpoint.metadata["run_id"] = "second"
    checkpoint.save(tmp_path / "c")
    checkpoint.metadata["run_id"] = object()  # not JSON
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path / "c")
    assert Checkpoint.load(tmp_path / "c").metadata["run_id"] == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@settings(max_examples=10)
@given(share=st.floats(0, 0.999))
def test_truncated_weights_are_refused(short_run, tmp_path_factory, share):
    folder = short_run[0].save(tmp_path_factory.mktemp("c") / "c")
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="damaged, its digest differs"):
        Checkpoint.load(folder)


def test_other_damage_is_refused(checkpoint, tmp_path):
    with pytest.raises(UserError, match=f"{WEIGHTS} is missing"):
        Checkpoint.load(tmp_path / "nothing")
    folder = checkpoint.save(tmp_path / "c")
    metadata = json.loads((folder / METADATA).read_text())
    for version in (3, None, "1"):
        (folder / METADATA).write_text(json.dumps({**metadata, "format_version": version}))
        with pytest.raises(
            UserError, match=f"checkpoint format {version!r}; this program reads 1 and 2"
        ):
            Checkpoint.load(folder)
    for text in ("{", "[]", ""):
        (folder / METADATA).write_text(text)
        with pytest.raises(UserError, match="not a JSON object"):
            Checkpoint.load(folder)


def test_epochs_of_the_older_format_are_counted_from_1(checkpoint, tmp_path):
    """Before, the first epoch was 0: in the best one, by device, and of an incident."""
    before = {
        "best_epoch": 0,
        "epochs_by_device": {"cuda": [0], "cpu": [1, 2]},
        "incidents": [{"kind": "silent", "epoch": 1}],
    }
    folder = Checkpoint(checkpoint.weights, before).save(tmp_path / "c")
    metadata = json.loads((folder / METADATA).read_text()) | {"format_version": 1}
    metadata[OWN_DIGEST] = own_digest(metadata)
    (folder / METADATA).write_text(json.dumps(metadata))
    read = Checkpoint.load(folder)
    assert read.metadata["best_epoch"] == 1
    assert read.metadata["epochs_by_device"] == {"cuda": [1], "cpu": [2, 3]}
    assert read.metadata["incidents"] == [{"kind": "silent", "epoch": 2}]
    again = Checkpoint.load(read.save(tmp_path / "again"))
    assert again.metadata["best_epoch"] == 1


@pytest.mark.parametrize(
    ("name", "weight", "words"),
    [
        (
            "trunk.0.attention.out.weight",
            torch.zeros(32, 31),
            r"\[32, 31\] in .* and \[32, 32\] in",
        ),
        ("trunk.0.attention.out.weight", None, r"absent in .* and \[32, 32\]"),
        ("extra", torch.zeros(3), r"\[3\] in .* and absent in the model"),
    ],
)
def test_weights_that_do_not_fit_are_named(checkpoint, name, weight, words):
    checkpoint.weights[f"encoder.{name}"] = weight
    if weight is None:
        del checkpoint.weights[f"encoder.{name}"]
    with pytest.raises(UserError, match=rf"encoder\.{name} is {words}"):
        load_encoder(checkpoint)


def test_metadata_without_an_encoder_are_told(checkpoint):
    checkpoint.metadata["parameters"] = {"encoder": {"hidden_dim": 30}}
    with pytest.raises(UserError, match="its metadata describe no encoder"):
        load_encoder(checkpoint)


def test_windows_of_another_kind_are_told(checkpoint):
    check_signals(checkpoint, 100.0, 200)
    with pytest.raises(UserError, match=r"found 200 Hz; expected ingestion\.cleaning\.sfreq=100$"):
        check_signals(checkpoint, 200.0, 400)


def test_the_loaded_encoder_is_ready(checkpoint):
    encoder = load_encoder(checkpoint)
    assert not encoder.training
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, checkpoint.weights[f"encoder.{name}"])


def test_the_random_encoder_shares_the_normalisation_alone(checkpoint):
    trained = load_encoder(checkpoint)
    random, again, other = (random_encoder(checkpoint, seed) for seed in (0, 0, 1))
    for name, buffer in trained.named_buffers():
        assert torch.equal(dict(random.named_buffers())[name], buffer)
    weight = "tokenisers.band.project.0.weight"
    assert torch.equal(random.state_dict()[weight], again.state_dict()[weight])
    assert not torch.equal(random.state_dict()[weight], other.state_dict()[weight])
    assert not torch.equal(random.state_dict()[weight], trained.state_dict()[weight])


def test_parameters_of_before_are_read_by_their_names_of_today(checkpoint, tmp_path):
    former = {"trainer": {"accumulate": 2, "floor": 0.1}, "objective": {"hide_least": 0.2}}
    folder = Checkpoint(checkpoint.weights, {"parameters": former}).save(tmp_path / "c")
    assert Checkpoint.load(folder).metadata["parameters"] == {
        "trainer": {"accumulate_grad_batches": 2, "min_lr_ratio": 0.1},
        "objective": {"min_hidden": 0.2},
    }
