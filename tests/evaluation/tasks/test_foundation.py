"""Evaluating a checkpoint, end to end on a small store."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.embedding import embedding_map
from hbn_foundation.evaluation.features import encoder_features
from hbn_foundation.evaluation.frame import scores_of
from hbn_foundation.evaluation.pretext import improvements, pretext_scores
from hbn_foundation.evaluation.report.foundation import foundation_report
from hbn_foundation.evaluation.sample import labelled_windows
from hbn_foundation.evaluation.tasks.foundation import evaluate_foundation, objective_advice
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.scores import auroc
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.training.checkpoint import load_encoder
from hbn_foundation.training.linear_probe import Cases, fit_probe
from hbn_foundation.training.model_building import build_encoder
from hbn_foundation.training.model_params import EncoderParams


@pytest.fixture(scope="module")
def dataset(toy) -> EEGDataset:
    return EEGDataset(*toy)


@pytest.fixture(scope="module")
def scored(dataset, pretrained, quick):
    return evaluate_foundation(pretrained[0], dataset, quick)


def test_every_method_is_scored_on_the_same_windows(scored, toy, quick):
    metrics, scores, predictions = scored
    methods = {"pretrained", *quick.baselines}
    assert set(scores["method"]) == set(metrics["probe"]) == methods
    test = toy.splits.loc[toy.splits["split"] == "test", "subject"]
    n_windows = toy.windows["subject"].isin(test).sum()
    for of_method in metrics["probe"].values():
        assert np.sum(of_method["confusion_matrix"]) == n_windows
    assert set(scores["n_windows"]) == {n_windows}
    assert len(predictions) == n_windows
    assert set(predictions["subject"]) == set(test)
    assert metrics["windows"]["test"] == n_windows
    assert metrics["recordings"] == {"train": 18, "validation": 6, "test": 6}
    found = scores_of(scores, "window_auroc")
    assert found["band_power"] > 0.75
    assert found["filter_bank"] > 0.75
    assert found["pretrained"] > 0.7
    assert found["majority"] == scores_of(scores, "recording_auroc")["majority"] == 0.5


def test_metrics_are_plain_json_and_the_same_twice(scored, dataset, pretrained, quick):
    text = json.dumps(scored.metrics, allow_nan=False)
    assert json.loads(text) == scored.metrics
    pretext = scored.metrics["pretext"]["test"]
    trivial = min(pretext[f"trivial_{name}"] for name in ("copy", "band_mean"))
    assert pretext["improvement"] == pytest.approx(1 - pretext["loss"] / trivial)
    beside = {"loss": 1, "slow_prediction_loss": 0.1, "trivial_linear": 0.2,
              "trivial_slow_mean": 0.5, "band_loss": 1, "trivial_copy": 0.5}  # fmt: skip
    assert improvements(beside)["improvement"] == 0.5  # of the main one, not of that beside it
    assert evaluate_foundation(pretrained[0], dataset, quick).metrics == scored.metrics


def test_a_pretext_that_the_windows_do_not_serve_is_left_out(dataset, pretrained, quick, caplog):
    caplog.set_level("INFO")
    checkpoint, *_ = pretrained
    parameters = checkpoint.metadata["parameters"]
    slow = {**parameters, "objective": parameters["objective"] | {"name": "slow_prediction"},
            "encoder": parameters["encoder"] | {"n_slow": 2}}  # fmt: skip
    encoder = build_encoder(
        EncoderParams.model_validate(slow["encoder"]), dataset.sfreq, dataset.n_samples
    )
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    there = replace(checkpoint, metadata={**checkpoint.metadata, "parameters": slow},
                    weights=weights)  # fmt: skip
    few = dataset.replace(windows=dataset.windows.groupby("row").head(3))
    assert pretext_scores(there, few, quick)["test"] == {"n_windows": 0.0}
    assert "pretext on test subjects not scored: objective: slow_prediction" in caplog.text


def test_predictions_and_map_are_complete(scored, dataset, pretrained, quick, monkeypatch):
    probabilities = scored.predictions[["p(count)", "p(rest)"]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1)
    names = np.array(["count", "rest"])
    assert (names[probabilities.argmax(1)] == scored.predictions["predicted"]).all()
    places = embedding_map(pretrained[0], dataset, quick)
    assert set(places["split"]) == {"train", "validation", "test"}
    assert places[["x", "y"]].notna().all(axis=None)
    assert len(places) == len(dataset.windows)
    monkeypatch.setattr("hbn_foundation.evaluation.embedding.MOST_WINDOWS", 30)
    assert len(embedding_map(pretrained[0], dataset, quick)) == 30


def test_another_objective_is_advised_where_validation_subjects_speak_for_it():
    line = objective_advice({"pretrained": 0.83, "slow_features": 0.9}, has_slow=False)
    assert "reached AUROC 0.900, the pretrained encoder 0.830" in line
    assert "objective.name=slow_prediction with foundation.encoder.n_slow=5" in line
    line = objective_advice({"pretrained": 0.6, "encoder_input": 0.8}, has_slow=True)
    assert "objective.name=band_completion with foundation.encoder.n_slow=0" in line
    for ours in (0.9, 0.895, np.nan):
        assert objective_advice({"pretrained": ours, "slow_features": 0.9}, has_slow=False) == ""


def test_shuffled_labels_fall_to_chance(toy, pretrained, quick):
    """What the probe gives on permuted labels surrounds .5; what it gives on the true is above."""
    true = labelled_windows(toy.windows, toy.splits, toy.participants, quick)
    encoders = {"pretrained": load_encoder(pretrained[0])}
    features = encoder_features(encoders, toy.store, true.table, 64)["pretrained"]
    splits = true.table["split"].to_numpy(str)
    test = splits == "test"

    def area(table: pd.DataFrame) -> float:
        values = table["label"].to_numpy()
        probe = fit_probe(features, Cases(values, splits), 2, (0.01,))
        return auroc(values[test], probe.log_probabilities(features[test]))

    shuffled = []
    for seed in range(20):
        control = quick.model_copy(update={"shuffle_labels": True, "seed": seed})
        labels = labelled_windows(toy.windows, toy.splits, toy.participants, control)
        shuffled.append(area(labels.table))
    low, high = np.nanquantile(shuffled, [0.025, 0.975])
    assert low < 0.5 < high
    assert abs(np.nanmedian(shuffled) - 0.5) < 0.15
    assert area(true.table) > high


def test_test_subjects_of_one_class_have_no_score(dataset, pretrained, quick):
    """All test subjects are older than the median of the training subjects: no crash."""
    label = LabelParams(kind="participant", column="age")
    params = quick.model_copy(update={"label": label, "baselines": ("majority",)})
    metrics, scores, _ = evaluate_foundation(pretrained[0], dataset, params)
    assert np.isnan(list(scores_of(scores, "window_auroc").values())).all()
    assert metrics["probe"]["pretrained"]["window_auroc"] is None
    assert metrics["probe"]["majority"]["balanced_accuracy"] is None
    assert metrics["label"]["classes"] == ["age ≤ 9", "age > 9"]
    assert metrics["missing"]["score"] == "the test subjects have one class of age only (age > 9)"
    assert metrics["missing"]["choice"].startswith("the validation subjects have one class of age")


@pytest.mark.parametrize(("seen", "split"), [(0, "train"), (9, "validation")])
def test_a_checkpoint_that_has_seen_a_test_subject_is_refused(
    dataset, pretrained, quick, seen, split
):
    swapped = dataset.splits.copy()
    swapped.loc[seen, "split"], swapped.loc[14, "split"] = "test", split
    with pytest.raises(UserError, match=f"{seen:02}"):
        evaluate_foundation(pretrained[0], dataset.replace(splits=swapped), quick)


def test_scores_are_stratified_where_that_is_asked_for(dataset, pretrained, quick, scored):
    params = quick.model_copy(update={"stratify_scores_by": "sex"})
    metrics, scores, _ = evaluate_foundation(pretrained[0], dataset, params)
    assert metrics["strata"] == {"F": 1, "M": 2}
    assert metrics["one_class"] == 0
    within, pooled = (scores_of(scores, f"{name}_auroc") for name in ("within", "window"))
    assert set(within) == {"pretrained", *quick.baselines}
    assert within["majority"] == 0.5
    assert within["band_power"] >= pooled["band_power"] > 0.75
    assert scores["method"].iloc[0] == max(within, key=within.get)
    assert "one_class" not in scored.metrics
    assert "within_auroc" not in set(scored.scores["metric"])
    report = foundation_report(metrics, scores, None, pd.DataFrame(columns=["criterion"]))
    table = report.sections[1]
    assert table.header[1] == "AUROC within subjects"
    assert any("over strata (F 1, M 2 subjects)" in note for note in table.notes)
    for column, says in (("hand", "expected a column of part"), ("task", "expected a column")):
        wrong = quick.model_copy(update={"stratify_scores_by": column})
        with pytest.raises(UserError, match=f"stratify_scores_by={column}: {says}"):
            evaluate_foundation(pretrained[0], dataset, wrong)
