"""Parameters of the simulated HBN mini release, and of simulated nights of sleep."""

from typing import Literal

from pydantic import Field

from hbn_foundation.params import Params


class SimulationParams(Params):
    """Size, seed and strengths of the simulated release.

    The defaults write about 340 MB, and give ten test subjects, whose scores have intervals. Times
    are shorter than in HBN (about 400 s of rest, 3 runs of 24 trials) so that the release stays
    small; everything else follows the real data.
    """

    n_subjects: int = Field(68, description="Number of subjects.", ge=2, le=999)
    seed: int = Field(2025, description="Seed of every random draw.", ge=0)
    sfreq: int = Field(100, description="Sampling frequency in Hz.", ge=100, le=500)
    rest_seconds: float = Field(40.0, description="Length of a RestingState run in s.", ge=6)
    eyes_open_seconds: float = Field(
        10.0, description="Length of an eyes-open phase in s (20 in HBN).", gt=0
    )
    eyes_closed_seconds: float = Field(
        15.0, description="Length of an eyes-closed phase in s (40 in HBN).", gt=0
    )
    ccd_runs: int = Field(
        1, description="Number of contrastChangeDetection runs a subject.", ge=0, le=3
    )
    trials_per_run: int = Field(
        12, description="Targets in each contrastChangeDetection run (24 in HBN).", ge=2
    )
    rt_subject_sd: float = Field(
        0.2, description="Standard deviation of the subjects' mean response times in s.", ge=0
    )
    rt_follows: Literal["build_up", "subject"] = Field(
        "build_up",
        description="What response times go with: the build-up in the EEG, or the subject alone, "
        "with nothing in the EEG that shows them (then only a leaking split predicts them).",
    )
    trait_strength: float = Field(
        1.0, description="Factor on the effects of age, sex and factors on the EEG.", ge=0
    )
    n_background_sources: int = Field(
        200, description="Dipoles of the 1/f background.", ge=10, le=1000
    )
    bad_channel_share: float = Field(
        0.35, description="Share of the recordings that have bad channels.", ge=0, le=1
    )
    n_truncated: int = Field(
        1, description="RestingState files cut in the middle, on purpose.", ge=0
    )
    n_jobs: int = Field(2, description="Processes that write subjects; changes no byte.", ge=1)


class SleepParams(Params):
    """Size and seed of simulated nights: a six-hour night, six times as short, for each subject.

    The defaults write about 210 MB.
    """

    n_subjects: int = Field(24, description="Number of subjects.", ge=2, le=99)
    seed: int = Field(2025, description="Seed of every random draw.", ge=0)
    sfreq: int = Field(100, description="Sampling frequency in Hz.", ge=100, le=500)
    minutes: float = Field(60.0, description="Length of a night in minutes.", ge=2)
    cycles: int = Field(
        4, description="Cycles from light sleep to REM sleep in a night, of equal length.", ge=1
    )
    ambiguity: float = Field(
        0.35,
        description="Deviation of the logarithm of each amplitude about that of its stage, "
        "over some minutes.",
        ge=0,
    )
    n_background_sources: int = Field(32, description="Dipoles of the 1/f background.", ge=10)
    n_jobs: int = Field(2, description="Processes that write subjects; changes no byte.", ge=1)
