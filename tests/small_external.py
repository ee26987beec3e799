"""A small module of the form of braindecode's foundation models, and ones that are wrong."""

from __future__ import annotations

import torch
from torch import nn

PATCH = 50


class SmallBrain(nn.Module):
    """Patches of each channel, criss-cross of channels and time left out, two layers, a head."""

    def __init__(self, n_outputs=None, chs_info=None, n_times=None, sfreq=None, width=16, depth=2):
        super().__init__()
        self.names = [one["ch_name"] for one in chs_info]
        self.n_patches = n_times // PATCH
        self.embed = nn.Sequential(nn.Linear(PATCH, width), nn.BatchNorm1d(width))
        self.position = nn.Parameter(torch.zeros(len(chs_info), 1, width))
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 2 * width, batch_first=True) for _ in range(depth)
        )
        self.decoder = nn.Linear(width, PATCH)  # of pretraining alone
        self.proj_out = nn.Linear(width, width)
        self.head = nn.Linear(len(chs_info) * self.n_patches * width, n_outputs)

    def forward(self, x, return_features=False):
        patches = x.unflatten(-1, (self.n_patches, PATCH))
        shape = patches.shape[:3]
        tokens = self.embed(patches.flatten(0, 2)).unflatten(0, shape) + self.position
        tokens = tokens.flatten(1, 2)
        for layer in self.encoder.layers:
            tokens = layer(tokens)
        tokens = self.proj_out(tokens).unflatten(1, shape[1:])
        if return_features:
            return {"features": tokens, "cls_token": None}
        return self.head(tokens.flatten(1))


class Convolutions(nn.Module):
    """No list of layers, and features on axis 1; takes names and positions of channels."""

    def __init__(self, n_chans, width=6):
        super().__init__()
        self.first = nn.Conv1d(n_chans, width, 25, stride=10)
        self.second = nn.Conv1d(width, width, 3)

    def forward(self, x, ch_names, pos):
        assert len(ch_names) == x.shape[1]
        assert pos.shape == (len(x), x.shape[1], 3)
        return self.second(torch.relu(self.first(x)))


class OneNumber(nn.Module):
    """Answers once for the whole batch."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.weight * x.mean()[None]


class Counts(nn.Module):
    """Returns whole numbers, which nothing can be learned through."""

    def __init__(self, **_):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return (x > 0).sum(-1)
