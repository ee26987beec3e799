"""The page of parameters says what the code says."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from hbn_foundation.pipeline_registry import register_pipelines
from hbn_foundation.pipelines.reference import parameter_groups, reference_page

PROJECT = Path(__file__).parents[2]


def test_page_is_up_to_date():
    page = (PROJECT / "docs" / "parameters.md").read_text()
    assert page == reference_page(parameter_groups(register_pipelines())), (
        "write it anew: hbn-foundation parameters > docs/parameters.md"
    )


def test_optional_groups_are_listed_with_their_parameters():
    page = reference_page(parameter_groups(register_pipelines()))
    for name in ("repeats", "repeats.folds", "label.kind", "band.edges"):
        assert f"| `{name}` |" in page


def test_every_parameter_is_explained():
    page = reference_page(parameter_groups(register_pipelines()))
    unexplained = [line for line in page.splitlines() if line.startswith("| `") and "|  |" in line]
    assert unexplained == []


@pytest.mark.parametrize("name", ["ingestion", "foundation"])
def test_base_configuration_gives_every_group(name):
    given = OmegaConf.load(PROJECT / "conf" / "base" / name / "parameters.yml")[name]
    pipelines = register_pipelines().values()
    inputs = set().union(*(pipeline.inputs() for pipeline in pipelines))
    asked = {i.removeprefix("params:") for i in inputs if i.startswith(f"params:{name}.")}
    assert {f"{name}.{group}" for group in given} == asked


@pytest.mark.parametrize("environment", ["eegmat", "factors", "hbn", "time_tokens"])
def test_environments_give_values_that_are_known(environment):
    given = OmegaConf.load(PROJECT / "conf" / environment / "parameters.yml")
    groups = parameter_groups(register_pipelines())
    checked = 0
    for name, values in given.items():
        base = OmegaConf.load(PROJECT / "conf" / "base" / name / "parameters.yml")[name]
        for group, own in values.items():
            if OmegaConf.is_config(own):
                assert f"{name}.{group}" in groups
                merged = OmegaConf.merge(base.get(group, {}), own)
                groups[f"{name}.{group}"](**OmegaConf.to_container(merged, resolve=False))
                checked += 1
    assert checked
