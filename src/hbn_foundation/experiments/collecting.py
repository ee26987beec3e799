"""All that a sweep has found, in one table: a row per job, whatever became of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from hbn_foundation.experiments.planner import Plan
from hbn_foundation.experiments.selection import fields
from hbn_foundation.experiments.specs import BASE, FINETUNE, BaseSpec, FinetuneSpec
from hbn_foundation.experiments.store import METRICS, Store
from hbn_foundation.experiments.sync import Stores

PREDICTIONS = "predictions.parquet"
OF_BOTH = ("kind", "id", "hash", "base_hash", "target", "mode", "target_data_pct", "seed_finetune")
MEASURED = ("status", "what", "seconds", "epochs", "windows_per_second", "validation_loss",
            "n_train", "n_validation", "n_test", "n_base")  # fmt: skip
NOT_RUN = "not run"
#: Long lists, which only fill the table.
NOT_VARIED = ("train_subjects", "validation_subjects", "data", "target", "base_hash")


class Collected(NamedTuple):
    """What a sweep has found.

    Attributes
    ----------
    table
        A row per job: what it is, `status`, `what` went wrong, counts of windows, epochs, seconds;
        and every parameter that differs between jobs.
    predictions
        Of all finished fine-tunings on the test windows, with the job's `hash` and `target`.
    is_regression
        Whether the label is a number.
    """

    table: pd.DataFrame
    predictions: pd.DataFrame
    is_regression: bool


def collect(
    plan: Plan, stores: Stores, reports: Mapping[str, Mapping[str, Any]] | None = None
) -> Collected:
    """Read the results of all jobs of a plan from the stores.

    Parameters
    ----------
    plan
        The jobs.
    stores
        Where results are; entries that are damaged are put into quarantine and count as missing.
    reports
        Of this run, by id, for the reasons of jobs without a result.
    """
    reports = reports or {}
    varied = varied_fields(plan)
    base_fields = {base.hash: fields(base) for base in plan.bases}
    rows: list[dict[str, Any]] = []
    tables: list[pd.DataFrame] = []
    regression = False
    specs: list[BaseSpec | FinetuneSpec] = [*plan.bases, *plan.finetunings]
    for spec in specs:
        kind = BASE if isinstance(spec, BaseSpec) else FINETUNE
        own = fields(spec)
        of_base = base_fields.get(getattr(spec, "base_hash", None) or spec.hash, {})
        row = {"kind": kind, "id": spec.id, "hash": spec.hash}
        if isinstance(spec, FinetuneSpec):
            row |= {name: own[name] for name in OF_BOTH if name in own}
        row |= {f"base.{name}": _plain(of_base.get(name)) for name in varied[BASE]}
        if kind == FINETUNE:
            row |= {f"finetune.{name}": _plain(own.get(name)) for name in varied[FINETUNE]}
        metrics = _metrics(stores.store(kind), spec.hash)
        row |= _measured(metrics, reports.get(spec.id, {}))
        rows.append(row)
        if metrics is not None and kind == FINETUNE:
            found = pd.read_parquet(stores.store(kind).path(spec.hash) / PREDICTIONS)
            tables.append(found.assign(hash=spec.hash, target=getattr(spec, "target", "")))
            regression = regression or bool((metrics.get("targets") or {}).get("is_regression"))
    table = pd.DataFrame(rows)
    later = [name for name in table if name not in (*OF_BOTH, *MEASURED)]
    table = table.reindex(columns=[*OF_BOTH, *MEASURED, *later])
    predictions = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    return Collected(table, predictions, regression)


def varied_fields(plan: Plan) -> dict[str, list[str]]:
    """Name the parameters in which the jobs of each kind differ."""
    result = {}
    lists: dict[str, list[Any]] = {BASE: plan.bases, FINETUNE: plan.finetunings}
    for kind, specs in lists.items():
        seen: dict[str, set[str]] = {}
        for spec in specs:
            for name, value in fields(spec).items():
                seen.setdefault(name, set()).add(json.dumps(value))
        known = {*NOT_VARIED, *OF_BOTH} if kind == FINETUNE else set(NOT_VARIED)
        result[kind] = [n for n, values in seen.items() if len(values) > 1 and n not in known]
        if kind == BASE and specs:
            result[kind] = [*result[kind], "n_base_participants"]
    return result


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _metrics(store: Store, key: str) -> dict[str, Any] | None:
    folder = store.get(key)
    return None if folder is None else dict(json.loads((folder / METRICS).read_text()))


def _measured(metrics: dict[str, Any] | None, report: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a job has found, or why it has not."""
    if metrics is None:
        return {"status": report.get("status", NOT_RUN), "what": report.get("what", "")}
    counts = {f"n_{name}": count for name, count in metrics.get("windows", {}).items()}
    found = {name: (counts | metrics).get(name) for name in MEASURED}
    return {**found, "status": "done", "what": ""}
