"""From the grid to the two lists of jobs: every base once, every fine-tuning with its base."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.experiments.grid import (
    SUBJECTS,
    Defaults,
    base_spec,
    combinations,
    finetune_spec,
    read_grid,
)
from hbn_foundation.experiments.hashing import data_fingerprint
from hbn_foundation.experiments.params import GridParams, StudyParams
from hbn_foundation.experiments.specs import FINETUNE, FULL, SCRATCH, BaseSpec, FinetuneSpec
from hbn_foundation.experiments.study import TRAIN, base_subjects, finetune_dataset, split_base
from hbn_foundation.labels.checks import check_targets
from hbn_foundation.labels.targets import window_targets
from hbn_foundation.progress import say

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset


class Plan(NamedTuple):
    """The jobs.

    Attributes
    ----------
    bases, finetunings
        Each once, in the order of the folds.
    """

    bases: list[BaseSpec]
    finetunings: list[FinetuneSpec]

    @property
    def base_of(self) -> dict[str, BaseSpec]:
        """Bases by hash."""
        return {base.hash: base for base in self.bases}

    def part(self, ids: set[str]) -> Plan:
        """Keep some jobs, and the bases that they begin at."""
        finetunings = [spec for spec in self.finetunings if spec.id in ids]
        needed = {spec.base_hash for spec in finetunings}
        bases = [base for base in self.bases if base.id in ids or base.hash in needed]
        return Plan(bases, finetunings)


class Data(NamedTuple):
    """What the jobs are trained on.

    Attributes
    ----------
    dataset
        What bases are pretrained on.
    labelled
        What the label is learned from: the same, or the windows of the trials.
    """

    dataset: EEGDataset
    labelled: EEGDataset

    def of(self, kind: str) -> EEGDataset:
        """Give the dataset of a kind of base."""
        return self.dataset if kind == "pretraining" else self.labelled


def make_plan(data: Data, study: StudyParams, grid: GridParams, defaults: Defaults) -> Plan:
    """Cross folds and grid, and check what can be checked before any training.

    Parameters
    ----------
    data
        Signals, windows, participants.
    study
        Participants, and targets that are left out in turn.
    grid
        What is varied.
    defaults
        What is not.

    Returns
    -------
    Plan
        Without a job twice: jobs that depend on the same are the same.

    Raises
    ------
    UserError
        Naming the parameter that does not fit.
    """
    grid = read_grid(grid)
    subjects = choose(
        study.participants, _subjects(data.dataset.windows), "sweep.study.participants"
    )
    targets = usable_targets(data, study, defaults, subjects)

    @cache
    def fingerprint(members: tuple[str, ...], kind: str) -> str:
        return data_fingerprint(data.of(kind), members)

    of_base = list(combinations(grid.base, "base"))
    of_finetuning = list(combinations({"mode": FULL, **grid.finetune}, "finetune"))
    bases: dict[str, BaseSpec] = {}
    finetunings: dict[str, FinetuneSpec] = {}
    for fold, target in enumerate(targets):
        for values in of_base:
            members = _members(values.get(SUBJECTS, "all"), subjects, target, study.seed)
            train, validation = split_base(members, study.base_validation_share)
            kind = str(values.get("kind", "pretraining"))
            found = fingerprint(tuple(sorted(members)), kind)
            base = base_spec(defaults, values, train, validation, found)
            bases.setdefault(base.hash, base)
            for choice in of_finetuning:
                alone = choice["mode"] == SCRATCH
                fixed = {
                    "target": target,
                    "fold": fold,
                    "data": fingerprint((target,), FINETUNE),
                    "rules": study.rules.model_dump(mode="json"),
                    "base_hash": None if alone else base.hash,
                    "encoder": base.encoder.model_dump(mode="json") if alone else None,
                }
                spec = finetune_spec(defaults, choice, fixed)
                finetunings.setdefault(spec.hash, spec)
    _check_supervised(data.labelled, bases.values())
    return Plan(list(bases.values()), list(finetunings.values()))


def choose(wanted: Any, there: Sequence[str], where: str, least: int = 1) -> list[str]:
    """Resolve all, a number or a list to some of the subjects that are there, in their order.

    Raises
    ------
    UserError
        Naming the parameter `where`, when there are not as many or one is not there.
    """
    chosen = list(there)
    if isinstance(wanted, list | tuple):
        names = set(map(str, wanted))
        if absent := sorted(names - set(there)):
            raise UserError(
                f"{where}: {first_few(absent)} is none of the subjects, {first_few(there)}"
            )
        chosen = [subject for subject in there if subject in names]
    elif wanted != "all":
        whole = isinstance(wanted, int | float) and int(wanted) == wanted
        chosen = chosen[: int(wanted)] if whole and 0 <= wanted <= len(there) else []
    if len(chosen) < least:
        raise UserError(
            f"{where}={wanted!r}: expected all, a whole number from {least} to {len(there)} or a "
            "list of subjects"
        )
    return chosen


def _members(wanted: Any, subjects: Sequence[str], target: str, seed: int) -> list[str]:
    """Choose the base subjects of a fold; the target is none of them, also where it is listed."""
    if isinstance(wanted, list | tuple):
        wanted = [subject for subject in wanted if str(subject) != target]
    order = base_subjects(subjects, target, seed)
    return choose(wanted, order, "sweep.grid.base.n_base_participants", least=2)


def _subjects(windows: pd.DataFrame) -> list[str]:
    return sorted(windows["subject"].astype(str).unique())


def usable_targets(
    data: Data, study: StudyParams, defaults: Defaults, subjects: Sequence[str]
) -> list[str]:
    """Choose the targets that are left out in turn; each fold is made once, to check its data.

    Of all subjects, or the first few, those whose data cannot be divided, as when a recording is
    missing, are left out with a line; of a list each has to be usable.

    Raises
    ------
    UserError
        A class that a part of a target's data lacks, classes that depend on the training subjects
        or differ between targets, or not enough usable targets.
    """
    labelled = data.labelled.windows
    known = labelled[labelled["subject"].astype(str).isin(subjects)]
    wanted = study.targets
    named = not isinstance(wanted, int | str)
    found: dict[str, tuple[str, ...]] = {}
    refused: list[UserError] = []
    for target in choose(wanted if named else "all", _subjects(known), "sweep.study.targets"):
        if isinstance(wanted, int) and len(found) == wanted:
            break
        try:
            others = [subject for subject in subjects if subject != target]
            found[target] = _check_fold(data, study, defaults, target, others)
        except UserError as error:
            if named:
                raise
            refused.append(error)
    if not found:
        raise refused[0]
    if isinstance(wanted, int) and len(found) < wanted:
        why = f" ({refused[0]})" if refused else ""
        raise UserError(
            f"sweep.study.targets={wanted}: only {len(found)} subjects can be left out{why}"
        )
    for reason in refused:
        say(f"left out as a target: {reason}")
    first = next(iter(found))
    for target, names in found.items():
        if names != found[first]:
            raise UserError(
                f"sweep: target {first} has the classes {first_few(found[first])}, {target} has "
                f"{first_few(names)}; leave one out by sweep.study.targets, or join classes by "
                "finetuning.label.positive"
            )
    return list(found)


def _check_fold(
    data: Data, study: StudyParams, defaults: Defaults, target: str, others: Sequence[str]
) -> tuple[str, ...]:
    """Check one fold; return the names of the classes."""
    label = defaults.tuning.label
    spec = FinetuneSpec(
        target=target, base_hash="-", tuning=defaults.tuning, rules=study.rules, data="-"
    )
    parts = finetune_dataset(spec, data.labelled, others)
    windows, splits, people = parts.windows, parts.splits, parts.participants
    mine = f"{target}+{TRAIN}"
    alone = window_targets(windows, people, label, [mine])
    everyone = window_targets(windows, people, label, [mine, *others])
    if alone.names != everyone.names:
        raise UserError(
            f"sweep: the classes of {target} alone are {first_few(alone.names)}, with the base "
            f"subjects {first_few(everyone.names)}, so modes could not be compared; set "
            "finetuning.label.positive or threshold"
        )
    try:
        check_targets(alone, windows, splits, ("train", "validation", "test"))
    except UserError as error:
        raise UserError(
            f"sweep.study: target {target}: {error}; parts are taken in time, see sweep.study.rules"
        ) from None
    return alone.names


def _check_supervised(labelled: EEGDataset, bases: Iterable[BaseSpec]) -> None:
    """See whether label and base subjects fit, for supervised bases."""
    done = set()
    for base in bases:
        key = (base.train_subjects, base.validation_subjects)
        if base.supervised is None or key in done:
            continue
        done.add(key)
        targets = window_targets(
            labelled.windows, labelled.participants, base.supervised.label, base.train_subjects
        )
        check_targets(targets, labelled.windows, base.splits)
