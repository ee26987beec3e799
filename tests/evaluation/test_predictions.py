"""A model fine-tuned on windows in volts is evaluated as it is: its input, its test subjects."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.features import FeatureExtractor
from hbn_foundation.evaluation.frame import scores_of
from hbn_foundation.evaluation.params import ResponseTimeEvaluationParams
from hbn_foundation.evaluation.predictions import encoders_beside, predict_response_times
from hbn_foundation.evaluation.tasks.challenges import all_answers
from hbn_foundation.evaluation.tasks.response_times import score_response_times

PARAMS = ResponseTimeEvaluationParams(bootstraps=0, baselines=("constant", "random_weights"))


def test_the_model_is_better_than_its_random_encoder(trials, tuned):
    checkpoint, _ = tuned
    predictions = {"fine_tuned": predict_response_times(checkpoint, trials)}
    scores = score_response_times(
        all_answers(checkpoint, trials, PARAMS, predictions), PARAMS
    ).scores
    found = scores_of(scores, "nrmse")
    assert found["fine_tuned"] < 0.9 < found["constant"]
    assert found["fine_tuned"] < found["random_weights"]


def test_success_has_a_probability_although_classes_were_weighed(trials, tuned):
    checkpoint, _ = tuned
    weighed = predict_response_times(checkpoint, trials)
    metadata = copy.deepcopy(checkpoint.metadata)
    metadata["parameters"]["regularisation"]["class_weights"] = False
    bare = checkpoint.__class__(checkpoint.weights, metadata)
    as_said = predict_response_times(bare, trials)
    train = trials.windows[trials.windows["subject"] < "s12"]
    share = train["correct"].mean()
    expected = expit(logit(as_said["p_correct"]) + logit(share))
    np.testing.assert_allclose(weighed["p_correct"], expected, rtol=1e-5)
    assert abs(weighed["p_correct"].mean() - share) < abs(as_said["p_correct"].mean() - share)
    assert (weighed["predicted_rt"] == as_said["predicted_rt"]).all()


def test_a_random_encoder_sees_windows_as_the_model_does(trials, tuned):
    checkpoint, _ = tuned
    made, again, other = (
        encoders_beside(checkpoint, PARAMS.model_copy(update={"seed": seed})) for seed in (1, 1, 2)
    )
    assert made.prepare is not None
    weights = [
        one.by_name["random_weights"].trunk[0].attention.out.weight for one in (made, again, other)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    few = trials.windows.head(4).assign(split="train")
    found, bare = (
        FeatureExtractor(("random_weights",), trials.store, 200, PARAMS, encoders).fit(few)
        for encoders in (made, made._replace(prepare=None))
    )
    assert found["random_weights"].shape == bare["random_weights"].shape
    assert not np.allclose(found["random_weights"], bare["random_weights"])


@pytest.mark.parametrize(
    ("split", "why"),
    [("train", "was trained on 12 of"), ("validation", "epoch was chosen on 4 of the test")],
)
def test_a_checkpoint_that_has_seen_a_test_subject_is_refused(trials, tuned, split, why):
    moved = trials.splits["split"].where(trials.splits["split"] != split, "test")
    swapped = trials.replace(splits=trials.splits.assign(split=moved))
    with pytest.raises(UserError, match=why):
        score_response_times(
            all_answers(tuned[0], swapped, PARAMS, {"fine_tuned": trials.windows}), PARAMS
        )
