"""A run begins from the checkpoint that is named: a version, a folder, or another data set's."""

import json

import pytest
from versioned_entries import LAST, LATER, NEW, OLD, catalog_of, start

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.recipes import Challenge1Recipe, FoundationRecipe, LabelRecipe
from hbn_foundation.hooks.records import RunRecords
from hbn_foundation.io.checkpoint import CheckpointDataset
from hbn_foundation.pipeline_registry import register_pipelines

PIPELINES = register_pipelines()
PREPARE = PIPELINES["finetuning"].only_nodes("finetuning.prepare")
EVALUATE = PIPELINES["foundation"].from_nodes("evaluate_encoder")


@pytest.fixture
def data(tmp_path):
    """Foundation checkpoints of two data sets with two runs each, and one of neither's."""
    for name, versions in (("mine", (OLD, LATER)), ("other", (NEW, LAST))):
        for version in versions:
            write(tmp_path / "data" / name / "06_models", "foundation_checkpoint", version)
            write(tmp_path / "data" / name / "06_models", "foundation_history", version)
            write(tmp_path / "data" / name / "06_models", "dataset", version)
    (tmp_path / "data" / "empty").mkdir()
    write(tmp_path, "elsewhere", "")
    return tmp_path


def write(folder, name, version):
    if name.endswith("checkpoint") or not version:
        path = folder / name / version / (name if version else "")
        path.mkdir(parents=True)
        (path / "metadata.json").write_text(json.dumps({"kind": "foundation"}))
    else:
        (folder / name / version).mkdir(parents=True)
        (folder / name / version / name).write_text(json.dumps(version))


def begun(data, checkpoint, pipeline=PREPARE, recipe=LabelRecipe, name="finetuning", **more):
    names = {*PIPELINES["foundation"].all_outputs(), *pipeline.inputs(), "foundation_checkpoint"}
    names = {one for one in names if not one.startswith("params:")}
    catalog = catalog_of(data / "data" / "mine" / "06_models", names)
    place = data / "data" / "mine" / "06_models" / "foundation_checkpoint"
    catalog["foundation_checkpoint"] = CheckpointDataset(
        filepath=str(place), version=catalog.get("foundation_checkpoint")._version
    )
    catalog[f"params:{name}"] = recipe(checkpoint=checkpoint)
    start(pipeline, catalog, data, **more)
    return catalog


def loaded_from(catalog) -> str:
    return str(catalog.get("foundation_checkpoint").load_path)


@pytest.mark.parametrize(
    ("checkpoint", "place"),
    [
        ("foundation_checkpoint", f"mine/06_models/foundation_checkpoint/{LATER}/"),
        (OLD, f"mine/06_models/foundation_checkpoint/{OLD}/"),
        ("other", f"other/06_models/foundation_checkpoint/{LAST}/"),
        (f"data/other/06_models/foundation_checkpoint/{NEW}/foundation_checkpoint",
         f"other/06_models/foundation_checkpoint/{NEW}/"),
        ("./elsewhere", "elsewhere"),
    ],
)  # fmt: skip
def test_a_fine_tuning_begins_from_what_is_named(data, checkpoint, place, caplog):
    with caplog.at_level("INFO"):
        catalog = begun(data, checkpoint)
    assert place in loaded_from(catalog)
    is_default = checkpoint == "foundation_checkpoint"
    assert (f"finetuning begins from {checkpoint}" in caplog.text) != is_default


def test_a_version_that_is_asked_for_is_one_of_the_other_data_set(data):
    catalog = begun(data, "other", load_versions={"foundation_checkpoint": NEW})
    assert f"other/06_models/foundation_checkpoint/{NEW}/" in loaded_from(catalog)
    with pytest.raises(UserError, match=f"foundation_checkpoint: no version {OLD}"):
        begun(data, "other", load_versions={"foundation_checkpoint": OLD})


@pytest.mark.parametrize(
    ("checkpoint", "says"),
    [
        (
            "empty",
            "no foundation checkpoint of a data set of this name in .*; those th",
        ),
        ("nobody", ".*; those there are: mine, other; expected one of them, an entry, "),
        (NEW, f"no such version at .*; newest first there are {LATER}, {OLD}$"),
        ("data/nobody", "no checkpoint at .*/data/nobody; expected its folder, with metadata.json"),
        (
            "data/other/06_models/foundation_checkpoint",
            f".*; below it there is .*{LAST}/foundation_ch",
        ),
    ],
)
def test_what_is_not_there_is_told_in_one_line(data, checkpoint, says):
    with pytest.raises(UserError, match=rf"^finetuning\.checkpoint={checkpoint}: {says}") as told:
        begun(data, checkpoint)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "recipe"), [("challenge1", Challenge1Recipe), ("finetuning", LabelRecipe)]
)
def test_a_learning_curve_begins_from_a_pretrained_checkpoint_only(data, name, recipe):
    curve = PIPELINES[f"{name}_learning_curve"]
    curve = curve.only_nodes_with_outputs(f"{name}.learning_curve")
    more = {"pipeline": curve, "recipe": recipe, "name": name}
    path = data / "elsewhere" / "metadata.json"
    path.write_text(json.dumps({"kind": "finetuned"}))
    with pytest.raises(UserError, match=r"elsewhere: this has learned labels that a learning curv"):
        begun(data, "./elsewhere", **more)
    for entry in curve.inputs():
        folder = data / "data" / "mine" / "06_models"
        if not entry.startswith("params:") and not (folder / entry).exists():
            write(folder, entry, OLD)
    assert "other" in loaded_from(begun(data, "other", **more))


def test_an_encoder_of_another_data_set_is_evaluated_with_its_history(data):
    more = {"recipe": FoundationRecipe, "name": "foundation"}
    catalog = begun(data, "other", EVALUATE, **more)
    assert f"other/06_models/foundation_checkpoint/{LAST}/" in loaded_from(catalog)
    assert catalog.load("foundation_history") == LAST
    assert catalog.load("foundation_folds").empty
    version = catalog.get("foundation_metrics")._version.save
    read = RunRecords(data / "data" / "runs").read_by(version)
    assert read["foundation_checkpoint"] == read["foundation_history"] == LAST
    assert catalog.load("dataset") == LATER
    with pytest.raises(UserError, match=r"no history of its run at .*; add --nodes evaluate_encod"):
        begun(data, "./elsewhere", EVALUATE, **more)
    alone = EVALUATE.only_nodes("evaluate_encoder")
    assert "elsewhere" in loaded_from(begun(data, "./elsewhere", alone, **more))
    with pytest.raises(UserError, match=r"^foundation\.checkpoint=other: this run makes found"):
        begun(data, "other", PIPELINES["foundation"], **more)
