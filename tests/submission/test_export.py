"""Fine-tuned checkpoints become a submission that computes what the project does."""

from __future__ import annotations

import importlib.util
import io
import json
import types
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from fine_tuned import a_store, fine_tuned, label, of_factors, of_response_times

from hbn_foundation.errors import UserError
from hbn_foundation.models.challenge import describe, make_model
from hbn_foundation.pipelines.submission.nodes import score_submission
from hbn_foundation.submission.archive import Submission
from hbn_foundation.submission.export import export_submission, exported_models, target_of
from hbn_foundation.submission.params import (
    ExportParams,
    LimitParams,
    ValidationParams,
)
from hbn_foundation.submission.validation import failures, predictor, validate_submission
from hbn_foundation.submission.windows import CHANNELS, example_windows
from hbn_foundation.training.checkpoint import Checkpoint
from hbn_foundation.training.finetuned import load_challenge_model, load_finetuned
from hbn_foundation.training.model_params import HeadParams
from hbn_foundation.training.variants import KEY, stored

TORCH22 = Path(__file__).parents[2] / ".venv-torch22"
WINDOWS = torch.from_numpy(example_windows(6, seed=2))


def values(model: torch.nn.Module, windows: torch.Tensor = WINDOWS) -> torch.Tensor:
    with torch.inference_mode():
        return model.eval()(windows)


