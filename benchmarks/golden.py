"""Figures that a change of the code must not move, recorded once and compared since.

    python benchmarks/golden.py compare            # every part; exit status 1 on a difference
    python benchmarks/golden.py compare --fast     # the parts that take under a minute together
    python benchmarks/golden.py compare --only rates plans
    python benchmarks/golden.py record --only release

Each part has a file in `tests/golden`: the figures by path (`scores/challenge1/nrmse/fine_tuned`),
the tolerances, and under `accepted` what may differ: `renamed` (old to new segments of a path),
`changed` (path to the new value) and `removed` (beginning of a path to the reason). Figures below
`exact/`, such as digests of weights, hold for one kind of processor and one set of versions; on
another machine they are not compared, and the tolerance `elsewhere` replaces `absolute`. Figures
beyond the recorded ones are no difference. Parameters are in `tests/golden/*.yml`, names of the
project in `golden_project.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

import golden_project as project
from golden_project import GOLDEN, entries, newest, read, run

GIVEN = yaml.safe_load((GOLDEN / "given.yml").read_text())
TOLERANCE = {"absolute": 1e-4, "relative": 1e-4, "elsewhere": 0.02}
OF_RATES = {"absolute": 0.0, "relative": 1e-5, "elsewhere": 0.0}


def rates() -> dict[str, Any]:
    """Learning-rate curves of every schedule under every plan."""
    found = {}
    for schedule in GIVEN["schedules"]:
        for name, plan in GIVEN["plans"].items():
            chosen = {"schedule": schedule, "layer_decay": 0.8}
            table = project.tabulate_rates(plan, chosen, GIVEN["blocks"], GIVEN["epochs"])
            for block, rows in table.groupby("block"):
                curve = rows.sort_values("step")["rate"]
                found[f"{schedule}/{name}/{block}"] = [float(f"{rate:.6g}") for rate in curve]
    return found


def plans() -> dict[str, Any]:
    """Decisions of every plan on three histories of a metric."""
    return {
        f"{history}/{name}": decisions(plan, values)
        for history, values in GIVEN["accuracy"].items()
        for name, plan in GIVEN["plans"].items()
    }


def decisions(params: dict[str, Any], accuracy: list[float]) -> str:
    """Write the blocks trained from the start, then epoch and blocks of each unfreezing."""
    blocks = GIVEN["blocks"]
    plan = project.make_plan(params, blocks, GIVEN["epochs"])
    trained, history = set(plan.start()), []
    said = [f"start {' '.join(name for name in blocks if name in trained)}"]
    for epoch, value in enumerate(accuracy, 1):
        history.append({"epoch": epoch, "balanced_accuracy": value, "validation_loss": 1 - value})
        scores = {name: 1 / (2 + (7 * n + epoch) % 5) for n, name in enumerate(blocks)}
        made = plan.after_epoch(history, trained, lambda scores=scores: scores)
        trained |= set(made.unfreeze)
        if made.unfreeze or made.stop:
            said.append(" ".join([str(epoch), *made.unfreeze, *["stop"] * made.stop]))
        if made.stop:
            break
    return "; ".join(said)


def catalog() -> dict[str, Any]:
    """Class, path and versions of every entry that a pipeline reads or writes."""
    root = project.project().root
    return {
        name: f"{kind} {path.relative_to(root).as_posix()}{' versioned' * versioned}"
        for name, (kind, path, versioned) in entries().items()
    }


def jobs() -> dict[str, Any]:
    """Identity of jobs, and the plan of the sweep that the documentation quotes."""
    run("--pipeline", "ingestion")
    run(*project.PLAN_JOBS)
    bases, served = project.job_hashes(*(newest(name) for name in project.JOBS))
    return {
        **{f"identity/{name}": project.job_hash(job) for name, job in GIVEN["jobs"].items()},
        "plan/bases": len(bases),
        "plan/fine-tunings": len(served),
        "plan/fine-tunings of a base": sorted(set(Counter(served).values())),
        "exact/bases": digest(*sorted(bases)),
    }


def weights() -> dict[str, Any]:
    """Weights of a pretraining, and whether it has them when it is killed and resumed."""
    target = f"--to-outputs={project.ENTRIES['foundation']['checkpoint']}"
    run("--pipeline", "foundation", target)
    whole = tensors("foundation")
    return {**whole, "after a kill": after_a_kill("foundation", whole)}


def release() -> dict[str, Any]:
    """Scores, predictions, histories and weights of all pipelines on a simulated release."""
    for name in project.PIPELINES:
        run("--pipeline", name)
    found = figures(project.PIPELINES)
    for name in project.PIPELINES[:-1]:
        found |= {f"weights/{name}/{key}": value for key, value in tensors(name).items()}
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(newest(project.SUBMISSION)) as archive:
            archive.extractall(folder)
        command = [sys.executable, "-I", "-c", project.ASK, folder]  # isolated: without the project
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found |= {f"outputs/{name}": values for name, values in json.loads(said).items()}
    found["weights/finetuning/after a kill"] = after_a_kill("finetuning", tensors("finetuning"))
    return found


def eegmat() -> dict[str, Any]:
    """Scores and predictions of a short pretraining on real recordings; nothing without them."""
    root = Path(os.environ.get("EEGMAT_ROOT") or project.PROJECT / "../shared/data/eegmat")
    if not root.is_dir():
        return {}
    os.environ["EEGMAT_ROOT"] = str(root.resolve())
    run(*project.EEGMAT)
    return figures(["foundation"], "eegmat")


FAST: tuple[Callable[[], dict[str, Any]], ...] = (rates, plans, catalog, jobs, weights)
PARTS = {part.__name__: part for part in (*FAST, release, eegmat)}


def figures(pipelines: Iterable[str], env: str = "local") -> dict[str, Any]:
    """Give scores, predictions (mean, sd, first three), histories and splits of newest runs."""
    found: dict[str, Any] = {}
    for name in pipelines:
        paths = {kind: newest(entry, env) for kind, entry in project.ENTRIES[name].items()}
        scores = project.read_scores(read(paths["scores"]))
        found |= {f"scores/{name}/{key}": value for key, value in scores.items() if pd.notna(value)}
        if "predictions" not in paths:
            continue
        table = read(paths["predictions"]).sort_values(project.IDENTITY)
        found[f"predictions/{name}/rows"] = len(table)
        for column, values in table.drop(columns=project.IDENTITY).select_dtypes("number").items():
            found[f"predictions/{name}/{column}"] = [values.mean(), values.std(), *values[:3]]
        history = read(paths["history"])
        for column in history.columns.intersection(project.HISTORY):
            found[f"history/{name}/{column}"] = history[column].tolist()
    for name, rows in pd.read_csv(newest(project.SPLITS, env), dtype=str).groupby("split"):
        found[f"splits/{name}"] = " ".join(sorted(rows["subject"]))
    return found


def tensors(name: str) -> dict[str, Any]:
    """Give digest and statistics of a checkpoint's tensors, whatever they are called."""
    from safetensors.numpy import load_file

    (path,) = newest(project.ENTRIES[name]["checkpoint"]).glob("*.safetensors")
    arrays = load_file(path).values()
    flat = np.concatenate([array.ravel().astype(float) for array in arrays])
    parts = sorted(digest(str(array.shape), array.tobytes()) for array in arrays)
    size = [float(np.abs(flat).mean()), float(flat.std())]
    return {"numbers": len(flat), "mean size and sd": size, "exact/digest": digest(*parts)}


