"""Names of cards and targets alone tell whether torch has code for a card."""

import pytest

from hbn_foundation.training.device_architecture import (
    check_amd,
    check_nvidia,
    runs_on_amd,
    runs_on_nvidia,
)


@pytest.mark.parametrize(
    ("capability", "targets", "expected"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((12, 0), ["sm_90"], False),  # later cards do not run earlier cards' code
        ((9, 0), ["compute_80"], True),  # but the driver translates PTX for them
        ((8, 6), ["sm_80"], True),  # a later minor version of the same card
        ((8, 0), ["sm_86"], False),
        ((7, 5), ["sm_80", "compute_80"], False),
        ((9, 0), ["sm_90a"], True),  # a letter binds code to one card or one family
        ((12, 0), ["compute_90a"], False),
        ((10, 3), ["sm_100f"], True),
        ((12, 1), ["sm_100", "sm_120"], True),
        ((12, 0), ["compute_100f"], False),
        ((9, 0), ["gfx90a"], False),
    ],
)
def test_nvidia_cards_run_their_own_code_and_later_translations(capability, targets, expected):
    assert runs_on_nvidia(capability, targets) is expected


@pytest.mark.parametrize(
    ("card", "targets", "expected"),
    [
        ("gfx1100", ["gfx906", "gfx1100"], True),
        ("gfx1103", ["gfx1100"], False),
        ("gfx90a:sramecc+:xnack-", ["gfx90a"], True),
        ("gfx90a:sramecc+:xnack-", ["gfx90a:xnack-"], True),
        ("gfx90a", ["gfx900", "gfx906"], False),
        ("gfx1103", ["gfx11-generic"], True),
        ("gfx1035", ["gfx10-3-generic"], True),
        ("gfx1010", ["gfx10-3-generic"], False),
    ],
)
def test_amd_cards_run_their_own_code_and_their_familys(card, targets, expected):
    assert runs_on_amd(card, targets) is expected


def test_the_reason_names_card_and_targets_in_one_line():
    reason = check_nvidia((12, 0), ["sm_80", "sm_90"])
    assert reason == "the card is sm_120, but this torch was built for sm_80, sm_90"
    assert check_nvidia((9, 0), ["sm_90"]) is None


def test_without_a_list_the_training_step_decides():
    assert check_nvidia((9, 0), []) is None
    assert check_amd("gfx1103", [], {}) == (None, [])


def test_an_amd_mismatch_mentions_the_override_and_does_not_set_it():
    environment: dict[str, str] = {}
    reason, warnings = check_amd("gfx1103", ["gfx1100"], environment)
    assert reason is not None
    assert "gfx1103" in reason
    assert len(warnings) == 1
    assert "HSA_OVERRIDE_GFX_VERSION" in warnings[0]
    assert "not set for you" in warnings[0]
    assert environment == {}


def test_an_override_that_is_set_is_warned_about():
    reason, warnings = check_amd("gfx1100", ["gfx1100"], {"HSA_OVERRIDE_GFX_VERSION": "11.0.0"})
    assert reason is None
    assert warnings == [
        "HSA_OVERRIDE_GFX_VERSION=11.0.0 makes the card pass for another; "
        "results may be wrong, and the GPU may hang"
    ]
