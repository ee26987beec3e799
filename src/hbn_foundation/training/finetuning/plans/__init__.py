"""Plans of unfreezing: given what happened so far, which blocks to train from now on."""

from hbn_foundation.training.finetuning.plans.base import Block, Decision, Plan
from hbn_foundation.training.finetuning.plans.make import make_plan

__all__ = ["Block", "Decision", "Plan", "make_plan"]
