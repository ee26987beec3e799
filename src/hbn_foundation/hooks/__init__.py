"""Hooks into every run: folders, parameter names, one version per run, the closing report."""

from hbn_foundation.hooks.folders import DataFolder, ProjectFolder
from hbn_foundation.hooks.parameters import ParameterNames, known_parameters
from hbn_foundation.hooks.report import RunReport
from hbn_foundation.hooks.versions import RunVersions, claim_version

__all__ = [
    "DataFolder",
    "ParameterNames",
    "ProjectFolder",
    "RunReport",
    "RunVersions",
    "claim_version",
    "known_parameters",
]
