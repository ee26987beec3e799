"""Runs of a plan through epochs that nobody trains."""

from hbn_foundation.training.finetuning_params import PlanParams
from hbn_foundation.training.plans import make_plan
from hbn_foundation.training.unfreezing import Block

NAMES = ("band_tokens", "time_tokens", "block_1", "block_2", "block_3", "block_4", "head")
SIZES = (50, 50, 100, 100, 100, 100, 20)
BLOCKS = tuple(Block(name, size) for name, size in zip(NAMES, SIZES, strict=True))


def plan_of(epochs=12, blocks=BLOCKS, **params):
    return make_plan(PlanParams(**params), blocks, epochs)


def carried_out(plan, rows, scores=None):
    """Unfreezings (and a stop) by the number of epochs done, for rows of metrics."""
    trainable = set(plan.start())
    history, found = [], {}
    for epoch, row in enumerate(rows):
        history.append({"epoch": epoch + 1, **row})
        decision = plan.after_epoch(history, frozenset(trainable), scores)
        trainable |= set(decision.unfreeze)
        if decision.stop:
            found[epoch + 1] = "stop"
            break
        if decision.unfreeze:
            found[epoch + 1] = decision.unfreeze
    return found


def without_metrics(epochs=12):
    return [{} for _ in range(epochs)]


def accuracies(*values):
    return [{"balanced_accuracy": value} for value in values]
