"""Parameters of the model: what does not go together, and defaults that depend on others."""

import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.training.model_params import EncoderParams, HeadParams, TimeTokenParams


@pytest.mark.parametrize(
    ("group", "values", "message"),
    [
        (EncoderParams, {"hidden_dim": 30}, "divisible by n_heads"),
        (EncoderParams, {"tokens": ("band", "band")}, "must not repeat"),
        (EncoderParams, {"tokens": ()}, "at least 1"),
        (EncoderParams, {"tokens": ("wavelet",)}, "band"),
        (EncoderParams, {"band": {"edges": ((8.0, 4.0),)}}, "0 ≤ low < high"),
        (TimeTokenParams, {"kernel": 4}, "kernel 4 must be odd"),
        (TimeTokenParams, {"n_whitened": 20, "n_frequencies": 8}, "n_whitened 20 exceeds the 16"),
        (HeadParams, {"earliest": 2, "latest": 1}, "earliest 2.0 must be below latest 1.0"),
        (HeadParams, {"pooling": "max"}, "pooling"),
        (HeadParams, {"margin_size": -0.1}, "margin_size"),
        (HeadParams, {"marign": "cosface"}, "did you mean margin"),
    ],
)
def test_wrong_values_are_one_line(group, values, message):
    with pytest.raises(UserError, match=message) as info:
        group.model_validate(values)
    assert "\n" not in str(info.value)


def test_defaults_that_depend_on_others():
    assert HeadParams(kind="distribution").is_time
    assert not HeadParams().is_time
    assert HeadParams(moves=True).is_time
    assert HeadParams().full_margin == 0
    assert HeadParams(margin="arcface").full_margin == 0.3
    assert HeadParams(margin="arcface", margin_size=0.5).full_margin == 0.5


def test_encoders_with_arguments_of_their_own_are_told_apart():
    """A sweep checks each encoder once."""
    one, other = (EncoderParams(hidden_dim=dim) for dim in (64, 128))
    assert len({one, other, EncoderParams(hidden_dim=64)}) == 2
