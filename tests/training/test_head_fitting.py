"""A linear head begins at what a probe of the same features would answer."""

import numpy as np
import pytest
import torch

from finetuning_runs import AGE, prepared
from hbn_foundation.models.attenuation import Attenuation
from hbn_foundation.training import head_fitting
from hbn_foundation.training.head_fitting import within_classes
from hbn_foundation.training.linear_probe import STRENGTHS, Cases, fit_probe, fit_ridge
from hbn_foundation.training.model_params import HeadParams
from small_models import make_head


def outputs_and_features(module, *names):
    """Outputs, features, targets, splits and subjects of all windows of some splits."""
    model, found = module.model.eval(), []
    for name in names:
        part = module.data.training if name == "train" else module.data.validation
        subjects = part.windows["subject"].to_numpy(dtype=str)
        with torch.inference_mode():
            for batch in part.plain(64, 10_000):
                features = model.features(batch.signals, module.positions, batch.mask)
                found.append(
                    (
                        model.head.output(features).numpy(),
                        features.numpy(),
                        part.of(batch).numpy(),
                        np.full(len(batch), name),
                        subjects[batch.index.numpy()],
                    )
                )
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


@pytest.mark.parametrize("strength", [0.0, 300.0])
def test_classes_begin_at_the_probe(short_run, data, strength):
    module = prepared(short_run[0], data, head={"subject_attenuation": strength})
    outputs, features, values, splits, _ = outputs_and_features(module, "train", "validation")
    probe = fit_probe(features, Cases(values[:, 0].astype(int), splits), 2, STRENGTHS)
    expected = probe.log_probabilities(features)
    found = outputs[:, 1] - outputs[:, 0]
    np.testing.assert_allclose(found, expected[:, 1] - expected[:, 0], atol=1e-3)
    assert np.abs(outputs).max() > 1e-3


@pytest.mark.parametrize("strength_by", ["validation", "folds"])
def test_numbers_begin_at_ridge_regression(short_run, data, strength_by):
    module = prepared(short_run[0], data, label=AGE, head={"strength_by": strength_by})
    outputs, features, values, splits, subjects = outputs_and_features(
        module, "train", "validation"
    )
    fits = {
        "validation": fit_ridge(features, values[:, 0], splits, STRENGTHS),
        "folds": fit_ridge(features, values[:, 0], splits, STRENGTHS, subjects=subjects),
    }
    np.testing.assert_allclose(outputs[:, 0], fits[strength_by].predict(features), atol=1e-3)
    assert fits["folds"].strength != fits["validation"].strength
    assert not isinstance(module.model.head.attenuation, Attenuation)


def test_a_sample_is_solved_with_its_own_subjects(short_run, data, monkeypatch):
    monkeypatch.setattr(head_fitting, "BATCH_SIZE", 29)  # the last batch is of one window
    module = prepared(
        short_run[0], data, label=AGE, head={"strength_by": "folds"}, trainer={"probe_windows": 30}
    )
    outputs, features, values, _, subjects = outputs_and_features(module, "train")
    sample = module.data.training.sample(30).index.to_numpy()
    assert len(sample) == 30 < len(features)
    ridge = fit_ridge(
        features[sample], values[sample, 0], np.full(30, "train"), STRENGTHS,
        subjects=subjects[sample],
    )  # fmt: skip
    np.testing.assert_allclose(outputs[:, 0], ridge.predict(features), atol=2e-3)


@pytest.mark.parametrize(
    "head", [{"start": "zeros"}, {"kind": "mlp", "hidden_dim": 8}], ids=["zeros", "mlp"]
)
def test_others_begin_at_zero_on_the_encoder_as_it_is(short_run, data, head):
    module = prepared(short_run[0], data, head=head)
    assert module.model.encoder.trunk[0].training
    for name, part in module.model.encoder.state_dict().items():
        assert torch.equal(part, short_run[0].weights[f"encoder.{name}"])
    assert not outputs_and_features(module, "train")[0].any()


