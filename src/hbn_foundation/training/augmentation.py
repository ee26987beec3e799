"""Changes to a batch of windows: hidden channels, gain, noise."""

from __future__ import annotations

import torch
from torch import Tensor

from hbn_foundation.signals.params import Jitter
from hbn_foundation.training.params import AugmentationParams

NOISE_LAGS = 8  # overlapping stretches of one noise field per window's length


def hide_channels(
    mask: Tensor, positions: Tensor, probability: float, least: float, most: float
) -> Tensor:
    """Hide a spatial block of channels in some windows.

    The block lies around a random channel that is present; distances are jittered, so that its
    edge is not the same twice. At least one channel stays.

    Parameters
    ----------
    mask
        (B, C) channels present.
    positions
        (C, 3) unit vectors.
    probability
        Share of the windows that lose a block.
    least, most
        Smallest and largest share of the present channels in a block.

    Returns
    -------
    Tensor
        (B, C) channels still present.
    """
    n_windows, n_channels = mask.shape
    device = mask.device
    present = mask.float()
    centre = (present + 1e-9).multinomial(1).squeeze(1)
    closeness = positions[centre] @ positions.T
    closeness = closeness + 0.1 * torch.randn(n_windows, n_channels, device=device)
    closeness = closeness.masked_fill(~mask, -torch.inf)
    rank = closeness.argsort(1, descending=True).argsort(1)
    share = least + (most - least) * torch.rand(n_windows, device=device)
    share = share * (torch.rand(n_windows, device=device) < probability)
    count = present.sum(1)
    n_hidden = torch.minimum((share * count).round(), (count - 1).clamp_min(0))
    return mask & (rank >= n_hidden[:, None])


def random_gain(signals: Tensor, spread: float, probability: float = 1.0) -> tuple[Tensor, Tensor]:
    """Multiply a share of the windows (B, C, T) by exp(N(0, spread)).

    Returns the logarithms (B,) of the gains, too; they are 0 outside the share.
    """
    log_gains = signals.new_zeros(len(signals))
    if spread == 0:
        return signals, log_gains
    log_gains = _in_share(spread * torch.randn_like(log_gains), probability)
    return signals * log_gains.exp()[:, None, None], log_gains


def _in_share(values: Tensor, probability: float) -> Tensor:
    """Set the values (B, …) of all but a random share of the windows to zero."""
    if probability == 1:
        return values
    chosen = torch.rand(len(values), device=values.device) < probability
    return values * chosen.view(-1, *[1] * (values.ndim - 1))


def white_noise(signals: Tensor, level: float, probability: float = 1.0) -> Tensor:
    """Add white noise of this standard deviation to a share of the windows (B, C, T).

    One noise field serves the batch: each window gets it at another lag. Drawing every number
    separately takes a tenth of a training step on a CPU.
    """
    if level == 0:
        return signals
    n_windows, n_channels, n_samples = signals.shape
    step = max(1, n_samples // NOISE_LAGS)
    length = n_samples + step * (n_windows - 1)
    field = level * torch.randn(n_channels, length, device=signals.device)
    return signals + _in_share(field.unfold(1, n_samples, step).transpose(0, 1), probability)


def hide_block(mask: Tensor, positions: Tensor, rules: AugmentationParams) -> Tensor:
    """Hide channels as the parameters say; see `hide_channels`."""
    return hide_channels(
        mask, positions, rules.hide_probability, rules.min_hidden, rules.max_hidden
    )


def start_jitter(rules: AugmentationParams, sfreq: float) -> Jitter:
    """Give the shift of training windows at a sampling rate in Hz."""
    return Jitter(round(rules.jitter_seconds * sfreq), rules.jitter_probability)


def augment(
    signals: Tensor, mask: Tensor, positions: Tensor, rules: AugmentationParams
) -> tuple[Tensor, Tensor]:
    """Return windows (B, C, T) with gain and noise, and their mask (B, C) without a block."""
    signals, _ = random_gain(signals, rules.gain, rules.gain_probability)
    signals = white_noise(signals, rules.noise, rules.noise_probability)
    return signals, hide_block(mask, positions, rules)
