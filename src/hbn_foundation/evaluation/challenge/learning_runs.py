"""Train on the labels of more and more subjects: model, scratch and baselines, the same test.

The subsets of one seed are nested, the validation and test subjects those of every run. The
foundation checkpoint has seen the signals of all training subjects; what grows is how many of
them have labels. Baselines see the subset alone; from scratch begins at random weights, behind the
checkpoint's normalisation of the tokens, which all training subjects have fitted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.challenge.learning_scores import scores_of_models
from hbn_foundation.evaluation.cross_validation import hash_of, hash_table, remove_folder
from hbn_foundation.evaluation.evaluate import plain
from hbn_foundation.evaluation.methods import FINE_TUNED, REFERENCE, SCRATCH, written
from hbn_foundation.evaluation.params import LearningCurveParams
from hbn_foundation.evaluation.provenance import learning_provenance
from hbn_foundation.evaluation.recipes import ChallengeRecipe
from hbn_foundation.evaluation.scorers import AHEAD
from hbn_foundation.evaluation.side_by_side import (
    TRAINING,
    finetuned_in,
    prune_scratch,
    tracked,
)
from hbn_foundation.files import renamed_when_done
from hbn_foundation.labels.checks import check_reported
from hbn_foundation.labels.strata import class_strata, joined, spread_order
from hbn_foundation.progress import say
from hbn_foundation.training.finetuning_params import FineTuningParams
from hbn_foundation.training.params import NOT_IN_THE_WEIGHTS

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset
    from hbn_foundation.training.checkpoint import Checkpoint

N_JOBS = "learning_curve.runs.n_jobs"
FEWEST = 2
"""Subjects that a number of theirs can be learned from."""
OF_EACH_RUN = ("seed", "epochs", "early_stopping_patience")
FIRST = ["method", "share", "n_subjects", "seed"]


@dataclass(frozen=True)
class CurveRun:
    """One subset and seed, ready to be sent to another process.

    Attributes
    ----------
    foundation
        The checkpoint that every run begins with.
    dataset
        Its splits hold the training subjects of this subset alone.
    recipe
        Parameters.
    share, n_subjects, seed
        Share and number of the training subjects, and the seed that drew them and trains.
    scratch
        Whether a model from random weights is trained beside the one from the checkpoint.
    device_plan
        Where to train.
    supervised
        Whether a training has a supervisor; else it runs in the worker itself.
    common
        Hash of all that the runs share.
    work_dir
        Where results are kept.
    """

    foundation: Checkpoint
    dataset: EEGDataset
    recipe: ChallengeRecipe
    share: float
    n_subjects: int
    seed: int
    scratch: bool
    device_plan: dict[str, Any]
    supervised: bool
    common: str
    work_dir: Path

    @property
    def key(self) -> str:
        """Hash of what the result depends on."""
        subjects = self.dataset.splits.sort_values("subject")[["subject", "split"]].values.tolist()
        trainer = self.recipe.trainer
        lengths = trainer.epochs, trainer.early_stopping_patience
        return hash_of(self.common, subjects, self.seed, self.scratch, lengths)

    @property
    def path(self) -> Path:
        """Where the scores are kept."""
        return self.work_dir / f"run-{self.key}.json"

    @property
    def words(self) -> str:
        """Name of the run in messages."""
        return f"{self.n_subjects} training subjects ({self.share:.0%}), seed {self.seed}"


def learning_curve(
    foundation: Checkpoint,
    dataset: EEGDataset,
    recipe: ChallengeRecipe,
    params: LearningCurveParams,
    device_plan: dict[str, Any],
    supervised: bool = True,
) -> pd.DataFrame:
    """Train and score on each share of the training subjects with each seed.

    Results of finished runs are kept; the same call goes on where an earlier one was killed.

    Parameters
    ----------
    foundation
        The checkpoint that every run begins with.
    dataset
        With the windows of the challenge.
    recipe
        Parameters of the model and of the evaluation.
    params
        Shares, seeds, jobs.
    device_plan
        `chosen` says where to train; runs go one at a time on any other device than the CPU.
    supervised
        Whether a training has a supervisor; else it runs in the worker itself.

    Returns
    -------
    pandas.DataFrame
        One row per subset, seed and method: `method`, `share`, `n_subjects` (training subjects),
        `seed`, and the scores of the test subjects: those of `response_time_scores`, or those of
        `factor_scores` of the factor that the challenge scores.

    Raises
    ------
    UserError
        When there are too few subjects, or labels or parameters do not fit; before any training.
    """
    runs = list_runs(foundation, dataset, recipe, params, device_plan, supervised)
    _check(runs)
    waiting = [run for run in runs if not run.path.is_file()]
    if len(waiting) < len(runs):
        say(f"learning curve: {len(runs) - len(waiting)} of {len(runs)} runs are kept")
    n_jobs = params.n_jobs if device_plan["chosen"] == "cpu" else 1
    if waiting:
        say(
            f"learning curve: {len(waiting)} runs to do, {min(n_jobs, len(waiting))} at a time; "
            "how one goes: hbn-foundation monitor"
        )
    for start in (FINE_TUNED, SCRATCH):
        prune_scratch(Path(params.work_dir), f"training-*/{start}", recipe.trainer, n_jobs)
    for run in tracked(carry_out, waiting, n_jobs, N_JOBS, "learning curve", _trainings_of):
        say(_said(run))
    table = pd.concat([_read(run) for run in runs], ignore_index=True)
    return table[[*FIRST, *(name for name in table if name not in FIRST)]]


def list_runs(
    foundation: Checkpoint,
    dataset: EEGDataset,
    recipe: ChallengeRecipe,
    params: LearningCurveParams,
    device_plan: dict[str, Any],
    supervised: bool = True,
) -> list[CurveRun]:
    """List the runs, the smallest subsets first, so that mistakes show early."""
    work_dir = Path(params.work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    common = hash_of(
        learning_provenance(recipe.trainer.precision, device_plan),
        foundation.metadata.get("weights_sha256"),
        dataset.store.fingerprint,
        hash_table(dataset.windows),
        hash_table(dataset.participants),
        recipe.trainer.model_dump(mode="json", exclude={*NOT_IN_THE_WEIGHTS, *OF_EACH_RUN}),
        recipe.model_dump(mode="json", include={"more_targets", "tokens", "input"}),
        recipe.evaluation.model_dump(mode="json", exclude={"batch_size", "bootstraps"}),
        recipe.model_dump(
            mode="json", include={"label", "head", "plan", "rates", "regularisation"}
        ),
    )
    runs = []
    subjects = dataset.splits["subject"].astype(str).tolist()
    classes = joined(class_strata(subjects, dataset.participants, [recipe.label]))
    for seed in params.seeds:
        for share, splits in nested_splits(
            dataset.splits, dataset.windows, params.shares, seed, classes
        ):
            n_subjects = int((splits["split"] == "train").sum())
            trainer = lengthened(recipe.trainer, share) if params.same_steps else recipe.trainer
            runs.append(
                CurveRun(
                    foundation, dataset.replace(splits=splits),
                    recipe.model_copy(update={"trainer": trainer}), share, n_subjects, seed,
                    params.scratch, device_plan, supervised, common, work_dir,
                )
            )  # fmt: skip
    return sorted(runs, key=lambda run: run.n_subjects)


def lengthened(trainer: FineTuningParams, share: float) -> FineTuningParams:
    """Let a share of the training subjects be gone through so often that the steps are as many."""
    changes = {
        name: ceil(getattr(trainer, name) / share) for name in ("epochs", "early_stopping_patience")
    }
    return trainer.model_copy(update=changes)


def nested_splits(
    splits: pd.DataFrame,
    windows: pd.DataFrame,
    shares: Sequence[float],
    seed: int,
    classes: pd.Series | None = None,
) -> list[tuple[float, pd.DataFrame]]:
    """Take all but a share of the training subjects out of the splits, each share in the next.

    Parameters
    ----------
    splits
        `subject` and `split`.
    windows
        Subjects without a window count for nothing.
    shares
        Of the training subjects, above 0 and up to 1; at least two subjects are taken, and of
        shares that give as many the first.
    seed
        Draws the order in which subjects join.
    classes
        Of each subject, indexed by subject: each share has some of all. None: they have none.

    Returns
    -------
    list of (float, pandas.DataFrame)
        The share that was taken, and the splits; validation and test subjects are all there.
    """
    there = set(windows["subject"].astype(str))
    names = splits["subject"].astype(str)
    training = sorted(set(names[splits["split"] == "train"]) & there)
    if len(training) < FEWEST:
        raise UserError(
            f"learning curve: {len(training)} training subjects have windows; expected {FEWEST} "
            "or more"
        )
    own = pd.Series("all", index=training) if classes is None else classes.loc[training]
    order = spread_order(own, seed)
    counts = {max(FEWEST, round(share * len(order))) for share in shares}
    return [
        (
            count / len(order),
            splits[(splits["split"] != "train") | names.isin(order[:count])].reset_index(drop=True),
        )
        for count in sorted(counts)
    ]


def _check(runs: Sequence[CurveRun]) -> None:
    """Find out before any training what would stop a run."""
    from hbn_foundation.training.finetune import check_finetuning

    first = runs[0]
    seen = first.foundation.metadata.get("validation_subjects", ())
    check_reported(first.dataset.splits, first.dataset.participants, seen)
    for run in runs:
        try:
            check_finetuning(run.foundation, run.dataset, run.recipe)
        except UserError as error:
            raise UserError(f"learning curve, {run.words}: {error}") from None


def carry_out(run: CurveRun) -> None:
    """Train on the subset, score the test subjects, and keep what was found."""
    folder = _folder(run)
    tuned = {FINE_TUNED: _tuned(run, folder, {})}
    if run.scratch:
        tuned[SCRATCH] = _tuned(run, folder, {"start": "from_scratch"}, SCRATCH)
    rows = [{"method": method, **scores} for method, scores in _scored(run, tuned).items()]
    with renamed_when_done(run.path) as temporary:
        temporary.write_text(json.dumps(plain(rows), indent=1))
    remove_folder(folder)


def _folder(run: CurveRun) -> Path:
    return run.work_dir / f"training-{run.key}"


def _trainings_of(run: CurveRun) -> list[Path]:
    """Folders of a run's trainings, while those last."""
    starts = [FINE_TUNED, SCRATCH] if run.scratch else [FINE_TUNED]
    return [_folder(run) / start / TRAINING for start in starts]


