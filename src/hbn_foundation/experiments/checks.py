"""What is found out before anything is trained: that each training of a sweep can begin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hbn_foundation.errors import UserError
from hbn_foundation.labels.targets import WindowTargets, window_targets
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.recipes import FineTuningRecipe, PretrainingRecipe

if TYPE_CHECKING:
    from hbn_foundation.experiments.planner import Data, Plan
    from hbn_foundation.experiments.specs import BaseSpec, Tuning


def check_trainings(plan: Plan, data: Data) -> None:
    """Make each encoder, objective and unfreezing plan of a sweep once, and forget it.

    Raises
    ------
    UserError
        What would stop a job before its first step.
    """
    from hbn_foundation.scores import check_metric

    done: set[Any] = set()
    base_of, labelled = plan.base_of, data.labelled
    tunings: list[tuple[EncoderParams, Tuning, Any]] = []
    for base in plan.bases:
        if base.supervised is not None:
            tunings.append((base.encoder, base.supervised, base))
        elif (base.encoder, base.objective) not in done:
            done.add((base.encoder, base.objective))
            _check_objective(base, labelled.sfreq)
    for spec in plan.finetunings:
        encoder = spec.encoder or getattr(base_of.get(str(spec.base_hash)), "encoder", None)
        if encoder is not None:
            tunings.append((encoder, spec.tuning, spec))
    subjects = labelled.windows["subject"].unique()
    for encoder, tuning, job in tunings:
        key = (encoder, tuning.head, tuning.plan, tuning.trainer.epochs, tuning.trainer.monitor)
        if key in done:
            continue
        done.add(key)
        targets = window_targets(labelled.windows, labelled.participants, tuning.label, subjects)
        check_metric(tuning.trainer.monitor, "trainer.monitor", targets.is_regression)
        n_samples = round(job.window.seconds * labelled.sfreq)
        try:
            check_plan(encoder, tuning.recipe, labelled.sfreq, n_samples, targets)
        except UserError as error:
            raise UserError(f"{job.id}: {error}") from None


def _check_objective(base: BaseSpec, sfreq: float) -> None:
    from hbn_foundation.training.pretrain import make_pretext

    about = {"encoder": base.encoder, "objective": base.objective}
    try:
        recipe = PretrainingRecipe.model_validate(about)
        make_pretext(recipe, sfreq, round(base.window.seconds * sfreq))
    except UserError as error:
        raise UserError(f"{base.id}: {error}") from None


def check_plan(
    encoder: EncoderParams,
    recipe: FineTuningRecipe,
    sfreq: float,
    n_samples: int,
    targets: WindowTargets,
) -> None:
    """Make the unfreezing plan of a fine-tuning for an encoder of this kind, and forget it.

    Raises
    ------
    UserError
        When the plan does not fit the model, or the epochs.
    """
    from hbn_foundation.models.config import MAIN
    from hbn_foundation.training.finetune import blocks_of
    from hbn_foundation.training.finetuned import assemble
    from hbn_foundation.training.model_building import build_encoder
    from hbn_foundation.training.plans import make_plan

    model = assemble(build_encoder(encoder, sfreq, n_samples), recipe, {MAIN: targets})
    make_plan(
        recipe.effective_plan, blocks_of(model), recipe.trainer.epochs,
        is_regression=targets.is_regression,
    )  # fmt: skip
