"""Figures of the data: quality of the recordings, composition of the splits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.errors import count_of
from hbn_foundation.evaluation.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_TASKS = 12
MAX_CHANNELS = 12
MAX_FAILURES = 5
MAX_BINS = 28
COLOURS = {**style.SPLIT_COLOURS, "F": "#7a5ea8", "M": "#4fb0a0", "unknown": style.PALE}
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
    hours = _number(good, "duration").sum() / 3600
    with style.styled():
        figure, axes = style.new_figure(2, 3, panel=(4.0, 2.9))
        style.heading(
            figure,
            "Quality of the recordings",
            f"{len(good):,} of {len(table):,} recordings can be used, {hours:,.1f} hours of "
            f"{count_of(good['subject'].nunique(), 'subject')}; {len(failed):,} excluded",
        )
        _durations(axes[0], good)
        _histogram(axes[1], "Bad channels per recording", _number(good, "n_bad"), "bad channels")
        style.whole_numbers(axes[1].xaxis)
        _bad_names(axes[2], good)
        _histogram(axes[3], "Line noise", _number(good, "line_noise").replace(0, np.nan),
                   "power at the mains frequency / power beside it")  # fmt: skip
        _histogram(axes[4], "Amplitude", _number(good, "amplitude_uv").replace(0, np.nan),
                   "median over channels, µV")  # fmt: skip
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
    splits, participants
        `subject` with `split`, and with `age` and `sex` where known.
    windows
        Windows table.
    """
    split_of = splits.set_index("subject")["split"]
    good = table[table["status"] == "ok"]
    present = [split for split in style.SPLIT_COLOURS if (split_of == split).any()]
    people = participants.assign(split=participants["subject"].map(split_of))
    with style.styled():
        figure, axes = style.new_figure(2, 2, panel=(4.6, 2.9))
        style.heading(
            figure,
            "The data set and its splits",
            f"{count_of(len(split_of), 'subject')}, {count_of(len(good), 'recording')}, "
            f"{count_of(len(windows), 'window')}; every subject is in one split only",
        )
        _sizes(axes[0], good, split_of, windows, present)
        _ages(axes[1], people, present)
        axes[2].set_title("Windows of each task")
        tasks = pd.crosstab(windows["task"].fillna("no task"), windows["subject"].map(split_of))
        tasks = tasks.reindex(columns=present, fill_value=0)
        _bars(axes[2], tasks.loc[tasks.sum(axis=1).sort_values().index[-MAX_TASKS:]], "windows")
        style.whole_numbers(axes[2].xaxis)
        axes[3].set_title("Sex")
        sexes = people["sex"] if "sex" in people else pd.Series(np.nan, index=people.index)
        counts = pd.crosstab(people["split"], sexes.fillna("unknown").astype(str))
        shares = counts.div(counts.sum(axis=1), axis=0).loc[present[::-1]] * 100
        known = shares if sexes.notna().any() else shares[:0]
        _bars(axes[3], known, "% of the subjects", "sex is not known")
    return figure


def _durations(axes: Axes, good: pd.DataFrame) -> None:
    axes.set_title("Duration by task")
    minutes = (_number(good, "duration") / 60).dropna()
    if minutes.empty:
        return style.note(axes, "no recording")
    groups = minutes.groupby(good["task"].reindex(minutes.index).fillna("no task"))
    names = groups.median().sort_values().index[-MAX_TASKS:].tolist()
    axes.boxplot(
        [groups.get_group(name) for name in names], tick_labels=names, orientation="horizontal",
        widths=0.6, medianprops={"color": style.ACCENT, "lw": 2}, flierprops={"ms": 3},
    )  # fmt: skip
    axes.set_xlim(left=0)
    style.sideways(axes)
    axes.set_xlabel("minutes")
    return None


def _bad_names(axes: Axes, good: pd.DataFrame) -> None:
    axes.set_title("Channels most often bad")
    listed = good.get("bad_channels", pd.Series(dtype=str)).dropna().astype(str)
    pairs = listed.str.extractall(r"([^,(]+?)\s*\(([^)]*)\)")
    references = [name for name in good.get("reference", pd.Series()).dropna().unique() if name]
    beside = f"\nreference, not counted: {', '.join(references)}" if references else ""
    counts = pd.crosstab(pairs[0].str.strip(), pairs[1])
    top = counts.loc[counts.sum(axis=1).sort_values(kind="stable").index[-MAX_CHANNELS:]]
    _bars(axes, top / len(good) * 100, f"% of the recordings{beside}", f"no bad channels{beside}")


