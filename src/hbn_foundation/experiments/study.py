"""Leave-one-participant-out: which windows of which subject serve what.

A fine-tuning knows subjects as the unit of its splits. The parts of the one target's data are
therefore handed to it as three subjects, `<target>+train`, `<target>+validation` and
`<target>+test`; that the base has never seen the target is checked beforehand, by its true name.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError, first_few
from hbn_foundation.experiments.specs import FULL, FinetuneSpec, SplitRules
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.strata import position
from hbn_foundation.labels.targets import WindowTargets, window_targets
from hbn_foundation.signals.windows import window_length

if TYPE_CHECKING:
    from hbn_foundation.signals.dataset import EEGDataset

TRAIN, VALIDATION, TEST, UNUSED = "train", "validation", "test", ""
BINS = 4  # of numbers, to draw evenly from small and large ones
BATCH_SHARE = "batch_share"  # the column that `signals.batches` reads


def base_subjects(subjects: Iterable[str], target: str, seed: int) -> list[str]:
    """Order all subjects but the target: the first n of them are the base of size n.

    So bases of one target are nested. The order differs between targets, as each fold is to be
    another draw.
    """
    others = sorted({str(subject) for subject in subjects} - {target})
    return sorted(others, key=lambda subject: position(f"{target}:{subject}", seed))


def split_base(subjects: Sequence[str], validation_share: float) -> tuple[list[str], list[str]]:
    """Divide two or more base subjects into training and validation, the last of the order."""
    held = min(max(1, round(validation_share * len(subjects))), len(subjects) - 1)
    return list(subjects[:-held]), list(subjects[-held:])


def roles(
    windows: pd.DataFrame, target: str, rules: SplitRules, sfreq: float, n_samples: int
) -> np.ndarray:
    """Say what each window serves in the fold of a target.

    The test windows are the last run of each task; of a task with one run, the last part of it.
    What comes before is early; its last part validates. Between the parts, and wherever two
    windows would touch, a gap is left out. Nothing here looks at a label.

    Parameters
    ----------
    windows
        Table with `recording`, `subject`, `task`, `run`, `start`.
    target
        The subject.
    rules
        Shares and gap.
    sfreq, n_samples
        Sampling rate in Hz and length of a window in samples.

    Returns
    -------
    numpy.ndarray
        (N,) texts: train, validation, test, or nothing; the latter for other subjects' windows.

    Raises
    ------
    UserError
        When the target has no windows.
    """
    result = np.full(len(windows), UNUSED, dtype=object)
    mine = np.flatnonzero((windows["subject"].astype(str) == target).to_numpy())
    if not len(mine):
        found = first_few(sorted(windows["subject"].astype(str).unique()))
        raise UserError(f"sweep.study.targets: {target} has no window; subjects are {found}")
    reach = n_samples + round(rules.gap_seconds * sfreq)
    table = windows.iloc[mine].assign(place=mine)
    for _, of_task in table.groupby("task", sort=True):
        runs = [part for _, part in sorted(of_task.groupby("recording"), key=_run_order)]
        if len(runs) > 1:
            result[runs[-1]["place"]] = TEST
            early = pd.concat([part.sort_values("start") for part in runs[:-1]])
        else:
            early = _cut_off(runs[0].sort_values("start"), rules.test_share, reach, result, TEST)
        early = _cut_off(early, rules.validation_share, reach, result, VALIDATION)
        result[early["place"]] = TRAIN
    return result


def _run_order(item: tuple[object, pd.DataFrame]) -> tuple[float, str]:
    """Order of the recordings of a task: by their session in the name, then the run."""
    name, part = item
    number = pd.to_numeric(str(part["run"].iloc[0]), errors="coerce")
    session = str(name).partition("_task-")[0]
    return (session, float(number) if pd.notna(number) else 0.0, str(name))  # type: ignore[return-value]


def _cut_off(
    table: pd.DataFrame, share: float, reach: int, result: np.ndarray, name: str
) -> pd.DataFrame:
    """Give the last share of windows in order to a part; return those well before it."""
    count = max(1, round(share * len(table)))
    last = table.iloc[len(table) - count :]
    result[last["place"]] = name
    rest = table.iloc[: len(table) - count]
    if rest.empty:
        return rest
    first = last.iloc[0]
    touching = (rest["recording"] == first["recording"]) & (
        rest["start"] + reach > int(first["start"])
    )
    return rest[~touching]


def choose_subset(
    windows: pd.DataFrame, values: np.ndarray, share: float, seed: int, min_per_class: int
) -> np.ndarray:
    """Draw a share of windows from each class, at least a few, nested in all larger shares.

    The order of a class's windows depends on the seed and the windows' own names alone, neither
    on mode nor base nor share; so 5 % of the windows are among the 10 %.

    Parameters
    ----------
    windows
        Table with `recording` and `start` (n rows).
    values
        Class of each (n,), or its number: numbers are drawn evenly from small and large ones.
    share
        In (0, 1].
    seed
        `seed_finetune`.
    min_per_class
        Fewest of each class.

    Returns
    -------
    numpy.ndarray
        Places in the table, ascending.

    Raises
    ------
    UserError
        When a class has fewer windows.
    """
    chosen: list[int] = []
    for name, members in strata_of(values):
        if len(members) < min_per_class:
            raise UserError(
                f"sweep.study.rules.min_per_class={min_per_class}: class {name} has only "
                f"{len(members)} training windows"
            )
        keys = [
            _key(seed, recording, start)
            for recording, start in zip(
                windows["recording"].iloc[members], windows["start"].iloc[members], strict=True
            )
        ]
        count = max(min_per_class, math.ceil(share * len(members) - 1e-9))
        chosen += members[np.argsort(np.array(keys))[:count]].tolist()
    return np.array(sorted(chosen), dtype=np.int64)


def strata_of(values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Name the strata of windows and their places: classes, or quarters of the numbers."""
    if values.dtype.kind == "f":
        ranks = pd.Series(values).rank(method="first").to_numpy()
        codes = np.minimum(((ranks - 1) * BINS / max(len(values), 1)).astype(int), BINS - 1)
        return [
            (f"{code + 1} of {BINS} by size", np.flatnonzero(codes == code))
            for code in np.unique(codes)
        ]
    return [(str(code), np.flatnonzero(values == code)) for code in np.unique(values)]


