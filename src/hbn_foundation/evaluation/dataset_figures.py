"""Figures of the data: the quality of the recordings, and who and what the splits hold."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.evaluation.statistics import count_of
from hbn_foundation.evaluation.style import (
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
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

LINE_NOISE = "line_noise"
AMPLITUDE = "amplitude_uv"
MOST_TASKS = 12
MOST_CHANNELS = 12
MOST_FAILURES = 5
NARROW = 8  # times the smallest value; a range up to here is drawn on a plain axis


def quality_figure(table: pd.DataFrame) -> Figure:
    """Draw the quality of all recordings: durations, bad channels, line noise, amplitude, failures.

    Parameters
    ----------
    table
        Table of the signal store, failed recordings included: `recording`, `task`, `status`,
        `reason`, `duration` (s), `n_bad`, `bad_channels` (`Cz (flat), E8 (noisy)`), `reference`
        and the measures of the quality; a measure that is missing leaves its panel empty.
    """
    good = table[table["status"] == "ok"]
    n_failed = len(table) - len(good)
    with styled():
        figure, axes = new_figure(2, 3, panel=(4.0, 2.9))
        heading(
            figure,
            "Quality of the recordings",
            f"{len(good):,} of {len(table):,} recordings can be used, "
            f"{_number(good, 'duration').sum() / 3600:,.1f} hours of "
            f"{count_of(good['subject'].nunique(), 'subject')}; {n_failed:,} left out",
        )
        _durations(axes[0], good)
        _bad_counts(axes[1], good)
        _bad_names(axes[2], good)
        line = _number(good, LINE_NOISE)
        unit = "power at the mains frequency / power beside it"
        _distribution(axes[3], line, "Line noise", unit, "not measured: the files\nend below 50 Hz")
        amplitude = _number(good, AMPLITUDE)
        _distribution(axes[4], amplitude, "Amplitude", "median over channels, µV")
        _failures(axes[5], table[table["status"] != "ok"])
    return figure


def dataset_figure(
    table: pd.DataFrame, splits: pd.DataFrame, participants: pd.DataFrame, windows: pd.DataFrame
) -> Figure:
    """Draw what each split holds: subjects, hours, ages, sexes, windows of each task.

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
            f"{count_of(len(windows), 'window')}; "
            "every subject is in one split only",
        )
        _sizes(axes[0], good, split_of, windows, present)
        _ages(axes[1], people, present)
        _tasks(axes[2], windows, split_of, present)
        _sexes(axes[3], people, present)
    return figure


def _durations(axes: Axes, good: pd.DataFrame) -> None:
    axes.set_title("Duration by task")
    minutes = (_number(good, "duration") / 60).dropna()
    if minutes.empty:
        return note(axes, "no recording")
    groups = minutes.groupby(good["task"].reindex(minutes.index).fillna("no task"))
    names = groups.median().sort_values().index[-MOST_TASKS:]
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
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.set_xlabel("minutes (bar: median)")
    return None


def _bad_counts(axes: Axes, good: pd.DataFrame) -> None:
    axes.set_title("Bad channels per recording")
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
    axes.xaxis.set_major_locator(_locator())
    _whole_numbers(axes)
    return None


def _bad_names(axes: Axes, good: pd.DataFrame) -> None:
    from matplotlib.transforms import ScaledTranslation

    axes.set_title("Channels most often bad")
    listed = good.get("bad_channels", pd.Series(dtype=str)).dropna().astype(str)
    pairs = listed.str.extractall(r"([^,(]+?)\s*\(([^)]*)\)")
    references = [name for name in good.get("reference", pd.Series()).dropna().unique() if name]
    beside = f"reference, not counted: {', '.join(references)}" if len(references) else ""
    if pairs.empty:
        return note(axes, "no bad channels" + (f"\n{beside}" if beside else ""))
    counts = pd.crosstab(pairs[0].str.strip(), pairs[1])
    top = counts.sum(axis=1).sort_values(kind="stable").index[-MOST_CHANNELS:]
    shares = counts.loc[top] / len(good) * 100
    reasons = shares.sum().sort_values(ascending=False).index
    left = np.zeros(len(top))
    for reason, colour in zip(reasons, CYCLE, strict=False):
        axes.barh(top, shares[reason], left=left, height=0.7, color=colour, label=reason)
        left = left + shares[reason].to_numpy()
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.set_xlim(0, min(100.0, float(left.max()) * 1.05))
    axes.set_xlabel("% of the recordings" + (f"\n{beside}" if beside else ""))
    label = -42 if beside else -30  # height of the axis label
    below = ScaledTranslation(0, label / 72, axes.figure.dpi_scale_trans)
    axes.legend(
        loc="upper right", bbox_to_anchor=(1, 0), bbox_transform=axes.transAxes + below,
        ncols=min(4, len(reasons)), borderaxespad=0.2, handlelength=1, columnspacing=1,
        handletextpad=0.4,
    )  # fmt: skip
    return None


def _distribution(
    axes: Axes, values: pd.Series, title: str, unit: str, empty: str = "not measured"
) -> None:
    """Draw a histogram; a wide range is logarithmic, so that one extreme does not hide the rest."""
    axes.set_title(title)
    values = values[np.isfinite(values) & (values > 0)]
    if values.empty:
        return note(axes, empty)
    low, high = values.min(), values.max()
    if high / low < NARROW:
        axes.hist(values, bins=28 if high > low else 1, color=ACCENT, rwidth=0.9)
    else:
        axes.hist(values, bins=list(np.geomspace(low, high, 28)), color=ACCENT, rwidth=0.9)
        axes.set_xscale("log")
        _plain_log_ticks(axes)
    median = float(values.median())
    axes.axvline(median, color=INK, lw=1.2, ls=(0, (4, 2)))
    axes.text(median, 1.0, f" median {median:.3g}", transform=axes.get_xaxis_transform(),
              va="top", fontsize=8)  # fmt: skip
    axes.margins(y=0.14)
    axes.set_xlabel(unit)
    axes.set_ylabel("recordings")
    _whole_numbers(axes)
    return None


