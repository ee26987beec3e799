"""Each schedule equals torch's own of its name, through one `LambdaLR`, and after an unfreezing."""

import math
import warnings

import pytest
import torch
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from hbn_foundation.training.finetuning_params import RateParams
from hbn_foundation.training.rates import RateCurve

PEAKS = {"block_1": 3e-5, "block_2": 1e-4, "head": 1e-3}
FLOOR = 0.01


def adamw(rates):
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate, "block": name}
        for name, rate in rates.items()
    ]
    return torch.optim.AdamW(groups)


def stepped(optimizer, scheduler, steps):
    """The rates of each step, as the optimizer has them."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR of torch warns of itself
        for _ in range(steps):
            found.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            scheduler.step()
    return found


def one_group(rate):
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def by_torch(make, steps, rates=PEAKS):
    """Rates by a scheduler of torch per block, since some take one floor for all groups."""
    columns = []
    for rate in rates.values():
        optimizer = one_group(rate)
        columns.append([row[0] for row in stepped(optimizer, make(optimizer, rate), steps)])
    return [list(row) for row in zip(*columns, strict=True)]


def by_curve(curve, steps):
    optimizer = adamw(curve.peaks)
    shares = [lambda step, name=name: curve.share(name, step) for name in curve.peaks]
    return stepped(optimizer, LambdaLR(optimizer, shares), steps)


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("total", [1, 7, 100])
def test_cosine(total):
    curve = RateCurve(RateParams(min_lr_ratio=FLOOR), PEAKS, total, 10)
    expected = by_torch(lambda o, rate: CosineAnnealingLR(o, total, FLOOR * rate), total)
    assert_equal(by_curve(curve, total), expected)


@pytest.mark.parametrize(("total", "start"), [(100, 0.3), (10, 0.5), (37, 0.05), (4, 0.9)])
def test_onecycle(total, start):
    curve = RateCurve(RateParams(schedule="onecycle", pct_start=start), PEAKS, total, 10)
    expected = by_torch(
        lambda o, rate: OneCycleLR(o, rate, total, pct_start=start, cycle_momentum=False),
        total - 1,
    )
    assert_equal(by_curve(curve, total - 1), expected)
    # The last step itself, after which OneCycleLR cannot be stepped.
    assert curve.share("head", total - 1) == pytest.approx(1 / 25 / 1e4)
    assert curve.share("head", total + 5) == pytest.approx(1 / 25 / 1e4)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_linear_warmup_and_cosine(share):
    total, steps = 50, round(50 * share)
    curve = RateCurve(
        RateParams(schedule="linear_warmup_cosine", warmup_share=share, min_lr_ratio=FLOOR),
        PEAKS, total, 10,
    )  # fmt: skip

    def make(optimizer, rate):
        fall = CosineAnnealingLR(optimizer, total - steps, FLOOR * rate)
        if not steps:
            return fall
        rise = LinearLR(optimizer, start_factor=1 / (steps + 1), total_iters=steps)
        return SequentialLR(optimizer, [rise, fall], milestones=[steps])

    assert_equal(by_curve(curve, total), by_torch(make, total))


@pytest.mark.parametrize("higher", [False, True])
def test_reduce_on_plateau(higher):
    values = [1.0, 0.9, 0.90001, 0.95, 0.9, 0.91, 0.5, 0.6, 0.6, 0.6, 0.5, 0.5, 0.5]
    values += [0.49999, 0.5, 0.5] + [math.nan, 0.5, 0.4] + [0.7] * 30
    if higher:
        values = [1.2 - value for value in values]
    params = RateParams(schedule="reduce_on_plateau", plateau_factor=0.5, min_lr_ratio=FLOOR)
    curve = RateCurve(params, PEAKS, 1000, 10)
    optimizer = adamw(PEAKS)
    torchs = ReduceLROnPlateau(
        optimizer, "max" if higher else "min", factor=0.5, patience=2, eps=0,
        min_lr=[FLOOR * rate for rate in PEAKS.values()],
    )  # fmt: skip
    seen = set()
    for number, value in enumerate(values):
        torchs.step(value)
        curve.plateau(value, higher_is_better=higher)
        found = [curve.rate(name, number * 10) for name in PEAKS]
        assert found == pytest.approx([group["lr"] for group in optimizer.param_groups])
        seen.add(round(found[-1] / PEAKS["head"], 6))
    assert {1.0, 0.5, FLOOR} <= seen, "rates fell down to the floor"


def test_constant():
    curve = RateCurve(RateParams(schedule="constant"), PEAKS, 20, 10)
    assert by_curve(curve, 20) == [list(PEAKS.values())] * 20


@pytest.mark.parametrize("at", [1, 20, 60, 61])
def test_cosine_after_an_unfreezing_is_a_fresh_one_over_the_steps_that_are_left(at):
    """The same `LambdaLR` goes on; torch's begins anew, from the rate that is reached."""
    total = 100
    curve = RateCurve(RateParams(min_lr_ratio=FLOOR), PEAKS, total, 10, trainable=())
    optimizer = adamw(curve.peaks)
    shares = [lambda step, name=name: curve.share(name, step) for name in curve.peaks]
    scheduler = LambdaLR(optimizer, shares)
    before = stepped(optimizer, scheduler, at)
    reached = optimizer.param_groups[-1]["lr"]
    curve.unfrozen(at, ("block_2", "block_1"))
    curve.set_rates(optimizer.param_groups, at)
    after = stepped(optimizer, scheduler, total - at)

    whole = by_torch(lambda o, rate: CosineAnnealingLR(o, total, FLOOR * rate), at)
    assert [row[-1] for row in before] == pytest.approx([row[-1] for row in whole])
    assert all(row[:-1] == [0.0, 0.0] for row in before)
    level = reached / PEAKS["head"]
    assert level > 0.1, "else it is put back to the peak"
    fresh = []
    for name, rate in PEAKS.items():
        single = one_group(rate * level)
        fall = CosineAnnealingLR(single, total - at, FLOOR * rate)
        fresh.append([row[0] for row in stepped(single, fall, total - at)])
        ramp = 1 if name == "head" else 5
        start = 0 if name == "head" else ramp
        column = list(PEAKS).index(name)
        assert [row[column] for row in after[start:]] == pytest.approx(fresh[-1][start:])
    for step in range(5):
        assert after[step][0] == pytest.approx(fresh[0][step] * step / 5, abs=1e-12)


def test_onecycle_with_an_unfreezing_equals_onecycle_without_for_the_head():
    params = RateParams(schedule="onecycle")
    whole = RateCurve(params, PEAKS, 100, 10)
    broken = RateCurve(params, PEAKS, 100, 10, trainable=())
    expected = [whole.share("head", step) for step in range(100)]
    found = []
    for step in range(100):
        if step in (30, 70, 99):
            broken.unfrozen(step, {30: ["block_2"], 70: ["block_1"], 99: ["block_1"]}[step])
        found.append(broken.share("head", step))
    assert found == expected
    assert broken.share("block_2", 40) == whole.share("block_2", 40)
