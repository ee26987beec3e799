"""What a run reads that is not there yet, and the checkpoint that its fine-tunings begin from."""

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node
from versioned_entries import CHAIN, OLD, catalog_of, double, save, start

from hbn_foundation.errors import UserError
from hbn_foundation.evaluation.recipes import Challenge2Recipe, LabelRecipe
from hbn_foundation.pipeline_registry import register_pipelines


def test_missing_input_is_one_line_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(UserError, match=r"first: nothing saved yet at .*a node that makes it"):
        start(CHAIN, catalog_of(tmp_path), tmp_path)
    pipeline = Pipeline([node(double, "trials", "second", name="a")])
    command = "kedro run --pipeline ingestion --to-nodes list_trials --env hbn"
    with pytest.raises(UserError, match=f"trials: nothing saved yet at .*; make it by {command}"):
        start(pipeline, catalog_of(tmp_path, ["trials"]), tmp_path, env="hbn")
    for folder in ("mine", "yours"):
        save(tmp_path / folder / "01_raw", "first", OLD)
    catalog = catalog_of(tmp_path / "simulated" / "01_raw")
    with pytest.raises(UserError, match=r"It is there for mine, yours: .*root$"):
        start(CHAIN, catalog, tmp_path)


def made_by_pipelines() -> set[str]:
    return set().union(*(one.all_outputs() for one in register_pipelines().values()))


@pytest.mark.parametrize(
    ("pipeline", "missing", "commands"),
    [
        (
            "finetuning",
            ["dataset"],
            ["--pipeline foundation --to-nodes list_trials,pretrain_encoder"],
        ),
        (
            "submission",
            ["challenge1.checkpoint", "signal_store", "splits"],
            [
                "--pipeline foundation --to-nodes list_trials,pretrain_encoder",
                "--pipeline challenge1 --to-nodes challenge1.finetune",
                "--pipeline challenge2 --to-nodes challenge2.finetune",
            ],
        ),
    ],
)
def test_all_that_is_missing_is_named_with_the_commands_that_make_it(
    tmp_path, pipeline, missing, commands
):
    catalog = catalog_of(tmp_path, made_by_pipelines())
    label = {"kind": "trial", "column": "rt"}
    catalog["params:finetuning"] = LabelRecipe.model_validate({"label": label})
    with pytest.raises(UserError) as raised:
        start(register_pipelines()[pipeline], catalog, tmp_path, env="eegmat")
    assert all(name in str(raised.value) for name in missing)
    line = " && ".join(f"kedro run {command} --env eegmat" for command in commands)
    assert str(raised.value).endswith(f"; make them by {line}")


@pytest.mark.parametrize("kind", ["task", "trial"])
def test_label_of_tasks_needs_no_trials(tmp_path, kind):
    pipeline = register_pipelines()["finetuning"].only_nodes("finetuning.prepare")
    catalog = catalog_of(tmp_path, made_by_pipelines())
    label = {"kind": kind, **({"column": "rt"} if kind == "trial" else {})}
    catalog["params:finetuning"] = LabelRecipe.model_validate({"label": label})
    for name in ("foundation_checkpoint", "dataset"):
        save(tmp_path, name, OLD)
    if kind == "task":
        start(pipeline, catalog, tmp_path)
        assert catalog.load("trials") is None
    else:
        with pytest.raises(UserError, match=r"^trials: nothing saved yet .* list_trials$"):
            start(pipeline, catalog, tmp_path)


def test_a_fine_tuning_begins_from_the_checkpoint_that_is_named(tmp_path):
    pipeline = register_pipelines()["finetuning"].only_nodes("finetuning.prepare")
    named = LabelRecipe(checkpoint="finetuning_checkpoint")
    names = {*made_by_pipelines(), "finetuning_checkpoint"}
    catalog = catalog_of(tmp_path, names)
    catalog["params:finetuning"] = named
    with pytest.raises(
        UserError, match=r"^finetuning\.checkpoint=finetuning_checkpoint: nothing sa"
    ):
        start(pipeline, catalog, tmp_path)
    for number, name in enumerate(("foundation_checkpoint", "finetuning_checkpoint", "dataset")):
        save(tmp_path, name, OLD, number)
    catalog = catalog_of(tmp_path, names)
    catalog["params:finetuning"] = named
    start(pipeline, catalog, tmp_path)
    assert catalog.load("foundation_checkpoint") == 1


@pytest.mark.parametrize(
    ("names", "entry", "says"),
    [
        (["finetuning"], "mine_checkpoint", "no entry of the catalog with versioned: true"),
        (["foundation", "finetuning"], "challenge1_checkpoint", "this run makes foundation_check"),
        (["finetuning", "challenge2"], "challenge1_checkpoint",
         "the same run has challenge2.checkpoint=foundation_checkpoint; expected one for all"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_a_run_could_not_begin_from_is_refused(tmp_path, names, entry, says):
    catalog = catalog_of(tmp_path, {*made_by_pipelines(), "challenge1_checkpoint"})
    config = {"mine_checkpoint": {"type": "json.JSONDataset", "filepath": str(tmp_path / "mine")}}
    catalog["mine_checkpoint"] = DataCatalog.from_config(config).get("mine_checkpoint")
    catalog["params:finetuning"] = LabelRecipe(checkpoint=entry)
    catalog["params:challenge2"] = Challenge2Recipe()
    for name in ("foundation_checkpoint", "challenge1_checkpoint"):
        save(tmp_path, name, OLD)
    pipelines = register_pipelines()
    with pytest.raises(UserError, match=rf"^finetuning\.checkpoint={entry}: {says}") as raised:
        start(sum(map(pipelines.get, names), Pipeline([])), catalog, tmp_path)
    assert "\n" not in str(raised.value)
