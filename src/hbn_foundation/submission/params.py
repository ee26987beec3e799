"""What can be chosen about checking and scoring a submission."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hbn_foundation.params import Params


class ExportParams(Params):
    """Which labels of the fine-tuned checkpoints the submission answers."""

    challenge1: str = Field("rt", description="Column of the label that challenge 1 asks for.")
    challenge2: str = Field(
        "externalizing", description="Column of the label that challenge 2 asks for."
    )
    challenge1_entry: Literal["checkpoint", "optimized_checkpoint"] = Field(
        "checkpoint", description="Whether challenge 1 is answered by the model as trained, or by "
        "the variant that challenge1_optimization chose.",
    )  # fmt: skip
    challenge2_entry: Literal["checkpoint", "optimized_checkpoint"] = Field(
        "checkpoint", description="The same of challenge 2."
    )


class LimitParams(Params):
    """How much a submission may use while it is run here."""

    memory_megabytes: float = Field(4096.0, description="Memory in use, in MB.", gt=0)
    start_seconds: float = Field(
        180.0, description="Time to import torch and to make both models.", gt=0
    )
    request_seconds: float = Field(
        10.0, description="Time for a request of several windows, besides that for each.", gt=0
    )
    window_seconds: float = Field(1.0, description="Mean time per window.", gt=0)
    most_megabytes: float = Field(2000.0, description="Size of the unpacked files in MB.", gt=0)
    threads: int = Field(2, description="Threads that torch may use.", ge=1)
    device: str = Field("cpu", description="Device the models are to run on.")
    python: str | None = Field(
        None,
        description="Interpreter that runs the submission, such as one with torch 2.2; "
        "null: this one.",
    )


class ValidationParams(Params):
    """How a submission is checked."""

    n_windows: int = Field(20, description="Windows that it has to predict.", ge=2, le=1000)
    batch_size: int = Field(16, description="The larger batch; the smaller one is 1.", ge=2)
    tolerance: float = Field(
        1e-5,
        description="Largest difference of two predictions that count as the same, for values "
        "above 1 relative to them.",
        gt=0,
    )
    seed: int = Field(0, description="Seed of the windows and of their order.", ge=0)
    limits: LimitParams = Field(LimitParams(), description="Memory and time.")


class ScoringParams(Params):
    """How a submission is scored."""

    challenge1_task: str = Field(
        "contrastChangeDetection", description="Task whose response times are predicted."
    )
    challenge2_tasks: tuple[str, ...] = Field(
        ("contrastChangeDetection",),
        description="Tasks whose windows the factor is predicted from; the challenge's start kit "
        "takes contrastChangeDetection.",
        min_length=1,
    )
    factor: Literal["p_factor", "attention", "internalizing", "externalizing"] = Field(
        "externalizing", description="Factor of challenge 2; the final rules score this one."
    )
    batch_size: int = Field(1, description="Windows at once; the challenge gives one.", ge=1)
    max_subjects: int | None = Field(
        None, description="At most so many subjects, the first in order.", ge=1
    )
    seed: int = Field(0, description="Seed of the crops of challenge 2.", ge=0)
    bootstraps: int = Field(
        500, description="Resamples of subjects for the intervals; 0: no intervals.", ge=0
    )
    subjects: Literal["test", "validation", "all"] = Field(
        "test",
        description="Subjects a run of the pipeline scores: those held out; validation, as where "
        "the official split has no others; or all, which flatters a model trained on some of them.",
    )
    limits: LimitParams = Field(LimitParams(), description="Memory and time.")
