"""Symmetric positive definite matrices: logarithm, power, tangent vectors.

Batches of small matrices, always in single precision or better; nothing here is differentiated
through, because the cross-spectra depend on no learned parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

SMALLEST_EIGENVALUE = 1e-8  # a window of zeros has no logarithm
FEWEST_WORTH_A_THREAD = 64


def eigh(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of a batch (..., n, n), on all threads.

    torch takes small matrices on a CPU one by one on one thread; two threads halve the time.
    """
    if matrices.device.type == "mps":  # which has no eigenvalues
        values, vectors = eigh(matrices.cpu())
        return values.to(matrices.device), vectors.to(matrices.device)
    flat = matrices.reshape(-1, *matrices.shape[-2:])
    threads = torch.get_num_threads()
    if flat.is_cuda or threads == 1 or len(flat) < FEWEST_WORTH_A_THREAD:
        values, vectors = torch.linalg.eigh(flat)
    else:
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(torch.linalg.eigh, flat.chunk(threads)))
        values = torch.cat([part[0] for part in parts])
        vectors = torch.cat([part[1] for part in parts])
    return values.view(matrices.shape[:-1]), vectors.view(matrices.shape)


def of_eigenvalues(matrices: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function to the eigenvalues of symmetric matrices (..., n, n)."""
    values, vectors = eigh(matrices)
    return (vectors * function(values).unsqueeze(-2)) @ vectors.mT


def log(matrices: Tensor) -> Tensor:
    """Matrix logarithm of positive definite matrices (..., n, n)."""
    return of_eigenvalues(matrices, lambda values: values.clamp_min(SMALLEST_EIGENVALUE).log())


def exp(matrices: Tensor, factor: float = 1.0) -> Tensor:
    """Matrix exponential of `factor` times symmetric matrices (..., n, n)."""
    return of_eigenvalues(matrices, lambda values: (factor * values).exp())


def shrink(matrices: Tensor, share: float) -> Tensor:
    """Mix in `share` of the identity scaled to the same trace (Ledoit and Wolf's target)."""
    n = matrices.shape[-1]
    mean = matrices.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    return (1 - share) * matrices + share * mean * torch.eye(n, device=matrices.device)


def upper_triangle(matrices: Tensor) -> Tensor:
    """Vectors (..., n(n+1)/2) with the same norm as the symmetric matrices (..., n, n)."""
    n = matrices.shape[-1]
    rows, columns = torch.triu_indices(n, n, device=matrices.device)
    weights = torch.where(rows == columns, 1.0, math.sqrt(2.0))
    return matrices[..., rows, columns] * weights
