"""Whole fine-tunings of a small encoder: what they predict, and what is refused before them."""

import dataclasses

import numpy as np
import pytest
import torch

from finetuning_runs import (
    AGE,
    TRAINER,
    check_predictions,
    dataset_of,
    job_of,
    of_split,
    participants,
    recipe_of,
    tune,
)
from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.params import EvaluationParams, FineTuningEvaluationParams
from hbn_foundation.evaluation.recipes import LabelRecipe
from hbn_foundation.signals.store import SignalStore
from hbn_foundation.training.checkpoint import Checkpoint
from hbn_foundation.training.finetune import FineTuningJob, preview_finetuning
from hbn_foundation.training.finetuned import load_finetuned, predict
from hbn_foundation.training.finetuning_module import FineTuningModule
from runs import CPU


@pytest.fixture(scope="module")
def tuned(short_run, data, tmp_path_factory):
    """Rest against arithmetic: checkpoint and history."""
    return tune(short_run[0], data, tmp_path_factory.mktemp("tuned"), rates={"head_lr": 1e-2})


def test_it_learns_and_tells_test_subjects_apart(tuned, data):
    checkpoint, _ = tuned
    windows = of_split(data, "test")
    answers = predict(checkpoint, data[0], windows)
    assert np.exp(answers).sum(1) == pytest.approx(np.ones(len(windows)), abs=1e-5)
    names = np.array(checkpoint.metadata["targets"]["names"])
    right = names[answers.argmax(1)] == windows["task"].to_numpy()
    assert right.mean() > 0.8


def test_predictions_are_what_validation_scored_whatever_the_batch(tuned, data):
    check_predictions(tuned, data)


def test_a_checkpoint_knows_where_it_comes_from(tuned, short_run, data):
    metadata = tuned[0].metadata
    assert metadata["parent_version"] == "run"
    assert metadata["training_subjects"] == [str(i) for i in range(5)]
    assert metadata["validation_subjects"] == ["5", "6"]
    assert not set(of_split(data, "test")["subject"]) & set(metadata["training_subjects"])
    assert metadata["parameters"]["encoder"] == short_run[0].metadata["parameters"]["encoder"]


def test_a_number_is_predicted_in_its_own_unit(short_run, data, tmp_path):
    checkpoint, history = tune(
        short_run[0], data, tmp_path, label=AGE, trainer={"monitor": "mae"},
        rates={"head_lr": 1e-2},
    )  # fmt: skip
    targets, people = checkpoint.metadata["targets"], participants().set_index("subject")
    of_windows = of_split(data, "train")["subject"].map(people["age"])
    assert targets["is_regression"]
    assert people["age"].iloc[:5].min() < targets["mean"] < people["age"].iloc[:5].max()
    windows = of_split(data, "train")
    values = predict(checkpoint, data[0], windows)
    assert values.shape == (len(windows),)
    assert np.abs(values - of_windows).mean() < np.abs(targets["mean"] - of_windows).mean()
    assert abs(values.mean() - of_windows.mean()) < of_windows.std()
    assert values.mean() > 5  # standardised, it would be about 0
    for name in ("nrmse", "r", "mae", "r2", "train_mae"):
        assert history[name].notna().all(), name
    assert checkpoint.metadata["best_epoch"] == history["mae"].idxmin() + 1


def test_scratch_has_no_parent(short_run, data, tmp_path):
    checkpoint, history = tune(
        short_run[0], data, tmp_path, trainer={"start": "from_scratch", "epochs": 1}
    )
    assert checkpoint.metadata["parent_version"] is None
    assert checkpoint.metadata["parameters"]["plan"]["strategy"] == "scratch"
    assert history["trainable"].str.startswith("band_tokens").all()


