"""All parameters of a training, as one nested model for each kind of training."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from hbn_foundation.errors import UserError
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.models.config import MAIN
from hbn_foundation.params import Params, former_names
from hbn_foundation.signals.params import ContextParams
from hbn_foundation.training.finetuning_params import (
    FineTuningParams,
    MoreTargets,
    PlanParams,
    RateParams,
    RegularisationParams,
    for_scratch,
)
from hbn_foundation.training.model_params import (
    AddedTokenParams,
    EncoderParams,
    HeadParams,
    InputParams,
    SequenceParams,
)
from hbn_foundation.training.params import (
    NOT_IN_THE_WEIGHTS,
    SLOW,
    UNTRAINED,
    DeviceParams,
    ObjectiveParams,
    RunParams,
    TrainerParams,
)
from hbn_foundation.training.plans import plan_class
from hbn_foundation.training.supervision.faults import KINDS, Fault
from hbn_foundation.training.supervision.params import SupervisionParams


class TrainingRecipe(Params):
    """What every training has: a trainer, and the limits of its supervision."""

    #: Groups that the weights depend on, beside the trainer.
    GROUPS: ClassVar[tuple[str, ...]] = ()

    trainer: RunParams = Field(RunParams(), description="How long and how precisely to train.")
    supervision: SupervisionParams = Field(
        SupervisionParams(), description="How long each part of the training may be silent."
    )
    fault: str | None = Field(
        None,
        description="A fault to inject, to try the supervision: hang@12 hangs at the twelfth step "
        "on any device but the CPU, each time; crash@40*1 crashes once, on any device. Kinds: "
        f"{', '.join(KINDS)}.",
    )

    @field_validator("fault")
    @classmethod
    def _known_fault(cls, value: str | None) -> str | None:
        Fault.parse(value)
        return value

    def parameters(self) -> dict[str, Any]:
        """Return the parameters in a checkpoint's metadata, as JSON values."""
        return self.model_dump(mode="json", include={*self.GROUPS, "trainer"})

    def identity(self) -> dict[str, Any]:
        """Return all parameters that the weights depend on, as JSON values."""
        trainer = self.trainer.model_dump(mode="json", exclude=set(NOT_IN_THE_WEIGHTS))
        return former_names({**self.parameters(), "trainer": trainer})


