"""The environment of the foundation plan with small models."""

from __future__ import annotations

from pathlib import Path

import yaml

from kedro_project import KedroProject

ENV = ("--env", "plan_004")

#: What makes the runs short: small models, short recordings.
SHORT = """
ingestion:
  source:
    simulation: {rest_seconds: 24.0, eyes_open_seconds: 5.0, eyes_closed_seconds: 6.0,
                 ccd_runs: 1, trials_per_run: 12, n_background_sources: 60}
foundation:
  encoder: {hidden_dim: 32, n_heads: 2, n_layers: 1}
  trainer: {epochs: 2, warmup_steps: 2}
  evaluation: {map_method: pca, baselines: [majority, band_power]}
challenge1:
  trainer: {epochs: 1, batch_size: 16}
  tokens: {time: {n_components: 4, n_frequencies: 8, n_whitened: 8, width: 8}}
  evaluation: {bootstraps: 20, baselines: [constant, age_sex]}
challenge2:
  trainer: {epochs: 1, batch_size: 16}
  evaluation: {bootstraps: 20, baselines: [constant, age_sex]}
submission:
  validation: {limits: {window_seconds: 10.0}}
  scoring: {bootstraps: 20, limits: {window_seconds: 10.0}}
optimization: {variants: [cached, bf16, fp16], repeats: 5, seconds: 2.0, bootstraps: 20}
"""


def merged(values: dict, more: dict) -> dict:
    """Replace values of nested dictionaries."""
    both = {name: merged(values[name], more[name]) for name in values.keys() & more.keys()
            if isinstance(more[name], dict)}  # fmt: skip
    return {**values, **more, **both}


class Plan:
    """A project in which the document's commands run one after another; nothing has run."""

    def __init__(self, folder: Path) -> None:
        self.project = KedroProject.copy_to(folder)
        self.data = self.project.root / "data" / "plan_004"
        file = self.project.root / "conf" / "plan_004" / "parameters.yml"
        short = merged(yaml.safe_load(file.read_text()), yaml.safe_load(SHORT))
        file.write_text(yaml.safe_dump(short))

    def run(self, *arguments: str) -> str:
        """Run a command of the plan to its end; return what it says."""
        result = self.project.kedro("run", *ENV, *arguments, timeout=900)
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stderr + result.stdout

    def newest(self, entry: str) -> Path:
        """Give the newest version of a file, named by its path below the data folder."""
        return sorted((self.data / entry).iterdir())[-1] / entry.rsplit("/", 1)[1]
