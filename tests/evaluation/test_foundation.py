"""Evaluating a checkpoint, end to end on a small store."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.features import encoder_features
from hbn_foundation.evaluation.figures.embedding import embedding_figure
from hbn_foundation.evaluation.figures.predictions import predictions_figure
from hbn_foundation.evaluation.foundation import all_features, evaluate_foundation
from hbn_foundation.evaluation.methods import NAMES
from hbn_foundation.evaluation.metrics import auroc
from hbn_foundation.evaluation.report.criteria import foundation_criteria
from hbn_foundation.evaluation.report.foundation import foundation_report, probe_figure
from hbn_foundation.evaluation.report.render import render_text
from hbn_foundation.evaluation.sample import labelled_windows
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.signals.batches import WindowBatches, WindowReader
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.signals.store import store_from_arrays
from hbn_foundation.signals.windows import cut_windows
from hbn_foundation.training.linear_probe import fit_probe


@pytest.fixture(scope="module")
def scored(toy, pretrained, quick):
    return evaluate_foundation(pretrained[0], *toy, quick)


def test_every_method_is_scored_on_the_same_windows(scored, toy):
    assert scored.scores["method"].tolist() == list(NAMES)
    test = toy.splits.loc[toy.splits["split"] == "test", "subject"]
    n_windows = toy.windows["subject"].isin(test).sum()
    for scores in scored.metrics["probe"].values():
        assert np.sum(scores["confusion_matrix"]) == n_windows
    assert len(scored.predictions) == n_windows
    assert set(scored.predictions["subject"]) == set(test)
    assert scored.metrics["windows"]["test"] == n_windows
    assert scored.metrics["recordings"] == {"train": 18, "validation": 6, "test": 6}


def test_what_can_be_found_is_found(scored):
    found = scored.scores.set_index("method")["window_auroc"]
    assert found["band_power"] > 0.75
    assert found["filter_bank"] > 0.75
    assert found["pretrained"] > 0.7
    assert found["majority"] == 0.5
    assert scored.metrics["probe"]["majority"]["recording_auroc"] == 0.5


def test_metrics_are_plain_json(scored):
    text = json.dumps(scored.metrics, allow_nan=False)
    assert json.loads(text) == scored.metrics
    assert scored.metrics["pretext"]["test"]["improvement"] == pytest.approx(
        1
        - scored.metrics["pretext"]["test"]["loss"]
        / min(
            scored.metrics["pretext"]["test"][f"trivial_{name}"] for name in ("copy", "band_mean")
        )
    )


def test_predictions_and_map_are_complete(scored, toy):
    probabilities = scored.predictions[["p(count)", "p(rest)"]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1)
    names = np.array(["count", "rest"])
    assert (names[probabilities.argmax(1)] == scored.predictions["predicted"]).all()
    assert set(scored.embedding["split"]) == {"train", "validation", "test"}
    assert scored.embedding[["x", "y"]].notna().all(axis=None)
    assert len(scored.embedding) == len(toy.windows)


def test_the_same_twice(scored, toy, pretrained, quick):
    again = evaluate_foundation(pretrained[0], *toy, quick)
    assert again.metrics == scored.metrics


def test_shuffled_labels_fall_to_chance(toy, pretrained, quick):
    """What the probe gives on permuted labels surrounds .5; what it gives on the true is above."""
    params = quick.model_copy(update={"baselines": ("band_power",)})
    true = labelled_windows(toy.windows, toy.splits, toy.participants, params)
    features = all_features(pretrained[0], toy.store, true, params)
    test = true.splits == "test"

    def area(values: np.ndarray, method: str) -> float:
        scaling = "feature" if method == "band_power" else "global"
        probe = fit_probe(features[method], values, true.splits, 2, (0.01,), scaling)
        return auroc(values[test], probe.log_probabilities(features[method][test]))

    for method in ("pretrained", "band_power"):
        shuffled = []
        for seed in range(20):
            control = params.model_copy(update={"shuffle_labels": True, "seed": seed})
            labels = labelled_windows(toy.windows, toy.splits, toy.participants, control).labels
            shuffled.append(area(labels, method))
        low, high = np.nanquantile(shuffled, [0.025, 0.975])
        assert low < 0.5 < high
        assert abs(np.nanmedian(shuffled) - 0.5) < 0.15
        assert area(true.labels, method) > high


def test_a_label_of_the_subject(toy, pretrained, quick):
    label = LabelParams(kind="participant", column="age")
    params = quick.model_copy(update={"label": label, "baselines": ("majority",)})
    result = evaluate_foundation(pretrained[0], *toy, params)
    metrics = result.metrics
    # All test subjects are older than the median of the training subjects: no score, no crash.
    assert metrics["probe"]["pretrained"]["window_auroc"] is None
    assert metrics["probe"]["majority"]["balanced_accuracy"] is None
    assert metrics["label"]["classes"] == ["age ≤ 9", "age > 9"]
    criteria = foundation_criteria(pretrained[1], metrics, pretrained[0]).set_index("criterion")
    assert criteria.loc["balanced accuracy of the probe"].tolist()[1:] == [
        "one class only", "not applicable",
    ]  # fmt: skip
    text = render_text(foundation_report(metrics, result.scores, None, criteria.reset_index()))
    assert "No score: the test subjects have one class of age only (age > 9)." in text
    assert "Note: the validation subjects have one class of age only" in text
    assert "nan" not in text
    assert "best baseline" not in text
    probe_figure(result.scores).canvas.draw()
    figure = predictions_figure(result.predictions)
    assert "one class only" in figure.axes[0].get_title(loc="left")
    assert embedding_figure(result.embedding).axes


def test_a_checkpoint_that_has_seen_a_test_subject_is_refused(toy, pretrained, quick):
    swapped = toy.splits.copy()
    swapped.loc[0, "split"], swapped.loc[14, "split"] = "test", "train"
    with pytest.raises(UserError, match="00"):
        evaluate_foundation(pretrained[0], toy.store, toy.windows, swapped, toy.participants, quick)


def test_a_checkpoint_selected_on_a_test_subject_is_refused(toy, pretrained, quick):
    swapped = toy.splits.copy()
    swapped.loc[9, "split"], swapped.loc[14, "split"] = "test", "validation"
    with pytest.raises(UserError, match="09"):
        evaluate_foundation(pretrained[0], toy.store, toy.windows, swapped, toy.participants, quick)


def test_features_follow_the_table_and_not_the_batches(toy, pretrained):
    from hbn_foundation.training.checkpoint import load_encoder

    encoder = load_encoder(pretrained[0])
    windows = toy.windows.sample(20, random_state=0).reset_index(drop=True)
    whole = encoder_features({"a": encoder}, toy.store, windows, 64, input_of="a")
    small = encoder_features({"a": encoder}, toy.store, windows, 3, input_of="a")
    assert whole["a"].shape == (20, encoder.n_features)
    assert whole["encoder_input"].shape == (20, len(encoder.band) * 190)
    for name, values in whole.items():
        np.testing.assert_allclose(values, small[name], atol=1e-4)
    backwards = encoder_features({"a": encoder}, toy.store, windows.iloc[::-1], 64)
    np.testing.assert_allclose(backwards["a"][::-1], whole["a"], atol=1e-4)
    reader = WindowReader(toy.store, encoder.n_samples)
    (batch,) = WindowBatches(reader, windows, 20)
    with torch.no_grad():
        own = encoder.features(batch.signals, torch.from_numpy(toy.store.positions), batch.mask)
    np.testing.assert_allclose(whole["a"], own.numpy(), atol=1e-4)


def test_a_checkpoint_of_another_montage_is_scored_too(toy, pretrained, quick, tmp_path):
    """Pretrained on 19 channels, evaluated on 40 others."""
    random = np.random.default_rng(0)
    positions = random.normal(size=(40, 3))
    positions /= np.linalg.norm(positions, axis=1, keepdims=True)
    recordings = [
        ({"recording": f"sub-x{n}_task-{task}", "subject": f"x{n}", "task": task},
         gain * random.normal(size=(1600, 40)))
        for n in range(6)
        for task, gain in (("rest", 1.0), ("count", 2.0))
    ]  # fmt: skip
    names = tuple(f"E{n}" for n in range(1, 41))
    store = store_from_arrays(tmp_path / "dense", recordings, names, positions)
    subjects = [f"x{n}" for n in range(6)]
    splits = pd.DataFrame(
        {"subject": subjects, "split": ["train"] * 2 + ["validation"] * 2 + ["test"] * 2}
    )
    result = evaluate_foundation(
        pretrained[0], store, cut_windows(store, WindowParams()), splits, splits[["subject"]], quick
    )
    found = result.scores.set_index("method")["window_auroc"]
    assert (found.drop("majority") > 0.95).all()
