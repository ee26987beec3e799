"""Wiring of the submission pipeline."""

from kedro.pipeline import Pipeline, node

from hbn_foundation.pipelines.submission import nodes

CHECKPOINTS = ["challenge1.checkpoint", "challenge2.checkpoint"]
TRIALS, SUBJECTS = "challenge1.predictions", "challenge2.subject_predictions"
RELEASE = ["recordings", "participants", "splits"]
EXPORT = "params:submission.export"


def create_pipeline(**_: object) -> Pipeline:
    """Return the pipeline from the checkpoints of both challenges to a scored submission."""
    return Pipeline(
        [
            node(
                nodes.export_submission,
                inputs=[*CHECKPOINTS, "signal_store", EXPORT],
                outputs="submission",
                name="export_submission",
                tags="export",
            ),
            node(
                nodes.write_tables,
                inputs=[TRIALS, SUBJECTS],
                outputs=["challenge1_csv", "challenge2_csv"],
                name="write_prediction_tables",
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
                nodes.score_submission,
                inputs=[
                    "submission",
                    "submission_validation",
                    *RELEASE,
                    "params:submission.scoring",
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