def _key(seed: int, recording: str, start: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{recording}:{start}".encode(), digest_size=8).digest()


def finetune_dataset(
    spec: FinetuneSpec, labelled: EEGDataset, base_train_subjects: Sequence[str]
) -> EEGDataset:
    """Make what a fine-tuning job trains, validates and is tested on.

    Parameters
    ----------
    spec
        The job.
    labelled
        The windows that the label is learned from, of all subjects.
    base_train_subjects
        Those that the base was trained on; their windows join in full fine-tuning.

    Returns
    -------
    EEGDataset
        In full fine-tuning the target's training windows have `batch_share`.

    Raises
    ------
    UserError
        When the base has seen the target, or its data have not what the label needs.
    """
    if spec.target in set(map(str, base_train_subjects)):
        raise UserError(f"{spec.id}: its base was trained on the target {spec.target}")
    windows, parts = labelled.windows, _parts(spec, labelled)
    tables = [
        windows.iloc[rows].assign(subject=f"{spec.target}+{name}") for name, rows in parts.items()
    ]
    splits = {f"{spec.target}+{name}": name for name in parts}
    if spec.mode == FULL:
        tables[0] = tables[0].assign(**{BATCH_SHARE: spec.target_share})
        tables.append(windows[windows["subject"].astype(str).isin(set(base_train_subjects))])
        splits |= dict.fromkeys(base_train_subjects, TRAIN)
    return labelled.replace(
        windows=pd.concat(tables, ignore_index=True),
        splits=pd.DataFrame({"subject": list(splits), "split": list(splits.values())}),
        participants=with_parts(labelled.participants, spec.target, parts),
    )


def _parts(spec: FinetuneSpec, labelled: EEGDataset) -> dict[str, np.ndarray]:
    """Find the rows of the target's training, validation and test windows."""
    windows = labelled.windows
    n_samples = window_length(spec.window.seconds, labelled.sfreq)
    serves = roles(windows, spec.target, spec.rules, labelled.sfreq, n_samples)
    targets = target_values(labelled, spec.tuning.label, serves, spec.target)
    early = np.flatnonzero((serves == TRAIN) & targets.known)
    try:
        subset = choose_subset(
            windows.iloc[early], targets.values[early], spec.target_data_pct, spec.seed_finetune,
            spec.rules.min_per_class,
        )  # fmt: skip
    except UserError as error:
        raise UserError(f"target {spec.target}: {error}") from None
    return {
        TRAIN: early[subset],
        VALIDATION: np.flatnonzero((serves == VALIDATION) & targets.known),
        TEST: np.flatnonzero((serves == TEST) & targets.known),
    }


def with_parts(
    participants: pd.DataFrame, target: str, parts: Iterable[str] = (TRAIN, VALIDATION, TEST)
) -> pd.DataFrame:
    """Add a row of the target's for each part of its data."""
    row = participants[participants["subject"].astype(str) == target]
    copies = [row.assign(subject=f"{target}+{name}") for name in parts]
    return pd.concat([participants, *copies], ignore_index=True)


def target_values(
    labelled: EEGDataset, label: LabelParams, serves: np.ndarray, target: str
) -> WindowTargets:
    """Values of all windows, as the target's own early windows define the classes.

    Raises
    ------
    UserError
        When the label is the same in all of a subject's windows, or cannot be made.
    """
    if label.kind == "participant":
        raise UserError(
            f"sweep: the label {label.column} says one thing of a whole subject, so training on "
            "the target would tell what is tested; expected a label that changes within a subject "
            "(kind: task, trial or event)"
        )
    windows = labelled.windows
    renamed = windows["subject"].astype(str).to_numpy(dtype=object)
    renamed[serves == TRAIN] = f"{target}+{TRAIN}"
    people = with_parts(labelled.participants, target, (TRAIN,))
    try:
        return window_targets(windows.assign(subject=renamed), people, label, [f"{target}+{TRAIN}"])
    except UserError as error:
        raise UserError(f"target {target}: {error}") from None