def test_features_of_training_windows_are_centred_with_one_scale():
    head = make_head(HeadParams(), 2, 3, 2, classification=True)
    pooled = 5 + torch.arange(1, 7) * torch.randn(40, 6, generator=torch.manual_seed(0))
    counts = np.arange(40) < 30
    pooled[20:] = 1e3  # windows without a channel, and of validation subjects
    splits, usable = np.where(counts, "train", "validation"), np.arange(40) < 20
    head_fitting.fit_scale(head, sample_of(pooled, [0.0] * 40, splits)._replace(usable=usable))
    features = ((pooled - head.centre) / head.scale)[:20]
    torch.testing.assert_close(features.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    assert features.var(0, correction=0).mean().item() == pytest.approx(1, abs=1e-5)
    assert features.var(0).max() > 1.5 * features.var(0).min()  # their own variances stay


def test_subjects_of_a_class_differ_less_in_what_the_head_sees(short_run, data):
    def spread(strength):
        module = prepared(short_run[0], data, head={"subject_attenuation": strength})
        _, features, values, _, subjects = outputs_and_features(module, "train")
        mine = values[:, 0] == 0
        means = np.stack([features[mine & (subjects == s)].mean(0) for s in np.unique(subjects)])
        return means.var(0).sum() / features.var(0).sum()

    assert spread(300.0) < 0.5 * spread(0.0)


def test_means_are_of_subjects_within_their_class():
    subjects = np.array(["a", "a", "b", "b", "b", "c"])
    classes = np.array([0.0, 1.0, 0.0, 0.0, 1.0, 0.0])
    features = torch.randn(6, 3, dtype=torch.float64)
    found, weights = within_classes(features, subjects, classes)
    first, second = features[[0, 2, 3, 5]].mean(0), features[[1, 4]].mean(0)
    expected = [
        features[0] - first,
        features[2:4].mean(0) - first,
        features[5] - first,
        features[1] - second,
        features[4] - second,
    ]
    torch.testing.assert_close(found, torch.stack(expected))
    torch.testing.assert_close(weights, torch.tensor([1, 2, 1, 1, 1], dtype=torch.float64) / 6)
    alone, _ = within_classes(torch.randn(2, 2), np.array(["a", "b"]), np.array([0.0, 1.0]))
    assert not alone.any()


def sample_of(pooled, values, splits):
    """A sample of windows that each have a subject of their own."""
    subjects = np.arange(len(values)).astype(str)
    usable = np.ones(len(values), bool)
    return head_fitting.Sample(pooled, np.array(values), np.array(splits), usable, subjects)


def solved(values, splits, n_classes):
    """The strength and the map of a linear head that begins at a probe of a sample."""
    head = make_head(HeadParams(subject_attenuation=0), 2, 3, n_classes or 1, n_classes is not None)
    pooled = torch.from_numpy(np.random.default_rng(0).normal(size=(len(values), 6)).astype("f"))
    sample = sample_of(pooled, values, splits)
    return head_fitting.start_at_probe(head, sample, n_classes, False), head.output.linear


def test_a_class_that_the_sample_lacks_can_still_be_learned():
    strength, linear = solved([0.0, 2.0] * 10, ["train"] * 14 + ["validation"] * 6, 3)
    assert strength in STRENGTHS
    assert linear.bias[1] == -10
    assert not linear.weight[1].any()
    assert linear.weight[[0, 2]].any()


@pytest.mark.parametrize("n_classes", [2, None])
def test_without_validation_windows_the_middle_strength_is_taken(n_classes):
    values = [0.0, 1.0] * 10 + [np.nan] * 4
    strength, linear = solved(values, ["train"] * 20 + ["validation"] * 4, n_classes)
    assert strength == STRENGTHS[len(STRENGTHS) // 2]
    assert linear.weight.isfinite().all()


@pytest.mark.parametrize("values", [[1.0] * 6, [np.nan] * 6])
def test_where_the_sample_tells_nothing_a_head_begins_at_zero(values):
    strength, linear = solved(values, ["train"] * 6, 2)
    assert strength is None
    assert not linear.weight.any()
