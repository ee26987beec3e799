"""Wiring of the submission pipeline."""

import warnings

from kedro.pipeline import Pipeline, node, pipeline

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
            node(
                nodes.export_submission,
                inputs=[*CHECKPOINTS, "signal_store", EXPORT],
                outputs="submission",
                name="export_submission",
                tags="export",
            ),
            node(
                nodes.validate_submission,
                inputs=[
                    "submission",
                    *CHECKPOINTS,
                    "signal_store",
                    "recordings",
                    EXPORT,
                    "params:submission.validation",
                ],
                outputs="submission_validation",
                name="validate_submission",
                tags="evaluation",
            ),
            node(
                nodes.choose_scored,
                inputs=["recordings", "splits", *CHECKPOINTS, SCORING],
                outputs="scored_recordings",
                name="choose_scored",
                tags="evaluation",
            ),
            node(
                nodes.score_submission,
                inputs=[
                    "submission",
                    "submission_validation",
                    "scored_recordings",
                    "participants",
                    SCORING,
                    "params:ingestion.trials",
                ],
                outputs=[
                    "local_scores",
                    "local_predictions1",
                    "local_predictions2",
                    "local_score_report",
                ],
                name="score_submission",
                tags="evaluation",
            ),
        ],
        tags="submission",
    )
    with warnings.catch_warnings():  # a dot in a name: it is that of the challenge's namespace
        warnings.filterwarnings("ignore", message="One or more dataset names contain '.'")
        return pipeline(template, inputs=OF_CHALLENGES)
