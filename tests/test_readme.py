"""The commands of the README and of the pages work as they are written."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml
from kedro.framework.cli.project import run as kedro_run

import warm
from hbn_foundation.cli import cli
from hbn_foundation.hooks import known_parameters
from hbn_foundation.params import dotted
from hbn_foundation.pipeline_registry import register_pipelines

PROJECT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:kedro run|hbn-foundation) [^`]*)`")
PLACEHOLDER = re.compile(r"<\w+>")


#: In the order in which a newcomer reads them.
PAGES = [
    PROJECT / "README.md",
    *(
        PROJECT / "docs" / f"{name}.md"
        for name in (
            "first-run",
            "your-data",
            "fine-tuning",
            "embedding",
            "sleep-staging",
            "challenges",
            "submission",
            "unattended-training",
            "sweeps",
        )
    ),
]


def in_blocks() -> list[str]:
    """Distinct commands of the console blocks, in order, without their comments."""
    texts = [block for page in PAGES for block in BLOCK.findall(page.read_text(encoding="utf-8"))]
    lines = "\n".join(texts).replace("\\\n", " ").splitlines()
    commands = [re.sub(r"\s+# .*", "", line[2:]).strip() for line in lines if line[:2] == "$ "]
    return list(dict.fromkeys(commands))


def everywhere() -> list[str]:
    """Those, and the commands within sentences that name no file of the reader's."""
    text = " ".join(page.read_text(encoding="utf-8") for page in PAGES).replace("\n", " ")
    found = [*in_blocks(), *(one for one in INLINE.findall(text) if "…" not in one)]
    return list(dict.fromkeys(found))


def test_there_are_commands():
    assert len(in_blocks()) > 15
    assert len(PAGES[0].read_text().splitlines()) <= 150
    assert in_blocks()[:1] == ["make foundation"]
    assert "source .venv/bin/activate" in in_blocks()


@pytest.mark.parametrize("line", [one for one in everywhere() if one.startswith("kedro run")])
def test_kedro_commands_name_what_there_is(line):
    options = kedro_run.make_context("run", shlex.split(line)[2:]).params
    pipelines = register_pipelines()
    pipeline = pipelines[options["pipeline"] or "__default__"]
    names = {node.name for node in pipeline.nodes}
    for option in ("node_names", "from_nodes", "to_nodes"):
        assert set(options[option]) <= names
    assert set(options["tags"]) <= {tag for node in pipeline.nodes for tag in node.tags}
    env = options["env"]
    assert env is None or PLACEHOLDER.fullmatch(env) or (PROJECT / "conf" / env).is_dir()
    for name, _ in dotted(options["params"]):
        known = [group for group in known_parameters() if f"{name}.".startswith(f"{group}.")]
        assert known, f"{name}: no node reads it"


@pytest.mark.parametrize("line", [one for one in everywhere() if one.startswith("hbn-foundation")])
def test_commands_of_the_project_are_known(line):
    words = shlex.split(PLACEHOLDER.sub("x", line).split(">")[0])[1:]
    command = cli
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context("command", words)


@pytest.mark.parametrize("line", [one for one in everywhere() if one.startswith("make ")])
def test_targets_are_in_the_makefile(line):
    (target,) = line.split()[1:]
    assert re.search(rf"^{target}:", (PROJECT / "Makefile").read_text(), re.MULTILINE)


