"""A trial of a device: the configured model takes a training step there and is checked on the CPU.

The windows are random, so neither the signal store nor any recording is read. Every objective is
tried as it is, on the windows of a made-up recording of two tasks, which are the classes too.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from hbn_foundation.labels.params import LabelParams
from hbn_foundation.models.encoder import Encoder
from hbn_foundation.models.parameter_groups import parameter_groups
from hbn_foundation.signals.batches import Batch
from hbn_foundation.training.device import ProbeJob
from hbn_foundation.training.model_building import build_encoder
from hbn_foundation.training.objectives.base import Context, Objective, TrainingWindows
from hbn_foundation.training.objectives.make import make_objective
from hbn_foundation.training.optim import make_optimizer

Module = TypeVar("Module", bound=nn.Module)

SEED, SUBJECT = 0, "trial"
#: Windows that the CPU computes too: enough to see a fault, few enough for a slow CPU.
COMPARED_WINDOWS = 16
#: Windows of the made-up recording at least, of which a batch may have fewer.
FEWEST_WINDOWS = 16
#: Largest relative error against the CPU. Two orders of summation in single precision differ by
#: 1e-6 or so, TF32 (10 bits of mantissa) by 1e-3, bf16 (7 bits) by 1e-2; each limit leaves a
#: factor of several, and a kernel that computes something else is off by tenths.
TOLERANCE = {"fp32": 1e-3, "tf32": 1e-2, "bf16": 5e-2}


@dataclass
class Trial:
    """What is tried, on the CPU."""

    encoder: Encoder  # with normalisation and targets fitted on the random windows, as
    objective: Objective
    batch: Batch  # (B, C, T) windows of the configured batch size, with what the objective adds
    positions: Tensor  # (C, 3) unit vectors
    precision: str  # `32-true` or `bf16-mixed`, as training would choose for the device


def make_trial(job: ProbeJob, precision: str) -> Trial:
    """Make model and windows as training would, from a fixed seed."""
    size = job.trainer.batch_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        # residual branches at full weight, or a fault in one would hardly show
        params = job.encoder.model_copy(update={"layer_scale": 1.0})
        encoder = build_encoder(params, job.sfreq, job.n_samples)
        tasks = {"label": LabelParams(), "shuffle_labels": False}
        objective = make_objective(job.objective.model_copy(update=tasks), encoder)
        table = objective.prepare(_recording(job), Context(job.sfreq, SEED, [SUBJECT]))
        positions = nn.functional.normalize(torch.randn(job.n_channels, 3), dim=1)
        mask = torch.rand(size, job.n_channels) > 0.1
        mask[:, 0] = True
        # channels lie side by side in memory, as in batches from the store
        signals = torch.randn(size, job.n_samples, job.n_channels).transpose(1, 2)
    index = torch.arange(size)
    places = torch.stack([0 * index, 0 * index, 2 * index, 0 * index + 1], 1).float()
    plain = Batch(signals * mask[..., None], mask, index, places=places)
    (batch,) = objective.batches([plain], table)
    few = [_first(batch)]
    with torch.no_grad():
        statistics = encoder.fit_normalisation(few, positions)
        objective.fit(encoder, TrainingWindows(few, positions, statistics))
    return Trial(encoder, objective, batch, positions, precision)


def compare(trial: Trial, device: str) -> dict[str, float]:
    """Compute tokens and gradients on the device and on the CPU, without dropout.

    The device computes the whole batch, so that the kernels are those of training; of the result
    the first windows are compared, which no other window takes part in.

    Returns
    -------
    dict
        Relative error |device - CPU| / |CPU| of the `tokens` and the `gradient` in single
        precision, and of the `tokens_bf16` where training would use bf16; the CPU's are in single
        precision throughout.
    """
    reference = copy.deepcopy(trial.encoder).eval()
    tokens, gradient = _tokens_and_gradient(reference, _first(trial.batch), trial.positions)
    encoder = move(copy.deepcopy(trial.encoder), device).eval()
    batch, positions = trial.batch.to(device), trial.positions.to(device)
    own_tokens, own_gradient = _tokens_and_gradient(encoder, batch, positions)
    errors = {
        "tokens": relative_error(own_tokens, tokens),
        "gradient": relative_error(own_gradient, gradient),
    }
    if trial.precision == "bf16-mixed":
        with torch.no_grad(), arithmetic(device, trial.precision):
            rough = encoder(batch.signals, positions, batch.mask)
        errors["tokens_bf16"] = relative_error(rough[: len(tokens)].float().cpu(), tokens)
    return errors


def tolerance(quantity: str, device: str) -> float:
    """Largest relative error of one of the quantities of `compare` that is rounding."""
    if quantity.endswith("bf16"):
        return TOLERANCE["bf16"]
    coarse = device == "cuda" and torch.get_float32_matmul_precision() != "highest"
    return TOLERANCE["tf32" if coarse else "fp32"]


def take_step(trial: Trial, job: ProbeJob, device: str) -> tuple[float, float]:
    """Take one training step as training does.

    Returns
    -------
    loss, norm : float
        The loss before the step, and the norm of the gradient. The loss is not finite, either,
        where the weights after the step are not.
    """
    encoder = move(trial.encoder, device).train()
    objective = move(trial.objective, device).train()
    batch, positions = trial.batch.to(device), trial.positions.to(device)
    objective.begin(encoder, [batch], positions)
    blocks = [*encoder.blocks(), ("objective", objective)]
    trainer = job.trainer
    groups = parameter_groups(blocks, trainer.learning_rate, trainer.weight_decay)
    optimizer = make_optimizer(groups, *trainer.of_optimizer)
    with torch.random.fork_rng(devices=[]), arithmetic(device, trial.precision):
        torch.manual_seed(SEED)
        loss = objective(encoder, batch, positions).loss
    loss.backward()
    parameters = [parameter for group in groups for parameter in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, trainer.gradient_clip)
    optimizer.step()
    after = torch.stack([parameter.detach().float().sum() for parameter in parameters])
    # what is copied to the CPU is also waited for
    whole = bool(after.cpu().isfinite().all())
    return float(loss.detach().cpu()) if whole else float("nan"), float(norm)


def move(module: Module, device: str) -> Module:
    """Move a module to the device; all that is computed there goes through this."""
    return module.to(device)


def arithmetic(device: str, precision: str) -> AbstractContextManager[Any]:
    """Autocast as Lightning does for this precision."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed")


