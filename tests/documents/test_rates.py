"""Learning rates and schedules where layers are unfrozen, and the advice on them.

The items of the description, in its order.
"""

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from finetuning_runs import recipe_of, tune, watched
from hbn_foundation.errors import UserError
from hbn_foundation.params import former_names
from hbn_foundation.training.finetuning_module import FineTuningModule
from hbn_foundation.training.finetuning_params import PlanParams, RateParams
from hbn_foundation.training.optim import make_optimizer
from hbn_foundation.training.plans import make_plan
from hbn_foundation.training.preview import advice, preview_rates
from hbn_foundation.training.rates import RateCurve, peaks
from hbn_foundation.training.unfreezing import Block
from rate_curves import (
    LOWEST,
    PEAKS,
    adamw,
    by_torch,
    curve_of,
    followed,
    one_group,
    shares,
    stepped,
)

BLOCKS = ("band_tokens", "block_1", "block_2", "head")
SIZED = [Block(name, 10) for name in BLOCKS]
UNFREEZING = ("two_phase", "gated", "gradual", "partial", "plateau", "gradient_guided")


def preview(epochs=30, plan=None, rates=None):
    """Rates by step, ten steps to the epoch, a column per block."""
    plan, rates = PlanParams(**(plan or {})), RateParams(**(rates or {}))
    table = preview_rates(plan, rates, SIZED, epochs, 10)
    return table.pivot(index="step", columns="block", values="rate")


def advised(epochs=30, plan=None, rates=None):
    given = {"phase1_epochs": 6, **(plan or {})}
    return advice(recipe_of(given, {"epochs": epochs}, rates=rates or {}))


def test_onecycle_is_never_rebuilt():
    """Problem 1: with unfreezings the head's rates are those without any."""
    whole, broken = (curve_of(schedule="onecycle", trainable=t) for t in (PEAKS, ()))
    found = []
    for step in range(100):
        if step in (30, 70, 99):
            broken.unfrozen(step, {30: ["block_2"], 70: ["block_1"], 99: ["block_1"]}[step])
        found.append(broken.share("head", step))
    assert found == shares(whole, range(100))
    assert broken.share("block_2", 40) == whole.share("block_2", 40)


@pytest.mark.parametrize(("reached", "after"), [(0.5, 0.5), (0.1, 0.1), (0.099, 1.0)])
@pytest.mark.parametrize("schedule", ["cosine", "linear_warmup_cosine", "reduce_on_plateau"])
def test_a_rate_below_a_tenth_goes_back_to_the_peak_at_an_unfreezing(schedule, reached, after):
    """Problem 2: rates that have become tiny are put back; the encoder's are a tenth of them."""
    total = 1_000_000
    # the last step at which the cosine is not below what is to be reached
    step = math.floor(total * math.acos(2 * reached - 1) / math.pi)
    params = {"plateau_factor": reached, "plateau_patience": 0, "min_lr_ratio": 0}
    curve = curve_of(total, schedule=schedule, warmup_share=0, trainable=(), **params)
    curve.plateau(1.0, step - 2)
    curve.plateau(1.0, step - 1)
    assert curve.share("head", step) == pytest.approx(reached, abs=1e-5)
    curve.unfrozen(step, ["block_1", "block_2"])
    assert curve.share("head", step) == pytest.approx(after, abs=1e-5)
    assert curve.rate("block_2", step + 50) == pytest.approx(after * 1e-4, rel=1e-3)


def test_defaults():
    """`backbone_lr` is by default a tenth of `head_lr`: 1e-4 of 1e-3."""
    assert (RateParams().head_lr, RateParams().backbone_peak) == (1e-3, 1e-4)
    assert RateParams(head_lr=2e-3).backbone_peak == 2e-4


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "reduce_on_plateau"])
def test_recommended_usage(schedule):
    """Gradual unfreezing goes with each schedule; advice speaks against OneCycle alone."""
    plan = {"strategy": "gradual"}
    lines = advised(plan=plan, rates={"schedule": schedule})
    assert len(lines) == (schedule == "onecycle")
    rates = preview(plan=plan, rates={"schedule": schedule})
    assert (rates.iloc[-1] > 0).all()


