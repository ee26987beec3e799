"""The jobs of a sweep: everything that a base and a fine-tuning depend on, typed, with one hash.

Planner, trainer and store all use these two models, so that there is one hash function and no
second copy that could disagree.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import pandas as pd
from pydantic import Field, field_validator, model_validator

from hbn_foundation.errors import UserError
from hbn_foundation.experiments.hashing import canonical, canonical_hash
from hbn_foundation.experiments.job import Entry
from hbn_foundation.experiments.params import SplitRules
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.params import Params, current_names, dotted, former_names
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.training.finetuning_params import (
    FineTuningParams,
    PlanParams,
    RateParams,
    RegularisationParams,
)
from hbn_foundation.training.model_params import EncoderParams, HeadParams
from hbn_foundation.training.params import NOT_IN_THE_WEIGHTS, ObjectiveParams, TrainerParams
from hbn_foundation.training.recipes import FineTuningRecipe

SCHEMA_VERSION: Literal[4] = 4
BASE, FINETUNE = "base", "finetune"
Mode = Literal["full_fine_tuning", "target_only_fine_tuning", "target_only"]
FULL, SCRATCH = "full_fine_tuning", "target_only"


class Tuning(Params):
    """What a fine-tuning, or a supervised base, is trained for and how."""

    label: LabelParams = Field(LabelParams(), description="What is learned.")
    head: HeadParams = Field(HeadParams(), description="The head.")
    plan: PlanParams = Field(PlanParams(), description="Which blocks are trained when.")
    rates: RateParams = Field(RateParams(), description="Learning rates.")
    regularisation: RegularisationParams = Field(
        RegularisationParams(), description="What keeps from learning by heart."
    )
    trainer: FineTuningParams = Field(FineTuningParams(), description="How long.")

    @property
    def recipe(self) -> FineTuningRecipe:
        """The same as the parameters of a fine-tuning."""
        return FineTuningRecipe(**dict(self))


class Spec(Params):
    """What both kinds of job of a sweep share: their hash, and words about differences."""

    JOB: ClassVar[str]
    NOT_HASHED: ClassVar[tuple[str, ...]] = ()
    schema_version: Literal[4] = Field(SCHEMA_VERSION, description="Of this description.")

    @model_validator(mode="before")
    @classmethod
    def _read_former_names(cls, values: Any) -> Any:
        return current_names(values) if isinstance(values, dict) else values

    def hashed(self) -> dict[str, Any]:
        """Give what is hashed, in its canonical form."""
        raise NotImplementedError

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits that name the job and its result."""
        return canonical_hash(self.hashed())

    @property
    def id(self) -> str:
        """Name of the job."""
        return Entry(self.JOB, self.hash).id

    def model_copy(self, *, update: Any = None, deep: bool = False) -> Self:
        """Copy with other values: checked, and with a hash of its own."""
        return self.model_validate({**self.model_dump(mode="json"), **(update or {})})

    def check_hash(self, expected: str, where: str) -> None:
        """Make sure that this is the job of a hash.

        Raises
        ------
        UserError
            When it is another one.
        """
        if self.hash != expected:
            raise UserError(
                f"{where}: the hash is {expected}, but its fields give {self.hash}; the file was "
                "changed or written by another version, plan anew"
            )

    def check_same(self, other: Spec, where: str) -> None:
        """Make sure that another description is of the same job.

        Raises
        ------
        UserError
            Naming the first field that differs.
        """
        if self.hash == other.hash:
            return
        there, here = dict(dotted(other.hashed())), dict(dotted(self.hashed()))
        name = next(name for name in sorted({*there, *here}) if there.get(name) != here.get(name))
        raise UserError(
            f"{where}: hash mismatch ({other.hash} and {self.hash}): {name} is "
            f"{there.get(name)!r} there and {here.get(name)!r} here"
        )


