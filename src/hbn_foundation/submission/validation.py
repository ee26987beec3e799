"""Checks of a submission before it is handed in: everything that would fail where it is scored."""

from __future__ import annotations

import ast
import hashlib
import io
import sys
import time
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hbn_foundation.errors import UserError
from hbn_foundation.submission.archive import Submission
from hbn_foundation.submission.params import ValidationParams
from hbn_foundation.submission.process import RunningSubmission, SubmissionError, running
from hbn_foundation.submission.windows import example_windows

PYTHON = (3, 10)  # of the challenge
TOLERANCE_16_BITS = 1e-3  # the last bits of what goes in decide how numbers of 16 bits are rounded
Predict = Callable[[np.ndarray], np.ndarray]


def validate_submission(
    submission: Submission | str | Path,
    expected: Mapping[int, Predict] | None = None,
    params: ValidationParams | None = None,
    windows: np.ndarray | None = None,
    in_16_bits: Collection[int] = (),
) -> dict[str, Any]:
    """Check a submission.

    It is unpacked into an empty folder and run by a clean process in which the project cannot be
    imported, in batches of one and of several, in shuffled order, and all of it twice.

    Parameters
    ----------
    submission
        The zip, or its path.
    expected
        The project's own models by challenge: windows (n, 129, 200) in volts to values (n,).
        Without them, what is predicted is compared with nothing.
    params
        How many windows, which tolerance, which limits.
    windows
        (n, 129, 200) in volts; None: artificial ones (`example_windows`).
    in_16_bits
        Challenges whose models compute in 16 bits: predictions that differ by up to
        `TOLERANCE_16_BITS` are the same.

    Returns
    -------
    dict
        For JSON: `passed`, the zip's digest and size, the versions that ran it, and `checks`, in
        order: `check`, `passed`, `detail`.
    """
    about: dict[str, Any] = {}
    params = params or ValidationParams()
    loose = params.model_copy(update={"tolerance": max(params.tolerance, TOLERANCE_16_BITS)})
    by_challenge = {number: loose if number in in_16_bits else params for number in (1, 2)}
    checks = [
        {"check": check, "passed": problem is None, "detail": problem or detail}
        for check, problem, detail in _checks(
            submission, expected or {}, by_challenge, windows, about
        )
    ]
    return {"passed": all(check["passed"] for check in checks), **about, "checks": checks}


def _checks(
    submission: Submission | str | Path,
    expected: Mapping[int, Predict],
    by_challenge: Mapping[int, ValidationParams],
    windows: np.ndarray | None,
    about: dict[str, Any],
) -> Iterator[tuple[str, str | None, str]]:
    """Yield each check, its problem (None: it passed) and a detail; tell `about` the zip."""
    params = by_challenge[1]
    try:
        if not isinstance(submission, Submission):
            submission = Submission.load(submission, params.limits.most_megabytes)
    except UserError as error:
        yield "a flat zip of plain files", str(error), ""
        return
    content = submission.to_bytes()
    about |= {"sha256": hashlib.sha256(content).hexdigest(), "megabytes": len(content) / 1e6}
    yield "a flat zip of plain files", None, ", ".join(sorted(submission.files))
    problem = next(_source_problems(submission), None)
    yield "runs with Python 3.10, torch and no other package", problem, ""
    windows = example_windows(params.n_windows, params.seed) if windows is None else windows
    failure: dict[str, str] = {}
    started = time.monotonic()
    try:
        with running(submission, params.limits) as process:
            about |= process.versions
            yield "weights are plain state dicts", process.weights_problem, ""
            for number, own in by_challenge.items():
                known = expected.get(number)
                for check, problem in _model_checks(process, number, windows, known, own):
                    yield f"challenge {number}: {check}", problem, ""
            about["peak_megabytes"] = round(process.peak_megabytes)
    except SubmissionError as error:
        failure[error.kind] = str(error)
    about["seconds"] = round(time.monotonic() - started, 1)
    yield "stays within the memory allowed", failure.get("memory"), ""
    yield "stays within the time allowed", failure.get("time"), f"{about['seconds']:g} s"
    yield "runs without an error", failure.get("error") or failure.get("ended"), ""


