"""Both challenges on a simulated release of 80 subjects: every method, three splits and seeds.

    python benchmarks/challenges.py                              # both, as the defaults pretrain
    python benchmarks/challenges.py --only challenge1 --env time_tokens
    python benchmarks/challenges.py --only challenge2 --env factors
    python benchmarks/challenges.py --splits 0 --epochs 2        # a glance
    python benchmarks/challenges.py --only challenge2 --work data/rates \
        --set challenge2.rates.backbone_lr=3e-5                  # what another value gives

For each split: `foundation` up to its checkpoint, then the challenges with their baselines, by
`kedro run` in a copy of the project, whose data folder is the work folder's. Splits that are done
are kept there, so a run that was stopped goes on; other values want another work folder. The last
line for response times is the share that the model explains of what the ideal observer of the
simulation explains of the same trials.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

from ideal_observer import observed_trials

PROJECT = Path(__file__).parents[1]
COPIED = ("conf", "src", "pyproject.toml", ".telemetry")
ENDS = "pretrain_encoder,list_trials"
EPOCHS = {"base": 5, "time_tokens": 8, "factors": 5}
RELEASE = "data/simulated/01_raw/simulated"
SHARE = "share of the ideal observer"
TRIAL = ["subject", "run", "trial"]


def main() -> None:
    arguments = parse()
    work = arguments.work / arguments.env
    work.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source = PROJECT / name
        copy = shutil.copy if source.is_file() else shutil.copytree
        if not (work / name).exists():
            copy(source, work / name)
    check_settings(arguments, work)
    for split in arguments.splits:
        waiting = [name for name in arguments.only if not result(work, name, split).is_file()]
        if waiting:
            kedro(arguments, work, split, "foundation", "--to-nodes", ENDS)
        for name in waiting:
            kedro(arguments, work, split, name)
            scores = newest(work, f"08_reporting/{name}_scores.csv")
            result(work, name, split).parent.mkdir(exist_ok=True)
            scored(work, name, scores).to_csv(result(work, name, split), index=False)
    for name in arguments.only:
        print(f"\n{name}\n{table(work, name, arguments.splits)}")
    print(f"\nreports: {work / 'data/simulated/08_reporting'}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    both = ["challenge1", "challenge2"]
    add("--only", nargs="+", choices=both, default=both)
    add("--env", choices=list(EPOCHS), default="base", help="what is pretrained, and how")
    add("--splits", nargs="+", type=int, default=[0, 1, 2], help="seeds of split and training")
    add("--subjects", type=int, default=80)
    add("--epochs", type=int, help="of the pretraining; by default 5, with time tokens 8")
    add("--set", nargs="+", default=[], metavar="PIPELINE.NAME=VALUE", help="other parameters")
    add("--work", type=Path, default=PROJECT / "data/challenges_benchmark")
    return parser.parse_args()


def check_settings(arguments: argparse.Namespace, work: Path) -> None:
    """Stop where the splits that are kept were run with other values."""
    own = {name: getattr(arguments, name) for name in ("subjects", "epochs", "set")}
    path = work / "settings.json"
    has_results = (work / "results").is_dir() and path.exists()
    kept = json.loads(path.read_text()) if has_results else own
    if kept != own:
        sys.exit(f"{work}: has results of {kept}, asked for {own}; choose another --work")
    path.write_text(json.dumps(own))


def kedro(arguments: argparse.Namespace, work: Path, split: int, pipeline: str, *more: str) -> None:
    """Run one pipeline with the parameters of a split; its lines go to the terminal."""
    values = {
        "ingestion.source.simulation.n_subjects": arguments.subjects,
        "ingestion.source.simulation.rest_seconds": 50.0,  # the sizes of the figures in the docs
        "ingestion.source.simulation.ccd_runs": 2,
        "ingestion.source.simulation.trials_per_run": 15,
        "ingestion.splits.seed": split,
        "foundation.trainer.epochs": arguments.epochs or EPOCHS[arguments.env],
    }
    if pipeline != "foundation":
        values[f"{pipeline}.trainer.seed"] = split
    params = ",".join([*(f"{name}={value}" for name, value in values.items()), *arguments.set])
    env = [] if arguments.env == "base" else ["--env", arguments.env]
    command = [sys.executable, "-m", "kedro", "run", *env, "--pipeline", pipeline, *more]
    subprocess.run([*command, "--params", params], cwd=work, check=True)


def newest(work: Path, name: str) -> Path:
    """Path of the last version of a file."""
    folder = work / "data" / "simulated" / name
    return sorted(folder.iterdir())[-1] / folder.name


def result(work: Path, name: str, split: int) -> Path:
    """Where the scores of a split are kept."""
    return work / "results" / f"{name}-{split}.csv"


def scored(work: Path, name: str, path: Path) -> pd.DataFrame:
    """Give the main score of each method: `method` and `nrmse`."""
    scores = pd.read_csv(path)
    of_both = {"rt": "nrmse", "externalizing": "window_nrmse"}
    scores = scores[scores["target"].map(of_both) == scores["metric"]]
    scores = scores[["method", "value"]].set_axis(["method", "nrmse"], axis=1)
    if name == "challenge2":
        return scores
    predictions = newest(work, "07_model_output/challenge1_predictions.parquet")
    share = share_of_observer(pd.read_parquet(predictions), observed_trials(work / RELEASE))
    row = {"method": SHARE, "nrmse": share}
    return pd.concat([scores, pd.DataFrame([row])], ignore_index=True)


def share_of_observer(predictions: pd.DataFrame, truth: pd.DataFrame) -> float:
    """R² of the predictions over that of the ideal observer, on the same trials."""
    kinds = {"subject": str, "run": int, "trial": int}
    known = predictions[predictions["rt"].notna()].astype(kinds)
    trials = known.merge(truth.astype(kinds)[[*TRIAL, "observer_rt"]], on=TRIAL)
    errors = {
        name: (trials["rt"] - trials[name]).pow(2).mean()
        for name in ("predicted_rt", "observer_rt")
    }
    spread = trials["rt"].var(ddof=0)
    return float((1 - errors["predicted_rt"] / spread) / (1 - errors["observer_rt"] / spread))


def table(work: Path, name: str, splits: list[int]) -> str:
    """Write NRMSE by method and split, best mean first."""
    found = pd.DataFrame(
        {
            split: pd.read_csv(result(work, name, split)).set_index("method")["nrmse"]
            for split in splits
        }
    )
    found["mean"], found["sd"] = found[splits].mean(axis=1), found[splits].std(axis=1, ddof=1)
    names = found.sort_values("mean").index
    order = [*names.drop(SHARE, errors="ignore"), *names.intersection([SHARE])]
    return found.loc[order].round(3).to_string()


if __name__ == "__main__":
    main()
