"""The slow features of the windows around: what they are, and that they are learned."""

import numpy as np
import pytest
import torch

from hbn_foundation.training.data import WindowsOfSubjects
from hbn_foundation.training.model_building import build_encoder
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.objectives.base import Context
from hbn_foundation.training.objectives.make import make_objective
from hbn_foundation.training.params import ObjectiveParams
from runs import run
from small_models import small_encoder

PARAMS = ObjectiveParams(name="slow_prediction", windows_per_recording=6, lag_seconds=4.0)


def test_the_target_is_the_mean_of_the_others_nearby_relative_to_the_recording(store, windows):
    params = EncoderParams(tokens=("band",), hidden_dim=32, n_heads=4, n_layers=1, n_slow=2)
    encoder = build_encoder(params, 100.0, 200).eval()
    encoder.slow.weight.normal_(generator=torch.Generator().manual_seed(0))
    objective = make_objective(PARAMS, encoder)
    table = objective.prepare(windows, Context(100.0, 0))
    subjects = sorted(table["subject"].unique())[:2]
    data = WindowsOfSubjects(store, table, subjects, 200, objective, 0)
    positions = torch.as_tensor(np.array(store.positions), dtype=torch.float32)
    objective.begin(encoder, data.whole(), positions)
    own = np.full((len(table), 2), np.nan)
    with torch.inference_mode():
        for batch in data.whole(7):
            parts = encoder.inputs(batch.signals, positions, batch.mask)
            own[batch.target] = encoder.summary(parts)
    rows, onsets = table["row"].to_numpy(), table["onset"].to_numpy()
    found = objective.around.numpy()[:, 0]
    for number in range(len(table)):
        same = rows == rows[number]
        near = same & (np.abs(onsets - onsets[number]) <= 4.0) & (np.arange(len(table)) != number)
        expected = own[near].mean(0) - own[same].mean(0)
        np.testing.assert_allclose(found[number], expected, rtol=1e-3, atol=1e-3)
    assert np.isnan(found).any(1).mean() > 0  # of subjects that are not asked for


def test_a_window_without_another_nearby_is_left_out(windows):
    objective = make_objective(PARAMS, small_encoder("band", n_slow=2))
    apart = windows.copy()
    last = apart.groupby("row").tail(1).index
    apart.loc[last, "onset"] += 100.0
    table = objective.prepare(apart, Context(100.0, 0))
    assert len(table) == len(windows) - len(last)
    assert table["window_number"].is_unique


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("other", [None, "band_completion", "recording_spectra"])
def test_it_is_learned(store, windows, splits, tmp_path, other, first):
    if other is None:
        params = PARAMS.model_dump()
    elif first:
        params = PARAMS.model_dump() | {"beside": {other: 0.5}}
    else:
        params = PARAMS.model_dump() | {"name": other, "beside": {"slow_prediction": 2.0}}
    _, history = run(
        store, windows, splits, tmp_path, ("band",), params,
        {"epochs": 6, "batch_size": 64, "warmup_steps": 2, "precision": "32"}, n_slow=2,
    )  # fmt: skip
    loss = history["train_loss"]  # five subjects teach the others nothing
    assert loss.iloc[-1] < 0.95 * loss.iloc[0]
    assert history["slow_prediction_loss"].notna().all()
    assert (history.filter(like="trivial_") > 0).all(axis=None)  # each has its targets
    assert history[["trivial_linear", "trivial_slow_mean"]].nunique().eq(1).all()  # not learned
