"""Checks of a submission before it is handed in: everything that would fail where it is scored."""

from __future__ import annotations

import ast
import hashlib
import io
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hbn_foundation.errors import UserError
from hbn_foundation.submission.archive import Submission
from hbn_foundation.submission.params import ValidationParams
from hbn_foundation.submission.process import RunningSubmission, SubmissionError, running
from hbn_foundation.submission.windows import example_windows

CHALLENGES = (1, 2)
PYTHON = (3, 10)  # of the challenge


@dataclass
class Report:
    """What was checked.

    Attributes
    ----------
    checks
        `check`, `passed`, `detail` of each, in order. After one that leaves nothing to run, there
        are no more.
    about
        The zip's digest and size, and the versions of Python and torch that ran it.
    """

    checks: list[dict[str, Any]] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check["passed"] for check in self.checks)

    def add(self, check: str, problem: str | None, detail: str = "") -> bool:
        """Note a check, with its problem when there is one; tell whether it passed."""
        self.checks.append({"check": check, "passed": problem is None, "detail": problem or detail})
        return problem is None

    def failures(self) -> list[str]:
        """Return one line for each check that failed."""
        return [f"{c['check']}: {c['detail']}" for c in self.checks if not c["passed"]]

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {"passed": self.passed, **self.about, "checks": self.checks}

    def text(self) -> str:
        """Write one line for each check."""
        lines = (
            f"{'ok    ' if check['passed'] else 'FAILED'}  {check['check']}"
            + (f": {check['detail']}" if check["detail"] else "")
            for check in self.checks
        )
        return "\n".join(lines)


def validate_submission(
    submission: Submission | str | Path,
    expected: Mapping[int, Callable[[np.ndarray], np.ndarray]] | None = None,
    params: ValidationParams | None = None,
    windows: np.ndarray | None = None,
) -> Report:
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

    Returns
    -------
    Report
    """
    params = params or ValidationParams()
    report = Report()
    try:
        if not isinstance(submission, Submission):
            submission = Submission.load(submission, params.limits.most_megabytes)
    except UserError as error:
        report.add("a flat zip of plain files", str(error))
        return report
    content = submission.to_bytes()
    report.about["sha256"] = hashlib.sha256(content).hexdigest()
    report.about["megabytes"] = round(len(content) / 1e6, 2)
    report.add("a flat zip of plain files", None, ", ".join(sorted(submission.files)))
    found = list(_source_problems(submission))
    report.add("runs with Python 3.10, torch and no other package", _first(found))
    if windows is None:
        windows = example_windows(params.n_windows, params.seed)
    started = time.monotonic()
    failure: dict[str, str] = {}
    try:
        with running(submission, params.limits) as process:
            report.about |= process.versions
            report.add("weights are plain state dicts", process.weights_problem)
            report.add("both models are made in a clean process", None)
            try:
                for challenge in CHALLENGES:
                    mine = (expected or {}).get(challenge)
                    _check_model(report, process, challenge, windows, mine, params)
            finally:
                report.about["peak_megabytes"] = round(process.peak_megabytes)
    except SubmissionError as error:
        failure[error.kind] = str(error)
    seconds = report.about["seconds"] = round(time.monotonic() - started, 1)
    peak = report.about.get("peak_megabytes")
    memory = f"{peak:,} MB" if peak else ""
    report.add("stays within the memory allowed", failure.get("memory"), memory)
    report.add("stays within the time allowed", failure.get("time"), f"{seconds:g} s")
    report.add("runs without an error", failure.get("error") or failure.get("ended"))
    return report


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


def _first(found: list[str]) -> str | None:
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{found[0]}{more}" if found else None


def _check_model(
    report: Report,
    process: RunningSubmission,
    challenge: int,
    windows: np.ndarray,
    mine: Callable[[np.ndarray], np.ndarray] | None,
    params: ValidationParams,
) -> None:
    n = len(windows)
    order = np.random.default_rng(params.seed).permutation(n)
    back = np.argsort(order)
    name = f"challenge {challenge}"
    first = process.predict(challenge, windows, 1)
    batched = process.predict(challenge, windows, params.batch_size)
    shapes = [*first.wrong_shapes, *batched.wrong_shapes]
    wrong = next((f"{found} instead of {wanted}" for found, wanted in shapes), None)
    if not report.add(f"{name}: gives (B, 1)", wrong):
        return
    infinite = np.flatnonzero(~np.isfinite(first.values))
    where = f"window {infinite[0]} gives {first.values[infinite[0]]}" if len(infinite) else None
    report.add(f"{name}: every value is finite", where)

    def same(check: str, values: np.ndarray, wanted: np.ndarray) -> None:
        report.add(f"{name}: {check}", difference(values, wanted, params.tolerance))

    same(f"the same in batches of 1 and {params.batch_size}", batched.values, first.values)
    shuffled = process.predict(challenge, windows[order], 1)
    again = process.predict(challenge, windows[order[::-1]], params.batch_size)
    same("the same in another order", shuffled.values[back], first.values)
    same("the same a second time", again.values[::-1][back], first.values)
    if mine is not None:
        same("as the project predicts", first.values, np.asarray(mine(windows)))


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


def require_passed(report: Mapping[str, Any]) -> None:
    """Stop where a check failed.

    Parameters
    ----------
    report
        As `Report.as_dict` gives it.

    Raises
    ------
    UserError
        One line with the first check that failed, and how many more did.
    """
    failed = [f"{c['check']}: {c['detail']}" for c in report["checks"] if not c["passed"]]
    if failed:
        raise UserError(f"submission: {_first(failed)}")


def predictor(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Make a function of windows (n, C, T) in volts to values (n,) from one of the models."""

    def predict(windows: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return model.eval()(torch.from_numpy(windows)).squeeze(1).double().numpy()

    return predict
