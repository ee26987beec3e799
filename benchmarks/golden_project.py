"""The project as `golden.py` runs and reads it: a change that renames something follows here.

The recorded figures do not change for that.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
PROJECT = Path(__file__).parents[1]
GOLDEN = PROJECT / "tests" / "golden"
FOLDER = tempfile.TemporaryDirectory(prefix="golden-")
sys.path.insert(0, str(PROJECT / "tests"))

import pandas as pd  # noqa: E402
import yaml  # noqa: E402

from kedro_project import KedroProject  # noqa: E402

JOBS = ("sweep_base_jobs", "sweep_finetune_jobs")
PLAN_JOBS = ("--pipeline", "sweep", "--to-outputs", ",".join(JOBS))
PIPELINES = ("foundation", "finetuning", "challenge1", "challenge2", "submission")
EEGMAT = (
    "--env", "eegmat", "--pipeline", "foundation", "--params",
    "foundation.hardware.device=cpu,foundation.encoder.hidden_dim=32,foundation.encoder.n_heads=2,"
    "foundation.encoder.n_layers=1,foundation.trainer.epochs=2,foundation.trainer.warmup_steps=2,"
    "foundation.evaluation.bootstraps=20,foundation.evaluation.map_method=pca,"
    "foundation.evaluation.repeats=null",
)  # fmt: skip
SPLITS, SUBMISSION = "splits", "submission"

#: Prints the answers of a submission in the folder of the first argument to four fixed windows.
ASK = """
import json, sys, torch
sys.path.insert(0, sys.argv[1])
from submission import Submission
made = Submission(100, torch.device("cpu"))
windows = 2e-5 * torch.randn(4, 129, 200, generator=torch.Generator().manual_seed(0))
models = {"challenge1": made.get_model_challenge_1(), "challenge2": made.get_model_challenge_2()}
with torch.no_grad():
    print(json.dumps({name: m.eval()(windows).flatten().tolist() for name, m in models.items()}))
"""

#: Catalog entries of each pipeline.
ENTRIES = {
    "foundation": {
        "scores": "foundation_scores",
        "predictions": "foundation_predictions",
        "history": "foundation_history",
        "checkpoint": "foundation_checkpoint",
        "incidents": "training_incidents",
    },
    **{
        name: {
            "scores": f"{name}.scores",
            "predictions": f"{name}.predictions",
            "history": f"{name}.history",
            "checkpoint": f"{name}.checkpoint",
            "incidents": f"{name}.incidents",
        }
        for name in ("finetuning", "challenge1", "challenge2")
    },
    "submission": {"scores": "local_scores"},
}
#: What is held of a training history, of predictions all but these columns.
HISTORY = ("train_loss", "validation_loss", "nrmse", "success_auroc", "auroc")
IDENTITY = ["recording", "start"]


def tabulate_rates(
    plan: dict[str, Any], rates: dict[str, Any], blocks: dict[str, int], epochs: int
) -> pd.DataFrame:
    """Tabulate the learning rate (`rate`) by `step` and `block`, with ten steps to the epoch."""
    from hbn_foundation.training.finetuning_params import PlanParams, RateParams
    from hbn_foundation.training.preview import preview_rates
    from hbn_foundation.training.unfreezing import Block

    sizes = [Block(*item) for item in blocks.items()]
    plan_params, rate_params = PlanParams(**plan), RateParams(**rates)
    return preview_rates(plan_params, rate_params, sizes, epochs, 10, points_per_epoch=2)


def make_plan(plan: dict[str, Any], blocks: dict[str, int], epochs: int) -> Any:
    """Give a plan with `start()` and `after_epoch(history, trainable, gradient_scores)`."""
    from hbn_foundation.training.finetuning_params import PlanParams
    from hbn_foundation.training.plans import make_plan
    from hbn_foundation.training.unfreezing import Block

    return make_plan(PlanParams(**plan), [Block(*item) for item in blocks.items()], epochs)


def job_hash(content: dict[str, Any]) -> str:
    """Give the identity of a base, or of a fine-tuning for a `target`."""
    from hbn_foundation.experiments.specs import BaseSpec, FinetuneSpec

    return (FinetuneSpec if "target" in content else BaseSpec).model_validate(content).hash


def job_hashes(*files: Path) -> tuple[list[str], list[str]]:
    """Read the files of `JOBS`: hashes of the bases, and for each fine-tuning that of its base."""
    bases, tunings = (json.loads(path.read_text()) for path in files)
    return [job["hash"] for job in bases], [job["base_hash"] for job in tunings]


def read_scores(table: pd.DataFrame) -> dict[str, float]:
    """Give the test scores by `[target/]metric/method`, of a tidy table or of a wide one."""
    if "metric" in table:
        table = table[table["split"] == "test"] if "test" in set(table["split"]) else table
        keys = ["metric", "method"]
        if table.duplicated(keys).any():
            keys.insert(0, "target")
        return {"/".join(row[keys].astype(str)): row["value"] for _, row in table.iterrows()}
    left_out = ("_low", "_high", "ahead", "ahead_by", "strength", "calibration_slope")
    found = {}
    for _, row in table.iterrows():
        target = f"{row['factor']}/" if "factor" in table else ""
        for name in table.select_dtypes("number"):
            if not name.endswith(left_out) and not name.startswith("n_"):
                found[f"{target}{name}/{row['method']}"] = row[name]
    return found


class CatalogLoader(yaml.SafeLoader):
    """Reads catalog entries; makes none of the Python objects in them."""


CatalogLoader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


@functools.cache
def project() -> KedroProject:
    """Copy the project, with the parameters of `tests/golden/local.yml`."""
    copy = KedroProject.copy_to(Path(FOLDER.name) / "project")
    shutil.copy(GOLDEN / "local.yml", copy.root / "conf" / "local" / "parameters.yml")
    return copy


def run(*arguments: str) -> None:
    """Carry out `kedro run`."""
    result = project().kedro("run", *arguments, timeout=900)
    if result.returncode:
        raise SystemExit(f"kedro run {' '.join(arguments)}:\n{result.stderr[-3000:]}")


@functools.cache
def entries(env: str = "local") -> dict[str, tuple[str, Path, bool]]:
    """Give class, path and whether it is versioned of each catalog entry on the disk."""
    said = project().kedro("catalog", "resolve-patterns", "--env", env).stdout
    found = {}
    for name, entry in yaml.load(said, CatalogLoader).items():
        given = entry.get("kwargs", {}) | entry  # the project's own classes, as they are made
        if "filepath" in given:
            versioned = bool(given.get("versioned")) or "version" in given
            found[name] = entry["type"].rsplit(".", 1)[1], Path(given["filepath"]), versioned
    return found


def newest(entry: str, env: str = "local") -> Path:
    """Find the newest version of a catalog entry."""
    path = entries(env)[entry][1]
    return max(path.iterdir()) / path.name


def read(path: Path) -> pd.DataFrame:
    """Read a table."""
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
