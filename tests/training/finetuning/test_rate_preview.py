"""The table of learning rates drawn before training is what training will do."""

import numpy as np
import pytest
from finetuning_plan_runs import BLOCKS, NAMES

from hbn_foundation.errors import UserError
from hbn_foundation.training.finetuning_params import PlanParams, RateParams
from hbn_foundation.training.plans import PLANS
from hbn_foundation.training.preview import preview_rates
from hbn_foundation.training.rates import RateCurve, peaks


def test_two_phases_as_trained():
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
    assert (table["rate"][~table["trained"]] == 0).all()


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
    shares = {"head_only": 1, "partial": 4}
    assert counts.iloc[-1] == shares.get(strategy, len(NAMES))
    assert len(table) == 20 * 20 * len(BLOCKS), "a long run is thinned out"


def test_from_scratch_all_blocks_have_the_heads_rate():
    table = preview_rates(PlanParams(strategy="scratch"), RateParams(), BLOCKS, 3, 10)
    assert (table.groupby("step")["rate"].nunique() == 1).all()


def test_a_plan_that_cannot_be_carried_out_is_refused():
    with pytest.raises(UserError, match="phase1_epochs"):
        preview_rates(PlanParams(), RateParams(), BLOCKS, 3, 10)
