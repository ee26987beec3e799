"""Eyes open against closed, 70 people: each method with few labels, in several contexts.

    python benchmarks/eyes_folds.py                        # five folds, one seed
    python benchmarks/eyes_folds.py --seeds 0 1 2 --repeats 2 --trained    # an hour
    python benchmarks/eyes_folds.py --set foundation.objective.name=slow_features

Runs `kedro run --env eyes`: in each fold an encoder is pretrained on the training subjects, and
probes are fitted on the labels of 5, 10 and all 42 of them, ten draws. Seeds are of pretraining:
the first one has the repeats, the others five folds each. With `--trained` the whole model is
trained from scratch on the labels of 5 and 10 as well, without averaging, one draw in each fold of
the first repeat. The score is the AUROC within each test subject, averaged over draws and seeds,
over the subjects of an order of states, then over both orders; intervals are over subjects (BCa),
of differences paired. What has run is kept. The data: `EYES_ROOT`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from curves import OTHERS, OURS, PROJECT, SCRATCH, Mean, prepare, subjects_scores, tell
from hbn_foundation.evaluation.methods import display_name

CONTEXTS = {
    "each window alone": {"of": "window", "seconds": 0, "denoise": False},
    "the recording's mean": {"of": "recording", "seconds": 0, "denoise": False},
    "the recording's mean, denoised": {"of": "recording", "seconds": 0, "denoise": True},
    "and ±10 s": {"of": "recording", "seconds": 10, "denoise": False},
    "±10 s, denoised": {"of": "recording", "seconds": 10, "denoise": True},
    "and ±30 s": {"of": "recording", "seconds": 30, "denoise": False},
    "±30 s, denoised": {"of": "recording", "seconds": 30, "denoise": True},
}
#: Those that are drawn, and those that models are trained in.
PANELS = ("each window alone", "the recording's mean, denoised", "±10 s, denoised")
TRAINED = ("the recording's mean",)
#: What denoising concerns; the other methods are as without it.
DENOISED = (OURS, "slow_features")
DRAWN = (OURS, *OTHERS)
COUNTS, FEW = (5, 10, 42), (5, 10)


def draw(scores: dict[tuple[str, int, str], Mean], path: Path) -> None:
    """Draw the scores over the number of labelled subjects, a panel for each context."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for panel, context in zip(panels, PANELS, strict=True):
        for number, method in enumerate(DRAWN):
            found = [scores[context, count, method] for count in COUNTS]
            value, low, high = np.array(found).T
            places = np.arange(len(COUNTS)) + 0.1 * (number - len(DRAWN) / 2)
            bars = [value - low, high - value]
            panel.errorbar(places, value, bars, marker="o", label=display_name(method))
        panel.set(title=context, xticks=range(len(COUNTS)), xlabel="labelled subjects")
        panel.set_xticklabels(COUNTS)
        panel.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("AUROC within subjects")
    named = panels[0].get_legend_handles_labels()
    figure.legend(*named, loc="outside lower center", ncols=len(DRAWN), frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of pretraining")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--figure", type=Path, default=PROJECT / "data/eyes/eyes_folds.png")
    parser.add_argument("--set", nargs="*", default=[], help="parameters, such as a.b=c")
    parser.add_argument("--trained", action="store_true", help="train from scratch, too")
    options = parser.parse_args()
    prepare("eyes", options.set)
    runs: list[tuple[int, dict[str, Any], Iterable[str]]] = []
    for number, seed in enumerate(options.seeds):
        frozen = DRAWN if number == 0 else (OURS,)  # the others do not depend on pretraining
        repeats = {"repeats": options.repeats if number == 0 else 1}
        about = {"frozen": [*frozen], "subjects": [*COUNTS], "repeats": repeats}
        runs.append((seed, about, CONTEXTS))
    if options.trained:
        about = {"trained": [SCRATCH], "subjects": [*FEW], "repeats": {"repeats": 1}}
        runs.append((options.seeds[0], about, TRAINED))
    parts = {name: [] for name in CONTEXTS}
    for seed, about, names in runs:
        pretraining = {"trainer": {"seed": seed}}
        for name in names:
            context, own = CONTEXTS[name], dict(about)
            if context["denoise"]:
                own["frozen"] = [one for one in own["frozen"] if one in DENOISED]
            params = {"foundation": pretraining, "finetuning": {"context": context}}
            parts[name].append(subjects_scores("eyes", options.set, params, **own))
    tables = {name: pd.concat(found) for name, found in parts.items()}
    plain = {str(context | {"denoise": True}): name for name, context in CONTEXTS.items()
             if not context["denoise"]}  # fmt: skip
    for name, context in CONTEXTS.items():
        if context["denoise"]:
            beside = tables[plain[str(context)]]
            beside = beside[~beside["method"].isin(DENOISED)]
            tables[name] = pd.concat([tables[name], beside])
    table = pd.concat([found.assign(context=name) for name, found in tables.items()])
    draw(tell(table), options.figure)
    print(f"Figure: {options.figure}")


if __name__ == "__main__":
    main()
