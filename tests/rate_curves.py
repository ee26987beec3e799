"""Curves of learning rates, and the rates that schedulers of torch give."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR

from hbn_foundation.training.finetuning_params import RateParams
from hbn_foundation.training.rates import RateCurve

PEAKS = {"block_1": 3e-5, "block_2": 1e-4, "head": 1e-3}
LOWEST = 0.01


def curve_of(total=100, trainable=PEAKS, **params):
    return RateCurve(RateParams(**params), PEAKS, total, 10, {"head", *trainable})


def shares(curve, steps, block="head"):
    return [curve.share(block, step) for step in steps]


def stepped(optimizer, scheduler, steps):
    """The rates of each step, as the optimizer has them."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR of torch warns of itself
        for _ in range(steps):
            found.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            scheduler.step()
    return found


def one_group(rate):
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def adamw():
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate, "block": name}
        for name, rate in PEAKS.items()
    ]
    return torch.optim.AdamW(groups)


def by_torch(make, steps):
    """Rates by a scheduler of torch per block, since some take one lowest rate for all groups."""
    columns = []
    for rate in PEAKS.values():
        optimizer = one_group(rate)
        columns.append([row[0] for row in stepped(optimizer, make(optimizer, rate), steps)])
    return np.array(columns).T


def followed(curve, optimizer):
    return LambdaLR(optimizer, [lambda step, n=name: curve.share(n, step) for name in PEAKS])


def by_curve(curve, steps):
    optimizer = adamw()
    return np.array(stepped(optimizer, followed(curve, optimizer), steps))
