"""A submission's zip as a versioned Kedro dataset."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kedro_datasets._typing import JSONPreview

from hbn_foundation.io.local import LocalDataset

if TYPE_CHECKING:
    from hbn_foundation.submission.archive import Submission


class SubmissionDataset(LocalDataset["Submission"]):
    """Save and load the flat zip that the challenge takes."""

    def load(self) -> Submission:
        """Read and check the version that is to be loaded."""
        from hbn_foundation.submission.archive import Submission

        return Submission.load(self.load_path)

    def preview(self) -> JSONPreview:
        """Show the files and their sizes in bytes in `kedro viz`."""
        sizes = {name: len(content) for name, content in self.load().files.items()}
        return JSONPreview(json.dumps(sizes))
