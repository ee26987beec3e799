"""The command that carries out one job of a sweep alone, as messages name it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

CHOICES = ("sweep.jobs.only", "sweep.jobs.only_bases", "sweep.jobs.skip_base_training")
"""Parameters that such a command replaces."""

_RUN: dict[str, Any] = {}


def note_run(settings: Mapping[str, Any]) -> None:
    """Let the commands in messages have what the run of this process was given.

    Parameters
    ----------
    settings
        `env`, a name or None; `params`, values by dotted name; `load_versions`, by dataset.
    """
    _RUN.clear()
    _RUN.update(settings)


def rerun(name: str) -> str:
    """Write the command that carries out one job alone."""
    env = f" --env {_RUN['env']}" if _RUN.get("env") else ""
    read = [f"{key}:{value}" for key, value in _RUN.get("load_versions", {}).items()]
    versions = f" --load-versions {','.join(read)}" if read else ""
    given = {key: value for key, value in _RUN.get("params", {}).items() if key not in CHOICES}
    values = {key: v if isinstance(v, str) else json.dumps(v) for key, v in given.items()}
    params = ",".join(f"{key}={value}" for key, value in [*values.items(), (CHOICES[0], name)])
    return f'kedro run{env} --pipeline sweep{versions} --params "{params}"'
