"""Models are written into one file that needs torch alone and computes the same."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import PACKAGES, exported, toy_call, toy_models, toy_submission

from hbn_foundation.errors import UserError
from hbn_foundation.submission.archive import Submission
from hbn_foundation.submission.calls import Call
from hbn_foundation.submission.compatibility import problems
from hbn_foundation.submission.export import ExportedModel, export_source, export_submission
from hbn_foundation.submission.validation import example_windows


@pytest.fixture(scope="module")
def source() -> str:
    return export_source(exported(toy_models()), PACKAGES)


def loaded(source: str, folder: Path) -> types.ModuleType:
    """Import an exported file."""
    path = folder / "submission.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("exported_submission", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # which dataclass looks for
    spec.loader.exec_module(module)
    return module


def test_only_torch_and_the_standard_library_are_imported(source):
    tree = ast.parse(source)
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else
                     [alias.name for alias in node.names])
    }  # fmt: skip
    assert imported - set(sys.stdlib_module_names) == {"torch"}
    assert problems(source) == []


def test_what_only_training_needs_stays_behind(source):
    assert "def fit(" not in source
    assert "numpy" not in source
    assert "never_needed" not in source
    assert "def of(" not in source
    assert "pydantic" not in source


def test_what_torch_itself_calls_comes_along(source):
    assert "    def train(self, mode: bool = True) -> LayersPool:" in source


def test_comments_and_docstrings_stay(source):
    assert "FLOOR = 1e-6  # µV², below any amplifier's" in source
    assert "# A comment that belongs to the function.\ndef maths_log(" in source
    assert '    """Windows (B, 129, 200) in volts to (B, 1)."""' in source


def test_names_that_would_mean_two_things_are_told_apart(source):
    assert "MATHS_FLOOR" in source
    assert "LAYERS_FLOOR" in source
    assert "class LayersPool(nn.Module)" in source
    assert "class ModelPool(nn.Module)" in source
    # a variable of that name must not hide the function
    assert "assert log is not maths_log" in source


def test_it_says_where_it_is_from(source):
    assert source.startswith('"""Submission to the 2025 EEG Foundation Challenge')
    assert "Challenge 1: toy 1." in source


def test_parameters_become_frozen_values(source, tmp_path):
    module = loaded(source, tmp_path)
    values = module.ModelParams(
        kinds=("mean",), factor=1.0, pool=module.PoolParams(kinds=("mean",), factor=2.0), width=None
    )
    assert values.n_numbers == 1
    assert values.pool.model_copy(update={"factor": 3.0}).factor == 3.0
    with pytest.raises(AttributeError):
        values.width = 3


def test_the_same_numbers(tmp_path, source):
    models = toy_models()
    module = loaded(source, tmp_path)
    windows = torch.from_numpy(example_windows(6))
    for number, model in models.items():
        copy = module.MODELS[f"challenge_{number}"]()
        copy.load_state_dict(model.state_dict())
        with torch.inference_mode():
            assert torch.equal(copy.eval()(windows), model(windows))


def test_python_of_the_challenge_accepts_it(source, tmp_path):
    candidates = [
        *Path.home().glob(".pyenv/versions/3.10.*/bin/python"),
        Path("/usr/bin/python3.10"),
    ]
    python = next((path for path in candidates if path.exists()), None)
    if python is None:
        pytest.skip("no Python 3.10 here")
    path = tmp_path / "submission.py"
    path.write_text(source)
    subprocess.run([python, "-m", "py_compile", path], check=True)


def test_the_same_models_give_the_same_bytes():
    first, second = (toy_submission()[0].to_bytes() for _ in range(2))
    assert first == second


def test_a_missing_model():
    with pytest.raises(UserError, match="no model of challenge 2"):
        export_submission({1: exported(toy_models())[1]}, PACKAGES)


def test_weights_of_another_model():
    models = exported(toy_models())
    models[2] = ExportedModel(toy_call("mean", "spread"), models[2].weights)
    expected = r"out.weight of challenge 2 is \(1, 129\) in the weights and \(1, 258\) in the model"
    with pytest.raises(UserError, match=expected):
        export_submission(models, PACKAGES)


def exported_text(folder: Path, monkeypatch, name: str, body: str) -> str:
    """Export the model `Model` of a module with this text."""
    (folder / f"{name}.py").write_text(f"import torch\nfrom torch import nn\n{body}")
    monkeypatch.syspath_prepend(folder)
    module = importlib.import_module(name)
    call = Call(module.Model)
    return export_source({1: ExportedModel(call, {}), 2: ExportedModel(call, {})}, (name,))


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        (
            "needs_numpy",
            "import numpy as np\nclass Model(nn.Module):\n    x = np.abs(1)",
            "needs_numpy.py:5 needs numpy; where a submission runs, there are torch",
        ),
        (
            "too_new",
            "class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.norm = nn.RMSNorm(3)",
            "torch.nn.RMSNorm is not in torch 2.2",
        ),
        (
            "does_something",
            "TABLE = {}\nTABLE['a'] = 1\nclass Model(nn.Module):\n    x = TABLE",
            "does_something.py:4 does something as it is imported",
        ),
        (
            "imports_inside",
            "class Model(nn.Module):\n    def forward(self, x):\n        import scipy",
            "imports scipy; only torch and the standard library",
        ),
    ],
)
def test_what_cannot_be_exported(tmp_path, monkeypatch, name, body, expected):
    with pytest.raises(UserError, match=expected.replace("(", r"\(")):
        exported_text(tmp_path, monkeypatch, name, body)


def test_a_value_that_cannot_be_written():
    call = Call(toy_call("mean").target, {"params": np.float32})
    with pytest.raises(UserError, match="made with a type; expected numbers"):
        export_source({1: ExportedModel(call, {}), 2: ExportedModel(call, {})}, PACKAGES)


def test_the_files():
    submission, _ = toy_submission()
    assert isinstance(submission, Submission)
    assert sorted(submission.files) == [
        "submission.py",
        "weights_challenge_1.pt",
        "weights_challenge_2.pt",
    ]