def _tuned(
    run: CurveRun, folder: Path, changes: dict[str, Any], name: str = FINE_TUNED
) -> Checkpoint:
    say(f"{run.words}: training {written(name)}")
    trainer = run.recipe.trainer.model_copy(update={"seed": run.seed, **changes})
    recipe = run.recipe.model_copy(update={"trainer": trainer})
    checkpoint, _, incidents = finetuned_in(
        folder / name, run.foundation, run.dataset, recipe, run.device_plan,
        supervised=run.supervised,
    )  # fmt: skip
    if incidents:
        run.path.with_suffix(f".{name}.incidents.jsonl").write_text(incidents)
    return checkpoint


def _scored(run: CurveRun, tuned: dict[str, Checkpoint]) -> dict[str, dict[str, float]]:
    params: Any = run.recipe.evaluation.model_copy(update={"bootstraps": 0, "seed": run.seed})
    scores = scores_of_models(tuned, run.dataset, params)
    scores = scores[(scores["kind"] != REFERENCE) & ~scores["metric"].str.endswith(AHEAD)]
    return {
        str(method): dict(zip(part["metric"], part["value"], strict=True))
        for method, part in scores.groupby("method", sort=False)
    }


def _read(run: CurveRun) -> pd.DataFrame:
    rows = pd.DataFrame(json.loads(run.path.read_text()))
    return rows.assign(share=run.share, n_subjects=run.n_subjects, seed=run.seed)


def _said(run: CurveRun) -> str:
    """One line about a finished run."""
    rows = _read(run).set_index("method")
    errors = rows["nrmse" if "nrmse" in rows else "window_nrmse"].astype(float)
    others = errors.drop([FINE_TUNED, *([SCRATCH] if run.scratch else [])])
    best = str(others.idxmin())
    scratch = f", from scratch {errors[SCRATCH]:.3f}" if run.scratch else ""
    return (
        f"{run.words}: NRMSE {errors[FINE_TUNED]:.3f}{scratch}, {written(best)} {others[best]:.3f}"
    )
