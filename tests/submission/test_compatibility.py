"""What the challenge's Python and torch do not know is found in a source."""

import pytest

from hbn_foundation.submission.compatibility import problems, torch_names


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("type X = int", "line 1"),
        ("def f[T](x: T) -> T: return x", "line 1"),
        ("class A[T]: pass", "line 1"),
        ("try: pass\nexcept* ValueError: pass", "line"),
        ("x = y[*z]", "a star within brackets needs Python 3.11"),
        ("from typing import Self", "typing.Self needs Python 3.11"),
        ("import tomllib", "tomllib needs Python 3.11"),
        ("import itertools as it\nx = it.batched('abc', 2)", "line 2: itertools.batched needs"),
        ("raise ExceptionGroup('a', [])", "ExceptionGroup needs Python 3.11"),
        ("import torch\nx = torch.nn.RMSNorm(3)", "torch.nn.RMSNorm is not in torch 2.2"),
        ("from torch import nn\nx = nn.RMSNorm(3)", "torch.nn.RMSNorm is not in torch 2.2"),
        ("from torch.nn import functional as F\nF.rms_norm", "torch.nn.functional.rms_norm"),
        ("from torch.nn.functional import rms_norm", "torch.nn.functional.rms_norm"),
        ("import torch\nx = torch.uint16", "torch.uint16"),
        ("import torch\ntorch.accelerator.is_available()", "torch.accelerator"),
        ("import torch.nn.functional as F\nF.scaled_dot_product_attention(q, k, v, enable_gqa=1)",
         "scaled_dot_product_attention(enable_gqa=) is not in torch 2.2"),
        ("x.module_load(y)", ".module_load is not in torch 2.2"),
        ("import numpy", "imports numpy; only torch"),
        ("from hbn_foundation.models import trunk", "imports hbn_foundation.models"),
        ("from . import x", "imports ."),
        ("x = (", "line 1"),
    ],
)  # fmt: skip
def test_what_is_too_new(source, expected):
    found = problems(source)
    assert len(found) >= 1
    assert expected in found[0]


@pytest.mark.parametrize(
    "source",
    [
        "from __future__ import annotations\nx: int | None = None",
        "match x:\n    case 1: pass",
        "import math, os.path\nfrom collections.abc import Iterable\nmath.sqrt(2)",
        "import torch\ntorch.linalg.eigh(x)\ntorch.fft.rfft(x)\ntorch.nan, torch.inf",
        "from torch.nn import functional as f\nf.scaled_dot_product_attention(q, k, v, scale=1)",
        "import torch.utils.checkpoint\nx.uint16",
        "Self = 3\nRMSNorm = 4",
    ],
)
def test_what_is_known(source):
    assert problems(source) == []


def test_modules_beside_it_may_be_imported():
    assert problems("import helper", ["helper"]) == []


def test_the_names_are_those_of_2_2():
    names = torch_names()
    assert len(names["torch"]) > 900
    assert "scaled_dot_product_attention" in names["torch.nn.functional"]
    assert "RMSNorm" not in names["torch.nn"]
