"""Rest against mental arithmetic over repeated subject splits: every method, the same folds.

    python benchmarks/eegmat_folds.py                       # 5 folds × 2 of the 20 subjects
    python benchmarks/eegmat_folds.py --epochs 30 --n-jobs 1
    python benchmarks/eegmat_folds.py --tokens band time --objective masked
    python benchmarks/eegmat_folds.py --set cleaning.scale=recording evaluation.shuffle_labels=true

What the pipeline's cross-validation does, by plain functions. In each fold the encoder is
pretrained on the training subjects, probe strengths and stopping epoch are chosen on validation
subjects, and all methods are scored on the same test windows. Finished folds are kept in the work
folder, so a run that was stopped goes on. The data are those of PhysioNet's eegmat in BIDS:
`--root`, or the environment variable EEGMAT_ROOT.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.folds import summarise_folds
from hbn_foundation.evaluation.params import EvaluationParams
from hbn_foundation.evaluation.report.foundation import probe_folds
from hbn_foundation.evaluation.report.render import render_text
from hbn_foundation.evaluation.report.sections import Report
from hbn_foundation.experiments.folds import cross_validate
from hbn_foundation.labels.participants import read_participants
from hbn_foundation.recordings.find import find_recordings
from hbn_foundation.recordings.params import CleaningParams, SelectionParams
from hbn_foundation.signals.build import build_store
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.signals.params import BuildParams, WindowParams
from hbn_foundation.signals.windows import cut_windows
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.params import ObjectiveParams, TrainerParams
from hbn_foundation.training.recipes import PretrainingRecipe

GROUPS = {
    "cleaning": CleaningParams,
    "window": WindowParams,
    "encoder": EncoderParams,
    "objective": ObjectiveParams,
    "trainer": TrainerParams,
    "evaluation": EvaluationParams,
}
PROJECT = Path(__file__).parents[1]


def main() -> None:
    arguments = parse()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hbn_foundation").setLevel(logging.INFO)
    root = arguments.root or os.environ.get("EEGMAT_ROOT") or PROJECT / "../shared/data/eegmat"
    params = parameters(arguments)
    recordings = find_recordings(root, SelectionParams())
    store = build_store(
        recordings,
        BuildParams(path=str(arguments.work / "store"), n_jobs=arguments.n_jobs),
        params["cleaning"],
    )
    windows = cut_windows(store, params["window"])
    participants = read_participants(recordings["bids_root"].iloc[0])
    print(
        f"{windows['subject'].nunique()} subjects, {len(store)} recordings, {len(windows)} windows"
    )
    started = time.monotonic()
    recipe = PretrainingRecipe(
        **{name: params[name] for name in ("encoder", "objective", "trainer")}
    )
    dataset = EEGDataset(
        store, windows, pd.DataFrame(columns=["subject", "split"]), participants, params["window"]
    )
    work = arguments.work / "folds"
    folds = cross_validate(dataset, recipe, params["evaluation"], work)
    folds.to_csv(arguments.work / "folds.csv", index=False)
    print(render_text(Report("Folds", "", "", [probe_folds(summarise_folds(folds))])))
    print(
        f"{time.monotonic() - started:.0f} s; scores of each fold: {arguments.work / 'folds.csv'}"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--root", help="BIDS folder")
    add("--work", type=Path, default=PROJECT / "data/eegmat/benchmark", help="store and folds")
    add("--objective", default="band_completion")
    add("--tokens", nargs="+", default=["band"])
    add("--epochs", type=int)
    add("--folds", type=int, default=5)
    add("--repeats", type=int, default=2)
    add("--seed", type=int, default=0, help="of the folds")
    add("--n-jobs", type=int, default=2, help="folds at once, one thread each")
    add("--set", nargs="+", default=[], metavar="GROUP.KEY=VALUE", help=f"{', '.join(GROUPS)}")
    return parser.parse_args()


def parameters(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the parameters of each group from the arguments."""
    values: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
    values["objective"]["name"] = arguments.objective
    values["encoder"]["tokens"] = arguments.tokens
    if arguments.epochs:
        values["trainer"]["epochs"] = arguments.epochs
    values["evaluation"]["repeats"] = {
        "folds": arguments.folds, "repeats": arguments.repeats, "seed": arguments.seed,
        "n_jobs": arguments.n_jobs,
    }  # fmt: skip
    for setting in arguments.set:
        path, _, value = setting.partition("=")
        group, *keys = path.split(".")
        if group not in values or not keys:
            raise UserError(f"--set {setting}: expected one of {', '.join(GROUPS)}, a key, a value")
        place = values[group]
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = number(yaml.safe_load(value))
    return {name: model.model_validate(values[name]) for name, model in GROUPS.items()}


def number(value: Any) -> Any:
    """Read 5e-4, which YAML takes for a text, as the number it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"Error: {error}") from None
