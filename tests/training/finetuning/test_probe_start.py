"""A linear head begins at what a probe of the same features would answer."""

import numpy as np
import pytest
import torch
from finetuning_runs import AGE, prepared

from hbn_foundation.models.attenuation import Attenuation
from hbn_foundation.training import head_fitting
from hbn_foundation.training.linear_probe import STRENGTHS, fit_probe, fit_ridge
from hbn_foundation.training.model_params import HeadParams
from small_models import make_head


def outputs_and_features(loop, name):
    """Outputs, features and targets of all windows of a split."""
    part = loop.data.training if name == "train" else loop.data.validation
    model, found = loop.model.eval(), []
    with torch.inference_mode():
        for batch in part.plain(64, 10_000):
            features = model.features(batch.signals, loop.positions, batch.mask)
            found.append((model.head.output(features), features, part.of(batch)))
    return [torch.cat(parts).numpy() for parts in zip(*found, strict=True)]


@pytest.mark.parametrize("strength", [0.0, 300.0])
def test_classes_begin_at_the_probe(short_run, data, strength):
    loop = prepared(short_run[0], data, head={"subject_attenuation": strength})
    parts = [outputs_and_features(loop, name) for name in ("train", "validation")]
    outputs, features, values = (np.concatenate(one) for one in zip(*parts, strict=True))
    splits = np.repeat(["train", "validation"], [len(part[0]) for part in parts])
    probe = fit_probe(features, values[:, 0].astype(int), splits, 2, STRENGTHS)
    expected = probe.log_probabilities(features)
    np.testing.assert_allclose(
        outputs[:, 1] - outputs[:, 0], expected[:, 1] - expected[:, 0], atol=1e-3
    )
    assert np.abs(outputs).max() > 1e-3


def test_numbers_begin_at_ridge_regression(short_run, data):
    loop = prepared(short_run[0], data, label=AGE)
    parts = [outputs_and_features(loop, name) for name in ("train", "validation")]
    outputs, features, values = (np.concatenate(one) for one in zip(*parts, strict=True))
    splits = np.repeat(["train", "validation"], [len(part[0]) for part in parts])
    ridge = fit_ridge(features, values[:, 0], splits, STRENGTHS)
    np.testing.assert_allclose(outputs[:, 0], ridge.predict(features), atol=1e-3)
    assert not isinstance(loop.model.head.attenuation, Attenuation)


def test_folds_of_subjects_choose_the_strength_of_a_number_of_theirs(short_run, data):
    loop = prepared(short_run[0], data, label=AGE, head={"strength_by": "folds"})
    parts = [outputs_and_features(loop, name) for name in ("train", "validation")]
    outputs, features, values = (np.concatenate(one) for one in zip(*parts, strict=True))
    splits = np.repeat(["train", "validation"], [len(part[0]) for part in parts])
    tables = [loop.data.training.windows, loop.data.validation.windows]
    subjects = np.concatenate([table["subject"].to_numpy(dtype=str) for table in tables])
    ridge, other = (
        fit_ridge(features, values[:, 0], splits, STRENGTHS, subjects=groups)
        for groups in (subjects, None)
    )
    np.testing.assert_allclose(outputs[:, 0], ridge.predict(features), atol=1e-3)
    assert ridge.strength != other.strength


def test_a_sample_is_solved_with_its_own_subjects(short_run, data, monkeypatch):
    monkeypatch.setattr(head_fitting, "BATCH_SIZE", 29)  # the last batch is of one window
    asked = {"strength_by": "folds"}
    loop = prepared(short_run[0], data, label=AGE, head=asked, trainer={"probe_windows": 30})
    outputs, features, values = outputs_and_features(loop, "train")
    sample = loop.data.training.sample(30).index.to_numpy()
    subjects = loop.data.training.windows["subject"].to_numpy(dtype=str)[sample]
    assert len(sample) == 30 < len(features)
    ridge = fit_ridge(
        features[sample], values[sample, 0], np.full(30, "train"), STRENGTHS, subjects=subjects
    )
    np.testing.assert_allclose(outputs[:, 0], ridge.predict(features), atol=2e-3)


@pytest.mark.parametrize(
    "head", [{"start": "zeros"}, {"kind": "mlp", "hidden_dim": 8}], ids=["zeros", "mlp"]
)
def test_others_begin_at_zero(short_run, data, head):
    loop = prepared(short_run[0], data, head=head)
    assert not outputs_and_features(loop, "train")[0].any()


def test_subjects_of_a_class_differ_less_in_what_the_head_sees(short_run, data):
    def spread(strength):
        loop = prepared(short_run[0], data, head={"subject_attenuation": strength})
        _, features, values = outputs_and_features(loop, "train")
        subjects = loop.data.training.windows["subject"].to_numpy()
        mine = values[:, 0] == 0
        means = np.stack([features[mine & (subjects == s)].mean(0) for s in np.unique(subjects)])
        return means.var(0).sum() / features.var(0).sum()

    assert spread(300.0) < 0.5 * spread(0.0)


def solved(values, splits, n_classes):
    """The strength and the map of a linear head that begins at a probe of a sample."""
    head = make_head(HeadParams(subject_attenuation=0), 2, 3, n_classes or 1, n_classes is not None)
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(len(values), 6)).astype("f"))
    samples = {}
    for name in dict.fromkeys(splits):
        mine = np.array(splits) == name
        column, who = np.array(values)[mine, None], np.arange(mine.sum()).astype(str)
        pooled = {"main": features[torch.from_numpy(mine)]}
        samples[name] = head_fitting.Sample(pooled, np.ones(mine.sum(), bool), column, who)
    strength = head_fitting.start_at_probe(head, "main", samples, 0, n_classes, False)
    return strength, head.output.linear


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
