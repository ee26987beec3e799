"""What a person sees of an experiment on its way."""

import pytest
from job_stand_in import make_plan

from hbn_foundation.experiments.job import BLOCKED, DONE, FAILED, KEPT, Outcome
from hbn_foundation.experiments.live import Live
from hbn_foundation.training.supervision.link import Link

OUTCOMES = {
    "base-a": Outcome(DONE, seconds=30.0),
    "base-b": Outcome(KEPT),
    "base-c": Outcome(FAILED, "an error"),
    "finetune-a": Outcome(DONE, seconds=4.0),
    "finetune-b": Outcome(DONE, seconds=8.0),
    "finetune-c": Outcome(BLOCKED),
}


@pytest.fixture
def live(tmp_path):
    found = Live("sweep", make_plan(3, 3).jobs, tmp_path)
    found.begin(2)
    yield found
    found.close()


def test_a_line_counts_and_says_how_long_the_rest_takes(live):
    """Six fine-tunings of six seconds are left for two workers."""
    live.show(OUTCOMES, {"finetune-d"})
    assert live.line() == (
        "sweep: bases 2 of 3, fine-tunings 2 of 9; 1 failed; 1 blocked; about 18 s left"
    )


def test_nothing_is_promised_before_anything_is_done(live):
    live.show({name: one for name, one in OUTCOMES.items() if name.startswith("base")}, set())
    assert "left" not in live.line()


def test_the_epoch_of_a_job_under_way_is_told(live, tmp_path):
    (tmp_path / "finetune-d").mkdir()
    beat = Link(tmp_path / "finetune-d")
    beat.beat("step", steps=10, step=5, epoch=2, epochs=4, seconds_left=2.0)
    live.show(OUTCOMES, {"finetune-d", "finetune-e"})
    assert "; finetune-d epoch 2/4; about 16 s left" in live.line()
