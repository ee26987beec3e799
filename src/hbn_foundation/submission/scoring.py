"""The challenge's score of a submission, on any release.

Challenge 1: one window per trial of the contrast change detection task, from 0.5 to 2.5 s after
its stimulus; challenge 2: a seeded random crop of 2 s from windows of 4 s, one every 2 s. Windows
go to the submission one by one, in the order of the subjects, in volts. The score of each is the
NRMSE over all windows, the whole 0.3 of the first and 0.7 of the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hbn_foundation.errors import UserError
from hbn_foundation.labels.checks import check_never_seen
from hbn_foundation.labels.params import TrialParams
from hbn_foundation.labels.participants import EXCLUDED_SUBJECTS, challenge_subjects, factor_table
from hbn_foundation.labels.trials import recording_trials, usable_trials
from hbn_foundation.progress import say, track
from hbn_foundation.recordings.timeline import Timeline
from hbn_foundation.submission.archive import Submission
from hbn_foundation.submission.params import ScoringParams
from hbn_foundation.submission.process import Answers, running
from hbn_foundation.submission.scoreboard import LocalScore, invalid, scores_table
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
        The zip, or its path; it may be anyone's. It runs in a process of its own, under limits.
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
        that is not finite makes the score of its challenge invalid, and is told.
    """
    params = params or ScoringParams()
    if not isinstance(submission, Submission):
        submission = Submission.load(submission, params.limits.most_megabytes)
    job = _Job.of(recordings, participants, params, trial_params or TrialParams())
    skipped: dict[str, str] = {}
    if not job.rows:
        raise UserError(f"score: {job.nothing(skipped)}")
    parts: dict[int, list[pd.DataFrame]] = {1: [], 2: []}
    told: set[int] = set()
    with running(submission, params.limits) as process:
        for row, read in track(read_all(job.rows), "Scoring recordings", total=len(job.rows)):
            if isinstance(read, str):
                skipped[row["recording"]] = read
                continue
            volts, timeline = read
            for challenge, windows in job.windows(row, timeline):
                answers = process.predict(
                    challenge, cut(volts, windows["start"].to_numpy()), params.batch_size
                )
                _check_answers(challenge, answers)
                windows[f"predicted_{job.targets[challenge]}"] = answers.values
                problem = invalid(windows, job.targets[challenge])
                if problem is not None and challenge not in told:
                    told.add(challenge)
                    say(f"Challenge {challenge}: {problem}")
                parts[challenge].append(windows[job.columns(challenge)])
    predictions = {number: _joined(tables, job.columns(number)) for number, tables in parts.items()}
    if all(table.empty for table in predictions.values()):
        raise UserError(f"score: {job.nothing(skipped)}")
    scores = scores_table(predictions, job.targets, job.people)
    return LocalScore(scores, predictions, job.targets, skipped)


