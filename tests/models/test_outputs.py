"""Last layers of heads: margins against the published formulas, distributions over time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from hbn_foundation.errors import UserError
from hbn_foundation.models.outputs import MarginOutput, add_to_angle, soft_bins
from hbn_foundation.training.model_params import HeadParams
from small_models import make_finetuned, make_head, margin_config, small_encoder

N_FEATURES, N_CLASSES = 10, 4
N_TOKENS, N_TIME, DIM = 13, 10, 12
BINS = torch.linspace(0.525, 2.475, 40)
LABELS = torch.arange(20) % N_CLASSES


def margin_output(margin, n_features=N_FEATURES, n_classes=N_CLASSES, **more):
    torch.manual_seed(0)
    return MarginOutput(margin_config(n_classes, margin=margin, **more), n_features)


@pytest.fixture
def features():
    return torch.randn(20, N_FEATURES, generator=torch.Generator().manual_seed(1))


def by_hand(output, features, kind, margin, scale):
    logits = torch.zeros(len(features), N_CLASSES)
    for sample, (vector, label) in enumerate(zip(features, LABELS, strict=True)):
        for number, weight in enumerate(output.weight):
            cosine = float(vector @ weight) / (float(vector.norm()) * float(weight.norm()))
            if number == label and kind == "cosface":
                cosine -= margin
            elif number == label:
                angle = math.acos(cosine) + margin
                cosine = math.cos(angle) if angle <= math.pi else cosine - margin * math.sin(margin)
            logits[sample, number] = scale * cosine
    return logits


@pytest.mark.parametrize(("margin", "full"), [("cosface", 0.2), ("arcface", 0.3)])
@pytest.mark.parametrize(("size", "scale"), [(None, 16.0), (0.45, 5.0)])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_margin_logits_are_those_of_the_plain_formula(features, margin, full, size, scale, share):
    output = margin_output(margin, margin_size=size, scale=scale, dropout=0).requires_grad_(False)
    expected = by_hand(output, features, margin, share * (size or full), scale)
    found = output(features, LABELS, margin_share=share)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    halves = 0.5 * functional.one_hot(LABELS, N_CLASSES)
    mixed = output(features, halves, share)  # shares of classes have shares of the margin
    assert torch.equal(mixed, output(features, LABELS, 0.5 * share))


@pytest.mark.parametrize("margin", ["cosface", "arcface"])
def test_the_margin_is_for_training_with_labels_and_the_scale_is_the_same(features, margin):
    output, labels = margin_output(margin, dropout=0), torch.zeros(20, dtype=torch.int64)
    plain = output.eval()(features)
    assert torch.equal(output(features, labels), plain)
    output.train()
    assert torch.equal(output(features), plain)
    with_margin = output(features, labels)
    assert (with_margin[:, 0] < plain[:, 0]).all()
    assert torch.equal(with_margin[:, 1:], plain[:, 1:])


def test_dropout_does_not_change_the_size_of_cosines():
    """Dropped features are longer: normalised after dropout, cosines would shrink by √(1 − p)."""
    output = margin_output("cosface", 1000, 2, dropout=0.5, scale=1)
    features = (output.weight[:1].detach() + 0.02 * torch.randn(1, 1000)).expand(2000, -1)
    in_training, in_evaluation = output.train()(features), output.eval()(features)
    assert in_evaluation[0, 0] > 0.8
    assert in_training[:, 0].mean().item() == pytest.approx(in_evaluation[0, 0].item(), rel=0.01)


@pytest.mark.parametrize("margin", ["cosface", "arcface"])
def test_nothing_breaks_at_the_ends(margin):
    output = margin_output(margin, dropout=0)
    features = torch.cat([output.weight, -output.weight, torch.zeros(1, N_FEATURES)])
    features = features.detach().requires_grad_()
    labels = torch.cat([torch.arange(N_CLASSES), torch.arange(N_CLASSES), torch.tensor([0])])
    loss = functional.cross_entropy(output(features, labels), labels)
    loss.backward()
    assert all(value.isfinite().all() for value in (loss, features.grad, output.weight.grad))


@settings(max_examples=50)
@given(margin=st.floats(0.01, 1.5))
def test_a_larger_angle_never_has_a_larger_logit(margin):
    cosines = torch.linspace(1, -1, 2001)
    shifted = add_to_angle(cosines, torch.tensor(margin))
    assert (shifted.diff() <= 1e-6).all()
    assert (shifted <= cosines + 1e-6)[cosines < 0.99].all()


def test_the_margin_warms_up():
    head = make_head(HeadParams(margin="cosface", margin_warmup_steps=4), 1, 8, 2, True)
    assert [head.margin_share(step) for step in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    assert make_head(HeadParams(margin_warmup_steps=0), 1, 8, 2, True).margin_share(0) == 1


def distribution(**more):
    torch.manual_seed(0)
    params = HeadParams(kind="distribution", **more)
    return make_head(params, N_TOKENS, DIM, 1, False, N_TIME).eval()


def some_tokens(n=6):
    return torch.randn(n, N_TOKENS, DIM, generator=torch.Generator().manual_seed(1))


@given(st.lists(st.floats(-1, 4), min_size=1, max_size=5), st.floats(0.01, 1))
def test_soft_bins_are_shares_around_their_value(values, spread):
    shares = soft_bins(torch.tensor(values), BINS, spread)
    torch.testing.assert_close(shares.sum(1), torch.ones(len(values)))
    nearest = (torch.tensor(values)[:, None] - BINS).abs().argmin(1)
    at_most = shares.max(1).values
    torch.testing.assert_close(shares[torch.arange(len(values)), nearest], at_most)


def test_a_distribution_begins_at_the_training_values():
    head = distribution()
    torch.testing.assert_close(head.output.bins, BINS)
    times = 1.6 + 0.3 * torch.randn(500, generator=torch.Generator().manual_seed(2))
    head.output.fit_prior(times, 0.12)
    outputs = head(some_tokens()).detach()
    assert outputs.shape == (6, 40)
    torch.testing.assert_close(head.value(outputs), times.mean().expand(6), atol=0.02, rtol=0)
    spread = (outputs.softmax(1) * (BINS - times.mean()).square()).sum(1).sqrt()
    torch.testing.assert_close(spread, torch.full((6,), 0.3231), atol=0.02, rtol=0)
    bins = distribution(bins=20, earliest=0.0, latest=1.0).output.bins
    torch.testing.assert_close(bins, (torch.arange(20) + 0.5) / 20)


def test_a_token_speaks_for_its_own_stretch_by_one_map_for_all():
    head, tokens = distribution(), some_tokens()
    nn.init.normal_(head.output.linear.weight)
    before, moved = head(tokens), tokens.clone()
    moved[:, -3] += 1.0  # the eighth of ten stretches
    moved[:, : N_TOKENS - N_TIME] += 1.0  # other families of tokens
    changed = (head(moved) != before).any(0).nonzero().flatten().tolist()
    assert changed == [28, 29, 30, 31]
    turned = torch.cat([tokens[:, :-N_TIME], tokens[:, -N_TIME:].flip(1)], 1)
    found = head(turned).view(-1, N_TIME, 4)
    torch.testing.assert_close(found, before.view(-1, N_TIME, 4).flip(1))


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        ("band", {}, "reads time tokens, and there are none"),
        ("time", {"classification": True}, "a label of classes has no time"),
        ("time", {"bins": 39}, "39 bins cannot be shared out among 5 time tokens"),
        ("time", {"margin": "cosface"}, "a margin is between classes"),
    ],
)
def test_a_distribution_that_does_not_suit_is_refused(tokens, options, message):
    classification = options.pop("classification", False)
    params = HeadParams(kind="distribution", **options)
    with pytest.raises(UserError, match=message):
        make_finetuned(small_encoder(tokens), params, 1, classification)
