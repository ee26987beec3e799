"""An external encoder through pretraining, evaluation and fine-tuning."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from test_pretrain import folders

from finetuning_runs import dataset_of, tune
from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.features import encoder_features
from hbn_foundation.evaluation.params import EvaluationParams
from hbn_foundation.evaluation.tasks.foundation import evaluate_foundation
from hbn_foundation.models.spatial import DIRECTIONS_10_20
from hbn_foundation.signals.reader import WindowReader
from hbn_foundation.training.checkpoint import Checkpoint, load_encoder, random_encoder
from hbn_foundation.training.device import ProbeJob
from hbn_foundation.training.device_trial import compare, make_trial
from hbn_foundation.training.external import check_store
from hbn_foundation.training.finetuned import load_finetuned, predict
from hbn_foundation.training.model_params import EncoderParams
from runs import run
from small_external import SmallBrain

ADAPTER = {"head": "head", "unit": "uV", "scale": 0.1}
EXTERNAL = {"kind": "external", "target": "small_external:SmallBrain", "adapter": ADAPTER}


@pytest.fixture(scope="module")
def published(store, windows, splits, tmp_path_factory):
    """A checkpoint of weights of a file, that folder, and the file's weights."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(4)
    names = [{"ch_name": name} for name in store.channel_names]
    weights = SmallBrain(n_outputs=3, chs_info=names, n_times=200).state_dict()
    torch.save(weights, folder / "weights.pt")
    encoder = {**EXTERNAL, "weights": str(folder / "weights.pt")}
    checkpoint, history = run(
        store, windows, splits, folder / "run", objective={"name": "none"}, **encoder
    )
    assert history.empty
    assert folders(folder / "run") == ["best"]
    return checkpoint, weights, folder


def test_published_weights_become_a_checkpoint_that_has_seen_nobody(published):
    checkpoint, weights, folder = published
    assert checkpoint.metadata["training_subjects"] == checkpoint.metadata["validation_subjects"]
    assert checkpoint.metadata["training_subjects"] == []
    assert json.loads(json.dumps(checkpoint.metadata))["objective"] == "none"
    (folder / "weights.pt").rename(folder / "gone.pt")  # it is needed no more
    saved = Checkpoint.load(checkpoint.save(folder / "saved"))
    for found in (checkpoint, saved):
        state = load_encoder(found).module.state_dict()
        assert {name: torch.equal(value, weights[name]) for name, value in state.items()}
    other = random_encoder(checkpoint)
    assert not torch.equal(other.module.embed[0].weight, weights["embed.0.weight"])


def test_signals_reach_the_module_in_microvolts(published, store, windows):
    encoder, few = load_encoder(published[0]), windows.iloc[::40].reset_index(drop=True)
    found = encoder_features({"own": encoder}, store, few, 16)["own"]
    rows, starts = few["row"].to_numpy(), few["start"].to_numpy()
    volts, mask = WindowReader(store, 200, "volts").read_scaled(rows, starts)
    assert mask.all()
    with torch.no_grad():
        out = encoder.module(1e5 * volts, return_features=True)["features"].flatten(1)
    np.testing.assert_allclose(found, out.numpy(), atol=1e-4)


def test_a_frozen_probe_reads_it_and_baselines_of_its_input_are_left_out(
    published, store, windows, splits, caplog
):
    params = EvaluationParams(
        baselines=("random_weights", "encoder_input", "band_power"), bootstraps=0
    )
    found = evaluate_foundation(published[0], dataset_of((store, windows, splits)), params)
    assert set(found.scores["method"]) == {"pretrained", "random_weights", "band_power"}
    assert np.isfinite(found.scores.loc[found.scores["method"] == "pretrained", "value"]).any()
    assert found.metrics["pretext"] == {"validation": {"n_windows": 0}, "test": {"n_windows": 0}}


def test_two_phase_fine_tuning_trains_its_blocks(published, store, windows, splits, tmp_path):
    data = (store, windows, splits)
    tuned, history = tune(published[0], data, tmp_path, trainer={"epochs": 3})
    assert history["phase"].nunique() == 2
    before, after = published[1], load_finetuned(tuned).encoder.module.state_dict()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert "decoder.weight" not in moved
    assert tuned.metadata["best_epoch"] < 3 or "encoder.layers.0.linear1.weight" in moved
    few = windows.iloc[:8]
    answers = predict(tuned, store, few)
    assert answers.shape == (8, 2)
    np.testing.assert_allclose(answers, predict(tuned, store, few, 4), atol=1e-5)
    with pytest.raises(UserError, match=r"input.unit=volts: it gives z-scores, and the encoder"):
        tune(published[0], data, tmp_path / "volts", input={"unit": "volts"})


def test_an_objective_of_labels_trains_it(published, store, windows, splits, tmp_path):
    objective = {"name": "task_classification", "hide_probability": 0.3}
    trained, history = run(store, windows, splits, tmp_path, objective=objective, **EXTERNAL)
    assert len(history) == 2
    assert trained.metadata["training_subjects"] == ["0", "1", "2", "3", "4"]
    started = random_encoder(trained).module.state_dict()
    moved = {n for n, value in load_encoder(trained).module.state_dict().items()
             if not torch.equal(value, started[n])}  # fmt: skip
    assert {"embed.0.weight", "encoder.layers.0.linear1.weight", "proj_out.weight"} <= moved
    assert "decoder.weight" not in moved


def test_recordings_of_a_lower_rate_are_refused_and_another_band_is_said():
    def params(**adapter):
        return EncoderParams.model_validate({**EXTERNAL, "adapter": adapter})

    recordings = pd.DataFrame({"recording": ["a", "b"], "sfreq_file": [500.0, 100.0]})
    places = np.array([DIRECTIONS_10_20[name] for name in ("Fp1", "Cz")])
    store = SimpleNamespace(
        recordings=recordings, cleaning={"l_freq": 0.5, "h_freq": 50.0}, positions=places
    )
    assert not list(check_store(params(sfreq=100, channels=["Cz"]), store))
    with pytest.raises(UserError, match=r"made for 200 Hz, and 1 of 2 recordings .*\(b: 100 Hz\)"):
        list(check_store(params(sfreq=200), store))
    said = list(check_store(params(h_freq=75, l_freq=0.5, channels=["Fp1", "O1"]), store))
    assert said[0].endswith("ingestion.cleaning.h_freq=75, which is 50 here")
    assert said[1].startswith("O1 is taken from a channel")
    assert len(said) == 2


def test_a_device_is_tried_with_it():
    encoder = EncoderParams.model_validate(EXTERNAL)
    objective = {"name": "task_classification"}
    job = ProbeJob(encoder=encoder, objective=objective, trainer={"batch_size": 4}, n_channels=19)
    assert max(compare(make_trial(job, "32-true"), "cpu").values()) == 0