def _bars(axes: Axes, table: pd.DataFrame, unit: str, empty: str = "no windows") -> None:
    """Draw a bar per row of a table, in parts by column."""
    if table.empty:
        return style.note(axes, empty)
    return style.stacked(axes, table, COLOURS, unit)


def _histogram(axes: Axes, title: str, values: pd.Series, unit: str) -> None:
    """Draw a histogram, on a logarithmic axis where the range is wide."""
    axes.set_title(title)
    values = values[np.isfinite(values)]
    if values.empty:
        return style.note(axes, "not measured")
    low, high = values.min(), values.max()
    if (values % 1 == 0).all() and high - low < MAX_BINS:
        axes.hist(values, bins=list(np.arange(low, high + 2) - 0.5), color=style.ACCENT, rwidth=0.9)
    elif low <= 0 or high / low < LINEAR_RANGE:
        axes.hist(values, bins=MAX_BINS, color=style.ACCENT)
    else:
        axes.hist(values, bins=list(np.geomspace(low, high, MAX_BINS)), color=style.ACCENT)
        axes.set_xscale("log")
        for axis_format in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            axis_format(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else "")
    median = float(values.median())
    axes.axvline(median, color=style.INK, lw=1.2, ls="--")
    axes.text(median, 1.0, f" median {median:.3g}", transform=axes.get_xaxis_transform(),
              va="top", fontsize=8)  # fmt: skip
    axes.margins(y=0.14)
    axes.set_xlabel(unit)
    axes.set_ylabel("recordings")
    style.whole_numbers(axes.yaxis)
    return None


def _failures(axes: Axes, failed: pd.DataFrame) -> None:
    axes.set_title("Excluded recordings")
    if failed.empty:
        return style.note(axes, "none")
    lines = [
        f"{style.shorten(str(row.recording), 52)}\n    {style.shorten(str(row.reason), 56)}"
        for row in failed.head(MAX_FAILURES).itertuples()
    ]
    if len(failed) > MAX_FAILURES:
        lines.append(f"and {len(failed) - MAX_FAILURES:,} more: see the quality table")
    style.note(axes, "")
    axes.text(0, 0.97, "\n".join(lines), fontsize=8, va="top", transform=axes.transAxes)
    return None


def _sizes(
    axes: Axes, good: pd.DataFrame, split_of: pd.Series, windows: pd.DataFrame, present: list[str]
) -> None:
    axes.set_title("Subjects")
    hours = _number(good, "duration").groupby(good["subject"].map(split_of)).sum() / 3600
    n_windows = windows["subject"].map(split_of).value_counts()
    counts = split_of.value_counts()[present[::-1]]
    colours = [style.SPLIT_COLOURS[split] for split in counts.index]
    texts = [
        f"{count_of(count, 'subject')}\n{hours.get(split, 0):,.1f} h, "
        f"{n_windows.get(split, 0):,} windows"
        for split, count in counts.items()
    ]
    axes.bar_label(axes.barh(counts.index, counts, color=colours), texts, padding=5, fontsize=8)
    axes.set_xlim(0, counts.max() * 1.55)
    axes.grid(False)
    axes.set_xticks([])


def _ages(axes: Axes, people: pd.DataFrame, present: list[str]) -> None:
    axes.set_title("Age")
    ages = _number(people, "age")
    if ages.isna().all():
        return style.note(axes, "age is not known")
    parts = [ages[people["split"] == split].dropna() for split in present]
    colours = [style.SPLIT_COLOURS[split] for split in present]
    axes.hist(parts, bins=18, stacked=True, color=colours, label=present)
    mean = ages.groupby(people["split"]).mean().reindex(present)
    means = ", ".join(f"{split} {age:.1f}" for split, age in mean.items())
    axes.set_xlabel(f"years (mean: {means})")
    axes.set_ylabel("subjects")
    axes.legend()
    style.whole_numbers(axes.yaxis)
    return None


def _number(table: pd.DataFrame, column: str) -> pd.Series:
    if column not in table:
        return pd.Series(np.nan, index=table.index)
    return pd.to_numeric(table[column], errors="coerce")