def relative_error(values: Tensor, truth: Tensor) -> float:
    """Norm of the difference over the norm of the truth; NaN where a value is not finite."""
    if not bool(values.isfinite().all()):
        return float("nan")
    difference = (values.double() - truth.double()).norm()
    return float(difference / truth.double().norm().clamp_min(1e-12))


def _tokens_and_gradient(
    encoder: Encoder, batch: Batch, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """Tokens (few, N, D) and the gradient (parameters,) of a fixed readout of them, on the CPU."""
    tokens = encoder(batch.signals, positions, batch.mask)[:COMPARED_WINDOWS]
    # a plain mean would not do: after the final norm its gradient is nil
    readout = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(SEED))
    gradients = torch.autograd.grad(
        (tokens * readout.to(positions.device)).mean(),
        [one for one in encoder.parameters() if one.requires_grad],
        allow_unused=True,
    )
    flat = [gradient.flatten().cpu() for gradient in gradients if gradient is not None]
    return tokens.detach().cpu(), torch.cat(flat)


def _recording(job: ProbeJob) -> pd.DataFrame:
    """List windows that lie side by side in one recording, even if each is shifted."""
    number = np.arange(max(job.trainer.batch_size, FEWEST_WINDOWS))
    apart = job.n_samples / job.sfreq + 2 * job.objective.jitter_seconds
    table = pd.DataFrame({"start": number * job.n_samples, "onset": number * apart})
    table["task"] = np.where(number % 2, "odd", "even")
    return table.assign(row=0, recording=SUBJECT, subject=SUBJECT)


def _first(batch: Batch) -> Batch:
    few = slice(COMPARED_WINDOWS)
    places = None if batch.places is None else batch.places[few]
    return Batch(batch.signals[few], batch.mask[few], batch.index[few], places=places)
