"""What a kept result depends on beside its parameters: the program, the libraries, the arithmetic.

The version number of the program does not change with each line of it, so the code itself is
hashed: a result of other code is computed anew instead of being shown as if it were of this.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = Path(__file__).parents[1]
#: Of these neither weights nor scores depend.
BESIDE = (
    "training/supervision/",
    *(
        f"evaluation/{name}"
        for name in ("figures/", "report/", "preflight.py", "statistics.py", "provenance.py")
    ),
)
#: Of these the weights of a pretraining do not depend.
OF_FINE_TUNING = (
    "training/callbacks/phases.py",
    *(f"training/{name}.py"
      for name in ("block_gradients", "finetune", "finetuned", "finetuning_module", "head_fitting",
                   "linear_probe", "losses", "plans", "preview", "unfreezing")),
)  # fmt: skip
PRETRAINING = ("models", "training", "labels", "signals/windows.py", "signals/batches.py",
               "signals/context.py", "signals/store.py")  # fmt: skip
EVALUATION = ("training/linear_probe.py", "experiments/tasks.py", "experiments/label_tasks.py",
              "scores.py", "signals/denoising.py", "evaluation")  # fmt: skip


class Provenance(NamedTuple):
    """Hashes of what the pretrained encoder, and what its scores, depend on."""

    pretraining: str
    evaluation: str


def provenance(precision: str, device_plan: dict[str, Any]) -> Provenance:
    """Hash code, library versions and resolved arithmetic.

    Parameters
    ----------
    precision
        As the trainer's parameters have it.
    device_plan
        `chosen`; what `auto` means on a GPU is the probe's finding, as this process must not
        touch one.
    """
    arithmetic = _arithmetic(device_plan.get("precision") or precision, device_plan["chosen"])
    return Provenance(
        hash_code(
            PRETRAINING, [*arithmetic, *_versions("torch", "numpy")], left_out=OF_FINE_TUNING
        ),
        hash_code(EVALUATION, _versions("numpy", "scikit-learn", "pyriemann", "scipy")),
    )


def finetuning_provenance(precision: str, device_plan: dict[str, Any]) -> str:
    """Hash what a fine-tuning and its scores depend on; arguments as for `provenance`."""
    libraries = _versions("torch", "numpy", "scikit-learn", "pyriemann", "scipy")
    arithmetic = _arithmetic(precision, device_plan["chosen"])
    return hash_code((*PRETRAINING, *EVALUATION), [*arithmetic, *libraries])


def _arithmetic(precision: str, device: str) -> list[str]:
    from hbn_foundation.training.precision import choose_precision

    return [device, choose_precision(precision, device) if device == "cpu" else precision]


def hash_code(
    places: Iterable[str],
    more: Iterable[str] = (),
    package: Path = PACKAGE,
    left_out: tuple[str, ...] = (),
) -> str:
    """Hash Python files and folders of the package by what they do: docstrings do not count."""
    parts = list(more)
    for place in places:
        path = package / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            name = file.relative_to(package).as_posix()
            if not name.startswith(BESIDE + left_out):
                parts += [name, _code(file.read_text(encoding="utf-8"))]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


@functools.cache  # every fold and every fine-tuning asks for the same modules
def _code(source: str) -> str:
    """Write a module without the texts that stand alone: docstrings and notes on constants."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(line: ast.stmt) -> bool:
    value = getattr(line, "value", None) if isinstance(line, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _versions(*names: str) -> list[str]:
    return [f"{name} {importlib.metadata.version(name)}" for name in names]
