"""Faults to order: what a text means, and when they strike."""

import math

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.training.supervision.faults import (
    KINDS,
    Fault,
    InjectedError,
)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_can_be_ordered_or_none(kind):
    assert Fault.parse(f"{kind}@12") == Fault(kind, 12, None)
    assert Fault.parse(f"{kind}@12*3") == Fault(kind, 12, 3)
    assert Fault.parse("") is Fault.parse(None) is None


@pytest.mark.parametrize("text", ["hang", "hang@0", "hang@", "hung@3", "hang@3*", "hang@-1", "x"])
def test_anything_else_is_refused_in_one_line(text):
    with pytest.raises(UserError, match=r"^fault: found .*hang_gil") as caught:
        Fault.parse(text)
    assert repr(text) in str(caught.value)


def test_without_a_number_it_strikes_at_its_step_on_any_device_but_the_cpu():
    fault = Fault.parse("hang@3")
    due = [step for step in range(1, 9) if fault.due(step, "simulated", injected=5)]
    assert due == [3]
    assert not fault.due(3, "cpu", injected=0)


def test_with_a_number_it_strikes_so_often_on_any_device():
    fault = Fault.parse("kill@3*2")
    assert [fault.due(4, "cpu", injected) for injected in range(4)] == [True, True, False, False]
    assert not fault.due(2, "cpu", 0)


def test_memory_is_short_until_the_micro_batch_is_a_quarter():
    fault = Fault.parse("oom@3")
    assert fault.due(7, "cpu", injected=9)
    for share in (1.0, 0.5):
        with pytest.raises(InjectedError, match="out of memory"):
            fault.inject(share)
    fault.inject(0.25)


def test_an_error_is_raised_and_nan_leaves_it_to_the_step():
    with pytest.raises(InjectedError):
        Fault.parse("error@1").inject()
    Fault.parse("nan@1").inject(math.inf)
