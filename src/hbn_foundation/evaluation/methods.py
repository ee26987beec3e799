"""The methods that are compared: their order, display names and kinds."""

from __future__ import annotations

PRETRAINED = "pretrained"
FROZEN_PROBE = "frozen_probe"
FINE_TUNED = "fine_tuned"
SCRATCH = "scratch"
RANDOM = "random_weights"
ENCODER_INPUT = "encoder_input"
SLOW = "slow_features"
JOINED = "pretrained_and_input"

MODEL, BASELINE, TRIVIAL, REFERENCE = "model", "baseline", "trivial", "reference"
"""Kinds: the evaluated model, baselines, baselines that predict the same for all, and methods that
use the test subjects' own answers."""
SAME_FOR_ALL = ("majority", "constant", "median")

NAMES = {
    PRETRAINED: "pretrained encoder",
    RANDOM: "random encoder",
    ENCODER_INPUT: "encoder input",
    SLOW: "linear slow features",
    JOINED: "pretrained with its input",
    "filter_bank": "Riemannian filter bank",
    "riemann": "Riemannian broadband",
    "band_power": "log band power",
    "majority": "majority class",
    FINE_TUNED: "fine-tuned",
    # ways to fine-tune, and the frozen probe beside them
    "head_only": "head only",
    "full": "all blocks at once",
    "two_phase": "two phases",
    "gradient_guided": "gradient-guided",
    "phases": "listed phases",
    SCRATCH: "from scratch",
    "frozen_probe": "frozen probe",
    # beside a model of response times or factors
    "constant": "training mean",
    "median": "training median",
    "age_sex": "age and sex",
    "time_bins": "ridge on time bins",
    "boosted_trees": "gradient-boosted trees",
    # references
    "subject_mean": "own mean, same trials",
    "other_runs_mean": "own mean, other runs",
}

#: Ways to use a base for a new subject, the first with most data.
MODE_NAMES = {
    "full_fine_tuning": "base + target data",
    "target_only_fine_tuning": "target data on a base",
    "target_only": "target data from scratch",
}
ALL_SHARES = "all"


def display_name(method: str, numbers: bool = False) -> str:
    """Name a method for readers; for numbers the majority class is the training mean."""
    if numbers and method == "majority":
        method = "constant"
    return NAMES.get(method, method.replace("_", " "))
