"""A checkpoint as a scikit-learn transformer: from recordings to features of their windows."""

from __future__ import annotations

import re
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from hbn_foundation.embedding.recordings import CleanedRecordings, SignalWay, recordings_given
from hbn_foundation.errors import UserError, one_line
from hbn_foundation.evaluation.features import FeatureExtractor, FrozenEncoders
from hbn_foundation.evaluation.params import BaselineParams
from hbn_foundation.signals.context import too_short
from hbn_foundation.signals.params import ContextParams
from hbn_foundation.training.supervision.run_folder import METADATA

if TYPE_CHECKING:
    from torch import nn

    from hbn_foundation.models.encoder import Encoder
    from hbn_foundation.signals.store import SignalStore
    from hbn_foundation.training.checkpoint import Checkpoint

FEATURES = "embedded"
CHOICES = {"per": ("window", "recording"), "on_error": ("raise", "skip")}
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class LoadedModel:
    """A checkpoint in memory: its encoder, what prepares windows for it, its context."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from hbn_foundation.training.checkpoint import load_encoder
        from hbn_foundation.training.finetuned import load_finetuned, recipe_of

        self.checkpoint = checkpoint
        self.prepare: nn.Module | None = None
        self.encoder: Encoder
        self.context = ContextParams()
        if "targets" in checkpoint.metadata:
            model = load_finetuned(checkpoint)
            self.encoder, self.prepare = model.encoder, model.input
            self.context = recipe_of(checkpoint).context
        else:
            self.encoder = load_encoder(checkpoint)
        self.way = SignalWay.of(checkpoint, self.prepare is not None, self.context.of)

    @cached_property
    def n_features(self) -> int:
        """Features of a window, by a window of zeros."""
        import torch

        from hbn_foundation.models.electrodes import DIRECTIONS_10_20

        places = [*(self.way.positions or DIRECTIONS_10_20).values()]
        positions = torch.tensor(places, dtype=torch.float32)
        n = len(positions)
        windows = torch.zeros(1, n, self.way.n_samples), torch.ones(1, n, dtype=torch.bool)
        with torch.inference_mode():
            signals, mask = windows if self.prepare is None else self.prepare(*windows)
            return self.encoder.summary(self.encoder.inputs(signals, positions, mask)).shape[1]


class Embedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features of recordings by a checkpoint's encoder, cleaned as its own data were.

    Recordings are picked, filtered, resampled, scaled and cut into windows by the rules of the
    ingestion pipeline and the parameters of the checkpoint: any montage, any rate; channels that
    are bad and segments whose annotation begins with `BAD` are left out. Nothing is fitted.

    Parameters
    ----------
    checkpoint
        Folder of a checkpoint, or the id of a repository of the Hugging Face hub.
    per
        A row of features for each `window`, or the mean of each `recording` that is given; of
        Epochs, of each epoch.
    recentre
        Whether features are relative to the mean of their recording, whose own mean is then zero;
        where the checkpoint is one of a model with a context, that holds.
    denoise
        With `recentre`: whether features are limited to a robust standard deviation in their
        recording and filtered by what is slow and what is noise in it, and linear slow features
        added; of a checkpoint with slow outputs.
    on_error
        Whether a recording that cannot be used is an error, or is left out (`skip`).
    batch_size, n_jobs
        Windows at once; processes that clean files, as of `joblib`, 0: this one.
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        per: Literal["window", "recording"] = "window",
        recentre: bool = False,
        denoise: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
        batch_size: int = 128,
        n_jobs: int = 0,
    ) -> None:
        self.checkpoint = checkpoint
        self.per = per
        self.recentre = recentre
        self.denoise = denoise
        self.on_error = on_error
        self.batch_size = batch_size
        self.n_jobs = n_jobs

    @property
    def model(self) -> LoadedModel:
        """The checkpoint, read when it is first needed; a parameter without meaning is an error."""
        for name, known in CHOICES.items():
            if (value := getattr(self, name)) not in known:
                raise UserError(f"{name}: found {value!r}; expected {' or '.join(known)}")
        if getattr(self, "_loaded", (None,))[0] != self.checkpoint:
            from hbn_foundation.training.checkpoint import Checkpoint

            checkpoint = Checkpoint.load(find_checkpoint(self.checkpoint))
            self._loaded = self.checkpoint, LoadedModel(checkpoint)
        return self._loaded[1]

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the parameters; the checkpoint is read again."""
        return {name: value for name, value in super().__getstate__().items() if name != "_loaded"}

    def __sklearn_is_fitted__(self) -> bool:
        """Say that nothing is to be fitted."""
        return True

    @property
    def _n_features_out(self) -> int:
        return self.model.n_features

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Do nothing but read the checkpoint."""
        self.model  # noqa: B018
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Embed recordings: (n, features), rows as `per` says."""
        return self._rows(X)[1]

    def embed(self, recordings: Any, as_frame: bool = False) -> np.ndarray | pd.DataFrame:
        """Embed recordings.

        Parameters
        ----------
        recordings
            A `Raw`, `Epochs`, the path of a file or of a BIDS root, or a list of these.
        as_frame
            Give a DataFrame with `subject`, `recording` and `start` (s) before the features.

        Returns
        -------
        numpy.ndarray or pandas.DataFrame
            (n, features) float32, rows in the order of what was given and of time.

        Raises
        ------
        UserError
            What was given cannot be used, with the reason.
        """
        table, features = self._rows(recordings)
        if not as_frame:
            return features
        names = list(self.get_feature_names_out())
        return pd.concat([table, pd.DataFrame(features, columns=names)], axis=1)

    def _rows(self, recordings: Any) -> tuple[pd.DataFrame, np.ndarray]:
        """Return `subject`, `recording`, `start`, and the features (n, D)."""
        model = self.model
        params = BaselineParams.model_validate({"batch_size": self.batch_size})
        encoders = FrozenEncoders({FEATURES: model.encoder}, model.prepare)
        context = model.context
        given = recordings_given(recordings)
        of_epochs = any(one.seconds for one in given)
        if of_epochs and (self.denoise or (context.denoise and model.encoder.slow is not None)):
            raise UserError(
                "denoise: found Epochs, which may not be in order of time; expected Raw or files"
            )
        slow = model.encoder.slow is not None and not context.is_used
        if self.denoise and not (self.recentre and slow):
            raise UserError(
                "denoise: found true; expected recentre: true and a foundation checkpoint with "
                "slow outputs (encoder.n_slow)"
            )
        if self.recentre and not context.is_used:
            context = ContextParams(of="recording", denoise=self.denoise)

        def measure(store: SignalStore, windows: pd.DataFrame) -> np.ndarray:
            n_samples = model.way.n_samples
            extractor = FeatureExtractor(
                [FEATURES], store, n_samples, params, encoders, context=context
            )
            return extractor(windows)[FEATURES]

        about_zero = context.of == "recording" and context.recentre and not context.running
        if self.per == "recording" and about_zero and not all(one.seconds for one in given):
            raise UserError(
                "per: found 'recording'; features are relative to the mean of their recording, so "
                "that their mean is zero; expected window"
            )
        cleaned = CleanedRecordings(given, model.way, self.n_jobs)
        table, features = cleaned.measured(measure, skip=self.on_error == "skip")
        units = table.pop("unit")
        short = too_short(table.groupby(units).size(), context)
        if short and not of_epochs:
            warnings.warn(short, stacklevel=3)
        if self.per == "recording":
            table, features = table.groupby(units).first(), features.groupby(units).mean()
        return table, features.to_numpy(np.float32)


