"""Join what variants cost and lose, and choose one by a rule."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from hbn_foundation.evaluation.report.sections import Report, plain_table
from hbn_foundation.evaluation.scorers import display_metric, scorer_of
from hbn_foundation.evaluation.wording import interval, number
from hbn_foundation.optimization.params import OptimizationParams
from hbn_foundation.training.variant_names import FP32, Name

MEDIAN = "_median_ms"
DECIDING = "decides_ms"


class Choice(NamedTuple):
    """A variant and the reason in a sentence."""

    name: Name
    why: str


def variants_table(
    speed: pd.DataFrame, scores: pd.DataFrame, params: OptimizationParams
) -> pd.DataFrame:
    """Join speed and scores, a row per variant.

    Returns
    -------
    pandas.DataFrame
        The columns of both; `decides_ms`, the median latency at the first batch size on whichever
        number of threads is faster; `change_share` and its ends, as shares of the metric of fp32;
        `allowed`, whether the interval stays above `largest_loss`.
    """
    table = speed.merge(scores, on="variant", how="left")
    first = f"b{params.batch_sizes[0]}_t"
    columns = [name for name in map(str, table) if name.startswith(first) and name.endswith(MEDIAN)]
    whole = abs(float(table.loc[table["variant"] == FP32, "score"].iloc[0]))
    shares = {f"change_share{end}": table[f"change{end}"] / whole for end in ("", "_low", "_high")}
    allowed = (shares["change_share_low"] >= -params.largest_loss) | (table["variant"] == FP32)
    decides = {DECIDING: table[columns].min(axis=1), **shares, "allowed": allowed}
    return table.assign(**decides)


def choose(table: pd.DataFrame, params: OptimizationParams) -> Choice:
    """Choose the fastest variant whose interval stays above the largest loss.

    Without an interval nothing is known of the loss, and fp32 is taken.
    """
    known = table[table["failed"].eq("") & table[DECIDING].notna()]
    others = known[known["variant"] != FP32]
    best = known[known["allowed"]].sort_values(DECIDING, kind="stable").iloc[0]
    own = known.loc[known["variant"] == FP32].iloc[0]
    limit, size = f"{params.largest_loss:.0%}", params.batch_sizes[0]
    if others.empty:
        return Choice(FP32, "no other variant can be made here")
    if others["change_low"].isna().all():
        reason = others["missing"].iloc[0]
        return Choice(FP32, f"no variant's change of the metric has an interval ({reason})")
    if best["variant"] == FP32:
        return Choice(FP32, f"no faster variant's interval stays above −{limit} of the metric")
    change = interval(best["change_share_low"], best["change_share_high"], 2, 100, signed=True)
    return Choice(
        best["variant"],
        f"it is the fastest with {size} window{'s' * (size > 1)} of those whose interval stays "
        f"above −{limit} of the metric: {best[DECIDING]:.2f} ms, fp32 {own[DECIDING]:.2f} ms "
        f"({own[DECIDING] / best[DECIDING]:.1f} ×), change {change} %",
    )


def optimization_report(
    table: pd.DataFrame, choice: Choice, params: OptimizationParams, following: str
) -> Report:
    """Declare the report; `following` says what to run next."""
    metric = table["metric"].dropna().iloc[0]
    counts = table.dropna(subset=["n_subjects"]).iloc[0]
    threads = sorted({name.split("_")[1] for name in map(str, table) if name.endswith(MEDIAN)})
    cells = {f"b{size}_{count}": f"{size} w {count[1:]} t" for size in params.batch_sizes
             for count in threads}  # fmt: skip
    rows = [
        [
            f"{row['variant']}{' *' if row['variant'] == choice.name else ''}",
            *(number(row.get(f"{name}{MEDIAN}"), 2) for name in cells),
            number(row.get(f"{next(iter(cells))}_p99_ms"), 1),
            number(row.get("windows_per_second"), 0),
            number(row.get("cold_start_s"), 1),
            number(row.get("peak_mb"), 0),
            number(row.get("file_mb"), 1),
            number(row["score"], scorer_of(metric).digits + 1),
            number(row["change_share"], 2, 100, signed=True),
            interval(row["change_share_low"], row["change_share_high"], 2, 100, signed=True),
        ]
        for _, row in table.iterrows()
    ]
    header = ["variant", *cells.values(), "p99", "w/s", "cold s", "peak MB", "file MB",
              display_metric(metric), "change %", "95 %"]  # fmt: skip
    failed = [f"{row['variant']}: {row['failed']}." for _, row in table.iterrows() if row["failed"]]
    notes = [
        "Median latency in ms of a call with n windows (w) on n threads (t); p99 of the first. "
        f"{int(counts['n_subjects'])} test subjects, {int(counts['n_windows'])} windows; "
        "change against fp32, positive is better; 95 %: BCa bootstrap, paired over subjects.",
        *failed,
        f"Chosen (*): {choice.name}; {choice.why}.",
        following,
    ]
    lead = f"Chosen: {choice.name}, {choice.why}."
    return Report("Variants of the model", lead, "", [plain_table("Costs", header, rows, notes)])
