"""A checkpoint: weights as safetensors beside their provenance as JSON, in one directory.

Nothing is unpickled. A directory appears whole or not at all: it is written under a temporary
name, synchronised to disk and renamed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hbn_foundation.errors import UserError
from hbn_foundation.files import write_directory
from hbn_foundation.params import current_names
from hbn_foundation.training.supervision.run_folder import (
    DIGESTS,
    METADATA,
    OWN_DIGEST,
    STATE,
    WEIGHTS,
    damage,
    own_digest,
)
from hbn_foundation.training.weights import check_shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hbn_foundation.models.encoder import Encoder

FORMAT_VERSION = 2
EPOCHS_FROM_0 = 1  # the format that counted them so


@dataclass
class Checkpoint:
    """Weights and where they come from.

    Attributes
    ----------
    weights
        Tensors by name: `encoder.…` and `objective.…`.
    metadata
        Parameters, training subjects, fingerprint of the data, library versions, run.
    when_stored
        Call it once the checkpoint is stored elsewhere: the training's folder is then marked as
        done.
    """

    weights: dict[str, Tensor]
    metadata: dict[str, Any] = field(default_factory=dict)
    when_stored: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    def save(
        self,
        directory: str | Path,
        state: bytes | None = None,
        beside: Mapping[str, bytes] | None = None,
    ) -> Path:
        """Write the checkpoint; a directory that exists is replaced.

        The metadata on disk gain `format_version` and the files' digests.

        Parameters
        ----------
        directory
            Where to.
        state
            What training needs besides the weights to resume from here.
        beside
            Further files by name, for readers.

        Raises
        ------
        UserError
            The disk is full; a checkpoint that was there stays as it was.
        """
        from safetensors.torch import save

        directory = Path(directory)
        content = save({name: tensor.contiguous() for name, tensor in self.weights.items()})
        files = {WEIGHTS: content}
        if state is not None:
            files[STATE] = state
        digests = {DIGESTS[name]: hashlib.sha256(part).hexdigest() for name, part in files.items()}
        of_files = {*DIGESTS.values(), OWN_DIGEST}
        described = {key: value for key, value in self.metadata.items() if key not in of_files}
        # through JSON once, as the digest is of what will be read
        metadata = json.loads(
            json.dumps({**described, "format_version": FORMAT_VERSION, **digests})
        )
        metadata[OWN_DIGEST] = own_digest(metadata)
        files[METADATA] = json.dumps(metadata, indent=2).encode()
        write_directory(directory, {**files, **(beside or {})})
        return directory

    @classmethod
    def load(cls, directory: str | Path) -> Checkpoint:
        """Read a checkpoint and check that it is whole.

        Raises
        ------
        UserError
            When a file is missing or altered, or the format is not this program's.
        """
        from safetensors.torch import load

        directory = Path(directory)
        for name in (WEIGHTS, METADATA):
            if not (directory / name).is_file():
                raise UserError(f"{directory}: no checkpoint here, {name} is missing")
        try:
            metadata = json.loads((directory / METADATA).read_text())
            version = metadata.get("format_version")
        except (ValueError, AttributeError):
            raise UserError(f"{directory / METADATA}: damaged, it is not a JSON object") from None
        if version not in (FORMAT_VERSION, EPOCHS_FROM_0):
            raise UserError(
                f"{directory}: checkpoint format {version!r}; this program reads 1 and 2"
            )
        problem = damage(directory)
        if problem is not None:
            raise UserError(f"{directory}: {problem}")
        if version == EPOCHS_FROM_0:
            metadata |= _epochs_from_1(metadata)
        if "parameters" in metadata:
            metadata["parameters"] = current_names(metadata["parameters"])
        return cls(load((directory / WEIGHTS).read_bytes()), metadata)


def _epochs_from_1(metadata: dict[str, Any]) -> dict[str, Any]:
    """Count the epochs of older metadata as they are counted now."""
    found: dict[str, Any] = {}
    if "best_epoch" in metadata:
        found["best_epoch"] = metadata["best_epoch"] + 1
    if "epochs_by_device" in metadata:
        found["epochs_by_device"] = {
            device: [epoch + 1 for epoch in epochs]
            for device, epochs in metadata["epochs_by_device"].items()
        }
    if "incidents" in metadata:
        found["incidents"] = [{**one, "epoch": one["epoch"] + 1} for one in metadata["incidents"]]
    return found


def fitted_once(folder: Path | None, module: nn.Module, fit: Callable[[], Any]) -> None:
    """Fit a module, or load what an earlier attempt of the same training has fitted.

    Parameters
    ----------
    folder
        Where what is fitted is kept; None keeps nothing.
    module
        Its weights and buffers are all that `fit` changes.
    fit
        Fits it.
    """
    if folder is not None and damage(folder) is None:
        module.load_state_dict(Checkpoint.load(folder).weights)
        return
    fit()
    if folder is not None:
        Checkpoint({name: part.clone() for name, part in module.state_dict().items()}).save(folder)


def load_encoder(checkpoint: Checkpoint) -> Encoder:
    """Load the encoder of a checkpoint, in evaluation mode, on the CPU.

    It is the variant that the metadata name.

    Raises
    ------
    UserError
        When the weights do not fit the architecture that the metadata describe, or a variant needs
        a library that is not installed.
    """
    from hbn_foundation.training.variants import apply

    encoder = make_encoder(checkpoint)
    fill(encoder, checkpoint, "encoder.")
    apply(encoder.eval(), checkpoint.metadata, checkpoint.weights)
    return encoder


def check_signals(checkpoint: Checkpoint, sfreq: float, n_samples: int) -> None:
    """Check that windows are what the checkpoint's encoder was made for.

    Raises
    ------
    UserError
        When the sampling rate or the length differs.
    """
    rate, length = checkpoint.metadata["sfreq"], checkpoint.metadata["n_samples"]
    if sfreq != rate:
        raise UserError(
            f"checkpoint: made for signals at {rate:g} Hz, found {sfreq:g} Hz; expected "
            f"ingestion.cleaning.sfreq={rate:g}"
        )
    if n_samples != length:
        raise UserError(
            f"checkpoint: made for windows of {length / rate:g} s, found {n_samples / rate:g} s; "
            f"expected ingestion.windows.seconds={length / rate:g}"
        )


def random_encoder(checkpoint: Checkpoint, seed: int = 0, with_slow: bool = False) -> Encoder:
    """Make an encoder like the checkpoint's, with its normalisation but random weights.

    Slow outputs of random weights, which know no slow features, say nothing: without them a probe
    reads the tokens.
    """
    from hbn_foundation.training.seeding import WEIGHTS, seeded

    with seeded(seed, WEIGHTS):
        encoder = make_encoder(checkpoint)
    names = {name for name, _ in encoder.named_buffers()}
    buffers = {
        name: checkpoint.weights[f"encoder.{name}"]
        for name in encoder.state_dict()
        if name in names
        and not name.startswith("slow.")
        and f"encoder.{name}" in checkpoint.weights
    }
    encoder.load_state_dict(buffers, strict=False)
    if not with_slow:
        encoder.slow = None
    return encoder.eval()


def make_encoder(checkpoint: Checkpoint) -> Encoder:
    """Make an encoder of the checkpoint's architecture, without its weights."""
    from hbn_foundation.training.model_building import build_encoder
    from hbn_foundation.training.model_params import EncoderParams

    metadata = checkpoint.metadata
    try:
        params = EncoderParams(**metadata["parameters"]["encoder"])
        return build_encoder(params, metadata["sfreq"], metadata["n_samples"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"checkpoint: its metadata describe no encoder ({' '.join(str(error).split())})"
        ) from None


def fill(module: nn.Module, checkpoint: Checkpoint, prefix: str) -> None:
    """Load the weights whose names begin with `prefix`, all of them and no other.

    Raises
    ------
    UserError
        Naming the first key that differs, with both shapes.
    """
    from hbn_foundation.training.variants import restored

    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in restored(checkpoint.weights).items()
        if name.startswith(prefix)
    }
    check_shapes(module, weights, "checkpoint", "the checkpoint", prefix)
    module.load_state_dict(weights)
