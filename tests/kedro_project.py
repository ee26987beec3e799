"""A copy of the project in a folder of its own, for tests that run `kedro` as a user does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]


@dataclass(frozen=True)
class KedroProject:
    """A project folder; what its runs make stays in it."""

    root: Path

    @classmethod
    def copy_to(cls, folder: Path) -> KedroProject:
        """Copy sources and configuration."""
        for name in ("src", "conf"):
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "local")
            shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
        (folder / "conf" / "local").mkdir()
        for name in ("pyproject.toml", ".telemetry"):
            shutil.copy(PROJECT / name, folder / name)
        return cls(folder)

    def kedro(self, *arguments: str, timeout: float = 300, **environment: str):
        """Run `kedro` with these arguments; return the finished process with its output."""
        return subprocess.run(
            [sys.executable, "-m", "kedro", *arguments],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root / "src"), **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def versions(self, entry: str) -> list[str]:
        """Versions on disk of a catalog entry, named by its path below `data`."""
        return sorted(path.name for path in (self.root / "data" / entry).iterdir())
