"""Eyes open against closed, 70 people: each method with few labels, in three contexts.

    python benchmarks/eyes_folds.py                        # five folds, one seed
    python benchmarks/eyes_folds.py --seeds 0 1 2 --repeats 2 --trained
    python benchmarks/eyes_folds.py --set foundation.objective.name=slow_features

Runs `kedro run --env eyes`: in each fold an encoder is pretrained on the training subjects, and
probes are fitted on the labels of 5 to all 42 of them, ten draws; with `--trained` the whole model
is trained from scratch on those of 5 and 10 as well, one draw in each fold of the first repeat.
Seeds are of pretraining. The score is the AUROC within each test subject, averaged over draws and
seeds, over the subjects of an order of states, then over both orders; intervals are over subjects
(BCa), of differences paired. What has run is kept. The data: `EYES_ROOT`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from hbn_foundation.evaluation.methods import display_name
from hbn_foundation.evaluation.statistics import bootstrap_interval
from hbn_foundation.scores import stratified_mean, subject_aurocs

PROJECT = Path(__file__).parents[1]
CONTEXTS = {
    "each window alone": {"of": "window", "seconds": 0},
    "the recording's mean": {"of": "recording", "seconds": 0},
    "and ±10 s": {"of": "recording", "seconds": 10},
    "and ±30 s": {"of": "recording", "seconds": 30},
}
OURS, SCRATCH = "pretrained", "scratch"
OTHERS = ("slow_features", "encoder_input", "random_weights", "band_power")
DRAWN = (OURS, *OTHERS)
COUNTS, FEW = (5, 10, 20, 42), (5, 10)
CURVE = "finetuning_learning_curve"
BOOTSTRAPS = 1000


def kedro(pipeline: str, given: Sequence[str], params: dict[str, Any], *more: str) -> None:
    """Run a pipeline with these parameters; those given as on a command line come last."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "run.yml"
        merged = OmegaConf.merge(params, OmegaConf.from_dotlist(list(given)))
        run = {"env": "eyes", "pipeline": pipeline, "params": merged}
        OmegaConf.save(OmegaConf.create({"run": run}), file)
        command = [sys.executable, "-m", "kedro", "run", "--config", str(file), *more]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
        subprocess.run(command, check=True, cwd=PROJECT, env=environment)


def subjects_scores(
    seed: int, context: str, given: Sequence[str], repeats: int, **methods: Any
) -> pd.DataFrame:
    """Run a curve; return the AUROC of each subject by method and number of labelled subjects."""
    runs = {"frozen": [], "trained": [], "repeats": {"repeats": repeats}, **methods}
    about = {
        "foundation": {"trainer": {"seed": seed}},
        "finetuning": {"context": CONTEXTS[context]},
    }
    kedro(CURVE, given, {**about, CURVE: {"runs": runs}})
    folder = PROJECT / f"data/eyes/07_model_output/{CURVE}_predictions.parquet"
    table = pd.read_parquet(max(folder.glob("*/*.parquet")))
    rows = []
    place = ["method", "n_subjects", "seed", "repeat", "fold"]
    for key, part in table.groupby(place):
        labels, logs = part["value"].to_numpy(int), part[["log_p_0", "log_p_1"]].to_numpy()
        names, areas = subject_aurocs(labels, logs, part["subject"].to_numpy(str))
        strata = part.drop_duplicates("subject").set_index("subject")["stratum"].loc[names]
        known = pd.DataFrame({"subject": names, "stratum": strata.to_numpy(), "auroc": areas})
        rows.append(known.assign(**dict(zip(place, key, strict=True))))
    return pd.concat(rows).assign(context=context)


class Mean(NamedTuple):
    """A mean over strata of values by subject, with its interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: pd.Series, strata: pd.Series) -> Mean:
        """Score values (S,) of subjects in these strata (S,)."""
        codes = pd.factorize(strata)[0]

        def score(chosen: np.ndarray) -> float:
            return stratified_mean(values.to_numpy()[chosen], codes[chosen], codes.max() + 1)

        interval = bootstrap_interval(score, values.index.to_numpy(str), BOOTSTRAPS)
        return cls(score(np.arange(len(values))), interval.low, interval.high)

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def draw(scores: dict[tuple[str, int, str], Mean], path: Path) -> None:
    """Draw the scores over the number of labelled subjects, a panel for each context."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = figure.subplots(1, len(CONTEXTS), sharey=True)
    for panel, context in zip(panels, CONTEXTS, strict=True):
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
    parts = []
    # the curve takes its data from these runs, and encoders from its own folds
    if not any((PROJECT / "data/eyes/06_models/foundation_checkpoint").glob("*")):
        kedro("foundation", options.set, {})
    kedro("finetuning", options.set, {}, "--to-nodes", "finetuning.choose_device")
    for number, seed in enumerate(options.seeds):
        frozen = DRAWN if number == 0 else [OURS]  # the others do not depend on pretraining
        about = {"frozen": list(frozen), "subjects": list(COUNTS)}
        parts += [
            subjects_scores(seed, one, options.set, options.repeats, **about) for one in CONTEXTS
        ]
    if options.trained:
        about = {"trained": [SCRATCH], "subjects": list(FEW)}
        seed = options.seeds[0]
        parts += [subjects_scores(seed, one, options.set, 1, **about) for one in CONTEXTS]
    table = pd.concat(parts)
    strata = table.drop_duplicates("subject").set_index("subject")["stratum"].sort_index()
    means = table.groupby(["context", "n_subjects", "method", "subject"])["auroc"].mean()
    scores = {}
    for context in CONTEXTS:
        print(f"\n{context}")
        for count in sorted(table["n_subjects"].unique()):
            print(f"  {count} labelled subjects")
            by_subject = means[context, count].unstack("method").loc[strata.index]
            for method in by_subject:
                scores[context, count, method] = Mean.of(by_subject[method], strata)
                line = f"    {display_name(method):22} {scores[context, count, method]}"
                if method in (*OTHERS, SCRATCH):
                    gap = Mean.of(by_subject[OURS] - by_subject[method], strata)
                    line += f"   pretrained ahead by {gap}"
                print(line)
    draw(scores, options.figure)
    print(f"Figure: {options.figure}")


if __name__ == "__main__":
    main()
