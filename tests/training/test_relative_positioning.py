"""Pairs of windows: in the same units, and with every window of the recording as a partner."""

import numpy as np
import pytest
import torch

from hbn_foundation.evaluation.spectra import read_batches
from hbn_foundation.signals.batches import WindowBatches
from hbn_foundation.signals.windows import WindowReader
from hbn_foundation.training.objectives.relative_positioning import PairBatches


@pytest.fixture(scope="module")
def scaled(store):
    """The store as if its recordings had other scales, read in the scale of the subject."""
    n = len(store.channel_names)
    scales = [np.full(n, 1e-5 * (1 + row % 2), np.float32) for row in range(len(store.recordings))]
    frame = store._index.assign(scales=scales)
    return type(store).from_table(store.index_path, frame, {**store._metadata, "scale": "subject"})


def test_a_window_is_the_same_as_anchor_as_partner_and_for_the_baselines(
    scaled, windows, monkeypatch
):
    batches = WindowBatches(WindowReader(scaled, 200), windows, 32)
    monkeypatch.setattr(PairBatches, "partners", lambda _, index, __: (index, index % 2))
    for pair in PairBatches(batches, windows, near=400, far=1500, shuffle_seed=None):
        anchor, partner = pair.signals.chunk(2)
        assert torch.equal(anchor, partner)
        assert torch.equal(*pair.mask.chunk(2))
    plain = torch.from_numpy(WindowReader(scaled, 200).read([0], [0]).astype(np.float32))
    measured, _ = next(read_batches(scaled, windows, 200, 8))
    first = next(iter(batches)).signals
    np.testing.assert_array_equal(first[:8].numpy(), measured)
    assert not torch.equal(first[0], plain[0].T)
