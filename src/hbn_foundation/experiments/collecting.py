"""What a sweep has found: a table of its jobs, scores of modes and shares, and a folder of all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.methods import ALL_SHARES, MODE_NAMES
from hbn_foundation.evaluation.scorers import scorer_of
from hbn_foundation.evaluation.statistics import holm, mean_interval
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
MODES = tuple(MODE_NAMES)
KEYS = ["mode", "target_data_pct"]
CURVE_COLUMNS = (*KEYS, "score", "low", "high", "n_targets", "n_jobs",
                 "n_train")  # fmt: skip
PAIR_COLUMNS = ("first", "second", "target_data_pct", "ahead_by", "low", "high", "ahead_in",
                "n_targets", "p", "p_holm")  # fmt: skip


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


def by_target(jobs: pd.DataFrame, score: str) -> pd.DataFrame:
    """Mean score of each target, by mode and share: base set-ups and seeds are no subjects.

    Returns
    -------
    pandas.DataFrame
        Index `mode`, `target_data_pct`; one column per target.
    """
    done = _done(jobs, FINETUNE)
    return done.pivot_table(index=KEYS, columns="target", values=score, aggfunc="mean")


def _done(jobs: pd.DataFrame, kind: str) -> pd.DataFrame:
    return jobs[(jobs["kind"] == kind) & (jobs["status"] == "done")]


def learning_curves(
    jobs: pd.DataFrame, score: str, bootstraps: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Mean score over targets for each mode and share, with 95 % bands over resampled targets.

    All modes and shares are resampled alike, so that bands may be compared (BCa bootstrap of
    subjects; the trained models are held fixed).

    Parameters
    ----------
    jobs
        Of `collect`.
    score
        Its column.
    bootstraps, seed
        Resamples.

    Returns
    -------
    pandas.DataFrame
        `mode`, `target_data_pct`, `score`, `low`, `high` (NaN with fewer than 10 targets),
        `n_targets`, `n_jobs`, `n_train` (mean number of the target's training windows).
    """
    values = by_target(jobs, score)
    ends = [mean_interval(row, bootstraps, seed)[:2] for row in values.to_numpy(dtype=float)]
    groups = _done(jobs, FINETUNE).groupby(KEYS)
    table = pd.DataFrame(ends, index=values.index, columns=["low", "high"]).assign(
        score=values.mean(axis=1), n_targets=values.notna().sum(axis=1), n_jobs=groups.size(),
        n_train=groups["n_train"].mean().astype(float),
    )  # fmt: skip
    table = table.reindex(MODES, level="mode").reset_index()
    return table[list(CURVE_COLUMNS)]


def compare_modes(
    jobs: pd.DataFrame, score: str, bootstraps: int = 500, seed: int = 0
) -> pd.DataFrame:
    """Compare modes in pairs on the same targets, at each share and over all shares.

    The test is Wilcoxon's signed-rank test, exact for few targets. The comparisons over all
    shares are one family and those at single shares another; in each, p values are corrected by
    Holm's method (1979). With a handful of targets no single share can pass: the smallest p of
    an exact test of n targets is 2 / 2ⁿ.

    Parameters
    ----------
    jobs, score, bootstraps, seed
        As for `learning_curves`.

    Returns
    -------
    pandas.DataFrame
        `first`, `second`, `target_data_pct` (a share, or all), `ahead_by` (positive: the first is
        better) with the ends of its 95 % interval over targets, `ahead_in` of `n_targets`, `p`,
        `p_holm`.
    """
    values = by_target(jobs, score)
    sign = 1.0 if scorer_of(score).greater_is_better else -1.0
    rows = []
    modes = [mode for mode in MODES if mode in set(values.index.get_level_values(0))]
    for first, second in combinations(modes, 2):
        apart = (sign * (values.xs(first) - values.xs(second))).dropna(how="all")
        pieces: dict[Any, Any] = {share: apart.loc[share] for share in apart.index}
        if len(apart) > 1:
            pieces[ALL_SHARES] = apart.mean(axis=0)
        rows += [
            {"first": first, "second": second, "target_data_pct": share,
             **_paired(differences.dropna().to_numpy(dtype=float), bootstraps, seed)}
            for share, differences in pieces.items()
        ]  # fmt: skip
    table = pd.DataFrame(rows, columns=list(PAIR_COLUMNS))
    family = table["target_data_pct"] == ALL_SHARES
    corrected = table.groupby(family)["p"].transform(lambda p: holm(p.to_numpy(dtype=float)))
    return table.assign(p_holm=corrected)


def _paired(differences: np.ndarray, bootstraps: int, seed: int) -> dict[str, Any]:
    from scipy.stats import wilcoxon

    low, high, _ = mean_interval(differences, bootstraps, seed)
    p = np.nan
    if len(differences) > 1:
        p = 1.0 if not differences.any() else float(wilcoxon(differences).pvalue)
    return {
        "ahead_by": differences.mean() if len(differences) else np.nan,
        "low": low,
        "high": high,
        "ahead_in": int((differences > 0).sum()),
        "n_targets": len(differences),
        "p": p,
    }


def measured_savings(jobs: pd.DataFrame) -> dict[str, float]:
    """Add up what finished jobs took, and what they would have without shared bases.

    Returns
    -------
    dict
        `base_seconds` and `finetune_seconds` of all finished jobs; `alone_seconds`, had each
        fine-tuning trained its own base; `ratio`, the time with shared bases over the time
        without; how many `bases` and `finetunings` are finished.
    """
    bases, tuned = _done(jobs, BASE), _done(jobs, FINETUNE)
    seconds = bases.set_index("hash")["seconds"].astype(float)
    used, tuning = float(seconds.sum()), float(tuned["seconds"].astype(float).sum())
    alone = tuning + float(tuned["base_hash"].map(seconds).astype(float).sum())
    return {
        "base_seconds": used,
        "finetune_seconds": tuning,
        "alone_seconds": alone,
        "ratio": (used + tuning) / alone if alone else np.nan,
        "bases": len(bases),
        "finetunings": len(tuned),
    }


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
