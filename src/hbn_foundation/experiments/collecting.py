"""All that a sweep has found: one table with a row per job, and a folder by prefix and fold."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.experiments.planner import Plan
from hbn_foundation.experiments.selection import NAMES, fields_of, varied
from hbn_foundation.experiments.specs import BASE, FINETUNE, BaseSpec, FinetuneSpec
from hbn_foundation.experiments.store import METRICS, Store
from hbn_foundation.experiments.sync import Stores
from hbn_foundation.experiments.targets import PREDICTIONS, SCORED, TEST_SCORES, score_predictions

OF_JOB = ("base_hash", "fold", "target", "mode", "target_data_pct", "seed_finetune")
MEASURED = ("status", "what", "seconds", "epochs", "windows_per_second", "validation_loss",
            "n_train", "n_validation", "n_test", "n_base")  # fmt: skip
NOT_RUN = "not run"


def collect(
    plan: Plan, stores: Stores, reports: Mapping[str, Mapping[str, Any]] | None = None
) -> pd.DataFrame:
    """Read the results of all jobs of a plan from the stores.

    Parameters
    ----------
    plan
        The jobs.
    stores
        Where results are; entries that are damaged are put into quarantine and count as missing.
    reports
        Of this run, by id, for the reasons of jobs without a result.

    Returns
    -------
    pandas.DataFrame
        A row per job: what it is, `status`, `what` went wrong, counts of windows, epochs, seconds,
        the scores of the test windows (NaN where there is none, as for one class only); and every
        parameter that differs between jobs.
    """
    reports, fields = reports or {}, fields_of(plan)
    shown = [name for name in varied(fields.values())
             if name.partition(".")[2] not in {*NAMES, *OF_JOB}]  # fmt: skip
    rows = []
    specs: list[BaseSpec | FinetuneSpec] = [*plan.bases, *plan.finetunings]
    for spec in specs:
        row: dict[str, Any] = {"kind": spec.JOB, "id": spec.id, "hash": spec.hash}
        row |= {name: getattr(spec, name, None) for name in OF_JOB}
        row |= _measured(stores.store(spec.JOB), spec.hash, reports.get(spec.id, {}))
        own = fields[spec.id]
        own = {name: own.get(name) for name in (f"{BASE}.n_base_participants", *shown)}
        rows.append(
            row
            | {n: json.dumps(v) if isinstance(v, list | dict) else v for n, v in own.items()}
        )  # fmt: skip
    table = pd.DataFrame(rows)
    scored = any(name in table for names in SCORED.values() for name in names)
    return table if scored else table.assign(**dict.fromkeys(SCORED[False], np.nan))


def _measured(store: Store, key: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a job has found, or why it has not."""
    row: dict[str, Any] = dict.fromkeys(MEASURED)
    folder = store.get(key)
    if folder is None:
        return row | {"status": report.get("status", NOT_RUN), "what": report.get("what", "")}
    metrics = dict(json.loads((folder / METRICS).read_text()))
    metrics |= {f"n_{name}": count for name, count in metrics.get("windows", {}).items()}
    row |= {name: metrics.get(name) for name in MEASURED} | {"status": "done", "what": ""}
    if store.what == FINETUNE:  # a result of before has the predictions alone
        row |= metrics.get(TEST_SCORES) or score_predictions(pd.read_parquet(folder / PREDICTIONS))
    return row


def write_set(
    folder: Path, plan: Plan, store: Store, tables: Mapping[str, pd.DataFrame], page: str
) -> None:
    """Lay out the results of one prefix: tables, summary, and a link to each result by its fold.

    The results stay in the store, which other prefixes share; links and empty folders of an
    earlier plan go.

    Parameters
    ----------
    folder
        Of the prefix.
    plan
        Its jobs.
    store
        The results.
    tables
        By the names of their files.
    page
        The summary, in Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    (folder / "summary.md").write_text(page)
    for of_fold in folder.glob("fold*"):
        for link in of_fold.iterdir():
            if link.is_symlink():
                link.unlink()
        if not any(of_fold.iterdir()):
            of_fold.rmdir()
    for spec in plan.finetunings:
        if store.has(spec.hash):
            number = "" if spec.fold is None else spec.fold
            of_fold = folder / f"fold{number}_{spec.target}"
            of_fold.mkdir(exist_ok=True)
            link = of_fold / f"{spec.mode}-{spec.target_data_pct:g}-{spec.hash}"
            link.symlink_to(os.path.relpath(store.path(spec.hash).resolve(), of_fold.resolve()))
