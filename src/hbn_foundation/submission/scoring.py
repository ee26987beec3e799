"""The challenge's score of a submission, on any release.

Challenge 1: one window per trial of the contrast change detection task, from 0.5 to 2.5 s after
its stimulus; challenge 2: a seeded random crop of 2 s from windows of 4 s, one every 2 s. Windows
go to the submission one by one, in the order of the subjects, in volts. The score of each is the
NRMSE over all windows, the whole 0.3 of the first and 0.7 of the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.checks import check_never_seen
from hbn_foundation.labels.params import TrialParams
from hbn_foundation.labels.participants import challenge_subjects, factor_table, is_excluded
from hbn_foundation.labels.trials import recording_trials, usable_trials
from hbn_foundation.progress import say, track
from hbn_foundation.recordings.find import dataset_names
from hbn_foundation.recordings.timeline import Timeline
from hbn_foundation.submission.archive import Submission
from hbn_foundation.submission.params import ScoringParams
from hbn_foundation.submission.process import RunningSubmission, running
from hbn_foundation.submission.scoreboard import LocalScore, scores_table
from hbn_foundation.submission.windows import crop_starts, cut, read_all, trial_starts

OF_WINDOW = ["recording", "subject", "task", "run", "start"]


def local_score(
    submission: Submission | str | Path,
    recordings: pd.DataFrame,
    participants: pd.DataFrame,
    params: ScoringParams | None = None,
    trial_params: TrialParams | None = None,
) -> LocalScore:
    """Score a submission as the challenge does.

    Parameters
    ----------
    submission
        The zip, or its path. Its code runs in a process of its own, within limits.
    recordings
        Of a release, as `find_recordings` gives them.
    participants
        As `read_participants` gives them; age, sex and factors may be missing.
    params
        Tasks, factor, batch size, limits.
    trial_params
        Names of the events that make a trial.

    Returns
    -------
    LocalScore

    Raises
    ------
    UserError
        When the submission fails or goes over a limit, or nothing is there to score. An answer
        that is not finite makes the score of its challenge invalid, which the text says.
    """
    params = params or ScoringParams()
    if not isinstance(submission, Submission):
        submission = Submission.load(submission, params.limits.most_megabytes)
    people = factor_table(participants)
    rows = _scored_rows(recordings, params)
    windows_of = _Windows(rows, people, params, trial_params or TrialParams())
    skipped: dict[str, str] = {}
    tables = {number: [pd.DataFrame(columns=names)] for number, names in windows_of.columns.items()}
    with running(submission, params.limits) as process:
        for row, read in track(read_all(rows), "Scoring recordings", total=len(rows)):
            if isinstance(read, str):
                skipped[row["recording"]] = read
                continue
            volts, timeline = read
            for number, windows in windows_of(row, timeline):
                samples = cut(volts, windows["start"].to_numpy())
                column = windows_of.columns[number][-1]
                windows[column] = _predictions(process, number, samples, params.batch_size)
                tables[number].append(windows)
    if all(len(parts) == 1 for parts in tables.values()):
        raise UserError(
            f"score: of {len(rows)} recordings {len(skipped)} cannot be read, and the others have "
            "neither trials with a response nor subjects whose factors are known"
            + "".join(f"; {name}: {reason}" for name, reason in list(skipped.items())[:1])
        )
    made = {n: pd.concat(parts[1:] or parts, ignore_index=True) for n, parts in tables.items()}
    scores = scores_table(made, windows_of.targets, people, params)
    return LocalScore(scores, made, windows_of.targets, skipped)


def _predictions(
    process: RunningSubmission, challenge: int, samples: np.ndarray, batch_size: int
) -> np.ndarray:
    answers = process.predict(challenge, samples, batch_size)
    # the harness takes the first number of each output, whatever its shape
    if answers.wrong_shapes and not np.isfinite(answers.values).all():
        found, expected = answers.wrong_shapes[0]
        raise UserError(f"challenge {challenge}: gives {found}; expected {expected}")
    return answers.values


def _scored_rows(recordings: pd.DataFrame, params: ScoringParams) -> list[dict[Any, Any]]:
    """Return the recordings to score, in the order of the subjects."""
    tasks = {params.challenge1_task, *params.challenge2_tasks}
    scored = recordings[~is_excluded(recordings["subject"])]
    scored = scored[scored["task"].isin(tasks)]
    if scored.empty:
        raise UserError(f"score: no recording of {' or '.join(sorted(tasks))} is there")
    subjects = sorted(scored["subject"].unique())[: params.max_subjects]
    scored = scored[scored["subject"].isin(subjects)].sort_values(["subject", "recording"])
    return scored.to_dict("records")


class _Windows:
    """Gives the windows of a recording for each challenge that it has some for."""

    def __init__(
        self,
        rows: list[dict[Any, Any]],
        people: pd.DataFrame,
        params: ScoringParams,
        trial_params: TrialParams,
    ) -> None:
        self.params = params
        self.targets = {1: "rt", 2: params.factor}
        self.columns = {
            number: [*OF_WINDOW, *["trial"][: number == 1], target, f"predicted_{target}"]
            for number, target in self.targets.items()
        }
        known = challenge_subjects(people)
        self.values = dict(zip(known["subject"], known[params.factor], strict=True))
        self.trials: dict[Any, pd.DataFrame] = {}
        of_task = pd.DataFrame([row for row in rows if row["task"] == params.challenge1_task])
        if len(of_task):
            trials = usable_trials(recording_trials(of_task, trial_params))
            self.trials = dict(iter(trials.groupby("recording")))

    def __call__(
        self, row: dict[Any, Any], timeline: Timeline
    ) -> Iterator[tuple[int, pd.DataFrame]]:
        if row["recording"] in self.trials:
            found = trial_starts(self.trials[row["recording"]], timeline)
            if len(found):
                yield 1, found[self.columns[1][:-1]].copy()
        if row["task"] in self.params.challenge2_tasks and row["subject"] in self.values:
            starts = crop_starts(row["recording"], timeline, self.params.seed)
            table = pd.DataFrame({**{name: row[name] for name in OF_WINDOW[:-1]}, "start": starts})
            if len(starts):
                yield 2, table.assign(**{self.params.factor: self.values[row["subject"]]})


def of_subjects(
    recordings: pd.DataFrame,
    splits: pd.DataFrame,
    params: ScoringParams,
    models: Iterable[Mapping[str, Any]] = (),
) -> pd.DataFrame:
    """Keep the recordings of the subjects that are to be scored (`params.subjects`).

    Raises
    ------
    UserError
        When the split is empty, or a model, by the metadata of its checkpoint, was trained or
        chosen on one of its subjects.
    """
    if params.subjects == "all":
        return recordings
    held_out = splits.loc[splits["split"] == params.subjects, "subject"].astype(str)
    validating = params.subjects == "validation"
    if validating:
        say("Validation subjects are scored: they chose the best epoch, so the score flatters")
    datasets = dataset_names(recordings)
    for metadata in models:
        check_never_seen(metadata, () if validating else held_out, held_out, datasets)
    chosen = recordings[recordings["subject"].isin(held_out)]
    if chosen.empty:
        raise UserError(
            f"score: no recording is of a {params.subjects} subject; scoring.subjects may also be "
            "test, validation or all"
        )
    return chosen


def score_release(
    submission: str | Path,
    bids_root: str,
    params: ScoringParams,
    cache: str = "data/01_raw/mirror",
) -> LocalScore:
    """Score a zip on the release at a BIDS root, a folder or an fsspec URL, with all subjects."""
    from hbn_foundation.labels.participants import read_participants
    from hbn_foundation.recordings.find import find_recordings
    from hbn_foundation.recordings.params import SelectionParams

    unpacked = Submission.load(submission, params.limits.most_megabytes)
    tasks = sorted({params.challenge1_task, *params.challenge2_tasks})
    recordings = find_recordings(bids_root, SelectionParams(tasks=tasks), cache)
    participants = read_participants(str(recordings["bids_root"].iloc[0]))
    everyone = params.model_copy(update={"subjects": "all"})
    return local_score(unpacked, recordings, participants, everyone)
