"""The parts of the transformer, and functions of symmetric matrices."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.nn import functional

from hbn_foundation.models import symmetric
from hbn_foundation.models.trunk import Block, Dropout, SelfAttention


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_dropout_keeps_the_expectation(p):
    torch.manual_seed(0)
    dropped = Dropout(p)(torch.ones(1001, 999))
    assert (dropped == 0).float().mean().item() == pytest.approx(p, abs=0.004)
    assert dropped.mean().item() == pytest.approx(1, abs=0.005)
    columns = (dropped == 0).float().mean(0)
    assert columns.max() < p + 0.1  # no place in a machine word is dropped more often


def test_dropout_is_seeded_and_off_in_evaluation():
    dropout, values = Dropout(0.5), torch.randn(10, 10)
    torch.manual_seed(1)
    first = dropout(values)
    torch.manual_seed(1)
    assert torch.equal(first, dropout(values))
    assert not torch.equal(first, dropout(values))
    assert torch.equal(dropout.eval()(values), values)


def test_attention_is_torchs():
    torch.manual_seed(0)
    ours = SelfAttention(16, 4)
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    state = {
        "in_proj_weight": ours.query_key_value.weight,
        "in_proj_bias": ours.query_key_value.bias,
        "out_proj.weight": ours.out.weight,
        "out_proj.bias": ours.out.bias,
    }
    theirs.load_state_dict(state)
    tokens = torch.randn(2, 5, 16)
    torch.testing.assert_close(ours(tokens), theirs(tokens, tokens, tokens)[0])


def test_a_block_starts_near_the_identity():
    block = Block(16, 4, 4, 0.0, 1e-6)
    tokens = torch.randn(2, 5, 16)
    torch.testing.assert_close(block(tokens), tokens, atol=1e-4, rtol=0)
    assert functional.mse_loss(block(tokens), tokens) > 0


@pytest.fixture
def matrices():
    factors = torch.randn(200, 6, 20, generator=torch.Generator().manual_seed(0))
    return factors @ factors.mT / 20


def test_log_and_exp_are_scipys(matrices):
    log = symmetric.log(matrices[:5])
    for matrix, found in zip(matrices[:5].double().numpy(), log, strict=True):
        np.testing.assert_allclose(found, scipy.linalg.logm(matrix), atol=1e-4)
    torch.testing.assert_close(symmetric.exp(log), matrices[:5], atol=1e-4, rtol=1e-3)


def test_threads_do_not_change_the_eigenvalues(matrices):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = symmetric.eigh(matrices)
        torch.set_num_threads(2)
        found = symmetric.eigh(matrices)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_the_triangle_keeps_the_norm_and_shrinkage_the_trace(matrices):
    vectors = symmetric.upper_triangle(matrices)
    assert vectors.shape == (200, 21)
    torch.testing.assert_close(vectors.norm(dim=1), matrices.norm(dim=(1, 2)))
    traces = matrices.diagonal(dim1=1, dim2=2).sum(1)
    shrunk = symmetric.shrink(matrices, 0.3)
    torch.testing.assert_close(shrunk.diagonal(dim1=1, dim2=2).sum(1), traces)
    torch.testing.assert_close(symmetric.shrink(matrices, 0.0), matrices)