def load(checkpoint: str | Path, **options: Any) -> Embedder:
    """Load a checkpoint as an `Embedder`; arguments as of `hbn_foundation.load`.

    Raises
    ------
    UserError
        There is no checkpoint, it is damaged, or it does not tell how its signals were cleaned.
    """
    embedder = Embedder(str(checkpoint), **options)
    embedder.model  # noqa: B018 - whatever is wrong with it is said now
    return embedder


def find_checkpoint(name: str) -> Path:
    """Return the folder of a checkpoint: a catalog entry's newest version, or one fetched.

    Raises
    ------
    UserError
        When there is neither such a folder nor such a repository of the hub.
    """
    path = Path(name)
    if path.is_dir():
        if (path / METADATA).is_file():
            return path
        versions = sorted(one.parent for one in path.glob(f"*/*/{METADATA}"))
        inside = versions or sorted(one.parent for one in path.glob(f"*/{METADATA}"))
        if not inside:
            raise UserError(f"{path}: no checkpoint here, {METADATA} is missing")
        return inside[-1]
    if not HUB_ID.fullmatch(name) or path.is_absolute():
        raise UserError(
            f"{name}: no such folder; expected that of a checkpoint, or the id of a repository of "
            "the Hugging Face hub (name/model)"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(
            f"{name}: no such folder; to fetch it from the Hugging Face hub, "
            'pip install "hbn-foundation[hub]"'
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=["*.safetensors", "*.json", "*.md"]))
    except Exception as error:  # whatever the hub or the network answers
        raise UserError(
            f"{name}: no such folder, and not to be had from the Hugging Face hub "
            f"({one_line(error)})"
        ) from None
