"""The slowness of the encoder's outputs: what it measures, from where it begins, what it learns."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.signals.batches import Batch
from hbn_foundation.training.data import thinned
from hbn_foundation.training.objectives.base import Context
from hbn_foundation.training.objectives.make import make_objective
from hbn_foundation.training.objectives.slow_features import slowness
from hbn_foundation.training.params import ObjectiveParams
from runs import run
from small_models import small_encoder

PARAMS = ObjectiveParams(name="slow_features", windows_per_recording=6)


def places_of(*onsets: list[float]) -> torch.Tensor:
    rows = [(number, number, onset, 1) for number, part in enumerate(onsets) for onset in part]
    return torch.tensor(rows, dtype=torch.float32)


PLACES = places_of([0, 2, 4, 30, 32], [0, 2, 8, 10], [0, 2, 4, 6, 8, 10, 12])


def naive(outputs: np.ndarray, lag: float) -> float:
    """The same by loops over recordings and pairs."""
    sequence, onset = PLACES[:, 0].numpy(), PLACES[:, 2].numpy()
    within, changes = np.zeros((2, outputs.shape[1], outputs.shape[1]))
    n_pairs = 0
    for one in np.unique(sequence):
        own, time = outputs[sequence == one], onset[sequence == one]
        centred = own - own.mean(0)
        within += centred.T @ centred
        for i in range(len(own)):
            for j in range(i):
                if time[i] - time[j] <= lag:
                    changes += np.outer(own[i] - own[j], own[i] - own[j])
                    n_pairs += 1
    within, changes = within / len(outputs), changes / n_pairs
    return np.mean(
        [np.trace(np.linalg.solve(within[:k, :k], changes[:k, :k])) / k
         for k in range(1, len(within) + 1)]
    )  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 99), st.sampled_from([2.0, 6.0, 40.0]))
def test_it_is_the_change_between_near_windows_by_the_variance_in_recordings(seed, lag):
    outputs = np.random.default_rng(seed).standard_normal((len(PLACES), 3)) * [1, 5, 0.2]
    found = float(slowness(torch.tensor(outputs, dtype=torch.float32), PLACES, lag))
    assert found == pytest.approx(naive(outputs, lag), rel=0.01)


def test_traits_scales_and_order_in_a_batch_do_not_count():
    outputs = torch.randn(len(PLACES), 3, generator=torch.Generator().manual_seed(0))
    expected = slowness(outputs, PLACES, 6.0)
    trait = 20 * torch.randn(3, 3)[PLACES[:, 0].long()]
    order = torch.randperm(len(PLACES))
    for changed, places in (
        (outputs + trait, PLACES),
        (outputs * torch.tensor([3.0, 0.1, 7.0]), PLACES),
        (outputs[order], PLACES[order]),
    ):
        torch.testing.assert_close(slowness(changed, places, 6.0), expected, rtol=1e-3, atol=1e-3)


def test_recordings_are_dealt_out_in_pairs_over_their_whole_length(windows):
    objective = make_objective(PARAMS, small_encoder("band", n_slow=2))
    table = objective.prepare(windows, Context(100.0, 0))
    assert len(table) == len(windows)
    for _, part in table.groupby("sequence"):
        assert part["row"].nunique() == 1
        assert len(part) <= 6
        gaps = part["onset"].diff().iloc[1::2]
        assert (gaps == 2.0).all()  # each with its neighbour
    with pytest.raises(UserError, match="needs four windows of a recording"):
        objective.prepare(windows.groupby("row").head(3), Context(100.0, 0))


def test_it_needs_slow_outputs():
    with pytest.raises(UserError, match=r"encoder.n_slow is 0 .* set encoder.n_slow"):
        make_objective(PARAMS, small_encoder("band"))


def test_training_begins_at_the_linear_method_and_goes_below(store, windows, splits, tmp_path):
    checkpoint, history = run(
        store, windows, splits, tmp_path, ("band",), PARAMS.model_dump(),
        {"epochs": 6, "batch_size": 64, "warmup_steps": 2, "precision": "32"}, n_slow=2,
    )  # fmt: skip
    assert history["slow_loss"].min() < history["trivial_linear"].iloc[0] < 2.0
    assert {"encoder.slow.linear.weight", "encoder.slow.beside.weight"} <= set(checkpoint.weights)


def test_a_batch_that_must_stay_whole_has_fewer_windows_where_memory_is_short():
    index = torch.arange(20)
    batch = Batch(torch.zeros(20, 1, 4), torch.ones(20, 1) > 0, index)
    assert thinned(batch, 20) is batch
    few = thinned(batch, 9)
    assert 2 <= len(few) <= 9
    assert few.index.tolist() == [0, 1, 6, 7, 12, 13, 18, 19]
