"""Kedro's view of a checkpoint: a directory of weights and metadata, one per version."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractVersionedDataset
from kedro.io.core import Version, get_filepath_str
from kedro_datasets._typing import JSONPreview

if TYPE_CHECKING:
    from hbn_foundation.training.checkpoint import Checkpoint


class CheckpointDataset(AbstractVersionedDataset["Checkpoint", "Checkpoint"]):
    """Save and load a checkpoint as `weights.safetensors` and `metadata.json` in a directory.

    Parameters
    ----------
    filepath
        The directory; with versions, `filepath/<version>/<name>`.
    version
        Given by Kedro for `versioned: true`.
    metadata
        Kept for plug-ins such as Kedro-Viz.

    Examples
    --------
    .. code-block:: yaml

        foundation_checkpoint:
          type: hbn_foundation.io.checkpoint.CheckpointDataset
          filepath: data/06_models/foundation_checkpoint
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

    def load(self) -> Checkpoint:
        """Read and check the version that is to be loaded."""
        from hbn_foundation.training.checkpoint import Checkpoint

        return Checkpoint.load(get_filepath_str(self._get_load_path(), "file"))

    def save(self, data: Checkpoint) -> None:
        """Write the version of this run; it appears whole or not at all."""
        data.save(get_filepath_str(self._get_save_path(), "file"))
        if data.when_stored is not None:
            data.when_stored()

    def preview(self) -> JSONPreview:
        """Show the provenance in `kedro viz`."""
        from hbn_foundation.training.checkpoint import METADATA_FILE

        folder = Path(get_filepath_str(self._get_load_path(), "file"))
        return JSONPreview((folder / METADATA_FILE).read_text(encoding="utf-8"))

    def _exists(self) -> bool:
        return Path(get_filepath_str(self._get_load_path(), "file")).is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}
