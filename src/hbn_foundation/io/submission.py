"""A submission's zip as a versioned Kedro dataset."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractVersionedDataset
from kedro.io.core import Version, get_filepath_str
from kedro_datasets._typing import JSONPreview

if TYPE_CHECKING:
    from hbn_foundation.submission.archive import Submission


class SubmissionDataset(AbstractVersionedDataset["Submission", "Submission"]):
    """Save and load the flat zip that the challenge takes.

    Parameters
    ----------
    filepath
        The zip; with versions, `filepath/<version>/<name>`.
    version
        Given by Kedro for `versioned: true`.
    metadata
        Kept for plug-ins such as Kedro-Viz.

    Examples
    --------
    .. code-block:: yaml

        submission:
          type: hbn_foundation.io.submission.SubmissionDataset
          filepath: data/07_model_output/submission.zip
          versioned: true
    """

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=PurePosixPath(filepath), version=version)
        self.metadata = metadata

    def load(self) -> Submission:
        """Read and check the version that is to be loaded."""
        from hbn_foundation.submission.archive import Submission

        return Submission.load(get_filepath_str(self._get_load_path(), "file"))

    def save(self, data: Submission) -> None:
        """Write the version of this run; it appears whole or not at all."""
        data.save(get_filepath_str(self._get_save_path(), "file"))

    def preview(self) -> JSONPreview:
        """Show the files and their sizes in bytes in `kedro viz`."""
        sizes = {name: len(content) for name, content in self.load().files.items()}
        return JSONPreview(json.dumps(sizes))

    def _exists(self) -> bool:
        return Path(get_filepath_str(self._get_load_path(), "file")).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}