def unpacked(submission: Submission, folder: Path) -> types.ModuleType:
    """Import an unpacked submission in this process, as the challenge does in its own."""
    submission.unpack(folder)
    spec = importlib.util.spec_from_file_location("unpacked_here", folder / "submission.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def exported() -> Submission:
    return export_submission({1: of_response_times(), 2: of_factors()}, a_store(), ExportParams())


@pytest.fixture(scope="module")
def models(exported, tmp_path_factory) -> dict[int, torch.nn.Module]:
    made = unpacked(exported, tmp_path_factory.mktemp("zip")).Submission(100, "cpu")
    return {1: made.get_model_challenge_1(), 2: made.get_model_challenge_2()}


def test_response_times_are_those_of_the_project_within_the_window(models):
    found = values(models[1])
    mine = load_challenge_model(of_response_times(), a_store().positions)
    assert found.shape == (6, 1)
    assert torch.equal(found, values(mine))
    assert ((found >= 0.5) & (found <= 2.5)).all()
    assert found.std() > 0


def test_the_factor_asked_for_is_answered_in_its_unit(models):
    checkpoint = of_factors()
    name = target_of(checkpoint.metadata, "externalizing")
    found = values(models[2])
    mine, *others = (
        load_challenge_model(checkpoint, a_store().positions, n)
        for n in (name, "main", "attention")
    )
    assert torch.equal(found, values(mine))
    assert not any(torch.equal(found, values(other)) for other in others)


@pytest.mark.parametrize(
    "names",
    [CHANNELS[::-1], CHANNELS[:128], (*CHANNELS[3:70], "Fz", *CHANNELS[70:])],
    ids=["reversed", "without reference", "some of them and another"],
)
def test_channels_in_another_order(names, tmp_path):
    store, checkpoints = a_store(names), {1: of_response_times(names), 2: of_factors(names)}
    exported = export_submission(checkpoints, store, ExportParams())
    found = unpacked(exported, tmp_path).Submission(100, "cpu").get_model_challenge_1()
    mine = load_challenge_model(checkpoints[1], store.positions)
    missing = torch.zeros(6, 200)
    own_order = [WINDOWS[:, CHANNELS.index(n)] if n in CHANNELS else missing for n in names]
    expected = values(mine, torch.stack(own_order, 1))
    assert torch.equal(values(found), expected)
    # a recording without its reference, which is zero
    model = exported_models(checkpoints, store, ExportParams())[1]
    assert torch.equal(values(model, WINDOWS[:, :128]), expected)


def test_a_missing_reference(models):
    assert torch.equal(values(models[1], WINDOWS[:, :128]), values(models[1]))
    with pytest.raises(ValueError, match="127 channels; expected 129"):
        values(models[1], WINDOWS[:, :127])


def test_another_rate_is_refused(exported, tmp_path):
    with pytest.raises(ValueError, match="windows at 100 Hz, not 200 Hz"):
        unpacked(exported, tmp_path).Submission(200, "cpu")


def test_the_files(exported):
    weights = {"weights_challenge_1.pt", "weights_challenge_2.pt"}
    assert set(exported.files) == {"submission.py", "models.json", "models.zip", *weights}
    described = json.loads(exported.files["models.json"])
    assert described["origin_1"] == "rt, fine-tuned by run 2026-01-01T00.00.00.000Z"
    assert described["origin_2"].startswith("externalizing, fine-tuned by run")
    with zipfile.ZipFile(io.BytesIO(exported.files["models.zip"])) as archive:
        source = files("hbn_foundation.models").joinpath("encoder.py").read_bytes()
        assert archive.read("hbn_models/encoder.py") == source
    for name in weights:
        assert torch.load(io.BytesIO(exported.files[name]), weights_only=True)
    again = export_submission({1: of_response_times(), 2: of_factors()}, a_store(), ExportParams())
    assert again.to_bytes() == exported.to_bytes()


@pytest.mark.skipif(not (TORCH22 / ".installed").exists(), reason="make torch22 installs it")
def test_the_torch_and_python_of_the_challenge_run_it(exported):
    checkpoints = {1: of_response_times(), 2: of_factors()}
    made = exported_models(checkpoints, a_store(), ExportParams())
    limits = LimitParams(threads=1, python=str(TORCH22 / "bin" / "python"))
    report = validate_submission(
        exported, {n: predictor(model) for n, model in made.items()},
        ValidationParams(n_windows=6, batch_size=4, limits=limits),
    )  # fmt: skip
    assert failures(report) == []
    assert report["torch"].startswith("2.2")
    assert report["python"].startswith("3.10")


def on_the_store():
    checkpoint = of_response_times()
    checkpoint.metadata["parameters"]["input"]["unit"] = "store"
    return checkpoint


def of_tasks():
    checkpoint = of_response_times()
    checkpoint.metadata["parameters"]["label"] = {"kind": "task", "column": None}
    checkpoint.metadata["more_targets"] = {}
    return checkpoint


def of_another_package():
    checkpoint = on_the_store()
    checkpoint.metadata["parameters"]["encoder"] = {"kind": "external", "target": "brain:Net"}
    return checkpoint


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        (lambda: of_response_times(sfreq=200.0), "takes 200 samples at 200 Hz; a submission is"),
        (lambda: of_response_times(n_samples=100), "takes 100 samples at 100 Hz"),
        (lambda: of_response_times(names=CHANNELS[:20]), "store has 129 channels, others"),
        (lambda: fine_tuned(label("age"), HeadParams(), {}), "fine-tuned for age, not for rt"),
        (
            lambda: fine_tuned(label("age"), HeadParams(), {"rt": label("rt", "trial", False)}),
            "answers rt in classes, and a submission gives numbers",
        ),
        (of_another_package, "encoder is brain:Net, and a submission holds the code of this"),
        (on_the_store, "fine-tune with input.unit: volts"),
        (of_tasks, "fine-tuned for task, not for rt"),
    ],
)
def test_checkpoints_that_do_not_suit(checkpoint, expected):
    with pytest.raises(UserError) as caught:
        exported_models({1: checkpoint(), 2: of_factors()}, a_store(), ExportParams())
    assert expected in str(caught.value)


def test_a_zip_that_failed_is_not_scored(exported):
    check = {"check": "gives (B, 1)", "passed": False, "detail": "[1] instead of [1, 1]"}
    report = {"passed": False, "checks": [check]}
    with pytest.raises(UserError, match=r"submission: gives \(B, 1\): \[1\] instead of \[1, 1\]"):
        score_submission(exported, report, None, None, None, None)


def test_a_submission_computes_in_the_variants_arithmetic():
    whole = of_factors()
    weights = stored("bf16", whole.weights, load_finetuned(whole).encoder)
    found = Checkpoint(weights, {**whole.metadata, KEY: {"name": "bf16"}})
    model, single = (load_challenge_model(one, a_store().positions) for one in (found, whole))
    described = describe(model)
    assert described["arithmetic"] == "bfloat16"
    assert "arithmetic" not in describe(single)
    again = make_model(described)
    again.load_state_dict(model.state_dict())
    assert torch.equal(values(again), values(model))
    assert not torch.equal(values(single), values(model))
