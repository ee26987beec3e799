"""HBN-EEG foundation models: from BIDS recordings to a pretrained encoder and its scores."""

import os
from importlib import import_module
from typing import Any

# Threads wait for each other spinning for some microseconds, then asleep. Spinning on, as is
# OpenMP's habit, makes a training step several times slower on a machine that does anything else
# besides; sleeping at once makes it a sixth slower on an idle one. Read when torch is first
# imported, hence here.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

__version__ = "0.1.0"


def load(checkpoint: str | os.PathLike[str], **options: Any) -> Any:
    """Load a checkpoint as an `hbn_foundation.embedding.embedder.Embedder`.

    >>> import hbn_foundation
    >>> embedder = hbn_foundation.load("exported/model")
    >>> features = embedder.embed("recording.edf")  # (n_windows, n_features)

    Parameters
    ----------
    checkpoint
        Its folder: that of a catalog entry, of one of its versions, or what `hbn-foundation export`
        has written; else the id of a repository of the Hugging Face hub.
    options
        Parameters of the `Embedder`.
    """
    return import_module("hbn_foundation.embedding.embedder").load(checkpoint, **options)
