"""The slowness of the encoder's outputs: what it measures, from where it begins, what it learns."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hbn_foundation.errors import UserError
from hbn_foundation.signals.batches import Batch
from hbn_foundation.training.data import WindowsOfSubjects, thinned
from hbn_foundation.training.model_building import build_encoder
from hbn_foundation.training.model_params import EncoderParams
from hbn_foundation.training.objectives.base import Context, TrainingWindows
from hbn_foundation.training.objectives.make import make_objective
from hbn_foundation.training.objectives.slow_features import drifts, slowness
from hbn_foundation.training.params import ObjectiveParams
from hbn_foundation.training.pretrain import pretext_scores
from hbn_foundation.training.recipes import PretrainingRecipe
from hbn_foundation.training.slow_features import LinearSlowFeatures
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


@settings(max_examples=25)
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


def test_a_trend_is_told_and_can_be_left_out_of_the_loss():
    """By loops: what a line through each recording explains, and what is left without it."""
    outputs = torch.randn(len(PLACES), 2, generator=torch.Generator().manual_seed(0)).double()
    outputs[:, 0] += 0.3 * PLACES[:, 2]
    left = outputs.clone()
    for one in range(3):
        own = PLACES[:, 0] == one
        line = np.polyfit(PLACES[own, 2], outputs[own], 1)
        left[own] -= torch.from_numpy(np.outer(PLACES[own, 2], line[0]))
    centred = [part - torch.stack([part[PLACES[:, 0] == n].mean(0) for n in PLACES[:, 0]])
               for part in (outputs, left)]  # fmt: skip
    expected = 1 - centred[1].square().sum(0) / centred[0].square().sum(0)
    shares = torch.stack([*drifts(outputs, PLACES).values()])
    torch.testing.assert_close(shares, expected.float(), rtol=1e-3, atol=1e-3)
    found = slowness(outputs, PLACES, 6.0, detrend=True)
    torch.testing.assert_close(found, slowness(left, PLACES, 6.0), rtol=1e-3, atol=1e-3)
    assert float(slowness(outputs, PLACES, 6.0)) < float(found)  # the drift passes for slow


def test_across_a_subject_what_separates_recordings_counts_and_pairs_stay_in_them():
    together = PLACES.clone()
    together[:, 0] = 0
    outputs = torch.randn(len(PLACES), 1, generator=torch.Generator().manual_seed(0))
    task = 20 * PLACES[:, 1:2]
    alone = slowness(outputs, PLACES, 6.0)
    torch.testing.assert_close(slowness(outputs + task, PLACES, 6.0), alone, rtol=1e-3, atol=1e-3)
    assert float(slowness(outputs + task, together, 6.0)) < 0.05 * float(alone)


def test_recordings_are_dealt_out_in_pairs_over_their_whole_length(windows):
    objective = make_objective(PARAMS, small_encoder("band", n_slow=2))
    table = objective.prepare(windows, Context(100.0, 0))
    assert len(table) == len(windows)
    for _, part in table.groupby("sequence"):
        assert part["row"].nunique() == 1
        assert len(part) <= 6
        gaps = part["onset"].diff().iloc[1::2]
        assert (gaps == 2.0).all()  # each with its neighbour
    moved = make_objective(
        PARAMS.model_copy(update={"jitter_seconds": 0.6}), small_encoder("band", n_slow=2)
    )
    with pytest.raises(UserError, match=r"moved by 0.6 s at most \(objective.jitter_seconds\)"):
        moved.prepare(windows, Context(100.0, 0))
    with pytest.raises(UserError, match="needs four windows of a recording"):
        objective.prepare(windows.groupby("row").head(3), Context(100.0, 0))


def test_recordings_are_long_enough_for_the_lag_and_those_left_out_are_told(windows, caplog):
    caplog.set_level("INFO")
    short = windows[(windows["row"] != 1) | (windows["start"] < 600)]
    encoder = small_encoder("band", n_slow=2)
    table = make_objective(PARAMS, encoder).prepare(short, Context(100.0, 0))
    assert set(windows["row"]) - set(table["row"]) == {1}
    assert f"leaves out 1 recording of {windows['row'].nunique()}, which" in caplog.text
    for lag in (1.0, 1000.0):
        objective = make_objective(PARAMS.model_copy(update={"lag_seconds": lag}), encoder)
        with pytest.raises(UserError, match=rf"objective.lag_seconds: {lag:g}, but .* begin 2 to"):
            objective.prepare(windows, Context(100.0, 0))
    across = PARAMS.model_copy(update={"across": "subject", "lag_seconds": 1000.0})
    assert len(make_objective(across, encoder).prepare(windows, Context(100.0, 0))) == len(windows)


def test_slow_outputs_that_nothing_trains_are_refused():
    encoder = {"n_slow": 2}
    with pytest.raises(UserError, match=r"name=band_completion trains no slow outputs"):
        PretrainingRecipe.model_validate({"encoder": encoder})
    for objective in ({"name": "none"}, {"beside": {"slow_features": 0.1}}):
        PretrainingRecipe.model_validate({"encoder": encoder, "objective": objective})


def test_recordings_of_a_subject_come_together_where_asked(windows):
    params = PARAMS.model_copy(update={"across": "subject"})
    both = pd.concat([windows, windows.assign(row=windows["row"] + 100)], ignore_index=True)
    table = make_objective(params, small_encoder("band", n_slow=2)).prepare(both, Context(100.0, 0))
    for _, part in table.groupby("sequence"):
        assert part["subject"].nunique() == 1
        assert part["row"].nunique() == part["part"].nunique() > 1


def test_of_a_long_and_a_short_recording_of_a_subject_each_piece_has_its_share(windows):
    params = PARAMS.model_copy(update={"across": "subject"})
    short = windows.groupby("row").head(8)
    both = pd.concat([windows, short.assign(row=short["row"] + 100)], ignore_index=True)
    table = make_objective(params, small_encoder("band", n_slow=2)).prepare(both, Context(100.0, 0))
    shares = table.groupby("sequence")["row"].apply(lambda rows: (rows >= 100).mean())
    assert shares.between(0.1, 0.5).all()


@pytest.mark.parametrize(
    ("across", "group", "size"), [("subject", "subject", 48), ("recording", "row", 6)]
)
def test_linear_features_have_pairs_of_whole_recordings(store, windows, across, group, size):
    """Windows of two recordings are not near each other, those of two pieces of one are."""
    changes = {"across": across, "windows_per_recording": size, "lag_seconds": 4.0}
    params = PARAMS.model_copy(update=changes)
    shape = EncoderParams(tokens=("band",), hidden_dim=32, n_heads=4, n_layers=1, n_slow=2)
    encoder = build_encoder(shape, 100.0, 200).eval()
    objective = make_objective(params, encoder)
    table = objective.prepare(windows, Context(100.0, 0))
    data = WindowsOfSubjects(store, table, ["0", "1"], 200, objective, 0)
    positions = torch.as_tensor(np.array(store.positions), dtype=torch.float32)
    with torch.no_grad():
        objective.fit(encoder, TrainingWindows(data.whole(), positions, {}))
        tangents = torch.cat([
            encoder.band.tangents(batch.signals, positions, batch.mask) for batch in data.whole()
        ]).flatten(1).numpy()  # fmt: skip
    own = data.windows
    model = LinearSlowFeatures(2, 4.0).fit(
        tangents, recordings=own["row"], onsets=own["onset"], groups=own[group]
    )
    np.testing.assert_allclose(objective.slowness, model.slowness_, rtol=1e-4)


def test_it_needs_slow_outputs():
    with pytest.raises(UserError, match=r"encoder.n_slow is 0 .* set encoder.n_slow"):
        make_objective(PARAMS, small_encoder("band"))


def test_it_stands_beside_another_objective_with_a_weight():
    with pytest.raises(ValueError, match="beside: masked does not go with band_completion"):
        ObjectiveParams(name="band_completion", beside={"masked": 1.0})


@pytest.mark.parametrize("beside", [{}, {"band_completion": 0.5}])
def test_training_begins_at_the_linear_method_and_goes_below(
    store, windows, splits, tmp_path, beside
):
    checkpoint, history = run(
        store, windows, splits, tmp_path, ("band",), PARAMS.model_dump() | {"beside": beside},
        {"epochs": 6, "batch_size": 64, "warmup_steps": 2, "precision": "32"}, n_slow=2,
    )  # fmt: skip
    loss = history["train_loss"]  # five subjects teach the others nothing
    assert loss.iloc[-1] < 0.95 * loss.iloc[0]
    assert history["slow_loss"].iloc[0] == pytest.approx(history["trivial_linear"].iloc[0], rel=0.1)
    if beside:
        total = history["slow_loss"] + 0.5 * history["band_loss"]
        np.testing.assert_allclose(history["validation_loss"], total, rtol=1e-4)
    assert history[["drift_1", "drift_2"]].stack().between(0, 1).all()
    assert {"encoder.slow.gain", "encoder.slow.beside.weight"} <= set(checkpoint.weights)
    # of some windows those of whole sequences, which have neighbours
    some = pretext_scores(checkpoint, store, windows, ["5", "6", "7"], most=18)
    assert some["n_windows"] <= 18
    assert some["trivial_linear"] > 1.0


def test_a_batch_that_must_stay_whole_has_fewer_windows_where_memory_is_short():
    index = torch.arange(20)
    batch = Batch(torch.zeros(20, 1, 4), torch.ones(20, 1) > 0, index)
    assert thinned(batch, 20) is batch
    few = thinned(batch, 9)
    assert 2 <= len(few) <= 9
    assert few.index.tolist() == [0, 1, 6, 7, 12, 13, 18, 19]
