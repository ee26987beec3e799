"""Figures of the data: quality of the recordings, composition of the splits."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.figures.style import (
    ACCENT,
    CYCLE,
    INK,
    MUTED,
    PALE,
    SPLIT_COLOURS,
    WARNING,
    heading,
    new_figure,
    note,
    sideways,
    styled,
    whole_numbers,
)
from hbn_foundation.evaluation.statistics import count_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_TASKS = 12
MAX_CHANNELS = 12
MAX_FAILURES = 5
SEX_COLOURS = ("#7a5ea8", "#4fb0a0", "#b59a3c", "#5d7486")
LINEAR_RANGE = 8  # largest ratio of the extremes that is drawn on a linear axis


def quality_figure(table: pd.DataFrame) -> Figure:
    """Draw durations, bad channels, line noise, amplitude and failures of all recordings.

    Parameters
    ----------
    table
        Table of the signal store, failed recordings included: `recording`, `task`, `status`,
        `reason`, `duration` (s), `n_bad`, `bad_channels` (`Cz (flat), E8 (noisy)`), `reference`
        and the measures of the quality; a measure that is missing leaves its panel empty.
    """
    good, failed = table[table["status"] == "ok"], table[table["status"] != "ok"]
    with styled():
        figure, axes = new_figure(2, 3, panel=(4.0, 2.9))
        heading(
            figure,
            "Quality of the recordings",
            f"{len(good):,} of {len(table):,} recordings can be used, "
            f"{_number(good, 'duration').sum() / 3600:,.1f} hours of "
            f"{count_of(good['subject'].nunique(), 'subject')}; {len(failed):,} excluded",
        )
        titles = ["Duration by task", "Bad channels per recording", "Channels most often bad",
                  "Line noise", "Amplitude", "Excluded recordings"]  # fmt: skip
        for panel, title in zip(axes, titles, strict=True):
            panel.set_title(title)
        _durations(axes[0], good)
        _bad_counts(axes[1], good)
        _bad_names(axes[2], good)
        unit = "power at the mains frequency / power beside it"
        missing = "not measured: the files\nend below 50 Hz"
        _distribution(axes[3], _number(good, "line_noise"), unit, missing)
        _distribution(axes[4], _number(good, "amplitude_uv"), "median over channels, µV")
        _failures(axes[5], failed)
    return figure


def dataset_figure(
    table: pd.DataFrame, splits: pd.DataFrame, participants: pd.DataFrame, windows: pd.DataFrame
) -> Figure:
    """Draw subjects, hours, ages, sexes and windows per task of each split.

    Parameters
    ----------
    table
        Table of the signal store.
    splits
        Columns `subject` and `split`.
    participants
        Column `subject`, and `age` and `sex` where known.
    windows
        Windows table.
    """
    split_of = splits.set_index("subject")["split"]
    good = table[table["status"] == "ok"]
    present = [split for split in SPLIT_COLOURS if (split_of == split).any()]
    people = participants.assign(split=participants["subject"].map(split_of)).dropna(
        subset=["split"]
    )
    with styled():
        figure, axes = new_figure(2, 2, panel=(4.6, 2.9))
        heading(
            figure,
            "The data set and its splits",
            f"{count_of(len(split_of), 'subject')}, {count_of(len(good), 'recording')}, "
            f"{count_of(len(windows), 'window')}; every subject is in one split only",
        )
        for panel, title in zip(
            axes, ("Subjects", "Age", "Windows of each task", "Sex"), strict=True
        ):
            panel.set_title(title)
        _sizes(axes[0], good, split_of, windows, present)
        _ages(axes[1], people, present)
        _tasks(axes[2], windows, split_of, present)
        _sexes(axes[3], people, present)
    return figure


def _durations(axes: Axes, good: pd.DataFrame) -> None:
    minutes = (_number(good, "duration") / 60).dropna()
    if minutes.empty:
        return note(axes, "no recording")
    groups = minutes.groupby(good["task"].reindex(minutes.index).fillna("no task"))
    names = groups.median().sort_values().index[-MAX_TASKS:]
    random = np.random.default_rng(0)
    for height, name in enumerate(names):
        values = groups.get_group(name)
        jitter = random.uniform(-0.22, 0.22, len(values))
        opacity = max(0.08, min(0.7, 60 / len(values)))
        axes.plot(values, height + jitter, "o", ms=3.5, mew=0, color=ACCENT, alpha=opacity)
        axes.plot([values.median()] * 2, [height - 0.36, height + 0.36], color=INK, lw=1.6)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.7, len(names) - 0.3)
    axes.set_xlim(left=0)
    sideways(axes)
    axes.set_xlabel("minutes (bar: median)")
    return None


def _bad_counts(axes: Axes, good: pd.DataFrame) -> None:
    counts = _number(good, "n_bad").dropna().astype(int)
    if counts.empty:
        return note(axes, "not measured")
    if not counts.any():
        return note(axes, f"none in {len(counts):,} recordings")
    width = max(1, -(-int(counts.max()) // 20))
    edges = np.arange(0, counts.max() + width + 1, width) - 0.5
    axes.hist(counts, bins=list(edges), color=ACCENT, rwidth=0.86)
    share = counts.sum() / max(_number(good, "n_channels").sum(), 1)
    axes.set_xlabel(f"bad channels ({share:.1%} of all)")
    axes.set_ylabel("recordings")
    axes.xaxis.set_major_locator(whole_numbers())
    axes.yaxis.set_major_locator(whole_numbers())
    return None


def _bad_names(axes: Axes, good: pd.DataFrame) -> None:
    from matplotlib.transforms import ScaledTranslation

    listed = good.get("bad_channels", pd.Series(dtype=str)).dropna().astype(str)
    pairs = listed.str.extractall(r"([^,(]+?)\s*\(([^)]*)\)")
    references = [name for name in good.get("reference", pd.Series()).dropna().unique() if name]
    beside = f"\nreference, not counted: {', '.join(references)}" if references else ""
    if pairs.empty:
        return note(axes, f"no bad channels{beside}")
    counts = pd.crosstab(pairs[0].str.strip(), pairs[1])
    top = counts.sum(axis=1).sort_values(kind="stable").index[-MAX_CHANNELS:]
    shares = counts.loc[top] / len(good) * 100
    shares = shares[shares.sum().sort_values(ascending=False).index]
    ends = _stacked(axes, shares, CYCLE)
    axes.set_xlim(0, min(100.0, float(ends.max()) * 1.05))
    axes.set_xlabel(f"% of the recordings{beside}")
    height = -42 if beside else -30  # of the legend, in points: below the label of the axis
    below = ScaledTranslation(0, height / 72, axes.figure.dpi_scale_trans)
    axes.legend(
        loc="upper right", bbox_to_anchor=(1, 0), bbox_transform=axes.transAxes + below,
        ncols=min(4, shares.shape[1]), borderaxespad=0.2, handlelength=1, columnspacing=1,
        handletextpad=0.4,
    )  # fmt: skip
    return None


def _stacked(axes: Axes, table: pd.DataFrame, colours: Sequence[str]) -> np.ndarray:
    """Draw a horizontal bar per row, in parts by column; return the ends of the bars."""
    left = np.zeros(len(table))
    for column, colour in zip(table, colours, strict=False):
        axes.barh(table.index, table[column], left=left, height=0.66, color=colour, label=column)
        left = left + table[column].to_numpy()
    sideways(axes)
    return left


def _distribution(axes: Axes, values: pd.Series, unit: str, empty: str = "not measured") -> None:
    """Draw a histogram, on a logarithmic axis where the range is wide."""
    values = values[np.isfinite(values) & (values > 0)]
    if values.empty:
        return note(axes, empty)
    low, high = values.min(), values.max()
    if high / low < LINEAR_RANGE:
        axes.hist(values, bins=28 if high > low else 1, color=ACCENT, rwidth=0.9)
    else:
        axes.hist(values, bins=list(np.geomspace(low, high, 28)), color=ACCENT, rwidth=0.9)
        axes.set_xscale("log")
        for axis_format in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            axis_format(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else "")
    median = float(values.median())
    axes.axvline(median, color=INK, lw=1.2, ls=(0, (4, 2)))
    axes.text(median, 1.0, f" median {median:.3g}", transform=axes.get_xaxis_transform(),
              va="top", fontsize=8)  # fmt: skip
    axes.margins(y=0.14)
    axes.set_xlabel(unit)
    axes.set_ylabel("recordings")
    axes.yaxis.set_major_locator(whole_numbers())
    return None


def _failures(axes: Axes, failed: pd.DataFrame) -> None:
    if failed.empty:
        return note(axes, "none")
    lines = []
    for row in failed.head(MAX_FAILURES).itertuples():
        lines.append((textwrap.shorten(str(row.recording), 52, placeholder="…"), INK))
        reason = textwrap.shorten(str(row.reason), 56, placeholder=" …")
        lines.append((f"    {reason}", WARNING))
    if len(failed) > MAX_FAILURES:
        more = f"and {len(failed) - MAX_FAILURES:,} more: see the quality table"
        lines.append((more, MUTED))
    note(axes, "")
    for index, (line, colour) in enumerate(lines):
        axes.text(0, 0.97 - index * 0.085, line, color=colour, fontsize=8, va="top",
                  transform=axes.transAxes)  # fmt: skip
    return None


def _sizes(
    axes: Axes, good: pd.DataFrame, split_of: pd.Series, windows: pd.DataFrame, present: list[str]
) -> None:
    order = present[::-1]
    hours = _number(good, "duration").groupby(good["subject"].map(split_of)).sum() / 3600
    n_windows = windows["subject"].map(split_of).value_counts()
    counts = split_of.value_counts()
    bars = axes.barh(order, counts[order], color=[SPLIT_COLOURS[s] for s in order], height=0.62)
    texts = [
        f"{count_of(counts[split], 'subject')}\n{hours.get(split, 0):,.1f} h, "
        f"{n_windows.get(split, 0):,} windows"
        for split in order
    ]
    axes.bar_label(bars, texts, padding=5, fontsize=8)
    axes.set_xlim(0, counts.max() * 1.55)
    axes.grid(False)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _ages(axes: Axes, people: pd.DataFrame, present: list[str]) -> None:
    ages = _number(people, "age")
    if ages.isna().all():
        return note(axes, "age is not known")
    width = max(1, round((ages.max() - ages.min()) / 18))
    edges = np.arange(np.floor(ages.min()), np.floor(ages.max()) + width + 0.01, width)
    axes.hist(
        [ages[people["split"] == split].dropna() for split in present],
        bins=list(edges),
        stacked=True,
        rwidth=0.9,
        color=[SPLIT_COLOURS[split] for split in present],
        label=present,
    )
    mean = ages.groupby(people["split"]).mean()
    axes.set_xlabel("years (mean: " + ", ".join(f"{s} {mean[s]:.1f}" for s in present) + ")")
    axes.set_ylabel("subjects")
    axes.legend()
    axes.yaxis.set_major_locator(whole_numbers())
    return None


def _sexes(axes: Axes, people: pd.DataFrame, present: list[str]) -> None:
    if "sex" not in people or people["sex"].isna().all():
        return note(axes, "sex is not known")
    counts = pd.crosstab(people["split"], people["sex"].fillna("unknown").astype(str))
    order = sorted(counts, key=lambda name: name == "unknown")
    shares = counts.div(counts.sum(axis=1), axis=0).loc[present[::-1]][order] * 100
    colours = dict(zip(order, SEX_COLOURS, strict=False)) | {"unknown": PALE}
    _stacked(axes, shares, [colours[name] for name in order])
    for bars in axes.containers:
        labels = [f"{share:.0f}%" if share >= 8 else "" for share in bars.datavalues]  # type: ignore[attr-defined]
        axes.bar_label(bars, labels, label_type="center", fontsize=8)  # type: ignore[arg-type]
    axes.set_xlim(0, 100)
    axes.grid(False)
    axes.set_xlabel("% of the subjects")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.99), ncols=len(order), borderaxespad=0)
    return None


def _tasks(axes: Axes, windows: pd.DataFrame, split_of: pd.Series, present: list[str]) -> None:
    counts = pd.crosstab(windows["task"].fillna("no task"), windows["subject"].map(split_of))
    if counts.empty:
        return note(axes, "no windows")
    counts = counts.loc[counts.sum(axis=1).sort_values().index[-MAX_TASKS:]]
    counts = counts.reindex(columns=present, fill_value=0)
    _stacked(axes, counts, [SPLIT_COLOURS[split] for split in present])
    axes.xaxis.set_major_locator(whole_numbers())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("windows")
    return None


def _number(table: pd.DataFrame, column: str) -> pd.Series:
    if column not in table:
        return pd.Series(np.nan, index=table.index)
    return pd.to_numeric(table[column], errors="coerce")