class PretrainingRecipe(TrainingRecipe):
    """Encoder, objective and trainer of a pretraining."""

    GROUPS = ("encoder", "objective")

    hardware: DeviceParams = Field(DeviceParams(), description="Which device to train on.")
    encoder: EncoderParams = Field(EncoderParams(), description="The encoder.")
    objective: ObjectiveParams = Field(ObjectiveParams(), description="What it is trained for.")
    trainer: TrainerParams = Field(TrainerParams(), description="How it is trained.")

    @model_validator(mode="after")
    def _slow_outputs_are_trained(self) -> Self:
        names = {self.objective.name, *self.objective.beside}
        if self.encoder.n_slow and not names & (SLOW | {UNTRAINED}):
            raise ValueError(
                f"encoder.n_slow={self.encoder.n_slow}: objective.name={self.objective.name} "
                f"trains no slow outputs; expected n_slow=0, or {' or '.join(sorted(SLOW))} as "
                "objective.name or in objective.beside"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """Return all parameters that the weights depend on; published weights by their content."""
        found = super().identity()
        found["encoder"] |= self.encoder.by_content()
        return found


class FineTuningRecipe(TrainingRecipe):
    """Label, model, plan and trainer of a fine-tuning."""

    GROUPS = (
        "label", "head", "plan", "rates", "regularisation", "more_targets", "tokens", "input",
        "keep_head", "context", "sequence_encoder",
    )  # fmt: skip

    checkpoint: str = Field(
        "foundation_checkpoint",
        description="What it begins from: an entry of the catalog, such as finetuning_checkpoint "
        "for a model that was fine-tuned before; a version of foundation_checkpoint; the name of "
        "another data set's folder beside this one's, for its newest; or the path of a checkpoint.",
        min_length=1,
    )
    keep_head: bool = Field(
        False,
        description="Begin with the checkpoint's heads too, margin included, with the whole margin "
        "from the first step; classes and heads have to be the same.",
    )
    label: LabelParams = Field(LabelParams(), description="What is learned.")
    context: ContextParams = Field(
        ContextParams(), description="What all methods know of a window's surroundings."
    )
    sequence_encoder: SequenceParams = Field(
        SequenceParams(), description="How the model uses the context."
    )
    head: HeadParams = Field(HeadParams(), description="The head that answers it.")
    plan: PlanParams = Field(PlanParams(), description="Which blocks are trained when.")
    rates: RateParams = Field(RateParams(), description="Learning rates and their schedule.")
    regularisation: RegularisationParams = Field(
        RegularisationParams(), description="What keeps it from overfitting."
    )
    trainer: FineTuningParams = Field(FineTuningParams(), description="How it is trained.")
    more_targets: MoreTargets = Field(
        MoreTargets(), description="Further targets by name, learned together with the label."
    )
    tokens: AddedTokenParams = Field(
        AddedTokenParams(), description="Families of tokens that the checkpoint may lack."
    )
    input: InputParams = Field(InputParams(), description="How windows reach the model.")

    @model_validator(mode="after")
    def _windows_in_their_places(self) -> Self:
        if self.context.is_used and self.regularisation.in_use.mixup:
            raise ValueError(
                f"regularisation.mixup={self.regularisation.mixup:g}: mixed windows have no place "
                f"in a recording; expected 0 with context.of={self.context.of!r}"
            )
        return self

    @property
    def strata_column(self) -> str | None:
        """Column of participants.tsv whose levels weigh alike in each class; None: no strata."""
        return None

    def identity(self) -> dict[str, Any]:
        """Return all parameters that the weights depend on, as JSON values."""
        column = self.strata_column
        return super().identity() | ({} if column is None else {"strata_column": column})

    @property
    def effective_plan(self) -> PlanParams:
        """The plan; from random weights, that all blocks are trained from the start."""
        if self.trainer.start == "from_scratch":
            # a run without phases is not what phase2_epochs is a check of
            return self.plan.model_copy(update={"strategy": "scratch", "phase2_epochs": None})
        return self.plan

    @property
    def effective_rates(self) -> RateParams:
        """The rates; random weights need the head's rate in all blocks."""
        return for_scratch(self.rates) if self.effective_plan.from_scratch else self.rates

    @property
    def keeps_head(self) -> bool:
        """Whether the heads are the checkpoint's; from random weights none is."""
        return self.keep_head and not self.effective_plan.from_scratch

    def check_new_encoder(self, group: str) -> None:
        """Make sure that it can begin from an encoder that was only pretrained.

        Raises
        ------
        UserError
            When the parameters, which lie in `group`, ask for another checkpoint, or for its heads.
        """
        for key, expected in (("checkpoint", "foundation_checkpoint"), ("keep_head", False)):
            value = getattr(self, key)
            if value != expected:
                raise UserError(
                    f"{group}.{key}={str(value).lower()}: these fine-tunings begin from encoders "
                    f"that are pretrained for them; expected {str(expected).lower()}"
                )

    @property
    def judged_metric(self) -> str:
        """The metric that the plan looks at, or else the one that chooses the best epoch."""
        key = plan_class(self.effective_plan.strategy).metric_key
        return self.trainer.monitor if key is None else str(getattr(self.plan, key))

    @property
    def heads(self) -> dict[str, HeadParams]:
        """The head of each target by name, the main one first."""
        more = self.more_targets.chosen.items()
        return {MAIN: self.head} | {name: one.head for name, one in more}

    @property
    def label_kinds(self) -> set[str]:
        """Where the labels of all targets come from: task, participant, trial."""
        return {self.label.kind, *(one.label.kind for one in self.more_targets.chosen.values())}