def test_strategy_of_phase_1():
    """The head at 1e-3, the encoder at 0."""
    first = preview(plan={"phase1_epochs": 8}, rates={"schedule": "constant"}).loc[:79]
    assert (first["head"] == 1e-3).all()
    assert (first.drop(columns="head") == 0).all(axis=None)


def test_strategy_of_phase_2():
    """The head goes on at its current rate where that is not too small, the encoder at a tenth."""
    rates = preview(plan={"phase1_epochs": 8})
    ramped = rates.loc[85:]
    for name in BLOCKS[:-1]:
        assert ramped[name].tolist() == pytest.approx((ramped["head"] / 10).tolist())
    assert rates["head"].is_monotonic_decreasing, "no jump at the switch"


def test_configuration_of_safe_training():
    """Cosine, 30 epochs, 8 with the head alone and 22 after them."""
    plan = PlanParams(phase1_epochs=8, phase2_epochs=22)
    assert make_plan(plan, SIZED, 30).start() == {"head"}


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (
            {"phase1_epochs": 8},
            "plan.phase2_epochs=22: 8 epochs before them (plan.phase1_epochs=8) make",
        ),
        ({"strategy": "gated", "unfreeze_backbone_epoch": 5}, "plan.unfreeze_backbone_epoch=5"),
    ],
)
def test_epochs_of_phases_that_contradict_the_whole_are_one_line(plan, words):
    """`phase2_epochs` beside `phase1_epochs` and `epochs`."""
    with pytest.raises(UserError) as error:
        make_plan(PlanParams(phase2_epochs=22, **plan), SIZED, 15)
    assert words in str(error.value)
    assert str(error.value).endswith("but trainer.epochs is 15; leave one of them out")


def test_configuration_of_advanced_freezing():
    """Gradient-guided freezing with discriminative rates: `layer_decay` from block to block."""
    plan = {"strategy": "gradient_guided", "gradient_share": 0.0}
    rates = preview(plan=plan, rates={"layer_decay": 0.5, "schedule": "constant"})
    last = rates.iloc[-1].to_dict()
    expected = {"band_tokens": 2.5e-5, "block_1": 5e-5, "block_2": 1e-4, "head": 1e-3}
    assert last == pytest.approx(expected)


@pytest.mark.parametrize("strategy", UNFREEZING)
def test_warning_of_onecycle_with_unfreezing(strategy):
    """What can go wrong, and two alternatives."""
    (line,) = advised(plan={"strategy": strategy}, rates={"schedule": "onecycle"})
    assert line.startswith(f"rates.schedule=onecycle with plan.strategy={strategy}")
    assert "cosine is rebased at an unfreezing and steadier, reduce_on_plateau adapts" in line
    for other in ("full", "head_only", "scratch"):
        assert advised(plan={"strategy": other}, rates={"schedule": "onecycle"}) == []


def test_recommendation_of_rates():
    """The rates as they are, and the one to consider: a tenth of the head's."""
    (line,) = advised(rates={"backbone_lr": 1e-5})
    assert line == (
        "rates.backbone_lr=1e-05: the encoder's rate 1e-05 is 100 times below the head's 0.001; "
        "5 to 10 times below is usual, consider 0.0001 (head_lr / 10)"
    )


def test_an_unfreezing_begins_the_count_of_a_plateau_anew():
    """`reduce_on_plateau` adapts to what training does after it."""
    curve = curve_of(schedule="reduce_on_plateau", plateau_patience=2, trainable=())
    for epoch, value in enumerate((1.0, 2.0, 2.0), 1):
        curve.plateau(value, 10 * epoch)
    curve.unfrozen(30, ["block_2"])
    curve.plateau(2.0, 40)
    curve.plateau(2.0, 50)
    assert curve.share("head", 50) == 1.0
    curve.plateau(2.0, 60)
    assert curve.share("head", 60) == 0.5


