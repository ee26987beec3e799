"""What is found out about a plan before anything is trained: that each training can begin."""

from __future__ import annotations

from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.labels.targets import window_targets
from hbn_foundation.sweeps.planner import Data, Plan
from hbn_foundation.sweeps.specs import BaseSpec, Tuning
from hbn_foundation.training.model_params import EncoderParams


def check_trainings(plan: Plan, data: Data) -> None:
    """Make each encoder, objective and unfreezing plan of a sweep once, and forget it.

    Raises
    ------
    UserError
        What would stop a job before its first step.
    """
    from hbn_foundation.scores import check_metric

    done: set[Any] = set()
    base_of = plan.base_of
    tunings: list[tuple[EncoderParams, Tuning, Any]] = []
    for base in plan.bases:
        if base.supervised is not None:
            tunings.append((base.encoder, base.supervised, base))
        elif (base.encoder, base.objective) not in done:
            done.add((base.encoder, base.objective))
            _check_objective(base, float(data.store.sfreq))
    for spec in plan.finetunings:
        encoder = spec.encoder or getattr(base_of.get(str(spec.base_hash)), "encoder", None)
        if encoder is not None:
            tunings.append((encoder, spec.tuning, spec))
    for encoder, tuning, job in tunings:
        key = (encoder, tuning.head, tuning.plan, tuning.trainer.epochs, tuning.trainer.monitor)
        if key not in done:
            done.add(key)
            targets = window_targets(
                data.labelled, data.participants, tuning.label, data.labelled["subject"].unique()
            )
            check_metric(tuning.trainer.monitor, "trainer.monitor", targets.is_regression)
            try:
                _check_plan(encoder, tuning, job.window.seconds, data, targets)
            except UserError as error:
                raise UserError(f"{job.id}: {error}") from None


def _check_objective(base: BaseSpec, sfreq: float) -> None:
    from hbn_foundation.training.model_building import build_encoder
    from hbn_foundation.training.objectives.make import make_objective

    try:
        encoder = build_encoder(base.encoder, sfreq, round(base.window.seconds * sfreq))
    except ValueError as error:
        raise UserError(f"{base.id}: encoder: {error}") from None
    make_objective(base.objective, encoder)


def _check_plan(
    encoder: EncoderParams, tuning: Tuning, seconds: float, data: Data, targets: Any
) -> None:
    from hbn_foundation.models.config import MAIN
    from hbn_foundation.training.finetuning_params import as_begun
    from hbn_foundation.training.model_building import HeadOf, build_encoder, build_finetuned
    from hbn_foundation.training.plans import make_plan
    from hbn_foundation.training.unfreezing import Block

    sfreq = float(data.store.sfreq)
    head = HeadOf(tuning.head, targets.n_outputs, not targets.is_regression)
    model = build_finetuned(build_encoder(encoder, sfreq, round(seconds * sfreq)), {MAIN: head})
    blocks = [Block(name, size) for name, size in model.sizes().items()]
    make_plan(
        as_begun(tuning.plan, tuning.trainer.start), blocks, tuning.trainer.epochs,
        is_regression=targets.is_regression,
    )  # fmt: skip