ONE_VALIDATION_CLASS = ["a", "b", "a", "b", "a", "a", "a", "b"]
BAD = {
    "unknown block": (
        {"plan": {"strategy": "phases", "phases": [{"epochs": 1, "unfreeze": ["blokc_1"]}]}},
        "blokc_1.*block_1",
    ),
    "metric not made in training": (
        {"plan": {"strategy": "gated", "gate_metric": "train_fisher_ratio"}}, "train_fisher_ratio"
    ),
    "monitor of numbers": ({"trainer": {"monitor": "nrmse"}}, "trainer.monitor.*nrmse"),
    "margin of a number": ({"head": {"margin": "arcface"}, "label": AGE}, "margin.*regression"),
    "one class": (
        {"label": {"kind": "participant", "column": "group"},
         "participants": {"group": ["a"] * 8}}, "group|class"
    ),
    "no validation subject": (
        {"label": {"kind": "participant", "column": "group"},
         "participants": {"group": ONE_VALIDATION_CLASS}}, "no validation subject.*class b"
    ),
    "no such column": ({"label": {"kind": "participant", "column": "aeg"}}, "aeg"),
    "unknown parameter": ({"rates": {"head_rl": 1}}, "head_rl.*head_lr"),
}  # fmt: skip


@pytest.fixture
def refused(short_run, data, tmp_path, monkeypatch):
    """Refused by the preview and by the training alike, in one line, before any step."""

    def refused(match, checkpoint=None, **groups):
        checkpoint = checkpoint or short_run[0]
        people = participants().assign(**groups.pop("participants", {}))
        monkeypatch.setattr(FineTuningModule, "training_step", None)

        def preview():
            preview_finetuning(checkpoint, dataset_of(data, people), recipe_of(**groups))

        for attempt in (
            preview,
            lambda: tune(checkpoint, data, tmp_path / "run", participants=people, **groups),
        ):
            with pytest.raises(UserError, match=match) as caught:
                attempt()
            assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()

    return refused


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_line_before_training(refused, name):
    groups, match = BAD[name]
    refused(match, **groups)


def test_another_architecture_is_named_by_its_first_key(refused, short_run):
    original = short_run[0]
    encoder = original.metadata["parameters"]["encoder"] | {"n_layers": 3}
    parameters_of = original.metadata["parameters"] | {"encoder": encoder}
    metadata = original.metadata | {"parameters": parameters_of}
    refused(r"encoder\.trunk\.2\S* is absent .* and \[", Checkpoint(original.weights, metadata))
    name = next(
        n for n, v in original.weights.items() if n.startswith("encoder.trunk.0") and v.ndim > 1
    )
    cut = dataclasses.replace(original, weights={**original.weights, name: torch.zeros(3, 5)})
    shape = list(original.weights[name].shape)
    line = rf"{name} is \[3, 5\] in the checkpoint and \[{shape[0]}, {shape[1]}\] in the model"
    refused(line, cut)


def test_subjects_that_the_checkpoint_has_seen_are_no_test(refused, short_run, tuned, data):
    """Trained on, or chosen on."""
    original = short_run[0]
    test = data[2].loc[data[2]["split"] == "test", "subject"].astype(str)
    metadata = original.metadata | {"validation_subjects": [test.iloc[0]]}
    refused("epoch was chosen on 1 of the test subjects", Checkpoint(original.weights, metadata))
    trained = [*original.metadata["training_subjects"], test.iloc[0]]
    metadata = original.metadata | {"training_subjects": trained}
    refused("trained on", Checkpoint(original.weights, metadata))
    # and what is fine-tuned remembers whom its parent was chosen on
    known = tuned[0].metadata["validation_subjects"]
    assert set(original.metadata["validation_subjects"]) <= set(known)


def test_subjects_of_another_data_set_are_kept_apart_from_those_here(short_run, data, monkeypatch):
    """Their names are equal, and their people are not."""
    monkeypatch.setattr(SignalStore, "datasets", {"": "here"})
    original = short_run[0]
    everyone = data[2]["subject"].tolist()
    of_others = {"datasets": {"": "there"}, "training_subjects": everyone}
    other = Checkpoint(original.weights, original.metadata | of_others)
    job = job_of(other, data)
    found = job.provenance(job.prepare())
    assert set(found["training_subjects"]) == set(everyone[:5])
    assert found["ancestors"][0]["training_subjects"] == everyone
    assert found["ancestors"][0]["datasets"] == {"": "there"}
    same = Checkpoint(original.weights, other.metadata | {"datasets": {"": "here"}})
    with pytest.raises(UserError, match="was trained on 3 of"):
        job_of(same, data).prepare()


