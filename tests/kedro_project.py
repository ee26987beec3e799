"""A copy of the project in a folder of its own, for tests that run `kedro` as a user does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import warm

PROJECT = Path(__file__).parents[1]

#: Parameters of a run that takes seconds.
SMALL = """
ingestion:
  source:
    simulation:
      n_subjects: 6
      rest_seconds: 24.0
      eyes_open_seconds: 5.0
      eyes_closed_seconds: 6.0
      ccd_runs: 1
      trials_per_run: 4
      n_background_sources: 60
      n_jobs: 1
  store:
    n_jobs: 1
foundation:
  hardware:
    device: cpu
  encoder:
    hidden_dim: 32
    n_heads: 2
    n_layers: 1
  trainer:
    epochs: 2
    batch_size: 16
    warmup_steps: 2
  evaluation:
    bootstraps: 20
    map_method: pca
    baselines: [majority, band_power, random_weights]
"""


@dataclass(frozen=True)
class KedroProject:
    """A project folder; what its runs make stays in it."""

    root: Path

    @property
    def data(self) -> Path:
        """The folder of the simulated release and of all that is made of it."""
        return self.root / "data" / "simulated"

    @classmethod
    def copy_to(cls, folder: Path, parameters: str = "") -> KedroProject:
        """Copy sources and configuration; `parameters` are YAML of `conf/local`."""
        for name in ("src", "conf"):
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "local")
            shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
        (folder / "conf" / "local").mkdir()
        for name in ("pyproject.toml", ".telemetry"):
            shutil.copy(PROJECT / name, folder / name)
        if parameters:
            (folder / "conf" / "local" / "parameters.yml").write_text(parameters)
        return cls(folder)

    def kedro(
        self, *arguments: str, timeout: float = 300, below: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `kedro` with these arguments; return the finished process with its output."""
        environment = {**os.environ, "PYTHONPATH": str(self.root / "src"), **environment}
        return warm.run("kedro", arguments, self.root / below, environment, timeout)

    def run(self, *arguments: str) -> str:
        """Run `kedro run` to its end; return what it says."""
        result = self.kedro("run", *arguments)
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stderr + result.stdout

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `kedro` and return the process, its output in one pipe."""
        return subprocess.Popen(
            [sys.executable, "-m", "kedro", *arguments],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root / "src")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # so that a test can send a signal to all, as a terminal does
        )

    def versions(self, entry: str) -> list[str]:
        """Versions on disk of a catalog entry, named by its path below `data/simulated`."""
        return sorted(path.name for path in (self.data / entry).iterdir())

    def newest(self, entry: str) -> Path:
        """Give the newest version of a catalog entry, named as for `versions`."""
        return self.data / entry / self.versions(entry)[-1] / entry.rsplit("/", 1)[1]
