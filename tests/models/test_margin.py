"""Margin heads against the published formulas, sample by sample."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from hbn_foundation.models.outputs import MarginOutput, add_to_angle
from hbn_foundation.training.model_params import HeadParams
from small_models import make_head, margin_config

N_FEATURES, N_CLASSES = 10, 4


def some_output(margin, **more):
    torch.manual_seed(0)
    return MarginOutput(margin_config(N_CLASSES, margin=margin, **more), N_FEATURES)


def some_features(n=20):
    return torch.randn(n, N_FEATURES, generator=torch.Generator().manual_seed(1))


def by_hand(output, features, labels, kind, margin, scale):
    logits = torch.zeros(len(features), N_CLASSES)
    for sample, (vector, label) in enumerate(zip(features, labels, strict=True)):
        for number, weight in enumerate(output.weight):
            cosine = float(vector @ weight) / (float(vector.norm()) * float(weight.norm()))
            if number == label and kind == "cosface":
                cosine -= margin
            elif number == label:
                angle = math.acos(cosine)
                if angle + margin <= math.pi:
                    cosine = math.cos(angle + margin)
                else:
                    cosine -= margin * math.sin(margin)
            logits[sample, number] = scale * cosine
    return logits


@pytest.mark.parametrize(("margin", "full"), [("cosface", 0.2), ("arcface", 0.3)])
@pytest.mark.parametrize("size", [None, 0.45])
@pytest.mark.parametrize("scale", [16.0, 5.0])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_logits_are_those_of_the_plain_formula(margin, full, size, scale, share):
    output = some_output(margin, margin_size=size, scale=scale, dropout=0).requires_grad_(False)
    features, labels = some_features(), torch.arange(20) % N_CLASSES
    expected = by_hand(output, features, labels, margin, share * (size or full), scale)
    found = output(features, labels, margin_share=share)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("margin", ["cosface", "arcface"])
def test_the_margin_is_for_training_with_labels_and_the_scale_is_the_same(margin):
    output, features = some_output(margin, dropout=0), some_features()
    labels = torch.zeros(20, dtype=torch.int64)
    plain = output.eval()(features)
    assert torch.equal(output(features, labels), plain)
    output.train()
    assert torch.equal(output(features), plain)
    assert torch.equal(output(features, labels, 0.0), plain)
    with_margin = output(features, labels)
    assert (with_margin[:, 0] < plain[:, 0]).all()
    assert torch.equal(with_margin[:, 1:], plain[:, 1:])


@pytest.mark.parametrize("margin", ["cosface", "arcface"])
def test_shares_of_classes_have_shares_of_the_margin(margin):
    output, features = some_output(margin, dropout=0), some_features()
    labels = torch.arange(20) % N_CLASSES
    hard = output(features, functional.one_hot(labels, N_CLASSES).float())
    assert torch.equal(hard, output(features, labels))
    halves = 0.5 * functional.one_hot(labels, N_CLASSES)
    assert torch.equal(output(features, halves), output(features, labels, margin_share=0.5))


def test_dropout_does_not_change_the_size_of_cosines():
    """Dropped features are longer: normalised after dropout, cosines would shrink by √(1 − p)."""
    torch.manual_seed(0)
    output = MarginOutput(margin_config(2, margin="cosface", dropout=0.5, scale=1), 1000)
    features = (output.weight[:1].detach() + 0.02 * torch.randn(1, 1000)).expand(2000, -1)
    in_training, in_evaluation = output.train()(features), output.eval()(features)
    assert in_evaluation[0, 0] > 0.8
    assert in_training[:, 0].mean().item() == pytest.approx(in_evaluation[0, 0].item(), rel=0.01)


@pytest.mark.parametrize("margin", ["cosface", "arcface"])
def test_nothing_breaks_at_the_ends(margin):
    output = some_output(margin, dropout=0)
    features = torch.cat([output.weight, -output.weight, torch.zeros(1, N_FEATURES)])
    features = features.detach().requires_grad_()
    labels = torch.cat([torch.arange(N_CLASSES), torch.arange(N_CLASSES), torch.tensor([0])])
    loss = functional.cross_entropy(output(features, labels), labels)
    loss.backward()
    assert loss.isfinite()
    assert features.grad.isfinite().all()
    assert output.weight.grad.isfinite().all()


@settings(max_examples=50, deadline=None)
@given(margin=st.floats(0.01, 1.5))
def test_a_larger_angle_never_has_a_larger_logit(margin):
    cosines = torch.linspace(1, -1, 2001)
    shifted = add_to_angle(cosines, torch.tensor(margin))
    assert (shifted.diff() <= 1e-6).all()
    assert (shifted <= cosines + 1e-6)[cosines < 0.99].all()


def test_class_weights_act_on_margin_logits():
    output, features = some_output("arcface", dropout=0), some_features()
    labels = torch.arange(20) % N_CLASSES
    weights = torch.tensor([1.0, 3.0, 0.0, 0.5])
    logits = output(features, labels)
    single = functional.cross_entropy(logits, labels, reduction="none") * weights[labels]
    expected = single.sum() / weights[labels].sum()
    torch.testing.assert_close(functional.cross_entropy(logits, labels, weight=weights), expected)


def test_the_margin_warms_up():
    head = make_head(HeadParams(margin="cosface", margin_warmup_steps=4), 1, 8, 2, True)
    assert [head.margin_share(step) for step in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    assert make_head(HeadParams(margin_warmup_steps=0), 1, 8, 2, True).margin_share(0) == 1
    assert HeadParams().full_margin == 0
    assert HeadParams(margin="arcface").full_margin == 0.3
    assert HeadParams(margin="arcface", margin_size=0.5).full_margin == 0.5


@pytest.mark.parametrize("margin", ["cosface", "arcface"])
def test_a_margin_drives_classes_further_apart(margin):
    """What it is for: in the end the true class wins by more than without a margin."""
    labels = torch.arange(200) % 2
    random = torch.Generator().manual_seed(0)
    features = torch.randn(200, N_FEATURES, generator=random) + labels[:, None] - 0.5

    def lead(share):
        torch.manual_seed(0)
        layer = torch.nn.Linear(N_FEATURES, 6)
        output = MarginOutput(margin_config(2, margin=margin, dropout=0, margin_size=0.4), 6)
        optimizer = torch.optim.Adam([*layer.parameters(), *output.parameters()], lr=0.01)
        for _ in range(80):
            optimizer.zero_grad()
            functional.cross_entropy(output(layer(features), labels, share), labels).backward()
            optimizer.step()
        cosines = output.cosines(layer(features))
        return (cosines.gather(1, labels[:, None]) - cosines.gather(1, 1 - labels[:, None])).mean()

    assert lead(1.0) > lead(0.0) + 0.05
