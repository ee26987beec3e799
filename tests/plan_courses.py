"""Plans of unfreezing on blocks of a small model, and what they do on given metrics."""

from hbn_foundation.training.finetuning_params import PhaseParams, PlanParams
from hbn_foundation.training.plans import make_plan
from hbn_foundation.training.unfreezing import Block

NAMES = ("band_tokens", "time_tokens", "block_1", "block_2", "block_3", "block_4", "head")
SIZES = (50, 50, 100, 100, 100, 100, 20)
BLOCKS = tuple(Block(name, size) for name, size in zip(NAMES, SIZES, strict=True))
BACKBONE = NAMES[:-1]
NO_METRICS = [{}] * 12


def plan_of(epochs=12, **params):
    """A plan for these blocks."""
    return make_plan(PlanParams(**params), BLOCKS, epochs)


def phases(*parts):
    """Phases of epochs and the blocks that they unfreeze."""
    return tuple(PhaseParams(epochs=epochs, unfreeze=unfreeze) for epochs, *unfreeze in parts)


def carried_out(plan, rows, scores=None):
    """Unfreezings (and a stop) by the number of epochs done, for rows of metrics."""
    trainable = set(plan.start())
    history, found = [], {}
    for epoch, row in enumerate(rows, 1):
        history.append({"epoch": epoch, **row})
        decision = plan.after_epoch(history, frozenset(trainable), scores)
        trainable |= set(decision.unfreeze)
        if decision.stop:
            found[epoch] = "stop"
            break
        if decision.unfreeze:
            found[epoch] = decision.unfreeze
    return found


def metrics(name, *values):
    """Rows of one metric."""
    return [{name: value} for value in values]


def accuracies(*values):
    """Rows of the metric that a gate judges by default."""
    return metrics("balanced_accuracy", *values)
