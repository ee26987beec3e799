"""Kedro's view of a checkpoint: a directory of weights and metadata, one per version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kedro_datasets._typing import JSONPreview

from hbn_foundation.io.local import LocalDataset

if TYPE_CHECKING:
    from hbn_foundation.training.checkpoint import Checkpoint


class CheckpointDataset(LocalDataset["Checkpoint"]):
    """Save and load a checkpoint as `weights.safetensors` and `metadata.json` in a directory."""

    def load(self) -> Checkpoint:
        """Read and check the version that is to be loaded."""
        from hbn_foundation.training.checkpoint import Checkpoint

        return Checkpoint.load(self.load_path)

    def save(self, data: Checkpoint) -> None:
        """Write the version of this run, and tell those who wait for it."""
        super().save(data)
        if data.when_stored is not None:
            data.when_stored()

    def preview(self) -> JSONPreview:
        """Show the provenance in `kedro viz`."""
        from hbn_foundation.training.supervision.run_folder import METADATA

        return JSONPreview((self.load_path / METADATA).read_text(encoding="utf-8"))
