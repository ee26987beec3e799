"""Between the epochs of real trainings: what is frozen, at which rates, and whose weights."""

import math

import pytest
from torch import nn

from finetuning_runs import scripted, tune, watched
from hbn_foundation.training.callbacks.phases import UnfreezingPhases
from hbn_foundation.training.finetuning_params import PlanParams, RateParams
from hbn_foundation.training.preview import preview_rates
from hbn_foundation.training.unfreezing import Block
from runs import same

NAMES = ("band_tokens", "time_tokens", "block_1", "block_2", "head")
STEPS = 5 * 2 * 5 // 16


class Moving(nn.Module):
    """What moves by itself: batch statistics, and dropout."""

    def __init__(self, dim):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(dim), nn.Linear(dim, dim)

    def forward(self, tokens):
        return tokens + self.linear(self.norm(tokens.flatten(0, 1)).view(tokens.shape))


def test_frozen_blocks_stand_still_to_the_bit(short_run, data, tmp_path, monkeypatch):
    """Batch statistics, strong decay, an average of the weights; and what is trained moves."""
    from hbn_foundation.training import finetuned

    made = finetuned.make_model

    def with_batch_norm(*arguments, **options):
        model = made(*arguments, **options)
        model.encoder.trunk[1] = Moving(32)
        return model.train()

    monkeypatch.setattr(finetuned, "make_model", with_batch_norm)
    watch = watched(monkeypatch)
    phases = [{"epochs": 1}, {"epochs": 1, "unfreeze": ["block_2"]}, {"epochs": 2}]
    _, history = tune(
        short_run[0], data, tmp_path,
        plan={"strategy": "phases", "phases": phases, "restore_best": False},
        rates={"weight_decay": 0.5, "backbone_lr_factor": 1.0},
        regularisation={"ema_decay": 0.9},
    )  # fmt: skip
    assert watch.trainable == [("head",), *[("block_2", "head")] * 3]
    assert history["phase"].tolist() == [1, 2, 3, 3]  # also those that unfreeze nothing
    for number, trained in enumerate(watch.trainable):
        before, after = watch.starts[number], watch.starts[number + 1]
        for name in NAMES:
            assert same(before[name], after[name]) == (name not in trained), (number, name)
    assert watch.starts[1]["block_2"]["norm.num_batches_tracked"] == 0
    assert watch.starts[-1]["block_2"]["norm.num_batches_tracked"] == 3 * STEPS


SCHEDULES = ("cosine", "onecycle", "reduce_on_plateau", "constant", "linear_warmup_cosine")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_one_optimizer_for_life_at_the_rates_of_the_preview(
    short_run, data, tmp_path, monkeypatch, schedule
):
    watch = watched(monkeypatch)
    scripted(monkeypatch, [1.0] * 4)  # as the preview supposes: nothing gets better
    plan = {"strategy": "gradual", "phase1_epochs": 1, "every": 2}
    rates = {"schedule": schedule, "plateau_patience": 0, "layer_decay": 0.7}
    tune(short_run[0], data, tmp_path, plan=plan, rates=rates)
    assert len(watch.objects) == 1
    assert watch.head_steps == list(range(1, 4 * STEPS + 1))
    assert watch.rates == [pytest.approx(drawn, rel=1e-9) for drawn in watch.drawn]
    blocks = [Block(name, 1) for name in NAMES]
    table = preview_rates(PlanParams(**plan), RateParams(**rates), blocks, 4, STEPS)
    for (step, name), rate in table.set_index(["step", "block"])["rate"].items():
        if name in watch.trainable[step // STEPS]:
            assert watch.rates[step][name] == pytest.approx(rate, rel=1e-9), (step, name)
    assert [len(names) for names in watch.trainable] == [1, 2, 2, 3]
    if schedule == "reduce_on_plateau":
        assert len({rates["head"] for rates in watch.rates}) > 1


@pytest.mark.parametrize("restored", [True, False])
def test_the_best_weights_of_a_phase_begin_the_next(
    short_run, data, tmp_path, monkeypatch, restored
):
    """Where that is wanted; and so does their average, which is scored."""
    watch, averages = watched(monkeypatch), []
    followed = UnfreezingPhases.on_train_epoch_end

    def average(pl_module):
        state = pl_module.average_model.module.state_dict()
        return {name: part.clone() for name, part in state.items()}

    def noted(phases, trainer, pl_module):
        averages.append(average(pl_module))
        followed(phases, trainer, pl_module)
        averages.append(average(pl_module))

    monkeypatch.setattr(UnfreezingPhases, "on_train_epoch_end", noted)
    scripted(monkeypatch, [0.5, 0.9, 0.9, 0.8])
    checkpoint, _ = tune(
        short_run[0], data, tmp_path, regularisation={"ema_decay": 0.5},
        plan={"phase1_epochs": 3, "restore_best": str(restored)},
    )  # fmt: skip
    assert same(watch.starts[3]["head"], watch.starts[1]["head"]) == restored
    assert same(averages[5], averages[0]) == restored
    assert same(averages[5], averages[4]) == (not restored)
    assert same(checkpoint.weights, averages[0])  # 0.5 was the best of all


@pytest.mark.parametrize(
    ("grace", "patience", "expected"), [(0, 1, 4), (2, 1, 6), (0, 2, 5), (3, 2, 8)]
)
def test_patience_begins_anew_after_the_grace(
    short_run, data, tmp_path, monkeypatch, grace, patience, expected
):
    """Unfrozen after two epochs, of which the second was worse; then worse and worse."""
    scripted(monkeypatch, [0.5, 0.6, *(0.7 + 0.1 * n for n in range(10))])
    checkpoint, history = tune(
        short_run[0], data, tmp_path, plan={"grace_epochs": grace},
        trainer={"epochs": 10, "early_stopping_patience": patience},
    )  # fmt: skip
    assert len(history) == expected
    assert checkpoint.metadata["best_epoch"] == 1
    assert f"for {patience} validations" in checkpoint.metadata["stopped"]


@pytest.mark.parametrize(
    ("losses", "trainer"),
    [
        ([0.9, 0.8, 0.7], {"epochs": 6, "validate_every": 2, "early_stopping_patience": 1}),
        ([math.nan, 0.8, 0.7, 0.6], {"epochs": 4, "early_stopping_patience": 2}),
    ],
    ids=["no validation is no bad one", "what is not finite is bettered"],
)
def test_only_a_worse_validation_counts(short_run, data, tmp_path, monkeypatch, losses, trainer):
    scripted(monkeypatch, losses)
    plan = {"strategy": "full"}
    checkpoint, history = tune(short_run[0], data, tmp_path, plan=plan, trainer=trainer)
    assert len(history) == trainer["epochs"] == checkpoint.metadata["best_epoch"]


def test_every_epoch_has_its_scores_and_norms(short_run, data, tmp_path):
    _, history = tune(short_run[0], data, tmp_path)
    for name in ("f1", "balanced_accuracy", "auroc", "accuracy", "fisher_ratio", "gap"):
        assert history[name].notna().all(), name
    for name in ("f1", "balanced_accuracy", "auroc", "accuracy"):
        assert history[f"train_{name}"].between(0, 1).all()
    assert (history["gap"] == history["validation_loss"] - history["train_plain_loss"]).all()
    for kind in ("gradient", "update"):
        for name in NAMES:
            moved = history[f"{kind}_{name}"] > 0
            assert moved.tolist() == [name == "head"] * 2 + [True] * 2, (kind, name)
    assert (history["learning_rate"] > 0).all()  # the head's
