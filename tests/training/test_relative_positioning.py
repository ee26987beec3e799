"""Pairs of windows: in the same units, and with every window of the recording as a partner."""

import numpy as np
import pytest
import torch

from hbn_foundation.evaluation.spectra import read_batches
from hbn_foundation.models.spatial import DIRECTIONS_10_20
from hbn_foundation.recordings.timeline import Stretch, Timeline
from hbn_foundation.signals.batches import WindowBatches, WindowReader
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.store import store_from_arrays
from hbn_foundation.signals.windows import cut_windows
from hbn_foundation.training.model_building import build_encoder
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.objectives.base import Context
from hbn_foundation.training.objectives.relative_positioning import (
    PairBatches,
    RelativePositioning,
)
from hbn_foundation.training.params import ObjectiveParams
from hbn_foundation.training.pretrain import pretext_scores
from runs import SHORT, run


@pytest.fixture(scope="module")
def scaled(store):
    """The store as if its recordings had other scales, read in the scale of the subject."""
    n = len(store.channel_names)
    scales = [np.full(n, 1e-5 * (1 + row % 2), np.float32) for row in range(len(store.recordings))]
    frame = store._index.assign(scales=scales)
    return type(store)(store.index_path, (frame, {**store._metadata, "scale": "subject"}))


def test_a_window_is_the_same_as_anchor_as_partner_and_for_the_baselines(
    scaled, windows, monkeypatch
):
    batches = WindowBatches(WindowReader(scaled, 200), windows, 32)
    starts = windows["start"].to_numpy()
    monkeypatch.setattr(PairBatches, "partners", lambda _, index, __: (starts[index], index % 2))
    for pair in PairBatches(batches, windows, {}, near=400, far=1500, shuffle_seed=None):
        anchor, partner = pair.signals.chunk(2)
        assert torch.equal(anchor, partner)
        assert torch.equal(*pair.mask.chunk(2))
    plain = torch.from_numpy(WindowReader(scaled, 200).read([0], [0]).astype(np.float32))
    measured, _ = next(read_batches(scaled, windows, 200, 8))
    first = next(iter(batches)).signals
    np.testing.assert_array_equal(first[:8].numpy(), measured)
    assert not torch.equal(first[0], plain[0].T)


def test_recordings_a_little_longer_than_far_give_pairs(store, windows, splits, tmp_path):
    """40 s with far at 34 s: only windows at both ends are anchors, and near ones lie inwards."""
    objective = {"name": "relative_positioning", "near_seconds": 10.0, "far_seconds": 34.0}
    checkpoint, history = run(store, windows, splits, tmp_path, ("band",), objective, trainer=SHORT)
    assert history["validation_loss"].notna().all()
    all_of_it = pretext_scores(checkpoint, store, windows, ["7"])
    assert all_of_it["n_windows"] == 2 * 2 * 3  # recordings, ends, windows of 38 - 34 s
    # thinned windows have their partners still
    few = pretext_scores(checkpoint, store, windows, ["7"], most=3)
    assert few["n_windows"] == 3
    assert np.isfinite(few["loss"])


def test_windows_in_the_middle_are_partners_though_not_anchors(store, windows):
    encoder = build_encoder(EncoderParams(hidden_dim=32, n_heads=4, n_layers=1), 100, 200)
    params = ObjectiveParams(name="relative_positioning", near_seconds=12.0, far_seconds=30.0)
    objective = RelativePositioning(params, encoder)
    usable = objective.prepare(windows, Context(100.0, 0))
    assert usable["start"].between(900, 2900).sum() == 0
    plain = WindowBatches(WindowReader(store, 200), usable, 64, shuffle=True)
    pairs = objective.batches(plain, usable)
    partners, near = pairs.partners(np.arange(len(usable)), np.random.default_rng(0))
    assert ((partners > 900) & (partners < 2900))[near == 1].any()


def test_windows_on_both_sides_of_a_pause_are_far(tmp_path):
    """The pause is no part of the signal, but of the time between them."""
    timeline = Timeline(100.0, (Stretch(0, 1000, 0.0), Stretch(1000, 2000, 70.0)))
    row = {"recording": "r", "subject": "1", "task": "rest", "timeline": timeline}
    names, positions = tuple(DIRECTIONS_10_20), np.array(list(DIRECTIONS_10_20.values()))
    signal = np.ones((2000, len(names)))
    store = store_from_arrays(tmp_path, [(row, signal)], names, positions)
    windows = cut_windows(store, WindowParams(seconds=2, stride=1))
    encoder = build_encoder(EncoderParams(hidden_dim=32, n_heads=4, n_layers=1), 100, 200)
    params = ObjectiveParams(name="relative_positioning", near_seconds=5.0, far_seconds=30.0)
    objective = RelativePositioning(params, encoder)
    usable = objective.prepare(windows, Context(100.0, 0))
    assert len(usable) == len(windows) == 18
    plain = WindowBatches(WindowReader(store, 200), usable, 18)
    partners, near = objective.batches(plain, usable).partners(
        np.arange(18), np.random.default_rng(0)
    )
    same_side = (partners < 1000) == (usable["start"].to_numpy() < 1000)
    assert (same_side == (near == 1)).all()