def test_a_margin_head_is_without_it_in_evaluation(short_run, data, tmp_path):
    checkpoint, _ = tune(
        short_run[0], data, tmp_path, head={"margin": "cosface", "scale": 8.0},
        plan={"strategy": "head_only"}, trainer={"epochs": 1},
    )  # fmt: skip
    model = load_finetuned(checkpoint)
    assert not model.training
    tokens, labels = torch.randn(4, 18, 32), torch.tensor([0, 1, 0, 1])
    assert torch.equal(model.head(tokens, labels), model.head(tokens))
    assert model.head(tokens).abs().max() <= 8.0


def test_a_run_is_resumed_only_where_its_trials_are_the_same(data):
    store, windows, splits = data
    windows = windows.assign(rt=np.linspace(0.5, 2.5, len(windows)))

    def identity(kind, change=0.0):
        label = {"kind": kind, "column": "rt"} if kind == "trial" else {"kind": kind}
        moved = windows.assign(rt=windows["rt"] + change)
        checkpoint = Checkpoint({}, {"run_id": "parent"})
        return job_of(checkpoint, (store, moved, splits), label=label).identity()

    assert identity("trial") == identity("trial")
    assert identity("trial") != identity("trial", 0.1)
    assert identity("task") == identity("task", 0.1)  # what is not learned does not matter


def test_strata_weigh_windows_and_choose_the_epoch(short_run, data, tmp_path):
    """Each class and stratum has the same weight in a training; the score is within subjects."""
    people = participants().assign(first=["a"] * 2 + ["b"] * 4 + ["a", "b"])
    recipe = LabelRecipe.model_validate({
        "plan": {"strategy": "full"}, "rates": {"head_lr": 1e-2},
        "trainer": {**TRAINER, "epochs": 1, "monitor": "within_auroc"},
        "evaluation": {"stratify_scores_by": "first"},
    })  # fmt: skip
    job = FineTuningJob(dataset_of(data, people), recipe, CPU, short_run[0])
    module = job.prepare()
    training = module.data.training
    table = training.windows.assign(weight=training.targets[:, -1].numpy())
    sums = table.groupby(["task", "stratum"])["weight"].sum()
    np.testing.assert_allclose(sums, sums.mean(), rtol=1e-5)
    assert training.targets[:, -1].mean() == pytest.approx(1)
    checkpoint, history = job.run(tmp_path, "tuned")
    assert history["within_auroc"].notna().all()
    assert checkpoint.metadata["monitored"] == -history["within_auroc"].iloc[0]
    plain = recipe.model_copy(update={"evaluation": FineTuningEvaluationParams()})
    other = FineTuningJob(job.dataset, plain, CPU, short_run[0])
    assert "strata_column" not in other.identity()
    assert job.identity()["strata_column"] == "first"
    with pytest.raises(UserError, match=r"trainer.monitor: within_auroc is computed where eval"):
        other.prepare()
    wrong = recipe.model_copy(
        update={"evaluation": FineTuningEvaluationParams(stratify_scores_by="last")}
    )
    with pytest.raises(UserError, match=r"stratify_scores_by=last: expected a column"):
        FineTuningJob(job.dataset, wrong, CPU, short_run[0]).prepare()


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ({"kind": "participant", "column": "sex"}, "found label.kind: participant"),
        ({"kind": "trial", "column": "rt", "type": "regression"}, "found label.type: regression"),
    ],
)
def test_labels_whose_scores_have_no_strata(label, says):
    evaluation = {"stratify_scores_by": "first"}
    with pytest.raises(UserError, match=rf"stratify_scores_by=first: of classes .*{says}"):
        LabelRecipe.model_validate({"label": label, "evaluation": evaluation})
    with pytest.raises(UserError, match=rf"stratify_scores_by=first: of classes .*{says}"):
        EvaluationParams.model_validate({"label": label, **evaluation})
