"""Functions of symmetric matrices agree with scipy's."""

import numpy as np
import pytest
import scipy.linalg
import torch

from hbn_foundation.models import symmetric


@pytest.fixture
def matrices():
    factors = torch.randn(200, 6, 20, generator=torch.Generator().manual_seed(0))
    return factors @ factors.mT / 20


def test_log_and_exp_are_scipys(matrices):
    log = symmetric.log(matrices[:5])
    for matrix, found in zip(matrices[:5].double().numpy(), log, strict=True):
        np.testing.assert_allclose(found, scipy.linalg.logm(matrix), atol=1e-4)
    torch.testing.assert_close(symmetric.exp(log), matrices[:5], atol=1e-4, rtol=1e-3)


def test_threads_do_not_change_the_result(matrices):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = symmetric.eigh(matrices)
        torch.set_num_threads(2)
        found = symmetric.eigh(matrices)
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)


def test_the_triangle_keeps_the_norm(matrices):
    vectors = symmetric.upper_triangle(matrices)
    assert vectors.shape == (200, 21)
    torch.testing.assert_close(vectors.norm(dim=1), matrices.norm(dim=(1, 2)))


def test_shrinkage_keeps_the_trace(matrices):
    shrunk = symmetric.shrink(matrices, 0.3)
    torch.testing.assert_close(
        shrunk.diagonal(dim1=1, dim2=2).sum(1), matrices.diagonal(dim1=1, dim2=2).sum(1)
    )
    torch.testing.assert_close(symmetric.shrink(matrices, 0.0), matrices)
