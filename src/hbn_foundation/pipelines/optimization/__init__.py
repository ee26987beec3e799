"""From a checkpoint to the variant that is fastest for what it loses."""

from hbn_foundation.pipelines.optimization.pipeline import create_foundation, create_instance

__all__ = ["create_foundation", "create_instance"]
