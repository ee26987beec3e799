"""Windows in volts: which channels count, which numbers come out, and that nothing is kept."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hbn_foundation.models.challenge import (
    ChallengeModel,
    ReorderChannels,
    describe,
    make_model,
)
from hbn_foundation.models.voltage import VoltageInput
from hbn_foundation.training.model_params import HeadParams
from small_models import N_CHANNELS, N_SAMPLES, input_config, make_finetuned, small_encoder

SCALES = torch.linspace(5e-6, 20e-6, N_CHANNELS)


def some_volts(n=4, seed=0):
    random = torch.Generator().manual_seed(seed)
    return SCALES[:, None] * torch.randn(n, N_CHANNELS, N_SAMPLES, generator=random)


def some_input(reference=None, **rules):
    made = VoltageInput(input_config(N_CHANNELS, reference, **rules))
    made.scale.copy_(SCALES)
    return made


def test_each_channel_has_its_own_scale_no_mean_and_no_extremes():
    volts = some_volts() + 30e-6
    signals, mask = some_input()(volts)
    assert mask.all()
    centred = volts - volts.mean(-1, keepdim=True)
    torch.testing.assert_close(signals, centred / SCALES[:, None], atol=1e-4, rtol=1e-4)
    volts[0, 0, 10] = 2e-4
    assert some_input(clip=6.0)(volts)[0].abs().max() == 6.0


@pytest.mark.parametrize("window_gain", [False, True])
def test_flat_wild_broken_and_hidden_channels_are_not_used(window_gain):
    volts = some_volts()
    volts[0, 1] = 40e-6  # flat, though not at zero
    volts[1, 2] *= 30
    volts[2, 3, 7] = torch.nan
    volts[2, 4, 8] = torch.inf
    present = torch.ones(4, N_CHANNELS, dtype=torch.bool)
    present[3, 5] = False
    signals, mask = some_input(window_gain=window_gain)(volts, present)
    lost = [(0, 1), (1, 2), (2, 3), (2, 4), (3, 5)]
    assert (~mask).nonzero().tolist() == [list(place) for place in lost]
    assert signals.isfinite().all()
    assert not signals[~mask].any()


def test_the_typical_level_is_the_median_of_the_usable_channels():
    """Of an even number the lower one; `nanmedian` is refused where all is to be deterministic."""
    volts = some_volts(64, 1) * torch.logspace(-0.3, 0.3, 64)[:, None, None]
    given = torch.rand(64, N_CHANNELS) > 0.4
    made = some_input(wild=2.0)
    _, usable = made(volts, given)
    signals = (volts - volts.mean(-1, keepdim=True)) / SCALES[:, None]
    level = signals.abs().mean(-1)
    typical = level.masked_fill(~given, torch.nan).nanmedian(1, keepdim=True).values
    assert torch.equal(usable, given & (level <= 2.0 * typical))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "nanmedian", None)
        made(volts, given)


def test_a_gain_of_the_whole_window_is_taken_out_where_that_is_wanted():
    volts = some_volts()
    plain, gained = some_input(), some_input(window_gain=True)
    torch.testing.assert_close(gained(volts)[0], gained(3 * volts)[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(3 * plain(volts)[0], plain(3 * volts)[0], atol=1e-4, rtol=1e-4)
    # of Gaussian windows the gain is one
    torch.testing.assert_close(gained(volts)[0], plain(volts)[0], atol=0.3, rtol=0.1)


def test_a_missing_reference_is_put_in_as_flat():
    place = 5
    volts = some_volts()
    volts[:, place] = 0
    rest = torch.cat([volts[:, :place], volts[:, place + 1 :]], 1)
    whole, without = some_input(place)(volts), some_input(place)(rest)
    assert torch.equal(whole[0], without[0])
    assert torch.equal(whole[1], without[1])
    assert not whole[1][:, place].any()


@pytest.mark.parametrize("n_channels", [N_CHANNELS - 2, N_CHANNELS + 1])
def test_other_numbers_of_channels_are_refused(n_channels):
    with pytest.raises(ValueError, match=f"{n_channels} channels; expected {N_CHANNELS}"):
        some_input(3)(torch.zeros(1, n_channels, N_SAMPLES))
    with pytest.raises(ValueError, match="expected"):
        some_input(None)(torch.zeros(1, N_CHANNELS - 1, N_SAMPLES))


@settings(max_examples=20)
@given(
    st.floats(1e-3, 1e3), st.integers(0, N_CHANNELS - 1), st.sampled_from([0.0, 1e30, float("nan")])
)
def test_whatever_comes_numbers_come_out(gain, channel, value):
    volts = gain * some_volts(2)
    volts[0, channel] = value
    volts[1] = 0  # a window without any channel
    for window_gain in (False, True):
        signals, mask = some_input(window_gain=window_gain)(volts)
        assert signals.isfinite().all()
        assert not mask[1].any()
        assert not signals[~mask].any()
        assert signals.abs().max() <= 15


def challenge_model(positions, limits=(0.5, 2.5), reference=N_CHANNELS - 1, **head):
    volts = some_input(reference)
    params = HeadParams(**(head or {"kind": "distribution", "bins": 10}))
    model = make_finetuned(small_encoder("band", "time"), params, 1, False, input=volts)
    nn.init.normal_(model.head.output.linear.weight, std=3.0)
    return ChallengeModel(model, positions, "main", limits).eval()


def test_one_value_per_window_within_its_limits(positions):
    values = challenge_model(positions, limits=(1.4, 1.6))(some_volts(32)).detach()
    assert values.shape == (32, 1)
    assert float(values.min()) == pytest.approx(1.4)
    assert float(values.max()) == pytest.approx(1.6)
    free = challenge_model(positions)(some_volts(32))
    assert ((free > 1.4) & (free < 1.6)).any()
    torch.testing.assert_close(values, free.clamp(1.4, 1.6))


def test_no_window_knows_of_another_or_of_an_earlier_one(positions):
    model, volts = challenge_model(positions), some_volts(6)
    with torch.inference_mode():
        together = model(volts)
        model(100 * some_volts(3, seed=1))
        alone = torch.cat([model(volts[i : i + 1]) for i in reversed(range(6))]).flip(0)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


def test_it_says_what_the_model_says_of_prepared_windows(positions):
    model, volts = challenge_model(positions, limits=None), some_volts()
    with torch.inference_mode():
        signals, mask = model.input(volts)
        outputs = model.model(signals, positions, mask)
        assert torch.equal(model.model.value(outputs)[:, None], model(volts))
        volts[:, -1] = 0  # with and without the reference
        assert torch.equal(model(volts), model(volts[:, :-1]))


def test_a_model_of_the_stores_signals_is_refused(positions):
    model = make_finetuned(small_encoder("band"), HeadParams(), 1, False)
    with pytest.raises(ValueError, match="takes volts"):
        ChallengeModel(model, positions, "main")


@pytest.mark.parametrize("head", [{}, {"kind": "mlp", "pooling": "mean_std"}, {"start": "zeros"}])
@pytest.mark.parametrize("reordered", [False, True])
def test_a_described_model_is_made_again(positions, head, reordered):
    model = challenge_model(positions, None if head else (0.5, 2.5), **head)
    if reordered:
        model = ReorderChannels(model, [*range(1, N_CHANNELS), -1], N_CHANNELS).eval()
    copied = make_model(json.loads(json.dumps(describe(model))))
    copied.load_state_dict(model.state_dict())
    assert torch.equal(copied.eval()(some_volts()), model(some_volts()))
