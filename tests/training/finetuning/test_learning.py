"""Several targets at once: masks, weights and scores, against each target alone."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.models.heads import Heads
from hbn_foundation.scores import CLASSIFICATION_METRICS, REGRESSION_METRICS
from hbn_foundation.training.finetuning_params import RegularisationParams
from hbn_foundation.training.losses import DistributionLoss, TargetLosses, side_by_side
from hbn_foundation.training.model_params import HeadParams
from small_models import make_head

N = 40
PARAMS = RegularisationParams(label_smoothing=0.0)


def some_targets():
    random = np.random.default_rng(0)
    times = random.normal(1.6, 0.4, N)
    factor = random.normal(3.0, 2.0, N)
    factor[::3] = np.nan
    right = random.integers(2, size=N)
    right[::5] = -1
    return {
        "main": WindowTargets(times, ("rt",), True, 1.6, 0.4),
        "factor": WindowTargets(factor, ("factor",), True, 3.0, 2.0),
        "right": WindowTargets(right, ("no", "yes")),
    }


def some_heads(targets):
    torch.manual_seed(0)
    heads = {
        "main": make_head(HeadParams(kind="distribution", bins=20), 6, 8, 1, False, 5),
        "factor": make_head(HeadParams(kind="mlp", hidden_dim=7), 6, 8, 1, False),
        "right": make_head(HeadParams(pooling="mean", margin="cosface"), 6, 8, 2, True),
    }
    for name, head in heads.items():
        if targets[name].is_regression:
            head.set_unit(targets[name].mean, targets[name].sd)
        for parameter in head.parameters():
            nn.init.normal_(parameter, std=0.3)
    return Heads(heads).eval()


@pytest.fixture
def learned():
    targets = some_targets()
    heads = some_heads(targets)
    columns = torch.from_numpy(side_by_side(targets))
    weights, head_params = {"factor": 0.5, "right": 2.0}, {"main": HeadParams(kind="distribution")}
    learning = TargetLosses(targets, heads, columns, PARAMS, weights, head_params).eval()
    outputs = heads(torch.randn(N, 6, 8, generator=torch.Generator().manual_seed(1))).detach()
    return targets, heads, columns, learning, outputs


def test_side_by_side_standardises_and_marks_what_is_unknown():
    columns = side_by_side(some_targets())
    assert columns.shape == (N, 3)
    np.testing.assert_allclose(columns[:, 0] * 0.4 + 1.6, some_targets()["main"].values, rtol=1e-5)
    assert np.isnan(columns[::3, 1]).all()
    assert np.isnan(columns[::5, 2]).all()
    assert set(np.unique(columns[:, 2][~np.isnan(columns[:, 2])])) == {0.0, 1.0}


def test_each_loss_is_of_the_known_windows_alone(learned):
    _, heads, columns, learning, outputs = learned
    losses = learning.each(outputs, columns)
    parts = dict(zip(heads.parts, outputs.split(learning.sizes, 1), strict=True))
    known = ~columns[:, 1].isnan()
    huber = functional.smooth_l1_loss(parts["factor"][known, 0], columns[known, 1])
    assert float(losses["factor"]) == pytest.approx(float(huber), rel=1e-5)
    known = ~columns[:, 2].isnan()
    classes = columns[known, 2].long()
    counts = torch.bincount(classes, minlength=2)
    weights = counts.sum() / (2 * counts)
    entropy = functional.cross_entropy(parts["right"][known], classes, weights.float())
    assert float(losses["right"]) == pytest.approx(float(entropy), rel=1e-5)
    total = losses["main"] + 0.5 * losses["factor"] + 2.0 * losses["right"]
    assert float(learning(outputs, columns)) == pytest.approx(float(total), rel=1e-6)


def test_a_batch_without_a_target_costs_nothing_and_teaches_nothing(learned):
    _, heads, columns, learning, _ = learned
    unknown = columns.clone()
    unknown[:, 1] = torch.nan
    outputs = heads(torch.randn(N, 6, 8)).requires_grad_()
    outputs.retain_grad()
    loss = learning(outputs, unknown)
    assert torch.isfinite(loss)
    assert float(learning.each(outputs, unknown)["factor"]) == 0
    loss.backward()
    gradient = outputs.grad.split(learning.sizes, 1)
    assert not gradient[1].any()
    assert gradient[0].any()
    assert outputs.grad.isfinite().all()


def test_the_scores_are_in_the_targets_own_names(learned):
    _, _, columns, learning, outputs = learned
    values, said = columns.numpy(), outputs.numpy()
    found = learning.scores(values, said, np.zeros((N, sum(learning_features(learned)))))
    regression, classes = REGRESSION_METRICS[1:], CLASSIFICATION_METRICS[1:-1]
    assert set(found) == {
        *regression,
        *(f"factor_{name}" for name in regression),
        *(f"right_{name}" for name in classes),
    }
    answers = learned[1].parts["main"].value(outputs[:, :20])
    r = np.corrcoef(answers.numpy(), some_targets()["main"].values)[0, 1]
    assert found["r"] == pytest.approx(r, abs=1e-5)


def learning_features(learned):
    return learned[1].n_features


def test_labels_reach_the_head_that_has_a_margin(learned):
    _, heads, columns, learning, outputs = learned
    heads.train()
    tokens = torch.randn(N, 6, 8, generator=torch.Generator().manual_seed(1))
    features = heads.features(tokens)
    with torch.no_grad():
        for part in heads.modules():
            part.p = part.threshold = 0  # no dropout
        plain = heads.output(features)
        lowered = plain - heads.output(features, learning.labels(columns), [1.0, 1.0, 0.5])
    true = functional.one_hot(columns[:, 2].nan_to_num().long(), 2)
    torch.testing.assert_close(lowered[:, -2:], 16 * 0.2 * 0.5 * true.float())
    assert not lowered[:, :-2].any()
    assert plain.shape == outputs.shape


def test_mixed_windows_have_shares_of_classes(learned):
    _, _, columns, learning, _ = learned
    labels = learning.mixed_labels(columns, columns.flip(0), 0.75)
    assert labels[0] is None
    assert labels[1] is None
    torch.testing.assert_close(labels[2].sum(1), torch.ones(N))


def test_the_loss_of_a_time_is_least_at_the_gaussian_around_it():
    params = HeadParams(kind="distribution", error_weight=0.0, shares_weight=1.0)
    head = make_head(params, 5, 8, 1, False, 5)
    head.set_unit(1.6, 0.4)
    loss = DistributionLoss(head, params)
    times = torch.tensor([0.2, 0.9, 1.634, 2.49])
    wanted = (-0.5 * ((times.clamp(0.525, 2.475)[:, None] - head.output.bins) / 0.06) ** 2).double()
    targets = (times - 1.6) / 0.4
    least = loss(wanted.float(), targets)
    entropy = -(wanted.softmax(1) * wanted.log_softmax(1)).sum(1).mean()
    assert float(least) == pytest.approx(float(entropy), rel=1e-4)
    for seed in range(5):
        noise = 0.5 * torch.randn(4, 40, generator=torch.Generator().manual_seed(seed))
        assert loss(wanted.float() + noise, targets) > least


def test_the_error_of_a_time_is_that_of_its_mean():
    params = HeadParams(kind="distribution", error_weight=2.0, shares_weight=0.0)
    head = make_head(params, 5, 8, 1, False, 5)
    head.set_unit(1.5, 0.5)
    flat = torch.zeros(2, 40)  # whose mean is 1.5
    loss = DistributionLoss(head, params)(flat, torch.tensor([1.0, -1.0]))
    assert float(loss) == pytest.approx(2.0, rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):  # whose three digits are too few for times
        answers = DistributionLoss(head, params).answer(torch.randn(50, 40))
    assert answers.dtype == torch.float32
    assert len(answers.unique()) == 50
