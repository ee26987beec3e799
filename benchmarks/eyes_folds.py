"""Eyes open against closed, 70 people: each method with few labels, in several contexts.

    python benchmarks/eyes_folds.py                        # five folds, one seed
    python benchmarks/eyes_folds.py --seeds 1 2            # three seeds of pretraining
    python benchmarks/eyes_folds.py --trained              # models from scratch, too
    python benchmarks/eyes_folds.py --set foundation.objective.name=slow_features

Runs `kedro run --env eyes`: in each fold an encoder is pretrained on the training subjects, and
probes are fitted on the labels of 5, 10 and all 42 of them, ten draws. Repeats of the folds, and
further seeds of pretraining with five folds each, are run in two of the contexts, and their scores
averaged with those of seed 0. With `--trained` the whole model is trained from scratch on the
labels of 5 and 10 as well, without averaging, one draw in each fold. The score is the AUROC within
each test subject, averaged over draws and seeds, over the subjects of an order of states, then over
both orders; intervals are over subjects (BCa), of differences paired. What has run is kept. The
data: `EYES_ROOT`.
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
    "±10 s, denoised": {"of": "recording", "seconds": 10, "denoise": True},
    "±30 s, denoised": {"of": "recording", "seconds": 30, "denoise": True},
}
#: Those that are drawn, those of further seeds, and those that models are trained in.
PANELS = ("each window alone", "the recording's mean, denoised", "±10 s, denoised")
REPEATED = ("the recording's mean, denoised", "±10 s, denoised")
TRAINED = ("the recording's mean",)
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
    parser.add_argument("--figure", type=Path, default=PROJECT / "data/eyes/eyes_folds.png")
    parser.add_argument("--set", nargs="*", default=[], help="parameters, such as a.b=c")
    parser.add_argument("--trained", action="store_true", help="train from scratch, too")
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="further ones")
    parser.add_argument("--repeats", type=int, default=1, help="five folds each, of seed 0")
    options = parser.parse_args()
    prepare("eyes", options.set)
    # (seed of pretraining, contexts, what is run in them)
    once, counts = {"repeats": 1}, [*COUNTS]
    runs: list[tuple[int, Iterable[str], dict[str, Any]]] = []
    for name in CONTEXTS:
        repeats = {"repeats": options.repeats if name in REPEATED else 1}
        runs.append((0, [name], {"frozen": [*DRAWN], "subjects": counts, "repeats": repeats}))
    for seed in options.seeds:
        runs.append((seed, REPEATED, {"frozen": [OURS], "subjects": counts, "repeats": once}))
    if options.trained:
        about = {"trained": [SCRATCH], "subjects": [*FEW], "repeats": once}
        runs.append((0, TRAINED, about))
    parts = []
    for seed, names, about in runs:
        for name in names:
            params = {
                "foundation": {"trainer": {"seed": seed}},
                "finetuning": {"context": CONTEXTS[name]},
            }
            found = subjects_scores("eyes", options.set, params, **about)
            parts.append(found.assign(context=name))
    scores = tell(pd.concat(parts))
    draw(scores, options.figure)
    print(f"Figure: {options.figure}")


if __name__ == "__main__":
    main()
