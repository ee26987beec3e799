"""Where the recordings come from: a BIDS root, or the simulated release."""

from pathlib import Path
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.recordings.find import list_subjects
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

    Raises
    ------
    UserError
        The folder is not the root of a BIDS data set, or the release cannot be written. A URL is
        looked at when its files are listed.
    """
    remote = {"cache": source.cache, "storage_options": source.storage_options}
    if source.root is not None:
        if "://" not in source.root:
            try:
                list_subjects(Path(source.root))
            except UserError as error:
                how = f"; {source.how_to_get}" if source.how_to_get else ""
                raise UserError(f"{error}{how}") from None
        return {"root": source.root, "simulated": False, **remote}
    from hbn_foundation.recordings.simulation.release import simulate_release

    root = simulate_release(Path(source.simulated_root), source.simulation)
    return {"root": str(root), "simulated": True, **remote}
