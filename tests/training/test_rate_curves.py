"""Learning rates equal torch's schedulers of their names, also after an unfreezing."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from hbn_foundation.errors import UserError
from hbn_foundation.training.finetuning_params import PlanParams, RateParams, for_scratch
from hbn_foundation.training.plans import PLANS
from hbn_foundation.training.preview import preview_rates
from hbn_foundation.training.rates import (
    THRESHOLD,
    RateCurve,
    Stall,
    peaks,
    warmup_cosine,
)
from hbn_foundation.training.unfreezing import Block
from plan_courses import BLOCKS, NAMES
from rate_curves import LOWEST, PEAKS, adamw, by_curve, by_torch, curve_of, shares

SCHEDULES = ("cosine", "onecycle", "reduce_on_plateau", "constant", "linear_warmup_cosine")


def warmup_then_cosine(total, steps):
    def make(optimizer, rate):
        fall = CosineAnnealingLR(optimizer, total - steps, LOWEST * rate)
        if not steps:
            return fall
        rise = LinearLR(optimizer, start_factor=1 / (steps + 1), total_iters=steps)
        return SequentialLR(optimizer, [rise, fall], milestones=[steps])

    return make


@pytest.mark.parametrize(
    ("total", "params", "make"),
    [
        *[(n, {"min_lr_ratio": LOWEST}, warmup_then_cosine(n, 0)) for n in (1, 7, 100)],
        *[(50, {"schedule": "linear_warmup_cosine", "warmup_share": share, "min_lr_ratio": LOWEST},
           warmup_then_cosine(50, round(50 * share))) for share in (0.0, 0.1, 0.5)],
        *[(n - 1, {"schedule": "onecycle", "pct_start": start},
           lambda o, rate, n=n, start=start: OneCycleLR(
               o, rate, n, pct_start=start, cycle_momentum=False))
          for n, start in ((100, 0.3), (10, 0.5), (37, 0.05), (4, 0.9))],
        (20, {"schedule": "constant"}, lambda o, _: LambdaLR(o, lambda step: 1.0)),
    ],
)  # fmt: skip
def test_a_schedule_is_torchs(total, params, make):
    length = total + 1 if params.get("schedule") == "onecycle" else total
    found = by_curve(curve_of(length, **params), total)
    np.testing.assert_allclose(found, by_torch(make, total), rtol=1e-6, atol=1e-12)


def test_the_end_of_onecycle():
    """After which OneCycleLR cannot be stepped."""
    curve = curve_of(schedule="onecycle")
    assert shares(curve, (99, 105)) == pytest.approx([1 / 25 / 1e4] * 2)


@pytest.mark.parametrize("negative", [False, True])
def test_reduce_on_plateau(negative):
    """A metric that is better when it is higher is judged by its negative."""
    values = [1.0, 0.9, 0.90001, 0.95, 0.9, 0.91, 0.5, 0.6, 0.6, 0.6, 0.5, 0.5, 0.5]
    values += [0.49999, 0.5, 0.5] + [math.nan, 0.5, 0.4] + [0.7] * 30
    if negative:
        values = [value - 1.2 for value in values]
    curve = curve_of(1000, schedule="reduce_on_plateau", plateau_factor=0.5, min_lr_ratio=LOWEST)
    optimizer = adamw()
    torchs = ReduceLROnPlateau(
        optimizer, "max" if negative else "min", factor=0.5, patience=2, eps=0,
        min_lr=[LOWEST * rate for rate in PEAKS.values()],
    )  # fmt: skip
    seen = set()
    for number, value in enumerate(values, 1):
        torchs.step(-value if negative else value)
        curve.plateau(value, number * 10)
        found = [curve.rate(name, number * 10) for name in PEAKS]
        assert found == pytest.approx([group["lr"] for group in optimizer.param_groups])
        seen.add(round(found[-1] / PEAKS["head"], 6))
    assert {1.0, 0.5, LOWEST} <= seen, "rates fell down to the lowest"


def test_peaks_are_discriminative():
    blocks = [Block(name, 1) for name in ("a", "b", "c", "head")]
    found = peaks(blocks, RateParams(head_lr=2e-3, layer_decay=0.5))
    assert list(found) == ["a", "b", "c", "head"]
    assert found == pytest.approx({"a": 5e-5, "b": 1e-4, "c": 2e-4, "head": 2e-3})
    assert peaks(blocks, RateParams(backbone_lr=3e-6, backbone_lr_factor=0.05))["c"] == 3e-6
    assert peaks(blocks, RateParams(backbone_lr_factor=0.05))["a"] == pytest.approx(5e-5)
    assert peaks([Block("head", 1)], RateParams()) == {"head": 1e-3}
    assert set(peaks(blocks, for_scratch(RateParams(layer_decay=0.5))).values()) == {1e-3}


def test_what_an_unfreezing_leaves_alone():
    for schedule in ("onecycle", "constant"):
        curve = curve_of(schedule=schedule, trainable=())
        before = shares(curve, range(100))
        curve.unfrozen(95, ["block_1"])
        assert shares(curve, range(100)) == before
    warm, whole = (
        curve_of(schedule="linear_warmup_cosine", warmup_share=0.2, trainable=()) for _ in range(2)
    )
    warm.unfrozen(3, ["block_2"])
    assert shares(warm, range(101)) == shares(whole, range(101))
    curve = curve_of(trainable=())
    before = shares(curve, range(81))
    curve.unfrozen(81, ["block_2"])
    assert before[80] < 0.11
    assert curve.share("head", 81) == 1.0
    assert shares(curve, range(81)) == before


def test_unfrozen_blocks_ramp_up_from_nothing():
    curve = curve_of(schedule="constant", ramp_epochs=0.4, trainable=())
    curve.unfrozen(20, ["block_2"])
    assert shares(curve, range(19, 26), "block_2") == [0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert curve.share("block_1", 50) == 0
    assert curve.share("head", 20) == 1
    at_once = curve_of(schedule="constant", ramp_epochs=0, trainable=())
    at_once.unfrozen(20, ["block_2"])
    assert shares(at_once, (19, 20), "block_2") == [0, 1]
    first = curve_of(schedule="constant", trainable=("block_2",))
    assert shares(first, (0, 1, 50), "block_2") == [1, 1, 1]
    assert shares(first, (0, 1, 50), "block_1") == [0, 0, 0]


def test_events_count_once():
    curve = curve_of(trainable=("block_1",))
    curve.unfrozen(40, ["block_2"])
    before = curve.state_dict()
    curve.unfrozen(40, ["block_2"])
    curve.unfrozen(70, ["block_2", "block_1", "head"])
    assert curve.state_dict() == before


ANY_RATES = st.builds(
    RateParams,
    head_lr=st.floats(1e-6, 1),
    backbone_lr=st.none() | st.floats(1e-8, 1),
    layer_decay=st.floats(0.1, 1),
    ramp_epochs=st.floats(0, 3),
    schedule=st.sampled_from(SCHEDULES),
    warmup_share=st.floats(0, 0.99),
    min_lr_ratio=st.floats(0, 1),
    preserve_below=st.floats(0, 1),
    plateau_factor=st.floats(0.01, 0.99),
    plateau_patience=st.integers(0, 3),
    pct_start=st.floats(0.01, 0.99),
    div_factor=st.floats(1, 100),
    final_div=st.floats(1, 1e6),
)


@given(
    ANY_RATES,
    st.integers(1, 12),
    st.integers(1, 12),
    st.dictionaries(st.integers(0, 11), st.lists(st.sampled_from(["a", "b", "c"]), min_size=1)),
    st.lists(st.floats(0, 10) | st.just(math.nan), min_size=12, max_size=12),
    st.booleans(),
)
def test_rates_are_finite_and_rise_only_where_they_should(
    params, epochs, steps_per_epoch, unfreezings, values, told
):
    """Also: a curve whose state went through JSON after every epoch is the same one."""
    blocks = [Block(name, 1) for name in ("a", "b", "c", "head")]
    total = epochs * steps_per_epoch
    started = {"head", "c"} if told else {"head"}
    made = (params, peaks(blocks, params), total, steps_per_epoch, started)
    curve, resumed = RateCurve(*made), RateCurve(*made)
    before: dict[str, float] = {}
    unfrozen_at = {}
    for epoch in range(epochs):
        for step in range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch):
            rates = {block.name: curve.rate(block.name, step) for block in blocks}
            assert rates == {block.name: resumed.rate(block.name, step) for block in blocks}
            for name, rate in rates.items():
                assert math.isfinite(rate)
                assert 0 <= rate <= curve.peaks[name] * (1 + 1e-9)
                rising = params.schedule == "onecycle" or step < curve.spans[0].warmup + 1
                ramping = step <= unfrozen_at.get(name, -math.inf) + curve.ramp_steps
                switching = step in unfrozen_at.values()
                if name in before and not (rising or ramping or switching):
                    assert rate <= before[name] * (1 + 1e-9), "only down, so never up to a lowest"
                if params.schedule != "onecycle" and not ramping and name == "head" and not rising:
                    assert rate >= params.min_lr_ratio * curve.peaks[name] * (1 - 1e-9)
            before = rates
        curve.plateau(values[epoch], (epoch + 1) * steps_per_epoch)
        resumed.plateau(values[epoch], (epoch + 1) * steps_per_epoch)
        names = [name for name in unfreezings.get(epoch, ()) if name not in unfrozen_at]
        if names:
            step = (epoch + 1) * steps_per_epoch
            level = curve.share("head", step)
            curve.unfrozen(step, names)
            resumed.unfrozen(step, names)
            unfrozen_at |= dict.fromkeys(names, step)
            if params.schedule not in ("onecycle", "constant") and step >= curve.spans[0].warmup:
                moved = any(name != "c" or not told for name in names)
                kept = 1.0 if moved and level < params.preserve_below else level
                assert curve.share("head", step) == pytest.approx(kept)
        state = json.dumps(curve.state_dict(), allow_nan=False)
        resumed = RateCurve(*made)
        resumed.load_state_dict(json.loads(state))


@given(st.floats(-100, 100), st.floats(1e-3, 10), st.booleans())
def test_what_is_better_does_not_depend_on_the_sign(best, step, higher):
    def stalls(value):
        stall = Stall(0)
        stall.add(best, higher)
        return stall.add(value, higher)

    better = best + step if higher else best - step
    if step > 2 * THRESHOLD * abs(best):
        assert not stalls(better)
    assert stalls(2 * best - better)
    assert stalls(best)


@given(total=st.integers(1, 500), warmup=st.integers(0, 100), lowest=st.floats(0, 1))
def test_the_rate_of_pretraining_rises_then_falls_to_the_lowest(total, warmup, lowest):
    rates = [warmup_cosine(step, total, warmup, lowest) for step in range(total + 1)]
    assert all(0 <= rate <= 1 + 1e-9 for rate in rates)
    peak = rates.index(max(rates))
    assert peak <= min(warmup, total // 3)
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(lowest)


def test_the_preview_of_two_phases():
    rates = RateParams(layer_decay=0.5)
    table = preview_rates(PlanParams(), rates, BLOCKS, 10, 8)
    curve = RateCurve(rates, peaks(BLOCKS, rates), 80, 8, trainable=("head",))
    curve.unfrozen(24, NAMES[:-1])
    assert len(table) == 80 * len(BLOCKS)
    assert list(table["block"][: len(NAMES)]) == list(NAMES)
    for row in table.itertuples():
        assert row.rate == curve.rate(row.block, row.step)
        assert row.trained == (row.block == "head" or row.step >= 24)
        assert row.epoch == row.step / 8
    scratch = preview_rates(PlanParams(strategy="scratch"), RateParams(), BLOCKS, 3, 10)
    assert (scratch.groupby("step")["rate"].nunique() == 1).all()
    with pytest.raises(UserError, match="phase1_epochs"):
        preview_rates(PlanParams(), RateParams(), BLOCKS, 3, 10)


@pytest.mark.parametrize("strategy", sorted(set(PLANS) - {"phases"}))
@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "reduce_on_plateau"])
def test_every_strategy_takes_its_earliest_course(strategy, schedule):
    plan = PlanParams(
        strategy=strategy, every=1, plateau_patience=0, gate_threshold=0.7, gate_metric="f1"
    )
    table = preview_rates(plan, RateParams(schedule=schedule), BLOCKS, 20, 500)
    assert np.isfinite(table["rate"]).all()
    counts = table.groupby("epoch")["trained"].sum()
    assert counts.is_monotonic_increasing
    assert counts.iloc[-1] == {"head_only": 1, "partial": 3}.get(strategy, len(NAMES))
    assert len(table) == 20 * 20 * len(BLOCKS), "a long run is thinned out"
