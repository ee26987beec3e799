"""What more people, larger models and longer windows give: eyes open against closed, 5 labels.

    python benchmarks/scaling.py                     # all of it, five folds
    python benchmarks/scaling.py --only people --folds 2
    python benchmarks/scaling.py --work data/scaling # elsewhere; what has run is kept

In each fold of `eyes` encoders are pretrained on 10, 20 and all 42 training subjects, as models of
several sizes, and for windows of 2, 4 and 10 s; probes of the frozen encoder are fitted on the
labels of five subjects, ten draws. Windows are relative to their recording and denoised, alone and
averaged over ±10 s. Score: as in `eyes_folds.py`. The data: `EYES_ROOT`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from curves import BOOTSTRAPS, OURS, PROJECT, SUBJECT, Mean, prepare, subject_table
from hbn_foundation.evaluation.folds import deal
from hbn_foundation.evaluation.params import RepeatParams
from hbn_foundation.evaluation.recipes import FoundationRecipe, LabelRecipe
from hbn_foundation.evaluation.statistics import bootstrap_interval
from hbn_foundation.experiments.data import put_dataset
from hbn_foundation.experiments.job import RunContext
from hbn_foundation.experiments.label_tasks import (
    Draw,
    fit_draws,
    training_subjects,
    with_labels_of,
)
from hbn_foundation.experiments.targets import CHECKPOINT, PREDICTIONS
from hbn_foundation.experiments.tasks import pretrain_encoder
from hbn_foundation.labels.strata import labelling_order
from hbn_foundation.project import open_project
from hbn_foundation.scores import stratified_mean
from hbn_foundation.signals.label_windows import windows_of_label
from hbn_foundation.signals.windows import cut_windows
from hbn_foundation.training.supervision.link import Link

CPU = {"chosen": "cpu"}
LABELLED, DRAWS = 5, range(10)
CONTEXTS = {"the recording's mean": 0.0, "and ±10 s": 10.0}
#: What is varied: by name, the changes of recipe, windows and number of people.
SCALES: dict[str, dict[str, dict[str, Any]]] = {
    "people": {"10": {"people": 10}, "20": {"people": 20}, "42": {}},
    "size": {
        "2 MB": {"encoder": {"hidden_dim": 96}},
        "14 MB": {},
        "60 MB": {"encoder": {"hidden_dim": 512, "n_layers": 5}},
    },
    "window": {"2 s": {}, "4 s": {"seconds": 4.0}, "10 s": {"seconds": 10.0}},
}


def one_fold(
    work: Path, data: dict[float, tuple[Path, Path]], fold: dict[str, Any],
    change: dict[str, Any], recipes: tuple[FoundationRecipe, LabelRecipe],
) -> pd.DataFrame:  # fmt: skip
    """Pretrain once, probe in both contexts; what is there already is read."""
    import torch

    torch.set_num_threads(1)
    name = "-".join(str(part) for part in change.values()) or "default"
    name = "".join(letter if letter.isalnum() else "_" for letter in name)
    folder = work / fold["name"] / name
    path, labelled = data[change.get("seconds", 2.0)]
    pretraining, finetuning = recipes
    if "encoder" in change:
        encoder = pretraining.encoder.model_copy(update=change["encoder"])
        pretraining = pretraining.model_copy(update={"encoder": encoder})
    order = fold["order"][: change.get("people")]
    if not (folder / "out" / CHECKPOINT).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        seen = with_labels_of(fold["splits"], order)
        pretrain_encoder(RunContext(folder, name, CPU, None, Link()), path, seen, pretraining)
    parts = []
    for number, (context, seconds) in enumerate(CONTEXTS.items()):
        at = folder / f"probe{number}"
        if not (at / "out" / PREDICTIONS).exists():
            at.mkdir(exist_ok=True)
            own = finetuning.context.model_copy(
                update={"of": "recording", "seconds": seconds, "denoise": True}
            )
            recipe = finetuning.model_copy(update={"context": own})
            run = RunContext(at, name, CPU, folder / "out", Link())
            fit_draws(run, labelled, fold["splits"], recipe, fold["draws"], [OURS])
        found = subject_table(pd.read_parquet(at / "out" / PREDICTIONS).assign(fold=0, repeat=0))
        parts.append(found.assign(context=context))
    return pd.concat(parts)


def folds_of(
    dataset: Any, recipe: LabelRecipe, most: int, n_labelled: int = LABELLED
) -> list[dict[str, Any]]:
    """List the folds: splits, the order in which people join, and draws of labelled ones."""
    column, folds = recipe.strata_column, []
    subjects, people = dataset.windows["subject"].unique(), dataset.participants
    for name, _, splits in deal(subjects, people, RepeatParams(repeats=1), recipe.label, column):
        train = training_subjects(splits, dataset.windows)
        orders = [
            labelling_order(train, dataset.participants, recipe.label, column, seed)
            for seed in DRAWS
        ]
        draws = [Draw(seed, tuple(sorted(order[:n_labelled]))) for seed, order in enumerate(orders)]
        folds.append({"name": name, "splits": splits, "order": orders[0], "draws": draws})
    return folds[:most]


def exponent(means: pd.DataFrame, strata: pd.Series) -> Mean:
    """Fit the slope of log(1 − AUROC) over log(people), of AUROCs (subjects, numbers of people)."""
    codes, counts = pd.factorize(strata)[0], np.log([int(name) for name in means])

    def slope(chosen: np.ndarray) -> float:
        of_each = means.to_numpy()[chosen].T
        missing = [1 - stratified_mean(one, codes[chosen], codes.max() + 1) for one in of_each]
        return float(np.polyfit(counts, np.log(missing), 1)[0])

    interval = bootstrap_interval(slope, means.index.to_numpy(str), BOOTSTRAPS)
    return Mean(slope(np.arange(len(means))), interval.low, interval.high)


def draw(scores: dict[tuple[str, str, str], Mean], path: Path) -> None:
    """Draw a panel for each scale, a line for each context."""
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(kind for kind, _, _ in scores))
    figure = Figure(figsize=(3.4 * len(kinds), 3.2), layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    titles = {"people": "people pretrained on", "size": "size of the model", "window": "window"}
    for panel, kind in zip(panels, kinds, strict=True):
        names = list(SCALES[kind])
        for number, context in enumerate(CONTEXTS):
            value, low, high = np.array([scores[kind, name, context] for name in names]).T
            places = np.arange(len(names)) + 0.08 * (number - 0.5)
            panel.errorbar(places, value, [value - low, high - value], marker="o", label=context)
        panel.set(xticks=range(len(names)), xlabel=titles[kind])
        panel.set_xticklabels(names)
        panel.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("AUROC within subjects, 5 labelled")
    named = panels[0].get_legend_handles_labels()
    figure.legend(*named, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SCALES, default=list(SCALES))
    parser.add_argument("--folds", type=int, default=5, help="at most")
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=PROJECT / "data/eyes/scaling")
    options = parser.parse_args()
    prepare("eyes", [])
    with open_project("eyes") as project:
        dataset = project.catalog.load("finetuning.dataset")
        trials = project.catalog.load("trials")
        parameters = project.params
    recipes = (
        FoundationRecipe.model_validate(parameters["foundation"]),
        LabelRecipe.model_validate(parameters["finetuning"]),
    )
    label, data = recipes[1], {}
    for seconds in (2.0, 4.0, 10.0):
        window = dataset.window.model_copy(update={"seconds": seconds, "stride": seconds})
        cut = dataset.replace(
            window=window, windows=cut_windows(dataset.store, window),
            splits=dataset.splits.iloc[:0],
        )  # fmt: skip
        windows = windows_of_label(label.label, cut, trials, label.trial_windows, seconds)
        labelled = cut.replace(windows=windows)
        data[seconds] = put_dataset(cut, options.work), put_dataset(labelled, options.work)
    folds = folds_of(dataset, recipes[1], options.folds)
    changes = [(kind, name) for kind in options.only for name in SCALES[kind]]
    once = {str(SCALES[kind][name]): SCALES[kind][name] for kind, name in changes}
    calls = [(key, fold, change) for key, change in once.items() for fold in folds]
    found = Parallel(n_jobs=options.n_jobs, verbose=10)(
        delayed(one_fold)(options.work, data, fold, change, recipes) for _, fold, change in calls
    )
    scores: dict[tuple[str, str, str], Mean] = {}
    of_people: dict[str, dict[str, pd.Series]] = {name: {} for name in CONTEXTS}
    default = pd.concat([t for (key, *_), t in zip(calls, found, strict=True) if key == "{}"])
    default = default.groupby(["context", *SUBJECT])["auroc"].mean()
    for kind, name in changes:
        change = str(SCALES[kind][name])
        own = [t for (key, *_), t in zip(calls, found, strict=True) if key == change]
        means = pd.concat(own).groupby(["context", *SUBJECT])["auroc"].mean()
        for context in CONTEXTS:
            table = means[context].reset_index("stratum")
            if kind == "people":
                of_people[context][name] = table["auroc"]
            scores[kind, name, context] = Mean.of(table["auroc"], table["stratum"])
            line = f"{kind:8}{name:8}{context:24}{scores[kind, name, context]}"
            if SCALES[kind][name]:
                gap = (means[context] - default[context]).reset_index("stratum")
                line += f"   against the default {Mean.of(gap['auroc'], gap['stratum'])}"
            print(line)
    for context, columns in of_people.items() if "people" in options.only else ():
        strata = default[context].reset_index("stratum")["stratum"]
        power = exponent(pd.DataFrame(columns), strata)
        print(f"{context}: 1 − AUROC goes with the number of people to the power {power}")
    draw(scores, options.work / "scaling.png")
    print(f"Figure: {options.work / 'scaling.png'}")


if __name__ == "__main__":
    main()
