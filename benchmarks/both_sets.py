"""Pretrained on both real data sets, against each at home: eyes open or closed, mental arithmetic.

    python benchmarks/both_sets.py                # five folds of either
    python benchmarks/both_sets.py --folds 2

In each fold of a data set one encoder is pretrained on its training subjects (`home`), another on
these and on everybody of the other data set, who have other electrodes and another amplifier
(`both`), a third at home for as many steps (`longer`), and a fourth at home as the other data set's
configuration says (`swapped`). They are frozen. Probes of the encoder, and of the encoder with its
input, are fitted on the labels of five people of `eyes`, six of `eegmat`, ten draws. Score: AUROC
within each test subject, as in `eyes_folds.py` and `transfer.py`; differences are paired over
subjects. `validation` is the mean score by which the probes' strengths were chosen. What has run is
kept by data set, fold and way: give another `--work` where code or parameters differ. The data:
`EYES_ROOT`, `EEGMAT_ROOT`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from joblib import Parallel, delayed
from kedro.io import Version

from curves import OURS, PROJECT, SUBJECT, Mean, kedro, prepare, subject_table
from hbn_foundation.evaluation.methods import ENCODER_INPUT, JOINED
from hbn_foundation.evaluation.recipes import FoundationRecipe, LabelRecipe
from hbn_foundation.experiments.data import load_dataset, put_dataset
from hbn_foundation.experiments.job import RunContext
from hbn_foundation.experiments.label_tasks import fit_draws
from hbn_foundation.experiments.store import SCORES
from hbn_foundation.experiments.targets import CHECKPOINT, PREDICTIONS
from hbn_foundation.experiments.tasks import pretrain_encoder
from hbn_foundation.io.eeg_dataset import EEGDatasetDataset
from hbn_foundation.project import open_project
from hbn_foundation.training.supervision.link import Link
from scaling import CPU, folds_of

#: By data set: people with labels, and the contexts of windows.
SETS: dict[str, tuple[int, dict[str, dict[str, Any]]]] = {
    "eyes": (
        5,
        {
            "the recording's mean, denoised": {"of": "recording", "denoise": True},
            "±10 s, denoised": {"of": "recording", "seconds": 10.0, "denoise": True},
        },
    ),
    "eegmat": (
        6,
        {
            "each window alone": {"of": "window"},
            "the subject's mean and ±10 s": {"of": "subject", "seconds": 10.0},
        },
    ),
}
METHODS = [OURS, JOINED]
HOME, BOTH, LONGER, SWAPPED = WAYS = "home", "both", "longer", "swapped"
NAMES = {
    ENCODER_INPUT: "encoder input",
    HOME: "at home",
    BOTH: "on both data sets",
    LONGER: "at home, as many steps",
    SWAPPED: "at home, other objective",
}


class Home(NamedTuple):
    """A data set and its recipes."""

    name: str
    path: Path  # of the windows that are pretrained on
    labelled: Path
    folds: list[dict[str, Any]]
    pretraining: FoundationRecipe
    swapped: FoundationRecipe
    label: LabelRecipe


def open_home(name: str, work: Path, most: int) -> Home:
    """Open a data set that is prepared."""
    with open_project(name) as project:
        dataset = project.catalog.load("dataset")
        labelled = project.catalog.load("finetuning.dataset")
        parameters = project.params
        label, own = parameters["finetuning"], parameters["foundation"]
    with open_project(next(one for one in SETS if one != name)) as project:
        swapped = project.params["foundation"]
    folds = folds_of(labelled, label, most, SETS[name][0])
    of_both = put_dataset(dataset, work), put_dataset(labelled, work)
    return Home(name, *of_both, folds, own, swapped, label)


def with_others(home: Home, splits: pd.DataFrame, both: tuple[Path, list[str]]) -> pd.DataFrame:
    """Name the subjects of a fold as the study of both does, and train on all others, too."""
    own = splits.assign(subject=f"{home.name}-" + splits["subject"].astype(str))
    others = [one for one in both[1] if not one.startswith(f"{home.name}-")]
    if strange := sorted(set(own["subject"]) - set(both[1])):
        raise SystemExit(f"{strange[0]}: no subject of the study of both data sets")
    joined = pd.concat([own, pd.DataFrame({"subject": others, "split": "train"})])
    return joined.reset_index(drop=True)


def for_steps_of(
    recipe: FoundationRecipe, dataset: Any, joined: pd.DataFrame, name: str
) -> FoundationRecipe:
    """Train on a data set's own windows for as many steps as on those of both."""
    train = joined.loc[joined["split"] == "train", "subject"]
    subjects = dataset.windows["subject"].astype(str)
    subjects = subjects[subjects.isin(train)]
    more = len(subjects) / subjects.str.startswith(f"{name}-").sum()
    old = recipe.trainer
    times = {"epochs": old.epochs, "early_stopping_patience": old.early_stopping_patience}
    trainer = old.model_copy(update={key: round(more * n) for key, n in times.items()})
    return recipe.model_copy(update={"trainer": trainer})