@pytest.mark.parametrize("at", [1, 20, 60, 61])
def test_cosine_after_an_unfreezing_is_a_fresh_one_over_the_steps_that_are_left(at):
    """Rebuilt with the epochs that are left and a lowest rate for each group.

    The same `LambdaLR` goes on; torch's begins anew, from the rate that is reached.
    """
    total = 100
    curve = curve_of(min_lr_ratio=LOWEST, trainable=())
    optimizer = adamw()
    scheduler = followed(curve, optimizer)
    before = stepped(optimizer, scheduler, at)
    reached = optimizer.param_groups[-1]["lr"]
    curve.unfrozen(at, ("block_2", "block_1"))
    curve.set_rates(optimizer.param_groups, at)
    after = stepped(optimizer, scheduler, total - at)
    whole = by_torch(lambda o, rate: CosineAnnealingLR(o, total, LOWEST * rate), at)
    assert [row[-1] for row in before] == pytest.approx(whole[:, -1])
    assert all(row[:-1] == [0.0, 0.0] for row in before)
    level = reached / PEAKS["head"]
    assert level > 0.1, "else it is put back to the peak"
    fresh = []
    for column, (name, rate) in enumerate(PEAKS.items()):
        single = one_group(rate * level)
        fall = CosineAnnealingLR(single, total - at, LOWEST * rate)
        fresh.append([row[0] for row in stepped(single, fall, total - at)])
        start = 0 if name == "head" else 5
        assert [row[column] for row in after[start:]] == pytest.approx(fresh[-1][start:])
    for step in range(5):
        assert after[step][0] == pytest.approx(fresh[0][step] * step / 5, abs=1e-12)


SAID = [
    ({"schedule": "onecycle"}, 60, "kept, as 60% of it is done, and a restart would lose that"),
    ({"schedule": "constant"}, 60, "kept, as it never changes"),
    ({"schedule": "linear_warmup_cosine", "warmup_share": 0.7}, 60, "kept, as its warm-up is not"),
    ({}, 50, "rebased on the 50 steps that are left; rates go on from 50% of their peaks"),
    ({}, 90, "rebased on the 10 steps that are left; rates are restored to their peaks, as they "
             "had fallen to 3.42% of them, below preserve_below=0.1"),
    ({"schedule": "reduce_on_plateau"}, 60, "its patience begins anew; rates go on from 50% of"),
    ({"schedule": "reduce_on_plateau", "plateau_factor": 0.05}, 60,
     "its patience begins anew; rates are restored to their peaks, as they had fallen to 5.00%"),
]  # fmt: skip


@pytest.mark.parametrize(("rates", "step", "words"), SAID)
def test_each_unfreezing_says_what_happened_to_the_schedule_and_why(rates, step, words):
    """Kept, rebased, restored to the peak, patience begun anew."""
    curve = curve_of(trainable=(), plateau_patience=0, **rates)
    curve.plateau(1.0, 10)
    curve.plateau(1.0, 20)
    said = curve.unfrozen(step, ["block_2"])
    assert said.startswith(f"schedule {rates.get('schedule', 'cosine')}: {words}")
    assert curve.unfrozen(step + 1, ["block_2"]) == "", "nothing was unfrozen"
    assert curve.unfrozen(step + 2, ["block_1"])


def test_discriminative_rates_keep_their_ratios():
    """Before and after rates are put back to their peaks, from block to block."""
    params = RateParams(layer_decay=0.5, ramp_epochs=0)
    curve = RateCurve(params, peaks(SIZED, params), 100, 10, {"head"})
    for step, block in ((20, "block_2"), (95, "block_1"), (98, "band_tokens")):
        curve.unfrozen(step, [block])
    for step in (98, 99):
        found = [curve.rate(name, step) / curve.rate("head", step) for name in BLOCKS]
        assert found == pytest.approx([0.025, 0.05, 0.1, 1.0])


