"""Each objective learns what there is, and only chance from shuffled labels."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from hbn_foundation.signals.batches import WindowBatches, WindowReader
from hbn_foundation.training.model_building import build_encoder
from hbn_foundation.training.model_params import EncoderParams, TimeTokenParams
from hbn_foundation.training.objectives import masked
from hbn_foundation.training.objectives.base import Context, TrainingWindows
from hbn_foundation.training.objectives.make import make_objective
from hbn_foundation.training.objectives.token_targets import choose
from hbn_foundation.training.params import ObjectiveParams
from hbn_foundation.training.pretrain import pretext_scores
from runs import SHORT, run

CLASSIFY = {**SHORT, "epochs": 4, "learning_rate": 5e-3}


def small(*tokens, dropout=0.0, kind="patch"):
    torch.manual_seed(0)
    time = TimeTokenParams(kind=kind, width=8)
    return build_encoder(
        EncoderParams(
            tokens=tokens, hidden_dim=32, n_heads=4, n_layers=1, dropout=dropout, time=time
        ),
        100,
        200,
    )


def first_batch(store, windows, size=32):
    return next(iter(WindowBatches(WindowReader(store, 200), windows, size, shuffle=True)))


def fitted(store, windows, tokens, kind="patch", **params):
    encoder = small(*tokens, kind=kind)
    objective = make_objective(ObjectiveParams(**params), encoder)
    batches = WindowBatches(WindowReader(store, 200), windows, 100)
    positions = torch.as_tensor(store.positions, dtype=torch.float32)
    statistics = encoder.fit_normalisation(batches, positions)
    objective.fit(encoder, TrainingWindows(batches, positions, statistics))
    return encoder, objective, positions


def test_copying_is_perfect_when_nothing_is_corrupted(store, windows):
    encoder, objective, positions = fitted(
        store, windows, ("band",), hide_probability=0.0, noise=0.0, mask_bands=0.0
    )
    outcome = objective.eval()(encoder, first_batch(store, windows), positions)
    assert outcome.scores["trivial_copy"].item() == pytest.approx(0, abs=1e-6)
    assert outcome.scores["trivial_band_mean"].item() > 0.3


def test_targets_have_unit_scale_and_falling_variances(store, windows):
    encoder, objective, positions = fitted(store, windows, ("band",))
    batch = first_batch(store, windows, len(windows))
    coordinates = objective.bands.project(
        encoder.band.tangents(batch.signals, positions, batch.mask)
    )
    assert coordinates.shape == (len(windows), 8, 24)
    variance = coordinates.var(0, unbiased=False)
    assert variance.mean().item() == pytest.approx(1, rel=1e-3)
    assert (variance.diff(dim=1) <= 1e-3).all()
    assert variance[:, 0].min() > 3 * variance[:, -1].max()


def test_bands_left_out_are_scored_against_the_mean(store, windows):
    encoder, objective, positions = fitted(store, windows, ("band",), mask_bands=0.5)
    scores = objective(encoder, first_batch(store, windows), positions).scores
    assert {"masked_band_loss", "trivial_masked_band_mean"} <= set(scores)
    # what is copied where a band is visible, the mean where it is left out
    assert 0 < scores["trivial_copy"] < scores["trivial_band_mean"]
    with_all, objective, _ = fitted(store, windows, ("band",), mask_bands=0.0)
    scores = objective(with_all, first_batch(store, windows), positions).scores
    assert "masked_band_loss" not in scores


def test_bands_left_out_do_not_reach_the_trunk(store, windows):
    encoder, objective, positions = fitted(store, windows, ("band", "time"), name="masked")
    seen = []
    encoder.mix = lambda tokens: seen.append(tokens) or tokens
    objective(encoder, first_batch(store, windows, 4), positions)
    assert seen[0].shape[1] == 2 + 2  # a quarter of the bands, a fifth of ten patches


def test_bands_left_out_are_not_computed(store, windows):
    encoder, _, positions = fitted(store, windows, ("band",))
    batch = first_batch(store, windows, 4)
    visible = torch.tensor([[0, 3], [1, 2], [0, 7], [5, 6]])
    everything = encoder.band.tangents(batch.signals, positions, batch.mask)
    some = encoder.band.tangents(batch.signals, positions, batch.mask, visible)
    for window, bands in enumerate(visible.tolist()):
        hidden = sorted(set(range(8)) - set(bands))
        torch.testing.assert_close(some[window, bands], everything[window, bands])
        assert not some[window, hidden].any()


@pytest.mark.parametrize("kind", ["patch", "conv"])
def test_hidden_patches_stay_hidden(store, windows, kind, monkeypatch):
    """What happens in a hidden patch must not reach the prediction."""
    encoder, objective, positions = fitted(
        store, windows, ("time",), kind, name="masked_patches", hide_probability=0.0, noise=0.0
    )
    encoder.eval()
    objective.eval()
    batch = first_batch(store, windows, 4)
    visible, hidden = choose(4, 10, 7, torch.device("cpu"))
    assert [*visible[0].tolist(), *hidden[0].tolist()] != list(range(10))
    monkeypatch.setattr(masked, "choose", lambda *_: (visible, hidden))
    seen = []
    monkeypatch.setattr(encoder, "mix", lambda tokens: seen.append(tokens) or tokens)
    for patches in (hidden, visible):
        changed = batch.signals.clone().unflatten(-1, (10, 20))
        for window in range(4):
            changed[window, :, patches[window]] = 7.0
        objective(encoder, batch, positions)
        objective(encoder, replace(batch, signals=changed.flatten(-2)), positions)
    assert torch.equal(seen[0], seen[1])
    assert not torch.allclose(seen[2], seen[3])


def test_visible_and_hidden_tokens_divide_the_window():
    visible, hidden = choose(50, 10, 7, torch.device("cpu"))
    assert visible.shape == (50, 3)
    assert hidden.shape == (50, 7)
    both = torch.cat([visible, hidden], 1).sort(1).values
    assert torch.equal(both, torch.arange(10).expand(50, -1))
    assert len({tuple(row) for row in hidden.tolist()}) > 10


@pytest.mark.parametrize("kind", ["patch", "conv"])
def test_every_module_of_the_joint_objective_gets_gradient(store, windows, kind):
    encoder, objective, positions = fitted(
        store, windows, ("band", "time"), kind, name="masked", mask_bands=0.5
    )
    objective(encoder, first_batch(store, windows), positions).loss.backward()
    for module in (encoder, objective):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            # a bias of the keys adds the same to every logit, so softmax takes its gradient away
            if "key_value.bias" not in name:
                assert parameter.grad.abs().max() > 0, name


def test_kept_targets_are_those_of_the_clean_window_with_its_gain(store, windows):
    encoder, objective, positions = fitted(store, windows, ("band",))
    table = objective.prepare(windows.iloc[::-1].reset_index(drop=True), Context(100.0, 0))
    some = table.iloc[10:42].reset_index(drop=True)  # as of some subjects
    first, batches = (
        objective.batches(WindowBatches(WindowReader(store, 200), part, 32), part)
        for part in (some, table)
    )
    objective.begin(encoder, batches, positions)
    batch, log_gains = next(iter(first)), 0.3 * torch.randn(32)
    kept = objective.band_targets(encoder, batch, positions, log_gains)
    louder = batch.signals * log_gains.exp()[:, None, None]
    anew = objective.bands.project(encoder.band.tangents(louder, positions, batch.mask))
    assert torch.allclose(kept, anew, atol=1e-4)
    assert kept.std() > 0.3


def test_task_classification_learns_and_its_control_does_not(store, windows, splits, tmp_path):
    def train(shuffled, **trainer):
        objective = {"name": "task_classification", "shuffle_labels": shuffled}
        trainer = {**CLASSIFY, **trainer}
        return run(store, windows, splits, tmp_path, ("band",), objective, trainer=trainer)

    history = train(False)[1]
    learned = history.loc[history["validation_loss"].idxmin()]
    assert learned["accuracy"] > 0.85
    assert learned["trivial_accuracy"] == pytest.approx(0.5)
    assert learned["trivial_loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert learned["validation_loss"] < 0.6 * learned["trivial_loss"]
    # four recordings in validation are coarse, so the last epochs of some seeds are averaged
    controls = [train(True, seed=seed) for seed in range(6)]
    assert 0.3 < np.mean([run["accuracy"].iloc[-1] for _, run in controls]) < 0.7
    losses = [run["validation_loss"].iloc[-1] for _, run in controls]
    assert np.mean(losses) > 0.9 * math.log(2)
    checkpoint, history = controls[0]
    assert history["trivial_accuracy"].eq(0.5).all()  # permuted inside the split
    # the evaluation meets the labels that the training met
    best = history.iloc[checkpoint.metadata["best_epoch"] - 1]
    scores = pretext_scores(checkpoint, store, windows, ["5", "6"])
    assert scores["loss"] == pytest.approx(best["validation_loss"], rel=1e-4)
    few = pretext_scores(checkpoint, store, windows[windows["start"] < 2000], ["5", "6"])
    assert few["trivial_accuracy"] == 0.5


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"shuffle_labels": True}, "shuffle_labels goes with"),
        ({"name": "contrastive"}, "band_completion"),
        ({"min_hidden": 0.5, "max_hidden": 0.2}, "exceeds max_hidden"),
        ({"mask_patches": 1.0}, "less than 1"),
    ],
)
def test_wrong_parameters_are_told(wrong, told):
    with pytest.raises(ValidationError, match=told):
        ObjectiveParams(**wrong)
