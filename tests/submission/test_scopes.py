"""Names are told apart by Python's own scopes."""

import ast
import textwrap

import pytest

from hbn_foundation.submission.names import module_references


def of_module(source: str) -> list[str]:
    """Names of the module in the first definition, in the order of the text."""
    node = ast.parse(textwrap.dedent(source)).body[0]
    found = sorted(module_references(node), key=lambda r: (r.name.lineno, r.name.col_offset))
    return [reference.name.id for reference in found]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a, *b, c=D, **e): return a, b, c, e, G", ["D", "G"]),
        ("def f(a: A) -> B: return a", ["A", "B"]),
        ("def f():\n    x = 1\n    return x + y", ["y"]),
        ("def f():\n    return x\n    x = 1", []),
        ("def f():\n    def g(): return x + z\n    x = 1\n    return g", ["z"]),
        ("def f():\n    g = lambda x, y=D: x + y + Z\n    return g", ["D", "Z"]),
        ("def f(): return [x + A for x in B if x > C]", ["A", "B", "C"]),
        ("def f(): return {k: V for k, v in x for x in k}", ["V", "x"]),
        ("def f():\n    [y := A for _ in B]\n    return y", ["A", "B"]),
        ("def f():\n    for i, (j, k) in A: pass\n    with B as b: return i, j, k, b", ["A", "B"]),
        ("def f():\n    try: pass\n    except E as e: return e", ["E"]),
        ("def f():\n    import numpy as np\n    return np.x, torch.y", ["torch"]),
        ("def f():\n    global x\n    x = 1\n    return x", ["x", "x"]),
        ("class A(B, m=M):\n    x = 1\n    y = x\n    def g(self): return x", ["B", "M", "x"]),
        ("class A:\n    def log(self): return log(A)", ["log", "A"]),
        ("class A:\n    x = D\n    def f(self, a=x): return a", ["D"]),
        ("@d\ndef f(): pass", ["d"]),
        ("def f(v):\n    match v:\n        case {'a': x, **r}: return x, r\n        case C(y): y",
         ["C"]),
    ],
)  # fmt: skip
def test_names_of_the_module(source, expected):
    assert of_module(source) == expected


def test_an_attribute_comes_with_its_name():
    node = ast.parse("def f(x): return maths.log(x.y)").body[0]
    (found,) = module_references(node)
    assert found.attribute is not None
    assert found.attribute.attr == "log"
