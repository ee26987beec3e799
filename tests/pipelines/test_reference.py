"""The page of parameters says what the code says."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from omegaconf import OmegaConf

from hbn_foundation.cli import cli
from hbn_foundation.pipeline_registry import register_pipelines
from hbn_foundation.pipelines.reference import parameter_groups

PROJECT = Path(__file__).parents[2]

BASE = PROJECT / "conf" / "base" / "parameters"


def printed(*options: str) -> dict[str, str]:
    result = CliRunner().invoke(cli, ["parameters", *options])
    assert result.exit_code == 0, result.output
    return dict(line.split(" = ", 1) for line in result.output.splitlines())


def test_every_parameter_of_every_pipeline_is_explained(monkeypatch):
    monkeypatch.chdir(PROJECT)
    lines = printed()
    for name in ("evaluation.repeats", "evaluation.repeats.folds", "encoder.band.edges"):
        assert f"foundation.{name}" in lines
    assert [line for line in lines.values() if not line.partition(")  ")[2]] == []


def test_parameters_in_force_of_one_pipeline(monkeypatch):
    monkeypatch.chdir(PROJECT / "docs")
    lines = printed("--pipeline", "challenge2", "--env", "factors")
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