def test_clean_spares_the_page_of_the_data_folder(tmp_path):
    shutil.copy(PROJECT / "Makefile", tmp_path)
    (tmp_path / "data" / "mine" / "01_raw").mkdir(parents=True)
    shutil.copy(PROJECT / "data" / "README.md", tmp_path / "data")
    (tmp_path / "data" / ".hidden").touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["README.md"]
    shutil.copy(PROJECT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    names = ["data/README.md", "data/mine/01_raw", "build/lib"]
    ignored = subprocess.run(
        ["git", "check-ignore", *names], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ignored.stdout.splitlines() == names[1:]


#: What makes every command take seconds; the command lines stay as they are written.
SMALL = """
ingestion:
  source: {simulation: {n_subjects: 20, rest_seconds: 24.0, eyes_open_seconds: 5.0,
    eyes_closed_seconds: 6.0, ccd_runs: 1, trials_per_run: 6, n_background_sources: 60, n_jobs: 1}}
  store: {n_jobs: 1}
foundation:
  encoder: {hidden_dim: 32, n_heads: 2, n_layers: 1}
  trainer: {epochs: 1, batch_size: 16, warmup_steps: 2}
  evaluation: {bootstraps: 20, map_method: pca, baselines: [majority, band_power]}
finetuning:
  plan: {strategy: full}
  trainer: {epochs: 4}
challenge: {from_scratch: {train: false}}
challenge1: {trainer: {epochs: 1}, evaluation: {bootstraps: 20, baselines: [constant]}}
challenge2: {trainer: {epochs: 1, probe_windows: 200},
  evaluation: {bootstraps: 20, baselines: [constant]}}
learning_curve: {runs: {shares: [1.0], seeds: [0], scratch: false}}
finetuning_learning_curve: {runs: {shares: [1.0], seeds: [0], trained: [], frozen: [band_power]}}
submission: {validation: {n_windows: 4}}
sweep:
  study: {participants: 8, targets: 1}
  grid:
    base: {trainer: {epochs: 1}}
    finetune: {mode: [target_only], target_data_pct: [0.1, 1.0], trainer: {epochs: 1}}
  engine: {engine: inline}
"""


def merged(base: dict, changes: dict) -> dict:
    both = {**base, **changes}
    nested = {k for k in base.keys() & changes.keys() if isinstance(changes[k], dict)}
    return both | {key: merged(base[key] or {}, changes[key]) for key in nested}


@pytest.fixture
def clone(tmp_path) -> Path:
    """A clone of the project with small parameters, and an environment as `make` leaves it."""
    folder = tmp_path / "clone"
    files = subprocess.run(
        ["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if files.returncode:
        pytest.skip("not a git checkout")
    for name in files.stdout.splitlines():
        if (PROJECT / name).is_file() and not name.startswith("tests/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)
    small = yaml.safe_load(SMALL)
    files = {*folder.glob("conf/*/parameters.yml"), *folder.glob("conf/base/parameters/*.yml")}
    for path in files:
        values = yaml.safe_load(path.read_text())
        changes = {key: small[key] for key in values.keys() & small.keys()}
        if path.parent.name == "parameters":
            path.write_text(yaml.safe_dump(merged(values, changes), sort_keys=False))
        else:
            for group in values.values():
                group.get("trainer", {}).pop("epochs", None)
            path.write_text(yaml.safe_dump(values, sort_keys=False))
    make_environment(folder)
    return folder


def make_environment(folder: Path) -> None:
    """Make what `make install` does out of the packages that this interpreter has."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=folder, check=True)
    python = folder / ".venv" / "bin" / "python"
    (site,) = (folder / ".venv" / "lib").glob("*/site-packages")
    places = [folder / "src", sysconfig.get_paths()["purelib"]]
    (site / "packages.pth").write_text("\n".join(map(str, places)))
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    scripts = {**project["scripts"], "kedro": "kedro.framework.cli:main"}
    for name, entry in scripts.items():
        module, function = entry.split(":")
        script = folder / ".venv" / "bin" / name
        script.write_text(f"#!{python}\nfrom {module} import {function}\n{function}()\n")
        script.chmod(0o755)
    (folder / ".venv" / ".installed").touch()


#: This test; data that are not in the project; minutes of training.
LEFT_OUT = ("make test", "kedro run --env eyes", "kedro run --env sleep")
ENDLESS = ("tail -f", "hbn-foundation monitor")  # until Ctrl-C
IN_THE_SHELL = ("make", "source", *ENDLESS, "hbn-foundation parameters")


def plan_of_the_page() -> str:
    """The code that a page tells the reader to write."""
    text = (PROJECT / "docs" / "fine-tuning.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return code


@pytest.mark.slow
def test_commands_run_in_order(clone):
    """The first in a fresh shell, the runs one after another."""
    (clone / "src" / "my_plans.py").write_text(plan_of_the_page())
    kept = {name: os.environ[name] for name in ("HOME", "OMP_NUM_THREADS") if name in os.environ}
    kept |= {"PATH": "/usr/local/bin:/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""}
    lines = [line for line in in_blocks() if not line.startswith(LEFT_OUT)]
    shell = [
        f"timeout --signal INT 10 {line} || [ $? = 124 ]" if line.startswith(ENDLESS) else line
        for line in lines
        if line.startswith(IN_THE_SHELL)
    ]
    bash = ["bash", "--noprofile", "--norc", "-ex", "-c", "\n".join(shell)]
    result = subprocess.run(
        bash, cwd=clone, env=kept, capture_output=True, text=True, timeout=600, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    kept["PYTHONPATH"] = str(clone / "src")
    for line in lines:
        if not line.startswith(IN_THE_SHELL):
            program, *arguments = shlex.split(line)
            module = program.replace("-", "_")
            result = warm.run(module, tuple(arguments), clone, kept, timeout=600)
            assert result.returncode == 0, f"{line}: {result.stderr[-3000:]}"
    made = sorted(path.name for path in (clone / "data").iterdir())
    assert made == ["README.md", "plan_004", "simulated"]
