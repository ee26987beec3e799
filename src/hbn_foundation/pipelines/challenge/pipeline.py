"""Wiring of both challenges: one template, an instance of it in a namespace for each."""

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Pipeline, node, pipeline

from hbn_foundation.pipelines.challenge import evaluation, learning_curve, nodes
from hbn_foundation.pipelines.finetuning import nodes as finetuning

#: What other pipelines make; all else is an instance's own.
SHARED = {"foundation_checkpoint", "signal_store", "trials", "splits", "participants"}
RUN = "run_version"
HARDWARE = "params:foundation.hardware"
CURVE = "params:learning_curve.runs"
SCRATCH = "params:challenge.from_scratch"
DATA = ["signal_store", "windows", "splits", "participants"]
MODEL = ["params:label", "params:head", "params:plan", "params:rates"]
TESTED = ["checkpoint", "predictions", "signal_store", "windows", "splits"]
EXTRAS = ["params:more_targets", "params:tokens", "params:input"]


def create_challenge1(**_: object) -> Pipeline:
    """Return the pipeline to a model of response time and success, and its predictions."""
    prepare = node(
        nodes.prepare_trials,
        inputs=[
            "foundation_checkpoint",
            "signal_store",
            "trials",
            "splits",
            "participants",
            "params:windows",
            *MODEL,
            "params:trainer",
            *EXTRAS,
            "params:fault",
        ],
        outputs=["windows", "lr_preview"],
        name="prepare",
        tags="training",
    )
    return _instance(
        "challenge1", prepare, nodes.predict_response_times, _response_time_evaluation()
    )


def create_challenge2(**_: object) -> Pipeline:
    """Return the pipeline to a model of the factors, and its predictions."""
    prepare = node(
        nodes.prepare_crops,
        inputs=[
            "foundation_checkpoint",
            "signal_store",
            "splits",
            "participants",
            "params:windows",
            *MODEL,
            "params:regularisation",
            "params:trainer",
            *EXTRAS,
            "params:fault",
        ],
        outputs=["windows", "lr_preview"],
        name="prepare",
        tags="training",
    )
    return _instance("challenge2", prepare, nodes.predict_factors, _factor_evaluation())


def create_learning_curve1(**_: object) -> Pipeline:
    """Return the pipeline to challenge 1 learned from more and more subjects."""
    return _learning_curve("challenge1", learning_curve.learn_response_times)


def create_learning_curve2(**_: object) -> Pipeline:
    """Return the pipeline to challenge 2 learned from more and more subjects."""
    return _learning_curve("challenge2", learning_curve.learn_factors)


def _learning_curve(namespace: str, learn: Callable[..., Any]) -> Pipeline:
    """Go on from the windows and the device that the challenge's pipeline has chosen."""
    template = Pipeline(
        [
            node(
                learn,
                inputs=[
                    "foundation_checkpoint",
                    *DATA,
                    *MODEL,
                    "params:regularisation",
                    "params:trainer",
                    *EXTRAS,
                    "device_plan",
                    "params:supervision",
                    "params:evaluation",
                    CURVE,
                ],
                outputs="learning_curve",
                name="learn_from_shares",
                tags="training",
            ),
            node(
                learning_curve.report_learning_curve,
                inputs="learning_curve",
                outputs=["learning_curve_figure", "learning_curve_report"],
                name="report_learning_curve",
                tags="evaluation",
            ),
        ]
    )
    return pipeline(
        template,
        namespace=namespace,
        inputs=SHARED & template.inputs(),
        parameters={CURVE},
        tags=f"{namespace}_learning_curve",
    )


def _instance(namespace: str, prepare: Any, predict: Callable[..., Any], scoring: list) -> Pipeline:
    """Put the template into a namespace: `windows` becomes `challenge1.windows`, and so on."""
    template = Pipeline([prepare, *_training_nodes(), _prediction_node(predict), *scoring])
    inputs = {*SHARED, RUN} & template.inputs()
    return pipeline(
        template,
        namespace=namespace,
        inputs=inputs,
        parameters={HARDWARE, SCRATCH},
        tags=namespace,
    )


def _training_nodes() -> list:
    return [
        node(
            finetuning.choose_device,
            inputs=[
                HARDWARE,
                "params:trainer",
                "params:tokens",
                "params:fault",
                "signal_store",
                "foundation_checkpoint",
            ],
            outputs="device_plan",
            name="choose_device",
            tags="training",
        ),
        node(
            finetuning.finetune_encoder,
            inputs=[
                "foundation_checkpoint",
                *DATA,
                *MODEL,
                "params:regularisation",
                "params:trainer",
                *EXTRAS,
                "device_plan",
                "params:supervision",
                "params:fault",
                RUN,
            ],
            outputs=["checkpoint", "history", "incidents"],
            name="finetune",
            tags="training",
        ),
        node(
            nodes.train_from_scratch,
            inputs=[
                "foundation_checkpoint",
                *DATA,
                *MODEL,
                "params:regularisation",
                "params:trainer",
                *EXTRAS,
                "device_plan",
                "params:supervision",
                RUN,
                SCRATCH,
            ],
            outputs="scratch_predictions",
            name="train_from_scratch",
            tags="training",
        ),
    ]


def _prediction_node(predict: Callable[..., Any]) -> Any:
    return node(
        predict,
        inputs=["checkpoint", "signal_store", "windows", "splits", "params:trainer"],
        outputs="predictions",
        name="predict",
        tags="evaluation",
    )


def _response_time_evaluation() -> list:
    return [
        node(
            evaluation.evaluate_response_times,
            inputs=[*TESTED, "participants", "params:evaluation", "scratch_predictions"],
            outputs=["metrics", "scores", "answers"],
            name="evaluate",
            tags="evaluation",
        ),
        node(
            evaluation.report_response_times,
            inputs=[*TESTED, "scores", "metrics", "history", "params:evaluation"],
            outputs=["page", "report", "answers_figure", "spatial_figure"],
            name="report",
            tags="evaluation",
        ),
    ]


def _factor_evaluation() -> list:
    return [
        node(
            evaluation.evaluate_factors,
            inputs=[*TESTED, "participants", "params:evaluation", "scratch_predictions"],
            outputs=["metrics", "scores", "answers", "subject_predictions"],
            name="evaluate",
            tags="evaluation",
        ),
        node(
            evaluation.report_factors,
            inputs=[*TESTED, "scores", "metrics", "answers", "history", "params:evaluation"],
            outputs=["page", "report", "answers_figure", "spatial_figure"],
            name="report",
            tags="evaluation",
        ),
    ]
