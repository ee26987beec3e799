"""Wiring of the submission pipeline."""

import warnings

from kedro.pipeline import Pipeline, pipeline

from hbn_foundation.pipelines.binding import step
from hbn_foundation.pipelines.submission import nodes

CHECKPOINTS = ["challenge1_checkpoint", "challenge2_checkpoint"]
#: What the pipelines of the challenges call these.
OF_CHALLENGES = {name: name.replace("_", ".", 1) for name in CHECKPOINTS}
SCORING = "params:submission.scoring"
EXPORT = "params:submission.export"


def create_pipeline(**_: object) -> Pipeline:
    """Return the pipeline from the checkpoints of both challenges to a scored submission."""
    template = Pipeline(
        [
            step(
                nodes.export_submission,
                [*CHECKPOINTS, "signal_store", EXPORT],
                "submission",
                "export",
            ),
            step(
                nodes.validate_submission,
                ["submission", *CHECKPOINTS, "signal_store", "recordings", EXPORT,
                 "params:submission.validation"],
                "submission_validation",
            ),
            step(
                nodes.choose_scored,
                ["recordings", "splits", *CHECKPOINTS, SCORING],
                "scored_recordings",
            ),
            step(
                nodes.score_submission,
                ["submission", "submission_validation", "scored_recordings", "participants",
                 SCORING, "params:ingestion.trials"],
                ["local_scores", "local_predictions1", "local_predictions2",
                 "local_score_report"],
            ),
        ],
        tags="submission",
    )  # fmt: skip
    with warnings.catch_warnings():  # a dot in a name: it is that of the challenge's namespace
        warnings.filterwarnings("ignore", message="One or more dataset names contain '.'")
        return pipeline(template, inputs=OF_CHALLENGES)