class BaseSpec(Spec):
    """A base model: trained on base subjects, never on the target."""

    JOB = BASE
    kind: Literal["pretraining", "supervised"] = Field(
        "pretraining", description="Self-supervised, or for a label from random weights."
    )
    encoder: EncoderParams = Field(EncoderParams(), description="The encoder.")
    objective: ObjectiveParams = Field(
        ObjectiveParams(), description="pretraining: what the encoder learns."
    )
    trainer: TrainerParams = Field(TrainerParams(), description="pretraining: how long.")
    supervised: Tuning | None = Field(None, description="supervised: label, head and training.")
    cleaning: CleaningParams = Field(CleaningParams(), description="How signals were cleaned.")
    window: WindowParams = Field(WindowParams(), description="How windows were cut.")
    train_subjects: tuple[str, ...] = Field(description="Base subjects trained on.", min_length=1)
    validation_subjects: tuple[str, ...] = Field(
        description="Base subjects that choose the epoch.", min_length=1
    )
    data: str = Field(description="Fingerprint of the base subjects' signals and windows.")

    @field_validator("train_subjects", "validation_subjects", mode="before")
    @classmethod
    def _sorted(cls, value: Any) -> Any:
        return tuple(sorted(set(map(str, value)))) if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "supervised") != (self.supervised is not None):
            raise ValueError("supervised goes with kind: supervised, and only with it")
        both = set(self.train_subjects) & set(self.validation_subjects)
        if both:
            raise ValueError(f"subject {min(both)} both trains and validates")
        return self

    @property
    def subjects(self) -> tuple[str, ...]:
        """All base subjects."""
        return tuple(sorted({*self.train_subjects, *self.validation_subjects}))

    @property
    def splits(self) -> pd.DataFrame:
        """`subject` and `split` of all base subjects."""
        names = {"train": self.train_subjects, "validation": self.validation_subjects}
        rows = [(subject, split) for split, subjects in names.items() for subject in subjects]
        return pd.DataFrame(rows, columns=["subject", "split"])

    @property
    def training(self) -> TrainerParams | FineTuningParams:
        """How long it is trained."""
        return self.trainer if self.supervised is None else self.supervised.trainer

    def hashed(self) -> dict[str, Any]:
        """Give what the weights depend on; what belongs to the other kind is left out."""
        content = self.model_dump(mode="json")
        content["encoder"] |= self.encoder.by_content()
        content["cleaning"].pop("chunk_seconds")  # changes no sample
        for name in NOT_IN_THE_WEIGHTS:
            content["trainer"].pop(name, None)
            (content["supervised"] or {"trainer": {}})["trainer"].pop(name, None)
        for name in ("objective", "trainer") if self.kind == "supervised" else ("supervised",):
            content.pop(name)
        return dict(canonical(former_names(content)))


class FinetuneSpec(Spec):
    """A fine-tuning on one target's data, tested on its last run."""

    JOB, NOT_HASHED = FINETUNE, ("fold",)
    fold: int | None = Field(None, description="Number of the target; not in the hash.", ge=0)
    target: str = Field(description="The subject left out of the base.", min_length=1)
    mode: Mode = Field(
        "full_fine_tuning",
        description="full_fine_tuning: base and target data; target_only_fine_tuning: target data "
        "alone; target_only: from random weights, the control.",
    )
    target_data_pct: float = Field(
        1.0, description="Share of the target's training windows.", gt=0, le=1
    )
    seed_finetune: int = Field(0, description="Of the subset, the head and the order.", ge=0)
    target_share: float = Field(
        0.5, description="full_fine_tuning: target windows in each batch.", gt=0, lt=1
    )
    base_hash: str | None = Field(None, description="Of the base; target_only has none.")
    encoder: EncoderParams | None = Field(None, description="target_only: the encoder.")
    tuning: Tuning = Field(Tuning(), description="Label, head and training.")
    rules: SplitRules = Field(SplitRules(), description="How the target's windows are divided.")
    window: WindowParams = Field(WindowParams(), description="How windows were cut.")
    data: str = Field(description="Fingerprint of the target's signals, windows and labels.")

    @model_validator(mode="before")
    @classmethod
    def _read_former_prefix(cls, values: Any) -> Any:
        """Read job files of before, where each job had a prefix that meant nothing."""
        if isinstance(values, dict):
            return {name: value for name, value in values.items() if name != "prefix"}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.mode == SCRATCH) != (self.base_hash is None):
            raise ValueError(f"base_hash goes with the modes that have a base, found {self.mode}")
        if (self.mode == SCRATCH) != (self.encoder is not None):
            raise ValueError(f"encoder goes with {SCRATCH} alone, found {self.mode}")
        return self

    @property
    def training(self) -> FineTuningParams:
        """How long it is trained."""
        return self.tuning.trainer

    def hashed(self) -> dict[str, Any]:
        """Give what the result depends on."""
        content = self.model_dump(mode="json", exclude=set(self.NOT_HASHED))
        if self.encoder is not None:
            content["encoder"]["weights"] = None  # it begins from random ones
        for name in (*NOT_IN_THE_WEIGHTS, "seed"):  # the seed is seed_finetune
            content["tuning"]["trainer"].pop(name, None)
        if self.mode != FULL:
            content.pop("target_share")
        return dict(canonical(former_names(content)))
