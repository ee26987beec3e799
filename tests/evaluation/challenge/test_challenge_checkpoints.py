"""A model fine-tuned on windows in volts is evaluated as it is: its input, its test subjects."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.challenge.checkpoints import checkpoint_maps, unlearned
from hbn_foundation.evaluation.challenge.features import WindowFeatures
from hbn_foundation.evaluation.challenge.params import ResponseTimeEvaluationParams
from hbn_foundation.evaluation.challenge.response_time import evaluate_response_times
from hbn_foundation.evaluation.challenge.tasks import evaluate_response_time_model
from hbn_foundation.evaluation.challenge_predictions import predict_response_times
from hbn_foundation.models.spatial import DIRECTIONS_10_20


def test_the_model_its_maps_and_its_random_encoder(planted, tuned):
    checkpoint, _ = tuned
    test = planted.windows[planted.windows["subject"] >= "s16"].reset_index(drop=True)
    predictions = predict_response_times(checkpoint, planted.store, planted.windows, planted.splits)
    random_encoder = unlearned(checkpoint)
    params = ResponseTimeEvaluationParams(bootstraps=0, baselines=("constant", "random_weights"))
    result = evaluate_response_times(predictions, *planted, params, 200, random_encoder)
    scores = result.scores.set_index("method")["nrmse"]
    assert scores["fine_tuned"] < 0.9 < scores["constant"]
    assert scores["fine_tuned"] < scores["random_weights"]
    maps = checkpoint_maps(checkpoint, planted.store, test, factor=1000.0)
    places = np.array(list(DIRECTIONS_10_20))[np.argsort(maps.relevance[0])[-2:]]
    assert set(places) == {"Pz", "Cz"}
    assert maps.relevance.max() > 8  # ms
    assert maps.importance.max() > 1  # ms


def test_success_has_a_probability_although_classes_were_weighed(planted, tuned):
    checkpoint, _ = tuned
    weighed = predict_response_times(checkpoint, planted.store, planted.windows, planted.splits)
    metadata = copy.deepcopy(checkpoint.metadata)
    metadata["parameters"]["regularisation"]["class_weights"] = False
    bare = checkpoint.__class__(checkpoint.weights, metadata)
    as_said = predict_response_times(bare, planted.store, planted.windows, planted.splits)
    train = planted.windows[planted.windows["subject"] < "s12"]
    share = train["correct"].mean()
    expected = expit(logit(as_said["p_correct"]) + logit(share))
    np.testing.assert_allclose(weighed["p_correct"], expected, rtol=1e-5)
    assert abs(weighed["p_correct"].mean() - share) < abs(as_said["p_correct"].mean() - share)
    assert (weighed["predicted_rt"] == as_said["predicted_rt"]).all()


def test_a_random_encoder_sees_windows_as_the_model_does(planted, tuned):
    checkpoint, _ = tuned
    made = unlearned(checkpoint, seed=1)
    assert made.prepare is not None
    again, other = unlearned(checkpoint, seed=1), unlearned(checkpoint, seed=2)
    weights = [one.encoder.trunk[0].attention.out.weight for one in (made, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    few = planted.windows.head(4).assign(split="train")
    params = ResponseTimeEvaluationParams(baselines=("random_weights",))
    store, methods = planted.store, params.baselines
    found = WindowFeatures(methods, store, 200, params, made).fit(few)
    bare = WindowFeatures(methods, store, 200, params, made._replace(prepare=None)).fit(few)
    assert found["random_weights"].shape == bare["random_weights"].shape
    assert not np.allclose(found["random_weights"], bare["random_weights"])
    with pytest.raises(UserError, match="the encoder is made for windows of 200 samples"):
        WindowFeatures(methods, store, 150, params, made)


def test_a_checkpoint_that_has_seen_a_test_subject_is_refused(planted, tuned):
    checkpoint, _ = tuned
    said = {"train": "was trained on 12 of", "validation": "epoch was chosen on 4 of the test"}
    for split, why in said.items():
        moved = planted.splits["split"].where(planted.splits["split"] != split, "test")
        with pytest.raises(UserError, match=why):
            evaluate_response_time_model(
                checkpoint, planted.windows, planted.store, planted.windows,
                planted.splits.assign(split=moved), planted.people, ResponseTimeEvaluationParams(),
            )  # fmt: skip
