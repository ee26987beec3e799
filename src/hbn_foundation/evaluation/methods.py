"""The methods that are compared: their order in tables and figures and how they are written."""

from __future__ import annotations

from collections.abc import Iterable

PRETRAINED = "pretrained"
FINE_TUNED = "fine_tuned"
SCRATCH = "scratch"

MODEL = "model"
BASELINE = "baseline"
REFERENCE = "reference"
"""A method that knows the test subjects' own answers, for orientation."""

NAMES = {
    PRETRAINED: "pretrained encoder",
    "random_weights": "random encoder",
    "encoder_input": "encoder input",
    "filter_bank": "Riemannian filter bank",
    "riemann": "Riemannian broadband",
    "band_power": "log band power",
    "majority": "majority class",
}

#: Ways to fine-tune, and the frozen probe beside them.
PLAN_NAMES = {
    "head_only": "head only",
    "full": "all blocks at once",
    "two_phase": "two phases",
    "gated": "gated",
    "gradual": "gradual",
    "partial": "partial",
    "plateau": "plateau",
    "gradient_guided": "gradient-guided",
    "phases": "listed phases",
    FINE_TUNED: "fine-tuned",
    SCRATCH: "from scratch",
    "frozen_probe": "frozen probe",
}

#: Beside a model of response times or factors; the last two know the subject's own answers.
CHALLENGE_NAMES = {
    "constant": "training mean",
    "median": "training median",
    "age_sex": "age and sex",
    "time_bins": "ridge on time bins",
    "boosted_trees": "gradient-boosted trees",
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


def written(method: str, numbers: bool = False) -> str:
    """Write a method as a reader wants it; of numbers there is a mean, no majority."""
    if numbers and method == "majority":
        method = "constant"
    return (NAMES | PLAN_NAMES | CHALLENGE_NAMES).get(method, method.replace("_", " "))


def ordered(methods: Iterable[str]) -> list[str]:
    """Put methods in the order of the tables; unknown ones come last."""
    order = list(NAMES)
    found = set(methods)
    return [name for name in order if name in found] + sorted(found - set(order))
