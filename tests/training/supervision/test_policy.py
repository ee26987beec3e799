"""The rules: what is silence, and what is tried next."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbn_foundation.training.supervision import heartbeat
from hbn_foundation.training.supervision.heartbeat import Beat
from hbn_foundation.training.supervision.incidents import DEVICE, OUT_OF_MEMORY
from hbn_foundation.training.supervision.params import SupervisionParams
from hbn_foundation.training.supervision.policy import (
    DIED,
    SILENT,
    Restarts,
    halve,
    silence_limit,
)


@pytest.mark.parametrize(
    ("section", "median", "limit"),
    [
        (heartbeat.START, None, 300),
        (heartbeat.FIRST_STEP, None, 600),
        (heartbeat.STEP, None, 30),
        (heartbeat.STEP, 0.1, 30),
        (heartbeat.STEP, 4.0, 80),  # a slow step may take longer
        (heartbeat.EVALUATION, 4.0, 300),
        (heartbeat.CHECKPOINT, None, 300),
        (heartbeat.END, None, 300),
    ],
)
def test_each_section_has_its_limit(section, median, limit):
    assert silence_limit(Beat(section=section, median_step=median), SupervisionParams()) == limit


@pytest.mark.parametrize(
    ("progressed", "abandoned", "first"),
    [
        (True, False, "restart on cuda"),
        (False, False, "restart on cpu"),
        (True, True, "restart on cpu"),
    ],
)
def test_a_device_with_progress_gets_one_more_try_unless_a_child_is_left_there(
    progressed, abandoned, first
):
    restarts = Restarts("cuda", 96, 3)
    assert restarts.after(SILENT, progressed, abandoned).startswith(first)
    restarts.after(SILENT, progressed=True)
    assert restarts.device == "cpu"


def test_progress_forgives_the_restarts_before():
    restarts = Restarts("cpu", 96, 3)
    for _ in range(5):
        assert [restarts.after(DIED, progressed=False) is None for _ in range(3)] == [False] * 3
        assert restarts.after(DIED, progressed=True) is not None
    results = [restarts.after(DIED, progressed=False) for _ in range(4)]
    assert [result is None for result in results] == [False, False, False, True]


def test_memory_is_halved_to_one_window_then_the_cpu_takes_over():
    restarts = Restarts("cuda", 96, 3)
    sizes = []
    while restarts.device == "cuda":
        assert restarts.after(OUT_OF_MEMORY, progressed=False) is not None
        sizes.append(restarts.micro_batch)
    assert sizes == [48, 24, 12, 6, 3, 2, 1, None]
    assert restarts.without_progress == 1


def test_too_little_memory_in_an_evaluation_leaves_the_training_batch():
    restarts = Restarts("cuda", 96, 3)
    for size in (128, 64):
        action = restarts.after(OUT_OF_MEMORY, False, section=heartbeat.EVALUATION)
        assert action == f"restart on cuda, evaluating {size} windows at once"
        assert (restarts.evaluation_batch, restarts.micro_batch) == (size, None)
    restarts.after(OUT_OF_MEMORY, False)
    assert (restarts.evaluation_batch, restarts.micro_batch) == (64, 48)
    last = Restarts("cpu", 4, 3)
    assert [last.after(OUT_OF_MEMORY, False) is None for _ in range(3)] == [False, False, True]


@given(st.integers(1, 5000))
def test_halving_ends_at_one_window(batch):
    seen = [batch]
    while (size := halve(seen[-1])) is not None:
        seen.append(size)
    assert seen[-1] == 1
    assert all(after <= (before + 1) / 2 for before, after in itertools.pairwise(seen))


@given(st.lists(st.tuples(st.sampled_from([SILENT, DIED, DEVICE, OUT_OF_MEMORY]), st.booleans())))
def test_it_never_returns_to_a_device_that_was_left(incidents):
    restarts, left = Restarts("cuda", 8, 3), False
    for kind, progressed in incidents:
        if restarts.after(kind, progressed) is None:
            break
        left = left or restarts.device == "cpu"
        assert restarts.device == ("cpu" if left else "cuda")
