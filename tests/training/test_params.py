"""Parameters as they arrive from YAML and from the command line."""

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.training.params import TrainerParams


@pytest.mark.parametrize(
    ("given", "taken"),
    [("auto", "auto"), (False, False), ("false", False), ("False", False)],
)
def test_resume_takes_auto_or_false(given, taken):
    assert TrainerParams.model_validate({"resume": given}).resume == taken


@pytest.mark.parametrize("given", [True, "true", "run-1", None])
def test_resume_is_nothing_else(given):
    with pytest.raises(UserError, match=r"resume=.*: expected auto or false"):
        TrainerParams.model_validate({"resume": given})


def test_a_switch_is_no_number():
    with pytest.raises(UserError, match="epochs=True: expected no true or false"):
        TrainerParams.model_validate({"epochs": True})


@pytest.mark.parametrize("given", [0, -1, 2.5, "some", True, None])
def test_checkpoints_kept_are_all_or_a_number(given):
    with pytest.raises(UserError, match=f"checkpoint_keep={given!r}: expected"):
        TrainerParams.model_validate({"checkpoint_keep": given})
    with pytest.raises(
        UserError, match="keep_last=3: this parameter is now called checkpoint_keep"
    ):
        TrainerParams.model_validate({"keep_last": 3})
