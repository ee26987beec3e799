"""Parameters of the signal store and of the windows."""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from hbn_foundation.params import Params


class Jitter(NamedTuple):
    """Largest random shift of a window's start in samples, and the share that is shifted."""

    samples: int = 0
    probability: float = 1.0


NO_JITTER = Jitter()


class WindowParams(Params):
    """How recordings are cut into windows."""

    seconds: float = Field(2.0, gt=0, description="Length of a window in seconds.")
    stride: float = Field(
        2.0,
        gt=0,
        description="Seconds from one start to the next; less than `seconds` overlaps.",
    )


class TrialWindowParams(Params):
    """Which piece of a recording belongs to a trial: counted from its stimulus."""

    offset: float = Field(
        0.5,
        description="Seconds from the stimulus to the beginning of the window; negative before it.",
    )
    seconds: float = Field(2.0, gt=0, description="Length of the window in seconds.")


class CropWindowParams(Params):
    """How recordings are cut into windows of which the model sees a crop."""

    tasks: tuple[str, ...] | None = Field(
        ("RestingState", "contrastChangeDetection"),
        description="Whose recordings are cut; null: all.",
    )
    seconds: float = Field(4.0, gt=0, description="Length of a window in seconds.")
    stride: float = Field(2.0, gt=0, description="Seconds from one window's start to the next.")


class ContextParams(Params):
    """What is known of a window's surroundings, without any label.

    Means and averages are over the clean windows that tile its recordings, labelled or not.
    """

    of: Literal["window", "recording", "subject"] = Field(
        "window",
        description="window: each window stands alone; recording: features are relative to the "
        "mean of its recording; subject: to the mean of all recordings of its subject.",
    )
    recentre: bool = Field(
        True,
        description="Whether that mean is subtracted. It takes away what is constant within a "
        "recording, such as traits of a subject.",
    )
    seconds: float = Field(
        0.0,
        ge=0,
        description="Features are averaged over the windows of the recording that begin within so "
        "many seconds of real time; 0: not averaged.",
    )
    running: bool = Field(
        False,
        description="Whether only what came before is used, as in a stream; recordings of a "
        "subject count in the order of their names.",
    )
    denoise: bool = Field(
        False,
        description="Whether features are winsorised in each recording, and slow features of "
        "frozen encoders, with linear ones added, filtered by the covariances of what is slow and "
        "of what is noise in it (a Wiener filter); drifts are slow.",
    )

    @property
    def is_used(self) -> bool:
        """Whether windows do not stand alone."""
        return self.of != "window"

    @property
    def text(self) -> str:
        """What is used beside a window, in words; empty where it stands alone."""
        past = " so far" if self.running else ""
        what = [f"relative to the mean of the {self.of}{past}"] if self.recentre else []
        if self.seconds:
            span = f"the last {self.seconds:g} s" if self.running else f"±{self.seconds:g} s"
            what.append(f"averaged over {span}")
        what += [f"winsorised, slow features denoised by {self.of}"] if self.denoise else []
        return ", ".join(what) if self.is_used else ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.is_used and (self.seconds or self.running):
            raise ValueError(
                "seconds and running need context of: recording or subject, found of: window"
            )
        if self.denoise and (not self.is_used or not self.recentre or self.running):
            raise ValueError(
                "denoise needs of: recording or subject, recentre: true and running: false"
            )
        if self.is_used and not self.recentre and not self.seconds:
            raise ValueError(
                f"of: {self.of} changes nothing with recentre: false and seconds: 0; give seconds"
            )
        return self


class BuildParams(Params):
    """Where the clean signals go, and how they are made."""

    path: str = Field(
        "data/02_intermediate/signals",
        description="Folder of the clean signals, shared by all runs.",
    )
    n_jobs: int = Field(
        -1,
        ge=-1,
        description="Processes that clean recordings; -1: one for each core; 0: none, the "
        "recordings are cleaned in the main process and have no limits, for a debugger.",
    )
    max_seconds: float = Field(
        30.0,
        gt=0,
        description="Seconds that cleaning a recording may take, and as many again for each 10 MB "
        "of its files. One that takes longer is left out and tried again in the next run.",
    )
    max_memory_gb: float = Field(
        8.0,
        ge=1,
        description="Memory of a process that cleans recordings (on Linux). A recording that "
        "needs more is left out and tried again in the next run.",
    )
    max_failed_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="The run stops when a larger share of the recordings cannot be used.",
    )
