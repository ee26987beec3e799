"""Nodes of the submission pipeline: each hands its work to one function of a room below."""

from __future__ import annotations

from typing import Any

from hbn_foundation.labels.params import TrialParams
from hbn_foundation.pipelines import types
from hbn_foundation.submission.params import ExportParams, ScoringParams, ValidationParams


def export_submission(
    challenge1_checkpoint: Any,
    challenge2_checkpoint: Any,
    signal_store: types.SignalStore,
    export: ExportParams,
) -> Any:
    """Write both models, as source with their arguments and weights, into one flat zip.

    Returns
    -------
    submission : Submission
        The flat zip.
    """
    from hbn_foundation.submission.export import export_submission

    checkpoints = {1: challenge1_checkpoint, 2: challenge2_checkpoint}
    return export_submission(checkpoints, signal_store, export)


def validate_submission(
    submission: Any,
    challenge1_checkpoint: Any,
    challenge2_checkpoint: Any,
    signal_store: types.SignalStore,
    recordings: types.DataFrame,
    export: ExportParams,
    validation: ValidationParams,
) -> dict[str, Any]:
    """Check the zip in a clean process, against the project's own predictions.

    Returns
    -------
    submission_validation : dict
        `passed`, and each check with what was found.
    """
    from hbn_foundation.models.challenge import describe
    from hbn_foundation.progress import say
    from hbn_foundation.submission.export import exported_models
    from hbn_foundation.submission.validation import predictor, validate_submission
    from hbn_foundation.submission.windows import windows_for_checks

    checkpoints = {1: challenge1_checkpoint, 2: challenge2_checkpoint}
    models = exported_models(checkpoints, signal_store, export)
    expected = {number: predictor(model) for number, model in models.items()}
    windows = windows_for_checks(recordings, validation.n_windows, validation.seed)
    in_16_bits = {number for number, model in models.items() if "arithmetic" in describe(model)}
    report = validate_submission(submission, expected, validation, windows, in_16_bits)
    for check in report["checks"]:
        passed = "ok    " if check["passed"] else "FAILED"
        say(f"{passed}  {check['check']}{check['detail'] and ': '}{check['detail']}")
    return report


def choose_scored(
    recordings: types.DataFrame,
    splits: types.DataFrame,
    challenge1_checkpoint: Any,
    challenge2_checkpoint: Any,
    scoring: ScoringParams,
) -> types.DataFrame:
    """Take the recordings of the subjects that were held out, whom no model has seen."""
    from hbn_foundation.submission.scoring import of_subjects

    models = [challenge1_checkpoint.metadata, challenge2_checkpoint.metadata]
    return of_subjects(recordings, splits, scoring, models)


def score_submission(
    submission: Any,
    submission_validation: dict[str, Any],
    scored_recordings: types.DataFrame,
    participants: types.DataFrame,
    scoring: ScoringParams,
    trials: TrialParams,
) -> tuple[types.DataFrame, types.DataFrame, types.DataFrame, str]:
    """Score a zip that passed its checks.

    Returns
    -------
    local_scores : DataFrame
        One row per method.
    local_predictions1, local_predictions2 : DataFrame
        One row per window.
    local_score_report : str
        The table as text.
    """
    from hbn_foundation.evaluation.report.render import show
    from hbn_foundation.submission.scoreboard import score_text
    from hbn_foundation.submission.scoring import local_score
    from hbn_foundation.submission.validation import require_passed

    require_passed(submission_validation)
    score = local_score(submission, scored_recordings, participants, scoring, trials)
    text = score_text(score)
    show(text)
    return score.scores, score.predictions[1], score.predictions[2], text