def one_fold(
    work: Path, home: Home, fold: dict[str, Any], both: tuple[Path, list[str]], name: str
) -> pd.DataFrame:
    """Pretrain in one of the ways, and probe in each context; what is there is read."""
    import torch

    torch.set_num_threads(1)
    folder = work / home.name / fold["name"] / name
    path, splits = home.path, fold["splits"]
    pretraining = home.swapped if name == SWAPPED else home.pretraining
    methods = [*METHODS, *([ENCODER_INPUT] if name == HOME else [])]
    if name in (BOTH, LONGER):
        joined = with_others(home, fold["splits"], both)
        if name == BOTH:
            path, splits = both[0], joined
        else:
            pretraining = for_steps_of(pretraining, load_dataset(both[0]), joined, home.name)
    if not (folder / "out" / CHECKPOINT).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        run = RunContext(folder, name, CPU, None, Link())
        pretrain_encoder(run, path, splits, pretraining)
    parts = []
    for number, (context, values) in enumerate(SETS[home.name][1].items()):
        at = folder / f"probe{number}"
        if not (at / "out" / PREDICTIONS).exists():
            at.mkdir(exist_ok=True)
            own = type(home.label.context).model_validate(values)
            recipe = home.label.model_copy(update={"context": own})
            run = RunContext(at, name, CPU, folder / "out", Link())
            fit_draws(run, home.labelled, fold["splits"], recipe, fold["draws"], methods)
        table = pd.read_parquet(at / "out" / PREDICTIONS).assign(fold=0, repeat=0)
        scores = pd.DataFrame(json.loads((at / "out" / SCORES).read_text()))
        held = scores.groupby("method")["validation"].mean().rename("validation").reset_index()
        parts.append(subject_table(table).merge(held).assign(context=context))
    return pd.concat(parts).assign(data=home.name, pretrained=name)


def draw(scores: dict[tuple[str, str], dict[str, Mean]], path: Path) -> None:
    """Draw a panel for each data set and context, a row for each way."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    panels = figure.subplots(2, len(scores) // 2, squeeze=False)
    for panel, ((data, context), of_way) in zip(panels.flat, scores.items(), strict=True):
        for place, (name, (value, low, high)) in enumerate(reversed(of_way.items())):
            colour = "0.5" if name == ENCODER_INPUT else "C0"
            panel.errorbar(value, place, xerr=[[value - low], [high - value]], marker="o",
                           color=colour)  # fmt: skip
        panel.set_yticks(range(len(of_way)), [NAMES[name] for name in reversed(of_way)])
        panel.set_title(f"{data}, {context}", fontsize=10)
        panel.set(xlabel="AUROC within subjects", ylim=(-0.5, len(of_way) - 0.5))
        panel.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--data", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--folds", type=int, default=5, help="at most")
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=PROJECT / "data/both_sets")
    options = parser.parse_args()
    roots = {}
    for name in SETS:
        prepare(name, [])
        with open_project(name) as project:
            roots[name] = str(Path(project.params["ingestion"]["source"].root).resolve())
    source = {"root": None, "roots": roots}
    kedro("eyes", "ingestion", [], {"ingestion": {"source": source}})
    path = PROJECT / "data" / "-".join(SETS) / "05_model_input/dataset"
    dataset = EEGDatasetDataset(filepath=str(path), version=Version(None, None)).load()
    both = put_dataset(dataset, options.work), sorted(dataset.windows["subject"].unique())
    homes = [open_home(name, options.work, options.folds) for name in options.data]
    tables = Parallel(n_jobs=options.n_jobs, verbose=10)(
        delayed(one_fold)(options.work, home, fold, both, name)
        for home in homes
        for name in options.only
        for fold in home.folds
    )
    keys = ["data", "context", "method", "pretrained"]
    means = pd.concat(tables).groupby([*keys, *SUBJECT])[["auroc", "validation"]].mean()
    drawn: dict[tuple[str, str], dict[str, Mean]] = {}
    for place, part in means.groupby(keys[:2], sort=False):
        print("\n" + ", ".join(place))
        rows = {
            key: one.droplevel(keys).reset_index("stratum")
            for key, one in part.groupby(keys[2:], sort=False)
        }
        for (method, name), table in rows.items():
            score = Mean.of(table["auroc"], table["stratum"])
            line = f"  {method:22} {name:8} {score}"
            if method in (OURS, ENCODER_INPUT):
                drawn.setdefault(place, {})[name if method == OURS else method] = score
            line += f"   validation {table['validation'].mean():.3f}"
            for other in ((OURS, HOME), (ENCODER_INPUT, HOME)):
                if other in rows and other != (method, name):
                    gap = Mean.of(table["auroc"] - rows[other]["auroc"], table["stratum"])
                    line += f"   ahead of {' at '.join(other)} by {gap}"
            print(line)
    draw(drawn, options.work / "both_sets.png")
    print(f"Figure: {options.work / 'both_sets.png'}")


if __name__ == "__main__":
    main()
