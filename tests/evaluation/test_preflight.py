"""Mistakes that would end a run after hours are told before it begins."""

from __future__ import annotations

import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.params import EvaluationParams, RepeatParams
from hbn_foundation.evaluation.preflight import check_before_training
from hbn_foundation.evaluation.recipes import FoundationRecipe
from hbn_foundation.experiments.params import ExperimentParams
from hbn_foundation.hooks import ParameterNames
from hbn_foundation.labels.params import LabelParams
from hbn_foundation.pipeline_registry import register_pipelines
from hbn_foundation.pipelines.foundation import nodes
from hbn_foundation.recordings.params import CleaningParams
from hbn_foundation.signals.dataset import EEGDataset
from hbn_foundation.signals.params import WindowParams
from hbn_foundation.training.model_params import BandTokenParams, EncoderParams
from hbn_foundation.training.params import DeviceParams, ObjectiveParams

SEX = LabelParams(kind="participant", column="sex")
UNKNOWN = LabelParams(kind="participant", column="handedness")
NO_COLUMN = "column handedness is not in"
BAND = EncoderParams(hidden_dim=32, n_heads=4, n_layers=1)
LABELS = [
    (UNKNOWN, NO_COLUMN),
    (LabelParams(kind="task", positive=("sleep",)), "positive names sleep"),
    (LabelParams(kind="participant", column="sex", positive=("X",)), "positive names X"),
]


@pytest.fixture
def check(toy, quick, recipe):
    def check(encoder=None, objective=None, window=None, table=None, **changes):
        dataset = EEGDataset(**(toy._asdict() | (table or {})), window=window or WindowParams())
        asked = FoundationRecipe(
            encoder=encoder or recipe.encoder,
            objective=objective or recipe.objective,
            evaluation=quick.model_copy(update=changes),
        )
        return check_before_training(dataset, asked, own_splits=dataset.splits is not None)

    return check


def edges(*bands):
    return BAND.model_copy(update={"band": BandTokenParams(edges=bands)})


def test_what_fits_passes(check):
    check()
    check(label=SEX)
    check(repeats=RepeatParams(folds=3, repeats=2))
    check(table={"splits": None}, repeats=RepeatParams(folds=3, repeats=1))
    check(bands=((60.0, 70.0),), baselines=("majority",))  # which has no bands


@pytest.mark.parametrize(("label", "says"), LABELS)
def test_labels_that_cannot_be_made(check, label, says):
    with pytest.raises(UserError, match=says):
        check(label=label)
    objective = ObjectiveParams(name="task_classification", label=label)
    with pytest.raises(UserError, match=says):
        check(objective=objective)


def test_a_class_or_a_split_without_subjects(check, toy):
    girls = toy.participants.assign(sex=["F"] * 9 + ["M"] * 6)
    with pytest.raises(UserError, match="two classes of sex or more"):
        check(label=SEX, table={"participants": girls})
    for missing in ("validation", "test"):
        splits = toy.splits[toy.splits["split"] != missing]
        with pytest.raises(UserError, match=f"no window of the {missing} subjects"):
            check(table={"splits": splits})


def tokens(*names):
    return BAND.model_copy(update={"tokens": names})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"encoder": tokens("band"), "objective": ObjectiveParams(name="masked_patches")},
         "masked_patches needs"),
        ({"encoder": tokens("time"), "objective": ObjectiveParams(name="band_completion")},
         "band_completion needs"),
        ({"encoder": edges((8, 13), (30, 60))}, r"encoder.band.edges: .*30, 60.* above 50 Hz"),
        ({"encoder": edges((8.1, 8.4))}, "encoder.band.edges: .*holds no frequency"),
        ({"bands": ((60.0, 70.0),)}, r"evaluation.bands: .*60, 70.* above 50 Hz"),
        ({"bands": ((8.1, 8.4),)}, "evaluation.bands: .*holds no frequency"),
        ({"window": WindowParams(seconds=0.1)}, "holds no frequency"),
        ({"repeats": RepeatParams(folds=16)}, "15 subjects do not give 16 folds"),
    ],
)  # fmt: skip
def test_parameters_that_do_not_fit(check, changes, says):
    with pytest.raises(UserError, match=says):
        check(**changes)


