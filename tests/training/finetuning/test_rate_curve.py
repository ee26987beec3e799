"""What holds for every curve: preservation, ramps, floors, resumes."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.training.finetuning_params import RateParams
from hbn_foundation.training.rates import RateCurve, for_scratch, peaks
from hbn_foundation.training.unfreezing import Block

PEAKS = {"block_1": 1e-5, "block_2": 1e-4, "head": 1e-3}
SCHEDULES = ["cosine", "onecycle", "reduce_on_plateau", "constant", "linear_warmup_cosine"]


def test_peaks_fall_with_the_distance_from_the_head():
    blocks = [Block(name, 1) for name in ("a", "b", "c", "head")]
    found = peaks(blocks, RateParams(head_lr=2e-3, layer_decay=0.5))
    assert list(found) == ["a", "b", "c", "head"]
    assert found == pytest.approx({"a": 5e-5, "b": 1e-4, "c": 2e-4, "head": 2e-3})
    given_rate = peaks(blocks, RateParams(backbone_lr=3e-6, backbone_lr_factor=0.05))
    assert given_rate["c"] == 3e-6
    assert peaks(blocks, RateParams(backbone_lr_factor=0.05))["a"] == pytest.approx(5e-5)
    assert peaks([Block("head", 1)], RateParams()) == {"head": 1e-3}
    assert set(peaks(blocks, for_scratch(RateParams(layer_decay=0.5))).values()) == {1e-3}


@pytest.mark.parametrize(("reached", "after"), [(0.5, 0.5), (0.1, 0.1), (0.099, 1.0)])
@pytest.mark.parametrize("schedule", ["cosine", "linear_warmup_cosine"])
def test_a_rate_below_a_tenth_goes_back_to_the_peak_at_an_unfreezing(schedule, reached, after):
    params = RateParams(schedule=schedule, min_lr_ratio=0, warmup_share=0)
    total = 1_000_000
    # The last step at which the cosine is not below what is to be reached.
    step = math.floor(total * math.acos(2 * reached - 1) / math.pi)
    curve = RateCurve(params, PEAKS, total, 100, trainable=())
    assert curve.share("head", step) == pytest.approx(reached, abs=1e-5)
    curve.unfrozen(step, ["block_1", "block_2"])
    assert curve.share("head", step) == pytest.approx(after, abs=1e-5)
    assert curve.rate("block_2", step + 50) == pytest.approx(after * 1e-4, rel=1e-3)
    assert curve.share("head", total) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("factor", "after"), [(0.5, 0.5), (0.1, 0.1), (0.099, 1.0), (0.0999999, 1.0)]
)
def test_so_does_one_that_was_reduced_on_a_plateau(factor, after):
    params = RateParams(schedule="reduce_on_plateau", plateau_factor=factor, plateau_patience=0)
    curve = RateCurve(params, PEAKS, 100, 10)
    curve.plateau(1.0)
    curve.plateau(1.0)
    assert curve.share("head", 20) == factor
    curve.unfrozen(20, ["block_1"])
    assert curve.share("head", 20) == after


@pytest.mark.parametrize("schedule", ["onecycle", "constant"])
def test_onecycle_and_constant_rates_are_left_alone(schedule):
    curve = RateCurve(RateParams(schedule=schedule), PEAKS, 100, 10)
    before = [curve.share("head", step) for step in range(100)]
    curve.unfrozen(95, ["block_1"])
    assert [curve.share("head", step) for step in range(100)] == before


def test_an_unfreezing_begins_the_count_of_a_plateau_anew():
    params = RateParams(schedule="reduce_on_plateau", plateau_patience=2)
    curve = RateCurve(params, PEAKS, 100, 10)
    for value in (1.0, 2.0, 2.0):
        curve.plateau(value)
    curve.unfrozen(30, ["block_2"])
    curve.plateau(2.0)
    curve.plateau(2.0)
    assert curve.share("head", 50) == 1.0
    curve.plateau(2.0)
    assert curve.share("head", 60) == 0.5


def test_an_unfreezing_within_the_warm_up_leaves_it_as_it_is():
    params = RateParams(schedule="linear_warmup_cosine", warmup_share=0.2)
    curve, whole = (RateCurve(params, PEAKS, 100, 10) for _ in range(2))
    curve.unfrozen(3, ["block_2"])
    assert [curve.share("head", step) for step in range(101)] == [
        whole.share("head", step) for step in range(101)
    ]


def test_unfrozen_blocks_ramp_up_from_nothing():
    curve = RateCurve(RateParams(schedule="constant", ramp_epochs=0.5), PEAKS, 100, 8, ())
    curve.unfrozen(20, ["block_2"])
    assert [curve.share("block_2", step) for step in (19, 20, 21, 22, 23, 24, 25)] == [
        0, 0, 0.25, 0.5, 0.75, 1, 1,
    ]  # fmt: skip
    assert curve.share("block_1", 50) == 0
    assert curve.share("head", 20) == 1
    at_once = RateCurve(RateParams(schedule="constant", ramp_epochs=0), PEAKS, 100, 8, ())
    at_once.unfrozen(20, ["block_2"])
    assert [at_once.share("block_2", step) for step in (19, 20)] == [0, 1]


def test_blocks_trained_from_the_start_have_no_ramp():
    params = RateParams(schedule="constant")
    first = RateCurve(params, PEAKS, 100, 10, trainable=("block_2",))
    second = RateCurve(params, PEAKS, 100, 10, trainable=())
    second.unfrozen(0, ["block_2"])
    for step in (0, 1, 50):
        assert first.share("block_2", step) == second.share("block_2", step) == 1
        assert first.share("block_1", step) == second.share("block_1", step) == 0


def test_what_is_recorded_twice_counts_once():
    curve = RateCurve(RateParams(), PEAKS, 100, 10, trainable=("block_1",))
    curve.unfrozen(40, ["block_2"])
    before = curve.state_dict()
    curve.unfrozen(40, ["block_2"])
    curve.unfrozen(70, ["block_2", "block_1", "head"])
    assert curve.state_dict() == before


def test_wrong_events_are_errors_of_the_program():
    curve = RateCurve(RateParams(), PEAKS, 100, 10)
    with pytest.raises(ValueError, match="block_9"):
        curve.unfrozen(3, ["block_9"])
    curve.unfrozen(30, ["block_2"])
    with pytest.raises(ValueError, match="step 30"):
        curve.unfrozen(20, ["block_1"])


def test_an_unfreezing_changes_nothing_before_it():
    curve = RateCurve(RateParams(), PEAKS, 100, 10, trainable=())
    before = [curve.share("head", step) for step in range(81)]
    curve.unfrozen(81, ["block_2"])
    assert before[80] < 0.11
    assert curve.share("head", 81) == 1.0
    assert [curve.share("head", step) for step in range(81)] == before


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
    made = (params, peaks(blocks, params), total, steps_per_epoch, ("c",) if told else None)
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
                rising = params.schedule == "onecycle" or step < curve.warmup_steps + 1
                ramping = step <= unfrozen_at.get(name, -math.inf) + curve.ramp_steps
                switching = step in unfrozen_at.values()
                if name in before and not (rising or ramping or switching):
                    assert rate <= before[name] * (1 + 1e-9), "only down, so never up to a floor"
                if params.schedule != "onecycle" and not ramping and name == "head" and not rising:
                    assert rate >= params.min_lr_ratio * curve.peaks[name] * (1 - 1e-9)
            before = rates
        curve.plateau(values[epoch])
        resumed.plateau(values[epoch])
        names = [name for name in unfreezings.get(epoch, ()) if name not in unfrozen_at]
        if names:
            step = (epoch + 1) * steps_per_epoch
            level = curve.share("head", step)
            curve.unfrozen(step, names)
            resumed.unfrozen(step, names)
            unfrozen_at |= dict.fromkeys(names, step)
            if params.schedule not in ("onecycle", "constant") and step >= curve.warmup_steps:
                moved = any(name != "c" or not told for name in names)
                kept = 1.0 if moved and level < params.preserve_below else level
                assert curve.share("head", step) == pytest.approx(kept)
        state = json.dumps(curve.state_dict(), allow_nan=False)
        resumed = RateCurve(*made)
        resumed.load_state_dict(json.loads(state))
