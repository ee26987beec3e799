"""A time as a distribution: where it begins, what each token says, what is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hbn_foundation.errors import UserError
from hbn_foundation.models.outputs import soft_bins
from hbn_foundation.training.model_params import HeadParams
from small_models import make_finetuned, make_head, small_encoder

N_TOKENS, N_TIME, DIM = 13, 10, 12
BINS = torch.linspace(0.525, 2.475, 40)


def some_head(n_time=N_TIME, classification=False, **more):
    torch.manual_seed(0)
    params = HeadParams(kind="distribution", **more)
    return make_head(params, N_TOKENS, DIM, 1, classification, n_time)


def some_tokens(n=6):
    return torch.randn(n, N_TOKENS, DIM, generator=torch.Generator().manual_seed(1))


@given(st.lists(st.floats(-1, 4), min_size=1, max_size=5), st.floats(0.01, 1))
def test_soft_bins_are_shares_around_their_value(values, spread):
    shares = soft_bins(torch.tensor(values), BINS, spread)
    torch.testing.assert_close(shares.sum(1), torch.ones(len(values)))
    nearest = (torch.tensor(values)[:, None] - BINS).abs().argmin(1)
    at_most = shares.max(1).values
    torch.testing.assert_close(shares[torch.arange(len(values)), nearest], at_most)


def test_bins_divide_the_window():
    torch.testing.assert_close(some_head().output.bins, BINS)
    bins = some_head(bins=20, earliest=0.0, latest=1.0).output.bins
    torch.testing.assert_close(bins, (torch.arange(20) + 0.5) / 20)


def test_it_begins_at_the_training_values():
    head = some_head().eval()
    times = 1.6 + 0.3 * torch.randn(500, generator=torch.Generator().manual_seed(2))
    head.set_unit(1.6, 0.4)
    head.output.fit_prior(times, 0.12)
    outputs = head(some_tokens())
    assert outputs.shape == (6, 40)
    torch.testing.assert_close(head.value(outputs), times.mean().expand(6), atol=0.02, rtol=0)
    assert torch.equal(outputs[0], outputs[1])
    spread = (outputs.softmax(1) * (BINS - times.mean()).square()).sum(1).sqrt()
    assert float(spread[0]) == pytest.approx((0.3**2 + (2 * 0.06) ** 2) ** 0.5, abs=0.02)


def test_a_token_speaks_for_its_own_stretch_only():
    head = some_head().eval()
    nn.init.normal_(head.output.linear.weight)
    tokens = some_tokens()
    before = head(tokens)
    moved = tokens.clone()
    moved[:, -3] += 1.0  # the eighth of ten stretches
    changed = (head(moved) != before).any(0).nonzero().flatten().tolist()
    assert changed == [28, 29, 30, 31]
    moved[:, : N_TOKENS - N_TIME] += 1.0  # other families of tokens
    assert (head(moved) != before).any(0).sum() == 4


def test_one_map_for_all_stretches():
    head = some_head().eval()
    nn.init.normal_(head.output.linear.weight)
    tokens = some_tokens(1)
    logits = head(tokens).view(N_TIME, 4)
    turned = torch.cat([tokens[:, :-N_TIME], tokens[:, -N_TIME:].flip(1)], 1)
    torch.testing.assert_close(head(turned).view(N_TIME, 4), logits.flip(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classification": True}, "a label of classes has no time"),
        ({"bins": 39}, "39 bins cannot be shared out among 5 time tokens"),
        ({"margin": "cosface"}, "a margin is between classes"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    classification = options.pop("classification", False)
    params = HeadParams(kind="distribution", **options)
    with pytest.raises(UserError, match=message):
        make_finetuned(small_encoder("band", "time"), params, 1, classification)


def test_a_distribution_needs_time_tokens():
    with pytest.raises(UserError, match="reads time tokens, and there are none"):
        make_finetuned(small_encoder("band"), HeadParams(kind="distribution"), 1, False)


def test_times_move_with_their_window_by_default():
    assert HeadParams(kind="distribution").is_time
    assert not HeadParams().is_time
    assert HeadParams(moves=True).is_time
    with pytest.raises(ValueError, match=r"earliest 2.0 must be below latest 1.0"):
        HeadParams(earliest=2, latest=1)