def after_a_kill(name: str, expected: dict[str, Any]) -> str:
    """Train again, killed in the second epoch; say what happened and what the weights are."""
    entry = project.ENTRIES[name]
    outputs = f"--to-outputs={entry['checkpoint']},{entry['incidents']}"
    run("--pipeline", name, outputs, "--params", f"{name}.fault=kill@30*1")
    lines = newest(entry["incidents"]).read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    return f"{' '.join(kinds)}, {'the same' if tensors(name) == expected else 'other'} weights"


def digest(*parts: str | bytes) -> str:
    """Give sixteen hexadecimal digits of texts or bytes."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else part)
    return found.hexdigest()[:16]


def machine() -> str:
    """Name what the last bits of a result depend on."""
    info = Path("/proc/cpuinfo")
    rows = [line.partition(":") for line in info.read_text().splitlines()] if info.exists() else []
    first = {key.strip(): value.strip() for key, _, value in reversed(rows)}
    model = [first[key] for key in ("model name", "cpu family", "model") if key in first]
    libraries = [f"{name} {version(name)}" for name in ("torch", "numpy", "scipy", "scikit-learn")]
    return ", ".join([platform.machine(), *model, *libraries])


def plain(value: Any) -> Any:
    """Write a figure as JSON has it; what is not a number is null."""
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def same(expected: Any, found: Any, absolute: float, relative: float) -> bool:
    """Compare two figures, numbers within the tolerances."""
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(
            same(one, other, absolute, relative) for one, other in zip(expected, found, strict=True)
        )
    if isinstance(expected, float) and isinstance(found, float | int):
        return math.isclose(expected, found, rel_tol=relative, abs_tol=absolute)
    return bool(expected == found)


def differences(golden: dict[str, Any], found: dict[str, Any], here: str) -> dict[str, str]:
    """Say by path, as recorded, what differs from the recorded figures of a part."""
    accepted = {"renamed": {}, "changed": {}, "removed": {}} | golden["accepted"]
    absolute, relative, elsewhere = (golden["tolerance"][name] for name in TOLERANCE)
    moved = golden["machine"] != here
    result = {}
    for path, recorded in golden["expected"].items():
        if path.startswith(tuple(accepted["removed"])) or (moved and "exact/" in path):
            continue
        name = f"/{path}/"
        for old, new in accepted["renamed"].items():
            name = name.replace(f"/{old}/", f"/{new}/")
        name = name.strip("/")
        expected = accepted["changed"].get(name, recorded)
        if name not in found:
            result[path] = "is gone"
        elif not same(expected, found[name], elsewhere if moved else absolute, relative):
            result[path] = f"is {found[name]!s:.150}, was {expected!s:.150}"
    return result


def compare(name: str, found: dict[str, Any]) -> bool:
    """Print a line for each kind of figure of a part; tell whether none differs."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    wrong = differences(golden, found, machine())
    kinds = {path: path.split("/")[0] if "/" in path else "" for path in golden["expected"]}
    for kind, number in Counter(kinds.values()).items():
        lines = [f"{path} {what}" for path, what in wrong.items() if kinds[path] == kind]
        more = f"; {len(lines) - 1} more" if len(lines) > 1 else ""
        print(f"{name:8} {kind:12} {lines[0] if lines else 'ok'}{more} ({number})", flush=True)
    return not wrong


def record(name: str, found: dict[str, Any]) -> bool:
    """Write the figures of a part as those expected, one a line; none differs."""
    rows = [f"  {json.dumps(path)}: {json.dumps(value)}" for path, value in found.items()]
    head = {
        "machine": machine(),
        "tolerance": OF_RATES if name == "rates" else TOLERANCE,
        "accepted": {},
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
    text = "\n".join(["{", *lines, ' "expected": {', ",\n".join(rows), " }", "}", ""])
    (GOLDEN / f"{name}.json").write_text(text)
    print(f"{name:8} {len(found)} figures recorded", flush=True)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--fast", action="store_true", help="without release and eegmat")
    given = parser.parse_args()
    good = True
    for name in given.only or (part.__name__ for part in (FAST if given.fast else PARTS.values())):
        found = {path: plain(value) for path, value in PARTS[name]().items()}
        if not found:
            print(f"{name:8} skipped: set EEGMAT_ROOT to the folder of eegmat in BIDS", flush=True)
            continue
        good &= (record if given.action == "record" else compare)(name, found)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
