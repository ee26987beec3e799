"""Where the recordings come from: a BIDS root, or the simulated release."""

from pathlib import Path
from typing import Any

from hbn_foundation.recordings.params import SourceParams


def prepare(source: SourceParams) -> dict[str, Any]:
    """Name the BIDS root; simulate the mini release first where no root is given.

    Parameters
    ----------
    source
        `root` is a folder or an fsspec URL; without one, a release is simulated into
        `simulated_root`, unless the same one is there already.

    Returns
    -------
    dict
        `root` (str) and `simulated` (bool); `cache` and `storage_options` for a URL.
    """
    remote = {"cache": source.cache, "storage_options": source.storage_options}
    if source.root is not None:
        return {"root": source.root, "simulated": False, **remote}
    from hbn_foundation.recordings.simulation.release import simulate_release

    root = simulate_release(Path(source.simulated_root), source.simulation)
    return {"root": str(root), "simulated": True, **remote}
