"""What a training logs beside its history: the same numbers, once each, whatever happens to it."""

from __future__ import annotations

import importlib.util

import pandas as pd
import pytest

from finetuning_runs import recipe_of
from hbn_foundation.errors import UserError
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.params import RunParams
from hbn_foundation.training.pretrain import PretrainingJob
from runs import CPU, SHORT, Killed, pretraining_recipe, run_until, same


@pytest.fixture
def train(store, windows, splits, tmp_path):
    """Train to a beat of the supervisor, or to the end, and log to `kind`."""

    def train(kind, folder, last=None):
        trainer = {"epochs": 3, "tracking": kind, "work_dir": f"{tmp_path}/foundation_training"}
        recipe = pretraining_recipe(
            encoder={"tokens": ("band",)},
            objective={"name": "recording_spectra"},
            trainer={**SHORT, **trainer},
        )
        dataset = EEGDataset(store, windows, splits, pd.DataFrame())
        return run_until(PretrainingJob(dataset, recipe, CPU), tmp_path / folder, last)

    return train


def check_logged(table: pd.DataFrame, history: pd.DataFrame) -> None:
    """The last epochs of a run, by epoch: the numbers of its history."""
    for name in ("train_loss", "validation_loss"):
        expected = history.set_index("epoch")[name]
        assert table[name].to_dict() == pytest.approx(expected[table.index].to_dict(), rel=1e-5)


def test_csv_has_each_epoch_once_and_changes_no_weight(train, tmp_path):
    checkpoint, history, sections = train("csv", "whole")
    assert same(checkpoint.weights, train("none", "untracked")[0].weights)
    (place,) = (tmp_path / "tracking" / "foundation").iterdir()
    table = pd.read_csv(place / "metrics.csv")
    assert table["step"].tolist() == [1, 2, 3]
    check_logged(table.set_index("step"), history)
    assert {"lr_band_tokens", "lr_block_1", "lr_objective"} < set(table)
    written = (place / "hparams.yaml").read_text()
    assert "trainer.epochs: 3" in written
    assert "encoder.hidden_dim:" in written
    # killed in the second epoch, then in the third, and resumed
    steps = [n for n, name in enumerate(sections) if name == "evaluation"]
    for last in (steps[1], steps[-1]):
        with pytest.raises(Killed):
            train("csv", "killed", last)
    again = train("csv", "killed")
    assert same(again[0].weights, checkpoint.weights)
    resumed = pd.read_csv(place / "metrics.csv")
    assert resumed["step"].tolist() == [1, 2, 3]
    pd.testing.assert_frame_equal(
        resumed.filter(regex="loss|lr_"), table.filter(regex="loss|lr_"), check_exact=False
    )


def test_tensorboard_has_each_epoch(train, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(Killed):
        train("tensorboard", "run", 12)
    _, history, _ = train("tensorboard", "run")
    (place,) = (tmp_path / "tracking" / "foundation").iterdir()
    found = EventAccumulator(str(place)).Reload()
    losses = {
        name: {event.step: event.value for event in found.Scalars(name)}
        for name in ("train_loss", "validation_loss")
    }
    assert len(found.Scalars("train_loss")) == 3
    check_logged(pd.DataFrame(losses), history)


def test_mlflow_has_one_run_with_parameters(train, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Killed):
        train("mlflow", "run", 12)
    _, history, _ = train("mlflow", "run")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/tracking/mlflow.db")
    experiment = client.get_experiment_by_name("foundation")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["trainer.epochs"] == "3"
    losses = {
        name: {one.step: one.value for one in client.get_metric_history(run.info.run_id, name)}
        for name in ("train_loss", "validation_loss")
    }
    check_logged(pd.DataFrame(losses), history)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "tracking"]


def test_no_key_depends_on_it():
    tracked = recipe_of(trainer={"tracking": "csv"})
    assert tracked.identity() == recipe_of().identity()
    assert "tracking" not in str(tracked.identity())


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_a_missing_library_is_one_line_that_names_the_extra(kind, monkeypatch):
    monkeypatch.setattr("hbn_foundation.training.params.find_spec", lambda _: None)
    assert importlib.util.find_spec("lightning")
    with pytest.raises(
        UserError, match=rf"tracking='{kind}'.*hbn-foundation\[tracking\]"
    ) as caught:
        RunParams.model_validate({"tracking": kind})
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="'none', 'csv', 'tensorboard' or 'mlflow'"):
        RunParams.model_validate({"tracking": "wandb"})