def _source_problems(submission: Submission) -> Iterator[str]:
    """Yield what in the sources is newer than Python 3.10, or imports another package."""
    sources = {name: part for name, part in submission.files.items() if name.endswith(".py")}
    for name, part in submission.files.items():
        if name.endswith(".zip") and zipfile.is_zipfile(io.BytesIO(part)):
            with zipfile.ZipFile(io.BytesIO(part)) as archive:
                sources |= {f"{name}/{inner}": archive.read(inner) for inner in archive.namelist()}
    own = {part.removesuffix(".py") for name in sources for part in name.split("/")}
    for name, part in sources.items():
        try:
            tree = ast.parse(part, feature_version=PYTHON)
        except (SyntaxError, ValueError) as error:
            yield f"{name} line {getattr(error, 'lineno', 1)}: {error} (Python 3.10)"
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [str(node.module)]
            else:
                continue
            for module in modules:
                if module.split(".")[0] not in {"torch", *own, *sys.stdlib_module_names}:
                    yield f"{name} line {node.lineno}: imports {module}"


def _model_checks(
    process: RunningSubmission,
    challenge: int,
    windows: np.ndarray,
    known: Predict | None,
    params: ValidationParams,
) -> Iterator[tuple[str, str | None]]:
    """Yield each check of a model with its problem, None where there is none."""
    order = np.random.default_rng(params.seed).permutation(len(windows))
    back = np.argsort(order)
    first = process.predict(challenge, windows, 1)
    batched = process.predict(challenge, windows, params.batch_size)
    shapes = [*first.wrong_shapes, *batched.wrong_shapes]
    wrong = next((f"{found} instead of {wanted}" for found, wanted in shapes), None)
    yield "gives (B, 1)", wrong
    if wrong is not None:
        return
    infinite = np.flatnonzero(~np.isfinite(first.values))
    where = f"window {infinite[0]} gives {first.values[infinite[0]]}" if len(infinite) else None
    yield "every value is finite", where
    shuffled = process.predict(challenge, windows[order], 1).values[back]
    again = process.predict(challenge, windows[order[::-1]], params.batch_size).values[::-1][back]
    compared = {
        f"the same in batches of 1 and {params.batch_size}": (batched.values, first.values),
        "the same in another order": (shuffled, first.values),
        "the same a second time": (again, first.values),
    }
    if known is not None:
        compared["as the project predicts"] = first.values, np.asarray(known(windows))
    for check, (values, wanted) in compared.items():
        yield check, difference(values, wanted, params.tolerance)


def difference(values: np.ndarray, wanted: np.ndarray, tolerance: float) -> str | None:
    """Say which window differs most, when one differs by more than the tolerance; else None."""
    with np.errstate(invalid="ignore"):
        gap = np.abs(values - wanted) / np.maximum(1.0, np.abs(wanted))
    gap = np.where(np.isfinite(values) & np.isfinite(wanted), gap, np.inf)
    gap[(values == wanted) | (np.isnan(values) & np.isnan(wanted))] = 0.0
    worst = int(gap.argmax())
    if gap[worst] <= tolerance:
        return None
    return f"window {worst} gives {values[worst]:.6g} instead of {wanted[worst]:.6g}"


def failures(report: Mapping[str, Any]) -> list[str]:
    """Return one line for each check of `validate_submission` that failed."""
    return [f"{c['check']}: {c['detail']}" for c in report["checks"] if not c["passed"]]


def require_passed(report: Mapping[str, Any]) -> None:
    """Stop where a check of `validate_submission` failed.

    Raises
    ------
    UserError
        One line with the first check that failed, and how many more did.
    """
    failed = failures(report)
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise UserError(f"submission: {failed[0]}{more}")


def predictor(model: Any) -> Predict:
    """Make a function of windows (n, C, T) in volts to values (n,) from one of the models."""

    def predict(windows: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return model.eval()(torch.from_numpy(windows)).squeeze(1).double().numpy()

    return predict
