"""Heads of every kind: shapes, their first outputs, their features, and what they refuse."""

import itertools

import pytest
import torch

from hbn_foundation.errors import UserError
from hbn_foundation.training.model_params import HeadParams
from small_models import make_head

N_TOKENS, DIM = 5, 12
POOLINGS = {"concat": 60, "mean": 12, "mean_std": 24, "attention": 12}
KINDS = list(itertools.product(POOLINGS, ["linear", "mlp"], ["none", "cosface", "arcface"]))


def some_head(pooling="concat", kind="linear", margin="none", n_outputs=3, **more):
    torch.manual_seed(0)
    params = HeadParams(pooling=pooling, kind=kind, margin=margin, hidden_dim=7, **more)
    return make_head(params, N_TOKENS, DIM, n_outputs, classification=True)


def some_tokens(n=6, seed=1):
    return torch.randn(n, N_TOKENS, DIM, generator=torch.Generator().manual_seed(seed))


def stir(head):
    """Give every parameter, the zeros too, a value of its own."""
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=random))
    return head


@pytest.mark.parametrize(("pooling", "kind", "margin"), KINDS)
def test_shapes_and_gradients(pooling, kind, margin):
    head, tokens = stir(some_head(pooling, kind, margin)), some_tokens().requires_grad_()
    assert head.features(tokens).shape == (6, POOLINGS[pooling] if kind == "linear" else 7)
    outputs = head(tokens)
    assert outputs.shape == (6, 3)
    assert outputs.dtype == torch.float32
    head(tokens, torch.arange(6) % 3).logsumexp(1).sum().backward()
    for name, value in [*head.named_parameters(), ("tokens", tokens)]:
        assert value.grad is not None, name
        assert value.grad.isfinite().all(), name
        assert value.grad.any(), name


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_head_without_margin_starts_at_zero(pooling, kind):
    assert not some_head(pooling, kind)(some_tokens()).any()


@pytest.mark.parametrize(("pooling", "kind", "margin"), KINDS)
def test_the_output_of_a_sample_does_not_depend_on_its_batch(pooling, kind, margin):
    head = stir(some_head(pooling, kind, margin)).eval()
    tokens = some_tokens()
    among_others = torch.cat([1e3 * some_tokens(9, seed=2), tokens])
    torch.testing.assert_close(head(among_others)[9:], head(tokens))
    torch.testing.assert_close(head(tokens[2:3]), head(tokens)[2:3])


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


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_single_token_can_be_pooled(pooling):
    head = stir(make_head(HeadParams(pooling=pooling), 1, DIM, 2, classification=True))
    tokens = torch.randn(3, 1, DIM, requires_grad=True)
    head(tokens).sum().backward()
    assert tokens.grad.isfinite().all()


def test_the_centre_and_the_scale_are_taken_from_the_pooled_tokens():
    head = some_head("mean")
    head.centre.fill_(2.0)
    head.scale.fill_(4.0)
    tokens = some_tokens()
    torch.testing.assert_close(head.features(tokens), (tokens.mean(1) - 2) / 4)


def test_outputs_are_in_single_precision_under_autocast():
    for margin in ("none", "cosface"):
        head = stir(some_head(margin=margin)).eval()
        with torch.autocast("cpu", torch.bfloat16):
            assert head(some_tokens()).dtype == torch.float32


def test_a_margin_is_refused_for_a_regression():
    with pytest.raises(UserError, match=r"head\.margin='arcface'.*none for a regression") as info:
        make_head(HeadParams(margin="arcface"), N_TOKENS, DIM, 1, classification=False)
    assert "\n" not in str(info.value)
    assert make_head(HeadParams(), N_TOKENS, DIM, 1, classification=False)(some_tokens()).shape == (
        6,
        1,
    )


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"pooling": "max"}, "pooling"),
        ({"dropout": 1.0}, "dropout"),
        ({"margin_size": -0.1}, "margin_size"),
        ({"scale": 0}, "scale"),
        ({"marign": "cosface"}, "did you mean margin"),
    ],
)
def test_wrong_values_are_one_line(values, named):
    with pytest.raises(UserError, match=named) as info:
        HeadParams.model_validate(values)
    assert "\n" not in str(info.value)


def test_differences_between_subjects_are_scaled_down_for_classes_alone():
    classes, numbers = HeadParams(), HeadParams()
    assert make_head(classes, N_TOKENS, DIM, 2, classification=True).config.attenuation == 300
    assert make_head(numbers, N_TOKENS, DIM, 1, classification=False).config.attenuation == 0
    without = make_head(HeadParams(subject_attenuation=0), N_TOKENS, DIM, 2, classification=True)
    assert not [name for name, _ in without.named_buffers() if "attenuation" in name]
    with pytest.raises(UserError, match=r"head.subject_attenuation=50: .* expected 0 or null"):
        make_head(HeadParams(subject_attenuation=50), N_TOKENS, DIM, 1, classification=False)


def test_what_is_scaled_down_is_so_in_every_output():
    head, tokens = stir(some_head("mean", "linear")).eval(), some_tokens()
    before = head.features(tokens)
    head.attenuation.fit(torch.eye(DIM)[:1] * 4, torch.ones(1), 300.0)
    after = head.features(tokens)
    assert (after[:, 0].abs() < 0.1 * before[:, 0].abs() + 1e-6).all()
    torch.testing.assert_close(after[:, 1:], before[:, 1:])
    torch.testing.assert_close(head(tokens), head.output(after))
