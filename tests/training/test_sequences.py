"""Fine-tuning in context: windows are trained and predicted in the sequence of their recordings."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from finetuning_runs import AGE, check_predictions, recipe_of, tune
from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.recipes import Challenge1Recipe
from hbn_foundation.experiments.checks import check_plan
from hbn_foundation.labels.targets import WindowTargets
from hbn_foundation.signals.batches import WindowBatches
from hbn_foundation.signals.context import check_context, pieces, sequences
from hbn_foundation.signals.params import ContextParams
from hbn_foundation.signals.reader import WindowReader
from hbn_foundation.training.data import cut
from hbn_foundation.training.finetuned import load_challenge_model, load_finetuned
from hbn_foundation.training.finetuning_params import PlanParams
from hbn_foundation.training.model_params import EncoderParams, SequenceParams
from hbn_foundation.training.plans import make_plan
from hbn_foundation.training.preview import advice
from hbn_foundation.training.rates import peaks
from hbn_foundation.training.unfreezing import Block
from runs import SMALL

CONTEXT = {"of": "subject", "seconds": 6.0, "denoise": True}  # which changes nothing here
SEQUENCE = "sequence_encoder"


@pytest.fixture(scope="module")
def tuned(short_run, data, tmp_path_factory):
    """Rest against arithmetic, each window beside the others of its subject."""
    return tune(
        short_run[0], data, tmp_path_factory.mktemp("tuned"), context=CONTEXT,
        sequence_encoder={"max_windows": 12},
    )  # fmt: skip


def test_predictions_are_what_validation_scored_whatever_else_is_asked(tuned, data):
    check_predictions(tuned, data)
    assert tuned[1]["accuracy"].max() > 0.7


def test_the_encoder_of_sequences_is_trained_with_the_head_from_the_first_step(tuned):
    checkpoint, history = tuned
    model = load_finetuned(checkpoint)
    assert [name for name, _ in model.blocks()][-2:] == [SEQUENCE, "head"]
    assert history["trainable"].iloc[0].split(",") == [SEQUENCE, "head"]
    assert f"update_{SEQUENCE}" in history
    rates = peaks(
        [Block("a", 1), Block("b", 1), Block(SEQUENCE, 1, is_new=True), Block("head", 1)],
        recipe_of().rates,
    )
    assert rates[SEQUENCE] == rates["head"]
    without = peaks([Block("a", 1), Block("b", 1), Block("head", 1)], recipe_of().rates)
    assert {name: rates[name] for name in without} == without


def test_it_is_no_model_for_single_windows(tuned, data):
    with pytest.raises(UserError, match="the challenge hands out single windows"):
        load_challenge_model(tuned[0], data[0].positions)


def test_a_batch_has_whole_sequences(data):
    store, windows, _ = data
    length = 200
    table = sequences(store, windows.iloc[::2], length, ContextParams(**CONTEXT), 12)
    asked = table.loc[table["window"] >= 0].sort_values("window")
    assert asked[["row", "start"]].to_numpy().tolist() == (
        windows.iloc[::2][["row", "start"]].to_numpy().tolist()
    )
    groups = table.groupby("sequence")
    assert groups.size().max() <= 12
    assert (groups["subject"].nunique() == 1).all()
    assert groups["onset"].apply(lambda part: part.diff().max() <= 60).all()
    batches = WindowBatches(
        WindowReader(store, length), table, 30, shuffle=True, seed=1, drop_last=True
    )
    wanted = {tuple(rows) for rows in pieces(table)}
    longest, seen = max(map(len, wanted)), []
    for batch in batches:
        number = table["sequence"].to_numpy()[batch.index]
        parts = {tuple(batch.index[number == one].tolist()) for one in set(number)}
        assert parts <= wanted
        assert len(parts) == 30 // longest
        seen += parts
    assert len(seen) == len(set(seen)) == len(batches) * (30 // longest)


def test_where_a_recording_is_cut_does_not_depend_on_what_is_asked(data):
    store, windows, _ = data
    between = windows.assign(start=windows["start"] + 50)
    between = between[between["start"] < 3700].reset_index(drop=True)

    def seen_with(asked):
        table = sequences(store, asked, 200, ContextParams(**CONTEXT), 12)
        own = table.loc[table["window"] == 0, "sequence"].item()
        piece = table[(table["sequence"] == own) & (table["tile"] == 1)]
        return piece[["row", "start"]].to_numpy().tolist()

    assert seen_with(between) == seen_with(between.head(1))


def test_where_memory_is_short_sequences_stay_whole(data):
    store, windows, _ = data
    table = sequences(store, windows, 200, ContextParams(of="recording"), 64)
    (batch,) = WindowBatches(WindowReader(store, 200), table, len(table))
    parts = cut(batch, 45)
    numbers = [set(part.places[:, 0].tolist()) for part in parts]
    assert len(parts) > 1
    assert sum(map(len, numbers)) == len(set.union(*numbers))
    assert sorted(torch.cat([part.index for part in parts]).tolist()) == batch.index.tolist()


def test_a_plan_for_the_encoder_of_sequences_is_checked_with_it():
    phases = [{"unfreeze": ["head"], "epochs": 1}, {"unfreeze": [SEQUENCE], "epochs": 1}]
    recipe = recipe_of(context=CONTEXT, plan={"strategy": "phases", "phases": phases})
    targets = WindowTargets(np.array([0, 1]), ("a", "b"))
    check_plan(EncoderParams(**SMALL), recipe, 100.0, 200, targets)
    odd = recipe.model_copy(update={"sequence_encoder": SequenceParams(n_heads=3)})
    with pytest.raises(UserError, match=r"sequence_encoder.n_heads=3: the tokens are 32 wide"):
        check_plan(EncoderParams(**SMALL), odd, 100.0, 200, targets)


def test_what_does_not_go_with_a_context_is_refused():
    with pytest.raises(UserError, match=r"regularisation.mixup=0.2: mixed windows have no place"):
        recipe_of(context=CONTEXT, regularisation={"mixup": 0.2})
    with pytest.raises(UserError, match="challenge hands out single windows; expected window"):
        Challenge1Recipe.model_validate({"context": CONTEXT})
    lines = advice(recipe_of(context=CONTEXT, label=AGE))
    assert [line for line in lines if line.startswith("context.recentre")]


def test_a_span_longer_than_any_recording_is_refused_and_a_context_that_adds_nothing_told(data):
    store = data[0]
    dataset = SimpleNamespace(store=store, n_samples=200)
    with pytest.raises(UserError, match=r"context.seconds=60: the longest recording lasts \d+ s"):
        check_context(dataset, ContextParams(of="recording", seconds=60))
    for of in ("recording", "subject"):  # which has two recordings
        assert check_context(dataset, ContextParams(of=of)) == []
    one_each = SimpleNamespace(recordings=store.recordings.drop_duplicates("subject"))
    (line,) = check_context(SimpleNamespace(store=one_each), ContextParams(of="subject"))
    assert "each subject has one recording" in line
    ranges = store.ranges.drop_duplicates("row")
    few = ranges["stop"].where(ranges["row"] != 1, ranges["start"] + 400)
    dataset.store = SimpleNamespace(recordings=store.recordings, ranges=ranges.assign(stop=few))
    (line,) = check_context(dataset, ContextParams(of="recording"))
    assert f"1 recording of {len(ranges)} with fewer than three windows" in line


def test_phases_that_name_the_encoder_of_sequences_unfreeze_it_then():
    blocks = [Block("a", 1), Block(SEQUENCE, 1, is_new=True), Block("head", 1)]

    def start(*phases: list[str]) -> set[str]:
        listed = [{"unfreeze": names, "epochs": 1} for names in phases]
        return set(make_plan(PlanParams(strategy="phases", phases=listed), blocks, 9).start())

    assert start(["head"], ["all"]) == {SEQUENCE, "head"}
    assert start(["head"], [SEQUENCE], ["a"]) == {"head"}
    assert start([SEQUENCE, "head"], ["a"]) == {SEQUENCE, "head"}
