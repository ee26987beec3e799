"""Whether a source can run where submissions run: Python 3.10, torch 2.2, nothing else.

Names that are taken of torch's modules are compared with those that torch 2.2.2 has
(`torch_2_2_names.txt`, made with `dir` under that version). What a method or a keyword argument
belongs to cannot be told from the syntax; of those a list is kept that came later, found by
comparing torch 2.2.2 with 2.13.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator
from functools import cache
from importlib.resources import files

PYTHON = (3, 10)
#: Names of the standard library that came after Python 3.10, and with which version.
NEWER_IN_PYTHON = {
    "asyncio.Runner": "3.11", "asyncio.TaskGroup": "3.11", "asyncio.timeout": "3.11",
    "collections.abc.Buffer": "3.12", "contextlib.chdir": "3.11", "datetime.UTC": "3.11",
    "enum.StrEnum": "3.11", "enum.ReprEnum": "3.11", "enum.verify": "3.11",
    "hashlib.file_digest": "3.11", "itertools.batched": "3.12", "math.cbrt": "3.11",
    "math.exp2": "3.11", "math.fma": "3.13", "math.sumprod": "3.12", "operator.call": "3.11",
    "tomllib": "3.11", "typing.LiteralString": "3.11", "typing.Never": "3.11",
    "typing.NotRequired": "3.11", "typing.ReadOnly": "3.13", "typing.Required": "3.11",
    "typing.Self": "3.11", "typing.TypeAliasType": "3.12", "typing.TypeIs": "3.13",
    "typing.TypeVarTuple": "3.11", "typing.Unpack": "3.11", "typing.assert_never": "3.11",
    "typing.assert_type": "3.11", "typing.dataclass_transform": "3.11",
    "typing.override": "3.12", "typing.reveal_type": "3.11", "warnings.deprecated": "3.13",
    "BaseExceptionGroup": "3.11", "ExceptionGroup": "3.11", "PythonFinalizationError": "3.13",
}  # fmt: skip
#: Methods of tensors and modules that torch 2.2 has not.
NEWER_METHODS = {
    "const_data_ptr", "grad_dtype", "hash_tensor", "module_load", "mtia",
    "register_load_state_dict_pre_hook", "register_state_dict_post_hook", "set_submodule",
    "slice_inverse",
}  # fmt: skip
#: Keyword arguments of functions and modules that torch 2.2 has, but not with these.
NEWER_KEYWORDS = {
    "BatchNorm1d": {"bias"}, "BatchNorm2d": {"bias"}, "BatchNorm3d": {"bias"},
    "GroupNorm": {"bias"}, "InstanceNorm1d": {"bias"}, "InstanceNorm2d": {"bias"},
    "InstanceNorm3d": {"bias"}, "addmm": {"out_dtype"}, "argsort": {"out"},
    "baddbmm": {"out_dtype"}, "bmm": {"out_dtype"}, "huber_loss": {"weight"},
    "l1_loss": {"weight"}, "mm": {"out_dtype"}, "mse_loss": {"weight"},
    "pad_sequence": {"padding_side"}, "rand_like": {"generator"}, "randint_like": {"generator"},
    "randn_like": {"generator"}, "scaled_dot_product_attention": {"enable_gqa"},
    "stft": {"align_to_window"},
}  # fmt: skip
PACKAGES = ("torch",)


def problems(source: str, own: Collection[str] = ()) -> list[str]:
    """List what would not run under Python 3.10 with torch 2.2 alone, one line each.

    Parameters
    ----------
    source
        Of a Python file.
    own
        Modules that lie beside it.

    Returns
    -------
    list of str
        Each with the number of the line; empty when nothing was found.
    """
    try:
        tree = ast.parse(source, feature_version=PYTHON)
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg} (Python {PYTHON[0]}.{PYTHON[1]})"]
    found = [*_imports(tree, own), *_syntax(tree), *_names(tree)]
    return [f"line {line}: {text}" for line, text in sorted(set(found))]


@cache
def torch_names() -> dict[str, frozenset[str]]:
    """Return the public names of torch 2.2.2's modules, by module."""
    text = files(__package__).joinpath("torch_2_2_names.txt").read_text(encoding="utf-8")
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {module: frozenset(names.split()) for module, _, names in lines if module}


def _imports(tree: ast.AST, own: Collection[str]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            modules = [("." * node.level) + (node.module or "")]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        for module in modules:
            package = module.split(".")[0]
            if package not in {*PACKAGES, *own, *sys.stdlib_module_names}:
                yield node.lineno, f"imports {module}; only torch and the standard library"


def _syntax(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Find what ast accepts in any version: a star within brackets, from Python 3.11 on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and any(
            isinstance(part, ast.Starred) for part in getattr(node.slice, "elts", [])
        ):
            yield node.lineno, "a star within brackets needs Python 3.11"


def _names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    meanings = dict(_meanings(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield from _judge(node.lineno, f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from _judge(node.lineno, alias.name)
        elif isinstance(node, ast.Attribute | ast.Name):
            dotted = _dotted(node, meanings)
            if dotted is not None:
                yield from _judge(node.lineno, dotted)
            elif isinstance(node, ast.Attribute) and node.attr in NEWER_METHODS:
                yield node.lineno, f".{node.attr} is not in torch 2.2"
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            given = {keyword.arg for keyword in node.keywords}
            for keyword in given & NEWER_KEYWORDS.get(name, set()):
                yield node.lineno, f"{name}({keyword}=) is not in torch 2.2"


def _meanings(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield each imported name with what it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from ((a.asname or a.name, f"{node.module}.{a.name}") for a in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                yield alias.asname or first, alias.name if alias.asname else first


def _dotted(node: ast.expr, meanings: dict[str, str]) -> str | None:
    """Write an attribute of an imported module out in full; None for anything else."""
    if isinstance(node, ast.Name):
        return meanings.get(node.id, node.id if node.id in NEWER_IN_PYTHON else None)
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value, meanings)
        return None if inner is None else f"{inner}.{node.attr}"
    return None


def _judge(line: int, dotted: str) -> Iterator[tuple[int, str]]:
    if dotted in NEWER_IN_PYTHON:
        yield line, f"{dotted} needs Python {NEWER_IN_PYTHON[dotted]}"
    module, _, name = dotted.rpartition(".")
    known = torch_names().get(module)
    if known is not None and name not in known and not name.startswith("_"):
        yield line, f"{dotted} is not in torch 2.2"
