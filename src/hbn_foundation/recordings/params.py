"""Parameters of the source, of the selection and of the cleaning of recordings."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, StrictInt, field_validator, model_validator

from hbn_foundation.params import Params
from hbn_foundation.recordings.simulation.params import SimulationParams, SleepParams

Label = str | StrictInt  # YAML reads 1e3 as a float, which is not a label


class SourceParams(Params):
    """Where the recordings come from."""

    root: str | None = Field(
        None,
        description="BIDS root: a folder or an fsspec URL such as s3://bucket/folder. "
        "None: a mini release is simulated.",
    )
    roots: dict[str, str] | None = Field(
        None,
        description="Several data sets in one study, in place of `root`: a folder or URL for each "
        "name, which comes before the names of its subjects and recordings (`eyes-01`) and is "
        "their `dataset`.",
    )
    how_to_get: str | None = Field(
        None, description="Said where there is no data set at `root`: where to get it."
    )
    simulated_root: str = Field(
        "data/01_raw/simulated", description="Folder of the simulated release."
    )
    simulation: SimulationParams = Field(
        default_factory=SimulationParams, description="What is simulated when `root` is None."
    )
    sleep: SleepParams | None = Field(
        None, description="Nights of sleep that are simulated in place of the release; null: none."
    )
    cache: str = Field(
        "data/01_raw/mirror", description="Folder of the files fetched when the root is a URL."
    )
    storage_options: dict[str, Any] | None = Field(
        None,
        description="Options of the fsspec file system when the root is a URL; "
        "None: anonymous access on S3.",
    )

    @field_validator("roots")
    @classmethod
    def _with_names(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        if value is not None and not value:
            raise ValueError("no data set is named; expected {name: folder or URL, …}")
        for name in value or ():
            if re.fullmatch(r"[A-Za-z0-9_]+", name) is None:
                raise ValueError(f"{name}: expected a name of letters, digits and _")
        return value

    @model_validator(mode="after")
    def _one_or_several(self) -> SourceParams:
        if self.root is not None and self.roots is not None:
            raise ValueError(
                f"root={self.root} and roots are both given; expected one of them, the other null"
            )
        return self


class SelectionParams(Params):
    """Which recordings of a BIDS root are used; None keeps all. Of several roots, in each."""

    subjects: list[Label] | None = Field(
        None,
        description="Subjects, with or without `sub-`; 2 also finds `02`. Of several roots, "
        "`eyes-02` is that of one, and `02` that of each.",
    )
    exclude_subjects: list[Label] = Field(
        default_factory=list, description="Subjects left out whatever else is asked."
    )
    max_subjects: int | None = Field(
        None, ge=1, description="At most so many subjects, the first in alphabetical order."
    )
    tasks: list[str] | None = Field(None, description="Tasks, as in the file names.")
    sessions: list[Label] | None = Field(None, description="Sessions, with or without `ses-`.")
    runs: list[Label] | None = Field(None, description="Runs; 1 also finds `01`.")
    participants: dict[str, list[str | int | float | bool]] | None = Field(
        None, description="Columns of participants.tsv and the values kept, all to be met."
    )


class CleaningParams(Params):
    """How a recording is filtered, resampled, scaled, and which channels count as bad."""

    sfreq: float = Field(100.0, gt=0, description="Sampling rate of the clean signal in Hz.")
    l_freq: float = Field(0.5, gt=0, description="Lower edge of the pass band in Hz.")
    h_freq: float = Field(
        50.0,
        gt=0,
        description="Upper edge of the pass band in Hz; drawn in to what the file and "
        "the sampling rates hold.",
    )
    scale: Literal["recording", "subject"] = Field(
        "recording",
        description="What the robust scale of a channel is taken over. recording: each alone; "
        "subject: all of the subject's, which keeps differences of amplitude between them, but "
        "makes a signal depend on the subject's other recordings: with one recording of each "
        "state, that compares the states of a held-out subject.",
    )
    clip: float = Field(
        15.0, gt=0, le=1000, description="Extremes are clipped at so many robust deviations."
    )
    min_seconds: float = Field(2.0, gt=0, description="Shorter recordings are left out.")
    chunk_seconds: float = Field(
        60.0,
        ge=10,
        description="Seconds cleaned at a time; bounds the memory, does not change the result.",
    )
    flat_uv: float = Field(
        0.1, ge=0, description="A second that moves less than this many µV is flat."
    )
    flat_share: float = Field(
        0.5, gt=0, le=1, description="A channel with this share of flat seconds is bad."
    )
    clipping_share: float = Field(
        0.01,
        gt=0,
        le=1,
        description="A channel with this share of its samples at its own extreme is bad.",
    )
    missing_share: float = Field(
        0.01, ge=0, le=1, description="A channel with a larger share of NaN samples is bad."
    )
    amplitude_z: float = Field(
        5.0,
        gt=0,
        description="A channel whose log amplitude lies so many robust deviations above "
        "the other channels' is bad.",
    )
    weak_ratio: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="A channel whose amplitude is below this share of the others' median is bad. "
        "Those beside the reference are at a fifth or more.",
    )
    min_correlation: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="A channel whose highest correlation with another is below this is bad.",
    )

    bipolar: Literal["refuse", "midpoint"] = Field(
        "refuse",
        description="A recording of bipolar derivations (Fp1-F7, F7-T7, …): refuse leaves it out; "
        "midpoint takes each derivation for an electrode halfway between its ends.",
    )

    @model_validator(mode="after")
    def _edges_in_order(self) -> CleaningParams:
        if self.l_freq >= self.h_freq:
            raise ValueError(f"l_freq = {self.l_freq} must be below h_freq = {self.h_freq}")
        if self.l_freq >= self.sfreq / 2:
            raise ValueError(f"l_freq = {self.l_freq} must be below sfreq / 2 = {self.sfreq / 2}")
        return self
