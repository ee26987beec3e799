"""Project settings, read by Kedro."""

import os
import warnings

from hbn_foundation.hooks import (
    DataFolder,
    ParameterNames,
    ProjectFolder,
    RunReport,
    RunVersions,
)

# `--pipeline` is the documented way to name one pipeline here.
warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")

REPORT = RunReport()
HOOKS = (ProjectFolder(), DataFolder(), ParameterNames(), RunVersions(), REPORT)

# No usage data is sent, and nothing asks whether it may be.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-telemetry",)


def _environment(name: str, default: str | None = None) -> str | None:
    """Read an environment variable: `${env:EEGMAT_ROOT,../shared/data/eegmat}`."""
    return os.environ.get(name, default)


CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "custom_resolvers": {"env": _environment},
    # An environment changes single values and keeps the rest of the defaults.
    "merge_strategy": {"parameters": "soft"},
}
