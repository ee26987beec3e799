"""Predictions for files are those of the pipelines, as a table and as a figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from embedding.as_pipeline import changed, first_subject
from finetuning_runs import AGE, tune
from hbn_foundation.cli import cli
from hbn_foundation.embedding.embedder import Embedder
from hbn_foundation.embedding.prediction import predict_recordings
from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.figures.over_time import over_time_figure
from hbn_foundation.labels.participants import read_participants
from hbn_foundation.training.checkpoint import Checkpoint
from hbn_foundation.training.finetuned import predict
from recordings.eeg_files import noise, raw_array

TASKS = ("RestingState", "contrastChangeDetection")
ONCE = {"epochs": 1, "batch_size": 64}
HEAD = {"strategy": "head_only", "phase1_epochs": 1}


@pytest.fixture(scope="module")
def tuned(version, tiny_data, tiny_bids, tmp_path_factory):
    """Fine-tune the small model for a label."""

    def make(**groups):
        people = read_participants(tiny_bids, tiny_data[2]["subject"])
        folder, base = tmp_path_factory.mktemp("tuned"), Checkpoint.load(version)
        given = {"participants": people, "plan": HEAD, "trainer": ONCE, **groups}
        checkpoint, _ = tune(base, tiny_data, folder / "work", **given)
        return checkpoint, str(checkpoint.save(folder / "model"))

    return make


@pytest.fixture(scope="module")
def of_task(tuned):
    """With a context, so that a window's probability depends on the windows around."""
    return tuned(label={"kind": "task"}, context={"of": "recording", "seconds": 6})


def test_probabilities_are_those_of_the_pipeline_in_context(of_task, tiny_data, tiny_bids):
    checkpoint, folder = of_task
    store, windows, _ = tiny_data
    windows = windows[windows["subject"] == windows["subject"].iloc[0]].reset_index(drop=True)
    expected = np.exp(predict(checkpoint, store, windows))
    found = predict_recordings(folder, first_subject(tiny_bids))
    assert found["recording"].tolist() == windows["recording"].tolist()
    assert list(found)[3:] == [f"p({name})" for name in TASKS]
    np.testing.assert_allclose(found.iloc[:, 3:], expected, atol=1e-5)


def test_numbers_are_predicted_in_their_unit_from_volts(tuned, tiny_data, tiny_bids):
    checkpoint, folder = tuned(
        label=AGE, trainer=ONCE | {"monitor": "mae"}, input={"unit": "volts"}
    )
    store, windows, _ = tiny_data
    windows = windows[windows["row"] == 0].reset_index(drop=True)
    found = predict_recordings(folder, first_subject(tiny_bids)[0])
    assert list(found)[3:] == ["predicted"]
    np.testing.assert_allclose(found["predicted"], predict(checkpoint, store, windows), atol=1e-4)
    assert np.isfinite(Embedder(folder).embed(first_subject(tiny_bids)[0])).all()
    with pytest.raises(UserError, match="takes volts of its own 129 channels, and does not know F"):
        predict_recordings(folder, raw_array(noise(14, 1000, 100.0), 100.0))


def test_what_predicts_nothing_here_says_why(version, of_task, tmp_path):
    with pytest.raises(UserError, match="it was pretrained and predicts nothing"):
        predict_recordings(str(version), "somewhere")
    parameters = of_task[0].metadata["parameters"]
    label = {**parameters["label"], "kind": "trial", "column": "rt"}
    there = changed(of_task[1], tmp_path / "m", parameters={**parameters, "label": label})
    with pytest.raises(UserError, match=r"its label \(rt\) is of windows at a fixed time"):
        predict_recordings(str(there), "somewhere")


def command(*arguments) -> str:
    result = CliRunner().invoke(cli, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_writes_table_and_figure(of_task, tiny_bids, tmp_path):
    file, table = first_subject(tiny_bids)[0], tmp_path / "p.tsv"
    said = command("predict", file, "-o", table, "--checkpoint", of_task[1])
    rows = pd.read_csv(table, sep="\t")
    assert f"{len(rows)} windows of 1 recording" in said
    assert f"Results: {table}, {tmp_path / 'p.png'}" in said
    assert said.splitlines()[-1].startswith("Next: hbn-foundation embed")
    np.testing.assert_allclose(rows.iloc[:, 3:].sum(1), 1, atol=1e-4)
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_the_command_embeds_what_can_be_used(version, tiny_bids, tmp_path):
    file, broken = first_subject(tiny_bids)[0], tmp_path / "broken.edf"
    broken.write_bytes(b"0")
    table = tmp_path / "f.parquet"
    said = command("embed", file, broken, "-o", table, "--checkpoint", version, "--jobs", 0)
    rows = pd.read_parquet(table)
    assert list(rows)[:3] == ["subject", "recording", "start"]
    assert f"{len(rows)} windows of 1 recording, {rows.shape[1] - 3} features each" in said
    assert "Next: python -c" in said
    result = CliRunner().invoke(cli, ["embed", str(file), "-o", "f.csv"])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "expected a name that ends with .parquet" in result.output


def test_lines_end_at_gaps_and_the_second_class_is_drawn():
    start = np.array([0.0, 2, 4, 20, 22])
    table = pd.DataFrame({"recording": "a", "start": start, "p(x)": 0.25, "p(y)": 0.75})
    (panel,) = over_time_figure(table).axes
    (line,) = panel.get_lines()
    assert np.isnan(line.get_ydata()).tolist() == [False] * 3 + [True] + [False] * 2
    assert np.nanmax(line.get_ydata()) == 0.75
    more = [table.assign(recording=str(k), predicted=1.0) for k in range(9)]
    numbers = pd.concat(more)[["recording", "start", "predicted"]]
    assert len(over_time_figure(numbers).axes) == 8
