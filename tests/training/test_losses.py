"""Several targets at once: masks, weights and scores, against formulas written out."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.models.heads import Heads
from hbn_foundation.scores import CLASSIFICATION_METRICS, REGRESSION_METRICS, metrics_of
from hbn_foundation.training.finetuning_params import RegularisationParams
from hbn_foundation.training.losses import (
    DistributionLoss,
    TargetLoss,
    TargetLosses,
    side_by_side,
    target_scores,
)
from hbn_foundation.training.model_params import HeadParams
from small_models import make_head

N = 40
HEADS = {
    "main": HeadParams(kind="distribution", bins=20),
    "factor": HeadParams(kind="mlp", hidden_dim=7),
    "right": HeadParams(pooling="mean", margin="cosface"),
}


def rules(**values):
    return RegularisationParams(**{"label_smoothing": 0.0, **values})


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


@pytest.fixture
def learned():
    """Heads, targets side by side, their losses, tokens and outputs."""
    targets = some_targets()
    torch.manual_seed(0)
    heads = {
        "main": make_head(HEADS["main"], 6, 8, 1, False, 5),
        "factor": make_head(HEADS["factor"], 6, 8, 1, False),
        "right": make_head(HEADS["right"], 6, 8, 2, True),
    }
    for name, head in heads.items():
        if targets[name].is_regression:
            head.set_unit(targets[name].mean, targets[name].sd)
        for parameter in head.parameters():
            nn.init.normal_(parameter, std=0.3)
    heads = Heads(heads).eval()
    columns = torch.from_numpy(side_by_side(targets))
    weights = {"factor": 0.5, "right": 2.0}
    losses = TargetLosses(targets, heads, columns, rules(), weights, HEADS).eval()
    tokens = torch.randn(N, 6, 8, generator=torch.Generator().manual_seed(1))
    return heads, columns, losses, tokens, heads(tokens).detach()


def test_side_by_side_standardises_and_marks_what_is_unknown():
    columns = side_by_side(some_targets())
    assert columns.shape == (N, 3)
    np.testing.assert_allclose(columns[:, 0] * 0.4 + 1.6, some_targets()["main"].values, rtol=1e-5)
    assert np.isnan(columns[::3, 1]).all()
    assert np.isnan(columns[::5, 2]).all()
    assert set(np.unique(columns[:, 2][~np.isnan(columns[:, 2])])) == {0.0, 1.0}


def test_each_loss_is_of_the_known_windows_alone(learned):
    heads, columns, losses, _, outputs = learned
    found = losses.each(outputs, columns)
    parts = dict(zip(heads.parts, outputs.split(losses.sizes, 1), strict=True))
    known = ~columns[:, 1].isnan()
    huber = functional.smooth_l1_loss(parts["factor"][known, 0], columns[known, 1])
    assert float(found["factor"]) == pytest.approx(float(huber), rel=1e-5)
    known = ~columns[:, 2].isnan()
    classes = columns[known, 2].long()
    counts = torch.bincount(classes, minlength=2)
    weights = counts.sum() / (2 * counts)
    entropy = functional.cross_entropy(parts["right"][known], classes, weights.float())
    assert float(found["right"]) == pytest.approx(float(entropy), rel=1e-5)
    total = found["main"] + 0.5 * found["factor"] + 2.0 * found["right"]
    assert float(losses(outputs, columns)) == pytest.approx(float(total), rel=1e-6)


def test_a_batch_without_a_target_costs_nothing_and_teaches_nothing(learned):
    heads, columns, losses, tokens, _ = learned
    unknown = columns.clone()
    unknown[:, 1] = torch.nan
    outputs = heads(tokens).requires_grad_()
    outputs.retain_grad()
    loss = losses(outputs, unknown)
    assert torch.isfinite(loss)
    assert losses.each(outputs, unknown)["factor"].item() == 0
    loss.backward()
    gradient = outputs.grad.split(losses.sizes, 1)
    assert not gradient[1].any()
    assert gradient[0].any()
    assert outputs.grad.isfinite().all()


def test_the_scores_are_in_the_targets_own_names(learned):
    heads, columns, losses, _, outputs = learned
    features = np.zeros((N, sum(heads.n_features)))
    found = losses.scores(columns.numpy(), outputs.numpy(), features)
    regression, classes = REGRESSION_METRICS[1:], CLASSIFICATION_METRICS[1:-1]
    assert set(found) == {
        *regression,
        *(f"factor_{name}" for name in regression),
        *(f"right_{name}" for name in classes),
    }
    answers = heads.parts["main"].value(outputs[:, :20])
    r = np.corrcoef(answers.numpy(), some_targets()["main"].values)[0, 1]
    assert found["r"] == pytest.approx(r, abs=1e-5)


def test_labels_reach_the_head_that_has_a_margin(learned):
    heads, columns, losses, tokens, _ = learned
    heads.train()
    with torch.no_grad():
        for part in heads.modules():
            part.p = part.threshold = 0  # no dropout
        features = heads.features(tokens)
        plain = heads.output(features)
        lowered = plain - heads.output(features, losses.labels(columns), [1.0, 1.0, 0.5])
    true = functional.one_hot(columns[:, 2].nan_to_num().long(), 2)
    torch.testing.assert_close(lowered[:, -2:], 16 * 0.2 * 0.5 * true.float())
    assert not lowered[:, :-2].any()
    mixed = losses.labels(columns, columns.flip(0), 0.75)
    assert mixed[:2] == [None, None]
    torch.testing.assert_close(mixed[2].sum(1), torch.ones(N))


def time_loss(mean, sd, **weights):
    params = HeadParams(kind="distribution", **weights)
    head = make_head(params, 5, 8, 1, False, 5)
    head.set_unit(mean, sd)
    return head, DistributionLoss(head, params)


def test_the_loss_of_a_time_is_least_at_the_gaussian_around_it():
    head, loss = time_loss(1.6, 0.4, error_weight=0.0, shares_weight=1.0)
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
    _, loss = time_loss(1.5, 0.5, error_weight=2.0, shares_weight=0.0)
    flat = torch.zeros(2, 40)  # whose mean is 1.5
    assert float(loss(flat, torch.tensor([1.0, -1.0]))) == pytest.approx(2.0, rel=1e-5)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):  # whose three digits are too few for times
        answers = loss.predicted(torch.randn(50, 40))
    assert answers.dtype == torch.float32
    assert len(answers.unique()) == 50


def by_hand(outputs, targets, weights):
    logs = torch.log_softmax(outputs, 1)[torch.arange(len(targets)), targets]
    of_windows = torch.tensor(weights)[targets]
    return float(-(of_windows * logs).sum() / of_windows.sum())


@pytest.mark.parametrize("margin", ["none", "cosface", "arcface"])
def test_class_weights_hold_with_any_head(margin):
    torch.manual_seed(0)
    head = make_head(HeadParams(margin=margin, dropout=0.0), 3, 4, 2, True).train()
    nn.init.normal_(next(p for name, p in head.output.named_parameters() if "weight" in name))
    tokens, targets = torch.randn(8, 3, 4), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    outputs = head(tokens, targets, 1.0).detach()
    counts = torch.tensor([6.0, 2.0])
    weighted, plain = (
        float(TargetLoss(rules(class_weights=given), counts)(outputs, targets))
        for given in (True, False)
    )
    assert weighted == pytest.approx(by_hand(outputs, targets, [8 / 12, 8 / 4]), rel=1e-5)
    assert plain == pytest.approx(by_hand(outputs, targets, [1.0, 1.0]), rel=1e-5)
    assert plain != pytest.approx(weighted, rel=1e-3)


def test_labels_are_smoothed_in_training_only():
    outputs, targets = torch.tensor([[4.0, -4.0]]), torch.tensor([0])
    loss = TargetLoss(rules(label_smoothing=0.2), torch.tensor([1.0, 1.0]))
    sharp = math.log1p(math.exp(-8.0))
    assert float(loss.train()(outputs, targets)) == pytest.approx(sharp + 0.1 * 8.0, rel=1e-4)
    assert float(loss.eval()(outputs, targets)) == pytest.approx(sharp, rel=1e-4)


def test_losses_of_values():
    outputs, values = torch.tensor([[0.5], [3.0]]), torch.tensor([0.0, 0.0])
    assert float(TargetLoss(rules(), None)(outputs, values)) == pytest.approx((0.125 + 2.5) / 2)
    square = TargetLoss(rules(regression_loss="mse"), None)(outputs, values)
    assert float(square) == pytest.approx((0.25 + 9.0) / 2)


def test_outputs_elsewhere_than_the_weights():
    """As those of a validation are, which come back from the device of the training."""
    outputs = torch.zeros(3, 2, device="meta")
    targets = torch.zeros(3, dtype=torch.int64, device="meta")
    for device in ("meta", "cpu"):
        loss = TargetLoss(rules(), torch.tensor([6.0, 2.0])).to(device)
        assert loss(outputs, targets).device.type == "meta"


@pytest.mark.parametrize("n_classes", [2, 3, None])
def test_every_promised_score_is_there(n_classes):
    random = np.random.default_rng(0)
    values = random.integers(2, size=30) if n_classes else random.normal(size=30)
    outputs = random.normal(size=(30, n_classes or 1))
    found = target_scores(values, outputs, random.normal(size=(30, 4)), n_classes)
    assert set(found) == set(metrics_of(n_classes is None)) - {"loss"}
    assert np.isfinite(list(found.values())).all()
    assert "fisher_ratio" not in target_scores(values, outputs, None, n_classes)


def test_three_classes_are_compared_as_probabilities():
    random = np.random.default_rng(1)
    labels = random.integers(3, size=200)
    logits = 3 * random.normal(size=(200, 3)) + 2 * np.eye(3)[labels]
    shifted = logits + 10 * random.normal(size=(200, 1))  # the same probabilities
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = roc_auc_score(labels, shares, multi_class="ovr")
    assert target_scores(labels, shifted, None, 3)["auroc"] == pytest.approx(expected)


def test_numbers_in_a_column_or_a_row():
    values = np.arange(5.0)
    row = target_scores(values, values, None, None)
    assert row == target_scores(values, values[:, None], None, None)
    assert row["nrmse"] == 0
    assert row["r"] == pytest.approx(1)


def test_windows_weigh_by_what_the_last_column_says():
    """A window of weight two is two windows; the loss of each target has its own divisor."""
    targets = {
        "main": WindowTargets(np.array([0, 1, 1, -1]), ("no", "yes")),
        "factor": WindowTargets(np.array([1.0, 2.0, 3.0, 4.0]), ("factor",), True),
    }
    torch.manual_seed(0)
    heads = Heads({"main": make_head(HeadParams(), 6, 8, 2, True),
                   "factor": make_head(HEADS["factor"], 6, 8, 1, False)}).eval()  # fmt: skip
    columns = torch.from_numpy(side_by_side(targets))
    weights = torch.tensor([[2.0], [1.0], [0.5], [torch.nan]])
    losses = TargetLosses(targets, heads, columns, rules(class_weights=False)).eval()
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    weighed = torch.cat([columns, weights], 1)
    found = losses.each(outputs, weighed)
    each = functional.cross_entropy(outputs[:3, :2], torch.tensor([0, 1, 1]), reduction="none")
    assert found["main"] == pytest.approx(float((each * weights[:3, 0]).sum() / 3.5))
    assert found["factor"] == losses.each(outputs, columns)["factor"]
    assert losses.weights_of(weighed).tolist() == [3.5, 4.0]
    twice = torch.cat([columns[:1], columns[:3]])
    of_twice = torch.cat([outputs[:1], outputs[:3]])
    equal = torch.cat([twice, torch.tensor([[1.0], [1.0], [1.0], [0.5]])], 1)
    assert losses.each(of_twice, equal)["main"] == pytest.approx(float(found["main"]))
    whole = losses(outputs, weighed)
    parts = [slice(0, 1), slice(1, 4)]
    divisors = torch.stack([losses.weights_of(weighed[part]) for part in parts])
    shares = divisors / divisors.sum(0)
    split = [losses(outputs[part], weighed[part], share)
             for part, share in zip(parts, shares, strict=True)]  # fmt: skip
    assert float(sum(split)) == pytest.approx(float(whole), rel=1e-5)


def test_scores_within_subjects_where_windows_have_strata():
    random = np.random.default_rng(0)
    labels, outputs = np.arange(40) % 2, random.normal(size=(40, 2))
    windows = pd.DataFrame(
        {"subject": np.repeat(list("abcd"), 10), "stratum": ["x"] * 10 + ["y"] * 30}
    )
    found = target_scores(labels.astype(float), outputs, None, 2, windows)["within_auroc"]
    areas = [roc_auc_score(labels[part], outputs[part, 1] - outputs[part, 0])
             for part in np.split(np.arange(40), 4)]  # fmt: skip
    assert found == pytest.approx((areas[0] + np.mean(areas[1:])) / 2)
    without = target_scores(labels, outputs, None, 2, windows[["subject"]])
    assert "within_auroc" not in without
