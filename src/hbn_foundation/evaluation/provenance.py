"""What a kept result depends on beside its parameters: the program, the libraries, the arithmetic.

The version number of the program does not change with each line of it, so the code itself is
hashed: a result of other code is computed anew instead of being shown as if it were of this.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1]
PRETRAINING = ("models", "training", "labels", "signals/windows.py", "signals/batches.py",
               "signals/store.py")  # fmt: skip
EVALUATION = tuple(
    f"evaluation/{name}.py"
    for name in ("baselines", "features", "foundation", "metrics", "pretext", "probe", "sample",
                 "spectra", "cross_validation")
)  # fmt: skip


class Provenance(NamedTuple):
    """Hashes of what the pretrained encoder, and what its scores, depend on."""

    pretraining: str
    evaluation: str


def provenance(precision: str, device: str) -> Provenance:
    """Hash code, library versions and resolved arithmetic.

    Parameters
    ----------
    precision, device
        As the trainer's parameters and the device plan have them; what `auto` means is found here.
    """
    from hbn_foundation.training.precision import choose_precision

    arithmetic = [device, choose_precision(precision, device), *_versions("torch", "numpy")]
    return Provenance(
        hash_code(PRETRAINING, arithmetic),
        hash_code(EVALUATION, _versions("numpy", "scikit-learn", "pyriemann", "scipy")),
    )


def hash_code(places: Iterable[str], more: Iterable[str] = (), package: Path = PACKAGE) -> str:
    """Hash Python files and folders of the package; comments and layout do not count."""
    parts = list(more)
    for place in places:
        path = package / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            tree = ast.dump(ast.parse(file.read_text(encoding="utf-8")))
            parts += [file.relative_to(package).as_posix(), tree]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _versions(*names: str) -> list[str]:
    return [f"{name} {importlib.metadata.version(name)}" for name in names]
