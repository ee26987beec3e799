"""Checkpoints as fine-tuning leaves them, with random weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from hbn_foundation.labels.params import LabelParams
from hbn_foundation.labels.participants import FACTORS
from hbn_foundation.recordings.montage import template_positions
from hbn_foundation.submission.windows import CHANNELS
from hbn_foundation.training.checkpoint import Checkpoint
from hbn_foundation.training.finetuned import make_input
from hbn_foundation.training.model_building import HeadOf, build_encoder
from hbn_foundation.training.model_params import EncoderParams, HeadParams
from hbn_foundation.training.recipes import FineTuningRecipe
from small_models import make_finetuned

ENCODER = EncoderParams(tokens=("band", "time"), hidden_dim=16, n_heads=2, n_layers=1)


def a_store(names: tuple[str, ...] = CHANNELS) -> Any:
    """What the export asks of a signal store."""
    positions = template_positions(names).astype(np.float32)
    return SimpleNamespace(channel_names=names, positions=positions)


def label(column: str, kind: str = "participant", regression: bool = True) -> LabelParams:
    return LabelParams(kind=kind, column=column, type="regression" if regression else "binary")


def described(regression: bool) -> dict[str, Any]:
    names = ["value"] if regression else ["no", "yes"]
    return {"names": names, "is_regression": regression, "mean": 0.3, "sd": 0.7}


def fine_tuned(
    main: LabelParams,
    head: HeadParams,
    more: dict[str, LabelParams],
    names: tuple[str, ...] = CHANNELS,
    **changes: Any,
) -> Checkpoint:
    """A checkpoint of a main target and some further ones."""
    is_number = {name: one.type == "regression" for name, one in more.items()}
    targets = {n: {"label": one, "head": HeadParams()} for n, one in more.items()}
    recipe = FineTuningRecipe.model_validate(
        {"label": main, "head": head, "more_targets": targets, "input": {"unit": "volts"}}
    )
    torch.manual_seed(len(more))
    model = make_finetuned(
        build_encoder(ENCODER, 100.0, 200),
        head,
        1,
        False,
        more={n: HeadOf(HeadParams(), 1 if yes else 2, not yes) for n, yes in is_number.items()},
        input=make_input(recipe.input, names),
    )
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    parameters = {**recipe.parameters(), "encoder": ENCODER.model_dump(mode="json")}
    metadata = {
        "kind": "finetuned",
        "run_id": "2026-01-01T00.00.00.000Z",
        "parameters": parameters,
        "targets": described(main.type == "regression"),
        "more_targets": {name: described(yes) for name, yes in is_number.items()},
        "sfreq": 100.0,
        "n_samples": 200,
        "channel_names": list(names),
    }
    return Checkpoint(model.state_dict(), metadata | changes)


def of_response_times(names: tuple[str, ...] = CHANNELS, **changes: Any) -> Checkpoint:
    success = {"success": label("correct", "trial", regression=False)}
    head = HeadParams(kind="distribution")
    return fine_tuned(label("rt", "trial"), head, success, names, **changes)


def of_factors(names: tuple[str, ...] = CHANNELS) -> Checkpoint:
    first, *others = FACTORS
    more = {name: label(name) for name in others}
    return fine_tuned(label(first), HeadParams(), more, names)
