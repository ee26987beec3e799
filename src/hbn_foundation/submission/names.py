"""Which names of a piece of source mean something of its module.

The export moves definitions of several modules into one, so it has to know of every name whether
it is a local variable or a definition of the module. Python's scopes are followed: arguments and
assignments hide a name in a function and in the functions within it, a class's own names are seen
in its body alone, a comprehension's in the comprehension.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Function = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reference:
    """A name that means something of the module, with the attribute that is taken of it."""

    name: ast.Name
    attribute: ast.Attribute | None = None


def module_references(node: ast.AST, hidden: frozenset[str] = NOTHING) -> Iterator[Reference]:
    """Yield every name below `node` that no scope around it binds.

    Parameters
    ----------
    node
        A definition of a module, or a part of one.
    hidden
        Names that mean something else around it.
    """
    if isinstance(node, Function):
        yield from _outside_of_function(node, hidden)
        yield from _each(node.body, hidden | _bound_in_function(node))
    elif isinstance(node, ast.Lambda):
        yield from _each([*node.args.defaults, *_given(node.args.kw_defaults)], hidden)
        yield from module_references(node.body, hidden | _arguments(node.args))
    elif isinstance(node, ast.ClassDef):
        yield from _each([*node.decorator_list, *node.bases, *node.keywords], hidden)
        yield from class_body_references(node, node.body, hidden)
    elif isinstance(node, Comprehension):
        yield from _in_comprehension(node, hidden)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id not in hidden:
            yield Reference(node.value, node)
    elif isinstance(node, ast.Name):
        if node.id not in hidden:
            yield Reference(node)
    else:
        yield from _each(ast.iter_child_nodes(node), hidden)


def class_body_references(
    owner: ast.ClassDef, members: Iterable[ast.stmt], hidden: frozenset[str] = NOTHING
) -> Iterator[Reference]:
    """Yield the names of some members of a class."""
    own = hidden | _bound(owner.body)
    for member in members:
        if isinstance(member, Function):
            yield from _outside_of_function(member, own)
            yield from _each(member.body, hidden | _bound_in_function(member))
        else:
            yield from module_references(member, own)


def _outside_of_function(node: Function, hidden: frozenset[str]) -> Iterator[Reference]:
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    annotations = _given([argument.annotation for argument in every] + [node.returns])
    defaults = [*arguments.defaults, *_given(arguments.kw_defaults)]
    yield from _each([*node.decorator_list, *defaults, *annotations], hidden)


def _in_comprehension(node: Comprehension, hidden: frozenset[str]) -> Iterator[Reference]:
    first = node.generators[0].iter
    targets = [name for part in node.generators for name in _targets(part.target)]
    inside = hidden | frozenset(targets)
    yield from module_references(first, hidden)
    for part in node.generators:
        yield from _each([*([] if part.iter is first else [part.iter]), *part.ifs], inside)
    results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
    yield from _each(results, inside)


def _each(nodes: Iterable[ast.AST], hidden: frozenset[str]) -> Iterator[Reference]:
    for node in nodes:
        yield from module_references(node, hidden)


def _given(nodes: Iterable[ast.expr | None]) -> list[ast.expr]:
    return [node for node in nodes if node is not None]


def _arguments(arguments: ast.arguments) -> frozenset[str]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return frozenset(argument.arg for argument in every)


def _bound_in_function(node: Function) -> frozenset[str]:
    return _arguments(node.args) | _bound(node.body)


def _bound(body: list[ast.stmt]) -> frozenset[str]:
    """Names that the statements of one scope bind."""
    names: set[str] = set()
    outer: set[str] = set()
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, Function | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Lambda):
            continue
        elif isinstance(node, Comprehension):  # := within it binds out here
            inside = ast.walk(node)
            names.update(part.target.id for part in inside if isinstance(part, ast.NamedExpr))
        elif isinstance(node, ast.Global):
            outer.update(node.names)
        else:
            names.update(_bound_by(node))
            waiting.extend(ast.iter_child_nodes(node))
    return frozenset(names - outer)


def _bound_by(node: ast.AST) -> Iterator[str]:
    """Names that a node itself binds."""
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.alias):
        yield node.asname or node.name.split(".")[0]
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest


def _targets(node: ast.expr) -> Iterator[str]:
    return (part.id for part in ast.walk(node) if isinstance(part, ast.Name))
