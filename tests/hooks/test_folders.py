"""Each data set has a folder of its own, and relative paths mean the project's folder."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from kedro.config import OmegaConfigLoader

from hbn_foundation.hooks.folders import DataFolder, are_same_roots, folder_name, is_same_root
from kedro_project import SMALL, KedroProject


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("s3://bucket/R1_mini_L100_bdf/", "R1_mini_L100_bdf"),
        ("/data/my_bids", "my_bids"),
        ("../bids", "bids"),
        ("..", "b"),
        ("a b/ä ö", "ä_ö"),
        ("1e3", "1e3"),
        ("/", "root"),
    ],
)
def test_folder_is_named_after_the_root(root, name):
    assert folder_name(root, Path("/a/b/c")) == name


def test_roots_are_compared_as_folders(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert is_same_root("a", str(tmp_path / "b"), tmp_path)
    assert is_same_root("moved", "a", tmp_path)
    assert not is_same_root("a", "c", tmp_path)
    assert not is_same_root("a", "s3://bucket/a", tmp_path)
    assert is_same_root("s3://bucket/a/", "s3://bucket/a", tmp_path)


@pytest.mark.parametrize(
    ("asked", "same"),
    [
        ({"a": "a", "b": "b"}, True),
        ({"a": "a"}, True),
        ({"a": "a", "b": "b", "c": "c"}, True),
        ({"a": "b"}, False),
        ({"a": "a", "c": "c"}, False),
        ({"": "a"}, False),
    ],
)
def test_data_sets_may_be_added_to_a_folder_or_left_out(tmp_path, asked, same):
    for name in "abc":
        (tmp_path / name).mkdir()
    assert are_same_roots({"a": "a", "b": "b"}, asked, tmp_path) == same


def folder_of(tmp_path, configuration: dict[str, str], **options) -> str:
    """Write a configuration, and return the data folder that is chosen."""
    for name in ("base", "local", "mine"):
        (tmp_path / name).mkdir()
    for name, text in configuration.items():
        (tmp_path / name).write_text(text)
    loader = OmegaConfigLoader(
        str(tmp_path), base_env="base", default_run_env="local",
        merge_strategy={"parameters": "soft"}, **options,
    )  # fmt: skip
    DataFolder().after_context_created(SimpleNamespace(config_loader=loader, project_path="/x"))
    assert loader["parameters"]["work"] == f"{loader['globals']['data']}/work"
    return loader["globals"]["data"]


BASE = {
    "base/globals.yml": "data: data/simulated\n",
    "base/parameters.yml": "work: ${globals:data}/work\ningestion: {source: {root: null}}\n",
}
MINE = {"mine/parameters.yml": "ingestion: {source: {root: /d/bids}}\n"}
NAMED = MINE | {"mine/globals.yml": "data: data/named\n"}
GIVEN = {"ingestion": {"source": {"root": "/d/given"}}}
SEVERAL = {"mine/parameters.yml": "ingestion: {source: {roots: {one: /d/x, two: /d/y}}}\n"}


@pytest.mark.parametrize(
    ("configuration", "options", "expected"),
    [
        (BASE, {}, "data/simulated"),
        (BASE, {"runtime_params": GIVEN}, "data/given"),
        (BASE | MINE, {"env": "mine"}, "data/bids"),
        (BASE | NAMED, {"env": "mine"}, "data/named"),
        (BASE | NAMED, {"env": "mine", "runtime_params": GIVEN}, "data/given"),
        (BASE | SEVERAL, {"env": "mine"}, "data/one-two"),
        (BASE | SEVERAL | {"mine/globals.yml": "data: data/both\n"}, {"env": "mine"}, "data/both"),
        (BASE | {"base/globals.yml": "data: data/own\n",
                 "base/parameters.yml": BASE["base/parameters.yml"].replace("null", "/d/bids")},
         {}, "data/own"),
    ],
)  # fmt: skip
def test_folder_follows_the_data_set(tmp_path, configuration, options, expected):
    assert folder_of(tmp_path, configuration, **options) == expected


@pytest.fixture(scope="module")
def project(tmp_path_factory, tiny_bids) -> KedroProject:
    project = KedroProject.copy_to(tmp_path_factory.mktemp("around") / "project")
    (project.root / "conf" / "local" / "parameters.yml").write_text(SMALL)
    for folder in ("mine", "other/mine"):
        place = project.root.parent / folder
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(tiny_bids)
    copied = project.root.parent / "copied" / "mine"
    copied.mkdir(parents=True)
    for path in tiny_bids.iterdir():
        (copied / path.name).symlink_to(path)
    return project


def list_recordings(project: KedroProject, *options: str, below: str = ""):
    command = ["run", "--pipeline", "ingestion", "--to-nodes", "list_recordings", *options]
    return project.kedro(*command, below=below)


def test_root_given_by_parameters_has_its_own_folder_from_wherever_it_is_run(project):
    options = ["--params", "ingestion.source.root=../mine"]
    result = list_recordings(project, *options, below="conf/base")
    assert result.returncode == 0, result.stderr
    (path,) = (project.root / "data" / "mine" / "01_raw" / "bids_source.json").glob("*/*.json")
    assert json.loads(path.read_text())["root"] == "../mine"
    assert [path.name for path in (project.root / "data").iterdir()] == ["mine"]
    assert not (project.root / "conf" / "base" / "data").exists()
    assert re.search(r"^\d\d:\d\d:\d\d  \[1/2\] prepare_source$", result.stderr, re.MULTILINE)
    assert f"Next: kedro run --pipeline foundation --params {options[1]}\n" in result.stderr
    assert list_recordings(project, *options).returncode == 0


def test_another_data_set_of_the_same_name_is_refused(project):
    assert list_recordings(project, "--params", "ingestion.source.root=../mine").returncode == 0
    same = list_recordings(project, "--params", "ingestion.source.root=../other/mine")
    assert same.returncode == 0, same.stderr
    result = list_recordings(project, "--params", "ingestion.source.root=../copied/mine")
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    for part in ("data/mine holds what was made of ../other/mine", "../copied/mine", "globals.yml"):
        assert part in line


def test_environment_without_a_folder_of_its_own_gets_one(project):
    for name, globals_ in (("unnamed", None), ("named", "data: data/elsewhere\n")):
        folder = project.root / "conf" / name
        folder.mkdir()
        (folder / "parameters.yml").write_text("ingestion: {source: {root: ../mine}}\n")
        if globals_ is not None:
            (folder / "globals.yml").write_text(globals_)
    assert list_recordings(project, "--env", "named").returncode == 0
    assert len(list((project.root / "data/elsewhere/01_raw/recordings.parquet").iterdir())) == 1
    before = len(list((project.root / "data/mine/01_raw").glob("recordings.parquet/*")))
    assert list_recordings(project, "--env", "unnamed").returncode == 0
    after = len(list((project.root / "data/mine/01_raw").glob("recordings.parquet/*")))
    assert after == before + 1