def test_a_band_above_the_filter(check, toy, monkeypatch):
    recordings = toy.store.recordings.assign(h_freq=30.0)
    monkeypatch.setitem(toy.store.__dict__, "recordings", recordings)
    with pytest.raises(UserError, match=r"band \(30, 45\) Hz lies above 30 Hz.*cleaning.h_freq"):
        check()
    check(edges((8, 13), (20, 35)), bands=((20.0, 35.0),))


def test_the_fold_at_fault_is_named(check, toy):
    one = toy.participants.assign(sex=["M"] + ["F"] * 14)
    with pytest.raises(UserError, match=r"repeat 1 fold \d+: .*two classes of sex") as caught:
        check(label=SEX, table={"participants": one}, repeats=RepeatParams(folds=3, repeats=1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("node", ["pretrain_encoder", "cross_validate_encoder"])
def test_nodes_check_before_they_train(node, toy, recipe, monkeypatch):
    from hbn_foundation.experiments import folds
    from hbn_foundation.training import pretrain

    def trained(*_arguments, **_options):
        raise AssertionError("trained before the check")

    monkeypatch.setattr(pretrain.PretrainingJob, "supervise", trained)
    monkeypatch.setattr(folds, "cross_validate", trained)
    evaluation = EvaluationParams(label=UNKNOWN, repeats=RepeatParams())
    asked = FoundationRecipe(**dict(recipe), evaluation=evaluation)
    more = ["run" if node == "pretrain_encoder" else ExperimentParams()]
    with pytest.raises(UserError, match="handedness"):
        getattr(nodes, node)(EEGDataset(*toy), asked, {"chosen": "cpu"}, *more)


def test_parameters_are_checked_before_any_recording_is_read(recipe):
    def before_run(h_freq=50.0, **changes):
        asked = FoundationRecipe(**(dict(recipe) | changes))
        catalog = DataCatalog(
            {
                "params:foundation": MemoryDataset(asked),
                "params:ingestion.windows": MemoryDataset(WindowParams()),
                "params:ingestion.cleaning": MemoryDataset(CleaningParams(h_freq=h_freq)),
            }
        )
        ParameterNames().before_pipeline_run(register_pipelines()["foundation"], catalog)

    before_run()
    with pytest.raises(UserError, match="masked_patches needs time tokens"):
        before_run(objective=ObjectiveParams(name="masked_patches"))
    with pytest.raises(UserError, match="lies above 30 Hz"):
        before_run(h_freq=30.0)
    with pytest.raises(UserError, match="fault: found 'hung@3'; expected kind@step"):
        FoundationRecipe.model_validate({"fault": "hung@3"})
    nodes_of = {node.name: node for node in register_pipelines()["foundation"].nodes}
    before = register_pipelines()["foundation"].node_dependencies[nodes_of["clean_signals"]]
    assert nodes_of["check_data"] in before


@pytest.fixture
def check_data(toy, recipe, tmp_path):
    """Check recordings as they are listed, before any is read."""
    listed = toy.windows.drop_duplicates("recording")[["recording", "subject", "task"]]

    def check(recordings=listed, **changes):
        asked = FoundationRecipe(**(dict(recipe) | changes))
        trainer = asked.trainer.model_copy(update={"work_dir": str(tmp_path / "later")})
        asked = asked.model_copy(update={"trainer": trainer})
        return nodes.check_data(
            recordings,
            pd.DataFrame(),
            toy.splits,
            toy.participants,
            asked,
            WindowParams(),
            CleaningParams(),
        )

    return check, listed


def test_labels_are_checked_and_counted_before_cleaning(check_data, toy):
    check, listed = check_data
    assert check() == toy.splits["split"].value_counts().to_dict()
    for label, says in LABELS:
        with pytest.raises(UserError, match=says):
            check(evaluation=EvaluationParams(label=label))
    with pytest.raises(UserError, match="two"):
        check(listed[listed["task"] == listed["task"].iloc[0]])
    with pytest.raises(UserError, match=NO_COLUMN):
        check(objective=ObjectiveParams(name="task_classification", label=UNKNOWN))


def test_disk_and_device_are_checked_before_cleaning(check_data, recipe, monkeypatch):
    check, _ = check_data
    trainer = recipe.trainer.model_copy(update={"checkpoint_keep": "all", "epochs": 10**9})
    with pytest.raises(UserError, match=r"later/run: .* MB are free and the checkpoints need"):
        check(trainer=trainer)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError, match="device: cuda was asked for but cannot be used"):
        check(hardware=DeviceParams(device="cuda"))
