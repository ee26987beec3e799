"""Parameters of the supervision: how long each part of a training may be silent."""

from pydantic import Field

from hbn_foundation.params import Params

LIMITS = "limits.json"  # in the folder of a run, for who watches it


class SupervisionParams(Params):
    """How long each part may be silent, and what is tried then. All times are in seconds."""

    start: float = Field(
        300.0,
        description="Longest silence from the start of the interpreter to the first step.",
        gt=0,
    )
    first_step: float = Field(
        600.0, description="Longest first step: kernels may be compiled in it.", gt=0
    )
    step_least: float = Field(
        30.0, description="A step is never called silent before this time.", gt=0
    )
    step_factor: float = Field(
        20.0, description="A step is silent after this many times the median step.", gt=1
    )
    evaluation: float = Field(300.0, description="Longest silence of an evaluation batch.", gt=0)
    checkpoint: float = Field(300.0, description="Longest time to write a checkpoint.", gt=0)
    kill_after: float = Field(
        5.0, description="From the request for a stack (SIGABRT) to SIGKILL.", gt=0
    )
    abandon_after: float = Field(
        10.0, description="From SIGKILL until a child that does not end is left behind.", gt=0
    )
    grace: float = Field(
        120.0,
        description="From the end of max_training_time, or Ctrl-C, to SIGKILL: time for the step, "
        "the evaluation and a checkpoint.",
        gt=0,
    )
    max_restarts: int = Field(
        3, description="Restarts without a new epoch in between, before it gives up.", ge=0
    )