@pytest.mark.parametrize("monitor", ["loss", "balanced_accuracy"])
def test_the_plateau_watches_what_the_best_epoch_is_chosen_by(
    short_run, data, tmp_path, monkeypatch, monitor
):
    """A loss that rises and an accuracy that rises: only one of them has stalled."""
    rows = iter({"loss": 0.5 + 0.1 * n, "balanced_accuracy": 0.5 + 0.1 * n} for n in range(4))
    monkeypatch.setattr(FineTuningModule, "score_validation", lambda _: next(rows))
    watch = watched(monkeypatch)
    tune(
        short_run[0], data, tmp_path, plan={"strategy": "head_only"}, trainer={"monitor": monitor},
        rates={"schedule": "reduce_on_plateau", "plateau_patience": 1},
    )  # fmt: skip
    assert watch.rates[-1]["head"] == pytest.approx(5e-4 if monitor == "loss" else 1e-3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("AdamW", {}), ("adam", {}), ("sgd", {"momentum": 0.9}), ("radam", {}), ("nadam", {}),
        ("rmsprop", {"momentum": 0.5}), ("adagrad", {}), ("adafactor", {}),
    ],
)  # fmt: skip
def test_any_optimizer(name, options):
    """Groups, rates by step and freezing are as with AdamW: a frozen group stays to the bit."""
    trainer = recipe_of(trainer={"optimizer": name, "optimizer_options": options}).trainer
    named = {block: torch.nn.Parameter(torch.ones(2, 2)) for block in ("block_1", "head")}
    groups = [
        {"block": block, "params": [weight], "lr": 1e-2, "weight_decay": 0.05}
        for block, weight in named.items()
    ]
    optimizer = make_optimizer(groups, *trainer.of_optimizer)
    assert type(optimizer) is getattr(torch.optim, type(optimizer).__name__)
    assert type(optimizer).__name__.lower() == name.lower()
    named["block_1"].requires_grad_(False)
    for step in range(3):
        optimizer.zero_grad()
        (named["block_1"] * named["head"]).square().sum().backward()
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 / (step + 1)
        optimizer.step()
    assert torch.equal(named["block_1"].detach(), torch.ones(2, 2))
    assert (named["head"] < 1).all()


def test_a_fine_tuning_with_sgd(short_run, data, tmp_path, monkeypatch):
    """One optimizer for the whole run, its frozen blocks as they were, its rates as drawn."""
    watch = watched(monkeypatch)
    monkeypatch.setattr(watch, "on_train_batch_end", lambda *_: None)  # asks for Adam's steps
    trainer = {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}, "epochs": 3}
    checkpoint, _ = tune(short_run[0], data, tmp_path, trainer=trainer)
    assert checkpoint.metadata["parameters"]["trainer"]["optimizer"] == "sgd"
    assert watch.rates == [pytest.approx(drawn, rel=1e-9) for drawn in watch.drawn]
    first, _, third, last = (epoch["block_1"] for epoch in watch.starts)
    assert all(torch.equal(first[key], third[key]) for key in first)
    assert any(not torch.equal(first[key], last[key]) for key in first)


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ({"optimizer": "adamx"}, "trainer.optimizer='adamx': expected an optimizer of torch.optim"),
        ({"optimizer": "LBFGS"}, "trainer.optimizer='LBFGS': expected an optimizer of torch.optim"),
        ({"optimizer_options": {"momentum": 0.9}},
         "trainer.optimizer_options: momentum=0.9 is nothing that AdamW takes here; expected one"),
        ({"optimizer": "sgd", "optimizer_options": {"lr": 1}}, "lr=1 is nothing that SGD takes"),
        ({"optimizer": "sgd", "optimizer_options": {"momentum": -1}},
         "SGD refuses {'momentum': -1}: Invalid momentum value"),
    ],
)  # fmt: skip
def test_an_optimizer_that_there_is_not_is_one_line(trainer, words):
    """Unknown, unsuited, or with an argument that it does not take."""
    with pytest.raises(UserError) as error:
        recipe_of(trainer=trainer)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_default_optimizer_changes_no_key():
    """Runs and jobs are named as before there was a choice; another optimizer is another run."""
    default, other = (recipe_of(trainer={"optimizer": name}) for name in ("AdamW", "adam"))
    assert not {"optimizer", "optimizer_options"} & set(default.identity()["trainer"])
    assert other.identity()["trainer"]["optimizer"] == "adam"
    phases = [{"epochs": 2, "schedule": schedule} for schedule in (None, "onecycle")]
    plan = recipe_of({"strategy": "phases", "phases": phases}).parameters()["plan"]
    named = former_names({"plan": plan})["plan"]
    assert "phase2_epochs" not in named
    assert ["schedule" in phase for phase in named["phases"]] == [False, True]