@dataclass
class _Job:
    """What is to be scored: recordings in order, their trials, what is known of the subjects."""

    rows: list[dict[str, Any]]
    trials: dict[str, pd.DataFrame]
    values: dict[str, float]
    people: pd.DataFrame
    params: ScoringParams

    @classmethod
    def of(
        cls,
        recordings: pd.DataFrame,
        participants: pd.DataFrame,
        params: ScoringParams,
        trial_params: TrialParams,
    ) -> _Job:
        people = factor_table(participants)
        scored = recordings[~recordings["subject"].isin(EXCLUDED_SUBJECTS)]
        scored = scored[scored["task"].isin([params.challenge1_task, *params.challenge2_tasks])]
        subjects = sorted(scored["subject"].unique())[: params.max_subjects]
        scored = scored[scored["subject"].isin(subjects)].sort_values(["subject", "recording"])
        of_task = scored[scored["task"] == params.challenge1_task]
        trials = usable_trials(recording_trials(of_task, trial_params)) if len(of_task) else None
        by_recording = {}
        if trials is not None:
            by_recording = {str(name): table for name, table in trials.groupby("recording")}
        known = challenge_subjects(people)
        values = dict(zip(known["subject"], known[params.factor], strict=True))
        names = [str(name) for name in scored]
        rows = [dict(zip(names, row, strict=True)) for row in scored.itertuples(index=False)]
        return cls(rows, by_recording, values, people, params)

    @property
    def targets(self) -> dict[int, str]:
        """What is predicted, by challenge: the column of the true values."""
        return {1: "rt", 2: self.params.factor}

    def columns(self, challenge: int) -> list[str]:
        """Columns of the predictions."""
        target = self.targets[challenge]
        return [*OF_WINDOW, *(["trial"] if challenge == 1 else []), target, f"predicted_{target}"]

    def windows(
        self, row: dict[str, Any], timeline: Timeline
    ) -> Iterator[tuple[int, pd.DataFrame]]:
        """Yield the windows of a recording for each challenge that it has some for."""
        trials = self.trials.get(row["recording"])
        if row["task"] == self.params.challenge1_task and trials is not None:
            found = trial_starts(trials, timeline)
            if len(found):
                yield 1, found.reset_index(drop=True)
        if row["task"] in self.params.challenge2_tasks and row["subject"] in self.values:
            starts = crop_starts(row["recording"], timeline, self.params.seed)
            same = {name: row[name] for name in OF_WINDOW[:-1]}
            value = self.values[row["subject"]]
            if len(starts):
                yield 2, pd.DataFrame({"start": starts, **same, self.params.factor: value})

    def nothing(self, skipped: dict[str, str]) -> str:
        """Say why there is nothing to score."""
        if not self.rows:
            tasks = {self.params.challenge1_task, *self.params.challenge2_tasks}
            return f"no recording of {' or '.join(sorted(tasks))} is there"
        if len(skipped) == len(self.rows):
            recording, reason = next(iter(skipped.items()))
            return f"none of {len(skipped)} recordings can be scored: {recording} {reason}"
        return (
            f"{len(self.rows)} recordings have neither trials with a response nor subjects whose "
            "factors are known"
        )


def _joined(tables: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _check_answers(challenge: int, answers: Answers) -> None:
    """Refuse answers of a shape that the harness makes no score of: it takes the first of each."""
    if not np.isfinite(answers.values).all() and answers.wrong_shapes:
        found, expected = answers.wrong_shapes[0]
        raise UserError(f"challenge {challenge}: gives {found}; expected {expected}")


def of_subjects(
    recordings: pd.DataFrame,
    splits: pd.DataFrame,
    params: ScoringParams,
    models: Iterable[Mapping[str, Any]] = (),
) -> pd.DataFrame:
    """Keep the recordings of the subjects that are to be scored.

    Parameters
    ----------
    recordings, splits
        `splits` has `subject` and `split`.
    params
        `subjects`: a split, or all.
    models
        Metadata of the checkpoints that the submission was made from.

    Raises
    ------
    UserError
        When the split is empty, or a model was trained or chosen on one of its subjects.
    """
    if params.subjects == "all":
        return recordings
    held_out = splits.loc[splits["split"] == params.subjects, "subject"].astype(str)
    validating = params.subjects == "validation"
    if validating:
        say("Validation subjects are scored: they chose the best epoch, so the score flatters")
    for metadata in models:
        check_never_seen(metadata, () if validating else held_out, held_out)
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
    """Score a zip on the release at a BIDS root, a folder or an fsspec URL."""
    from hbn_foundation.labels.participants import read_participants
    from hbn_foundation.recordings.find import find_recordings
    from hbn_foundation.recordings.params import SelectionParams

    unpacked = Submission.load(submission, params.limits.most_megabytes)
    tasks = sorted({params.challenge1_task, *params.challenge2_tasks})
    recordings = find_recordings(bids_root, SelectionParams(tasks=tasks), cache)
    participants = read_participants(str(recordings["bids_root"].iloc[0]))
    return local_score(unpacked, recordings, participants, params)
