"""The page of parameters says what the code says."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from omegaconf import OmegaConf

from hbn_foundation.cli import cli, configured_values
from hbn_foundation.pipeline_registry import register_pipelines
from hbn_foundation.pipelines.reference import parameter_groups, reference_page

PROJECT = Path(__file__).parents[2]

BASE = PROJECT / "conf" / "base" / "parameters"


@pytest.fixture(scope="module")
def page() -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PROJECT)
        patch.delenv("EEGMAT_ROOT", raising=False)
        return reference_page(parameter_groups(register_pipelines()), configured_values())


def test_optional_groups_are_listed_with_their_parameters(page):
    for name in (
        "evaluation.repeats",
        "evaluation.repeats.folds",
        "label.kind",
        "encoder.band.edges",
    ):
        assert f"| `{name}` |" in page


def test_every_parameter_is_explained(page):
    unexplained = [line for line in page.splitlines() if line.endswith("|  |")]
    assert unexplained == []


def test_page_says_what_is_in_force(page):
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    rows = {
        (name, line.split("`")[1]): [cell.strip() for cell in line.split("|")[2:4]]
        for name, section in sections.items()
        for line in section.splitlines()
        if line.startswith("| `")
    }
    assert rows["challenge1", "trainer.epochs"] == ["`25`", "`15`"]
    assert rows["finetuning", "trainer.epochs"] == ["`15`; eegmat: `8`", ""]
    assert rows["ingestion.store", "path"][0] == "`<data>/02_intermediate/signals`"


def test_parameters_in_force_of_one_pipeline(monkeypatch):
    monkeypatch.chdir(PROJECT / "docs")
    command = ["parameters", "--pipeline", "challenge2", "--env", "factors"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    lines = dict(line.split(" = ", 1) for line in result.output.splitlines())
    assert lines["challenge2.trainer.epochs"].startswith("3 (default: 15)  ")
    assert lines["challenge2.input.unit"].startswith("store (default)  ")
    assert "data/simulated/06_models" in lines["challenge2.trainer.work_dir"]
    assert not any(name.startswith(("challenge1.", "sweep.")) for name in lines)
    for command in (["--pipeline", "challenge3"], ["--env", "nonsense"]):
        result = CliRunner().invoke(cli, ["parameters", *command])
        assert result.exit_code == 1
        assert command[1] in result.output


def test_base_configuration_gives_every_group_of_ingestion():
    name = "ingestion"
    given = OmegaConf.load(BASE / f"{name}.yml")[name]
    pipelines = register_pipelines().values()
    inputs = set().union(*(pipeline.inputs() for pipeline in pipelines))
    asked = {i.removeprefix("params:") for i in inputs if i.startswith(f"params:{name}.")}
    assert {f"{name}.{group}" for group in given} == asked


@pytest.mark.parametrize("environment", ["eegmat", "factors", "hbn", "plan_004", "time_tokens"])
def test_environments_give_values_that_are_known(environment):
    given = OmegaConf.load(PROJECT / "conf" / environment / "parameters.yml")
    groups = parameter_groups(register_pipelines())
    checked = 0
    for name, values in given.items():
        base = OmegaConf.load(BASE / f"{name}.yml")[name]
        if name in groups:
            merged = OmegaConf.merge(base, values)
            groups[name](**OmegaConf.to_container(merged, resolve=False))
            checked += 1
            continue
        for group, own in values.items():
            merged = OmegaConf.merge(base.get(group, {}), own)
            groups[f"{name}.{group}"](**OmegaConf.to_container(merged, resolve=False))
            checked += 1
    assert checked
