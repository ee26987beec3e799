"""Heads of every kind: shapes, their first outputs, their features, and what they refuse."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.models.attenuation import Attenuation
from hbn_foundation.training.model_params import HeadParams
from small_models import make_head

N_TOKENS, DIM = 5, 12
POOLINGS = {"concat": 60, "mean": 12, "mean_std": 24, "attention": 12}
KINDS = list(itertools.product(POOLINGS, ["linear", "mlp"], ["none", "cosface", "arcface"]))


def some_head(pooling="concat", kind="linear", margin="none", n_tokens=N_TOKENS):
    torch.manual_seed(0)
    params = HeadParams(pooling=pooling, kind=kind, margin=margin, hidden_dim=7)
    return make_head(params, n_tokens, DIM, 3, classification=True)


def some_tokens(n=6, seed=1, n_tokens=N_TOKENS):
    return torch.randn(n, n_tokens, DIM, generator=torch.Generator().manual_seed(seed))


def stir(head):
    """Give every parameter, the zeros too, a value of its own."""
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=random))
    return head


@pytest.mark.parametrize(("pooling", "kind", "margin"), KINDS)
@pytest.mark.parametrize("n_tokens", [1, N_TOKENS])
def test_shapes_gradients_and_batches(pooling, kind, margin, n_tokens):
    head = some_head(pooling, kind, margin, n_tokens)
    tokens = some_tokens(n_tokens=n_tokens).requires_grad_()
    assert margin != "none" or not head(tokens).any()  # without a margin it starts at zero
    stir(head)
    if n_tokens > 1:
        assert head.features(tokens).shape == (6, POOLINGS[pooling] if kind == "linear" else 7)
    head(tokens, torch.arange(6) % 3).logsumexp(1).sum().backward()
    for name, value in [*head.named_parameters(), ("tokens", tokens)]:
        assert value.grad.isfinite().all(), name
        assert value.grad.any() or n_tokens == 1, name
    among_others = torch.cat([1e3 * some_tokens(9, 2, n_tokens), tokens])
    outputs = head.eval()(tokens)
    assert outputs.shape == (6, 3)
    torch.testing.assert_close(head(among_others)[9:], outputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(tokens).dtype == torch.float32


def test_poolings_against_plain_formulas():
    tokens = some_tokens()
    assert torch.equal(some_head("concat").pooling(tokens)[:, DIM : 2 * DIM], tokens[:, 1])
    torch.testing.assert_close(some_head("mean").pooling(tokens), tokens.mean(1))
    expected = torch.cat([tokens.mean(1), tokens.std(1, correction=0)], 1)
    torch.testing.assert_close(some_head("mean_std").pooling(tokens), expected, rtol=1e-4, atol=0)
    attention = some_head("attention").pooling
    torch.testing.assert_close(attention(tokens), tokens.mean(1))
    with torch.no_grad():
        attention.query.copy_(1e4 * tokens[0, 3])
    assert attention.weights(tokens)[0].argmax() == (tokens[0] @ tokens[0, 3]).argmax()
    torch.testing.assert_close(attention.weights(tokens).sum(1), torch.ones(6))


def test_the_centre_and_the_scale_are_taken_from_the_pooled_tokens():
    head, tokens = some_head("mean"), some_tokens()
    head.centre.fill_(2.0)
    head.scale.fill_(4.0)
    torch.testing.assert_close(head.features(tokens), (tokens.mean(1) - 2) / 4)


def test_what_a_regression_has_not():
    for values, message in [
        ({"margin": "arcface"}, r"head\.margin='arcface'.*none for a regression"),
        ({"subject_attenuation": 50}, r"head.subject_attenuation=50: .* expected 0 or null"),
    ]:
        with pytest.raises(UserError, match=message):
            make_head(HeadParams(**values), N_TOKENS, DIM, 1, classification=False)
    head = make_head(HeadParams(), N_TOKENS, DIM, 1, classification=False)
    assert head(some_tokens()).shape == (6, 1)
    assert head.config.attenuation == 0


def test_differences_between_subjects_are_scaled_down_in_every_output():
    head, tokens = stir(some_head("mean")).eval(), some_tokens()
    assert head.config.attenuation == 300
    before = head.features(tokens)
    head.attenuation.fit(torch.eye(DIM)[:1] * 4, torch.ones(1), 300.0)
    after = head.features(tokens)
    assert (after[:, 0].abs() < 0.1 * before[:, 0].abs() + 1e-6).all()
    torch.testing.assert_close(after[:, 1:], before[:, 1:])
    torch.testing.assert_close(head(tokens), head.output(after))
    without = make_head(HeadParams(subject_attenuation=0), N_TOKENS, DIM, 2, classification=True)
    assert not [name for name, _ in without.named_buffers() if "attenuation" in name]


def attenuation(means, strength=300.0, n_directions=8, weights=None):
    module = Attenuation(means.shape[1], n_directions)
    weights = torch.full((len(means),), 1 / len(means)) if weights is None else weights
    module.fit(means, weights, strength)
    return module


def test_a_direction_is_scaled_by_the_share_of_variance_that_it_holds():
    direction = torch.zeros(50)
    direction[3] = 1.0
    # two groups at ±5: a variance of 25 of 50, a share of one half
    module = attenuation(torch.stack([5 * direction, -5 * direction]), strength=6.0)
    features = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    expected = features.clone()
    expected[:, 3] /= 2  # (1 + 6 / 2)^-½
    torch.testing.assert_close(module(features), expected)
    assert torch.equal(Attenuation(50, 3)(features), features)  # before it is fitted


def test_groups_count_by_their_share_and_only_the_strongest_directions():
    means = torch.diag(torch.tensor([4.0, 4.0, 0.0, 0.0]))
    kept = attenuation(means, 8.0, weights=torch.tensor([0.75, 0.25, 0.0, 0.0]))(torch.eye(4))
    expected = (1 + 8.0 * torch.tensor([12.0, 4.0, 0.0, 0.0]) / 4).rsqrt()
    torch.testing.assert_close(kept.diagonal(), expected)
    two = attenuation(torch.diag(torch.tensor([1.0, 5.0, 3.0, 2.0])), n_directions=2)(torch.eye(4))
    torch.testing.assert_close(two[[0, 3]], torch.eye(4)[[0, 3]], atol=1e-6, rtol=0)
    assert two[1, 1] < 0.1


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    n_groups=st.integers(1, 12),
    strength=st.floats(0, 1e6),
    n_directions=st.integers(1, 20),
)
def test_no_vector_grows_or_turns_round(seed, n_groups, strength, n_directions):
    random = torch.Generator().manual_seed(seed)
    module = attenuation(torch.randn(n_groups, 10, generator=random), strength, n_directions)
    features = torch.randn(6, 10, generator=random)
    scaled = module(features)
    assert (scaled.norm(dim=1) <= features.norm(dim=1) * (1 + 1e-5)).all()
    assert ((scaled * features).sum(1) >= -1e-4).all()