def _failures(axes: Axes, failed: pd.DataFrame) -> None:
    axes.set_title("Left out, and why")
    if failed.empty:
        return note(axes, "none: all recordings can be used")
    lines, styles = [], []
    for row in failed.head(MOST_FAILURES).itertuples():
        lines.append(textwrap.shorten(str(row.recording), 52, placeholder="…"))
        lines.append("    " + textwrap.shorten(str(row.reason), 56, placeholder=" …"))
        styles += [INK, WARNING]
    if len(failed) > MOST_FAILURES:
        lines.append(f"and {len(failed) - MOST_FAILURES:,} more: see the quality table")
        styles.append(MUTED)
    note(axes, "")
    for index, (line, colour) in enumerate(zip(lines, styles, strict=True)):
        axes.text(0, 0.97 - index * 0.085, line, color=colour, fontsize=8, va="top",
                  transform=axes.transAxes)  # fmt: skip
    return None


def _sizes(
    axes: Axes, good: pd.DataFrame, split_of: pd.Series, windows: pd.DataFrame, present: list[str]
) -> None:
    axes.set_title("Subjects")
    hours = _number(good, "duration").groupby(good["subject"].map(split_of)).sum() / 3600
    n_windows = windows["subject"].map(split_of).value_counts()
    counts = split_of.value_counts()
    for height, split in enumerate(reversed(present)):
        axes.barh(height, counts[split], color=SPLIT_COLOURS[split], height=0.62)
        text = f"{count_of(counts[split], 'subject')}\n{hours.get(split, 0):,.1f} h, "
        text += f"{n_windows.get(split, 0):,} windows"
        axes.annotate(text, (counts[split], height), (5, 0), textcoords="offset points",
                      va="center", fontsize=8)  # fmt: skip
    axes.set_yticks(range(len(present)), list(reversed(present)))
    axes.set_xlim(0, counts.max() * 1.55)
    axes.grid(False)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _ages(axes: Axes, people: pd.DataFrame, present: list[str]) -> None:
    axes.set_title("Age")
    if "age" not in people or pd.to_numeric(people["age"], errors="coerce").isna().all():
        return note(axes, "age is not known")
    ages = pd.to_numeric(people["age"], errors="coerce")
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
    _whole_numbers(axes)
    return None


def _sexes(axes: Axes, people: pd.DataFrame, present: list[str]) -> None:
    axes.set_title("Sex")
    if "sex" not in people or people["sex"].isna().all():
        return note(axes, "sex is not known")
    counts = pd.crosstab(people["split"], people["sex"].fillna("unknown").astype(str))
    order = [name for name in counts.columns if name != "unknown"]
    order += ["unknown"] if "unknown" in counts else []
    colours = dict(zip(order, ["#7a5ea8", "#4fb0a0", "#b59a3c", "#5d7486"], strict=False))
    heights = np.arange(len(present))[::-1]
    left = np.zeros(len(present))
    totals = counts.loc[present].sum(axis=1).to_numpy()
    for name in order:
        shares = counts.loc[present, name].to_numpy() / totals * 100
        colour = PALE if name == "unknown" else colours.get(name, PALE)
        axes.barh(heights, shares, left=left, height=0.62, color=colour, label=name)
        for height, start, share in zip(heights, left, shares, strict=True):
            if share >= 8:
                axes.text(start + share / 2, height, f"{share:.0f}%", ha="center", va="center",
                          color="white" if colour != PALE else INK, fontsize=8)  # fmt: skip
        left = left + shares
    axes.set_yticks(heights, present)
    axes.set_xlim(0, 100)
    axes.grid(False)
    axes.set_xlabel("% of the subjects")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.99), ncols=len(order), borderaxespad=0)
    return None


def _tasks(axes: Axes, windows: pd.DataFrame, split_of: pd.Series, present: list[str]) -> None:
    axes.set_title("Windows of each task")
    counts = pd.crosstab(windows["task"].fillna("no task"), windows["subject"].map(split_of))
    if counts.empty:
        return note(axes, "no windows")
    counts = counts.loc[counts.sum(axis=1).sort_values().index[-MOST_TASKS:]]
    left = np.zeros(len(counts))
    for split in present:
        if split in counts:
            axes.barh(counts.index, counts[split], left=left, height=0.66, label=split,
                      color=SPLIT_COLOURS[split])  # fmt: skip
            left = left + counts[split].to_numpy()
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(_locator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("windows")
    return None


def _number(table: pd.DataFrame, column: str) -> pd.Series:
    if column not in table:
        return pd.Series(np.nan, index=table.index)
    return pd.to_numeric(table[column], errors="coerce")


def _locator() -> Locator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=5, integer=True)


def _whole_numbers(axes: Axes) -> None:
    axes.yaxis.set_major_locator(_locator())


def _plain_log_ticks(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = axes.get_xlim()
    subs = [1.0, 2.0, 3.0, 5.0] if high / low < 30 else [1.0, 2.0, 5.0]
    subs = subs if high / low < 1000 else [1.0]
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())
