"""Formats of numbers, and sentences shared by reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from hbn_foundation.errors import count_of
from hbn_foundation.evaluation.methods import display_name
from hbn_foundation.evaluation.spectra import COMPONENTS, MOST_CHANNELS


def number(value: Any, digits: int = 3, factor: float = 1.0, signed: bool = False) -> str:
    """Format a number; empty where it is missing, without a minus before zero."""
    if value is None or pd.isna(value):
        return ""
    rounded = round(factor * value, digits) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}".replace("-", "−")


def interval(
    low: Any, high: Any, digits: int = 3, factor: float = 1.0, signed: bool = False
) -> str:
    """Format an interval; empty where an end is missing."""
    if pd.isna(low) or pd.isna(high):
        return ""
    return " to ".join(number(end, digits, factor, signed) for end in (low, high))


def interval_of(row: pd.Series, name: str, digits: int = 3, **style: Any) -> str:
    """Format the interval of a score, `<name>_low` to `<name>_high` of a row."""
    return interval(row.get(f"{name}_low"), row.get(f"{name}_high"), digits, **style)


def mean_sd(mean: Any, sd: Any) -> str:
    """Format a mean and its standard deviation."""
    return " ± ".join(filter(None, (number(mean), number(sd))))


def p_text(value: Any) -> str:
    """Format a p value; empty where it is missing."""
    return "< .001" if not pd.isna(value) and value < 0.001 else number(value)


def p_is(value: Any) -> str:
    """Format a p value for a sentence."""
    text = p_text(value)
    return f"p {text}" if text.startswith("<") else f"p = {text or 'unknown'}"


def count_text(value: float) -> str:
    """Format a large number: 812, 4.1 k, 3.2 M."""
    if pd.isna(value):
        return ""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"


def display_factor(factor: str) -> str:
    """Name a factor as displayed."""
    return "p factor" if factor == "p_factor" else factor.replace("_", " ")


def sample_text(metrics: Mapping[str, Any], methods: Iterable[str], fitted: bool = False) -> str:
    """Describe windows, subjects, subsampling and channels of the methods of a table.

    `fitted` says whether only the baselines' windows are subsampled, as beside a fine-tuned model.
    """
    parts = []
    for name, counts in metrics["sample"].items():
        of = f" of {counts['of']:,}, subsampled evenly," if counts["of"] > counts["windows"] else ""
        n_subjects = count_of(counts["subjects"], "subject")
        parts.append(f"{name} {counts['windows']:,}{of} of {n_subjects}")
    text = f"Windows: {'; '.join(parts)}. {channels_text(methods, metrics['n_channels'])}"
    if fitted and any(counts["of"] > counts["windows"] for counts in metrics["sample"].values()):
        text += " Only the baselines' windows are subsampled; the model is trained on all."
    return " ".join(filter(None, (text, context_text(metrics.get("context", "")))))


def context_text(context: str) -> str:
    """Say what all methods know beside a window; empty where each stands alone."""
    return f"Context of all methods, without labels: features {context}." if context else ""


def strata_text(metrics: Mapping[str, Any]) -> str:
    """Describe the strata that the main score is averaged over; empty without any."""
    if "strata" not in metrics:
        return ""
    words = ", ".join(f"{name} {count}" for name, count in metrics["strata"].items())
    one_class = metrics["one_class"]
    also = f"; {count_of(one_class, 'subject')} of one class left out" if one_class else ""
    return (
        f"AUROC within test subjects, averaged over those of a stratum, then over strata ({words} "
        f"subjects{also}). Fits weigh the strata of each class alike."
    )


def channels_text(methods: Iterable[str], n_channels: int) -> str:
    """Describe the channels that the methods use."""
    text = f"All methods use all {n_channels} channels"
    reduced = [
        f"{display_name(name)} {min(COMPONENTS[name], n_channels)}"
        for name in methods
        if name in COMPONENTS
    ]
    if n_channels <= MOST_CHANNELS or not reduced:
        return f"{text}."
    return f"{text}, by principal components fitted on training windows: {', '.join(reduced)}."
