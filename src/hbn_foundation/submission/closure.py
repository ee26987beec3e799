"""Which definitions, and which members of classes, some definitions need: as few as possible.

A definition needs every definition of the project that it names. Of a class come its constructor,
`forward`, other special methods, what stands in for a method of a foreign base (torch calls those
itself), and every method of a name that is used somewhere: training code stays behind. The names
used grow with the definitions, so both are found together, until nothing is added.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hbn_foundation.errors import UserError
from hbn_foundation.params import Params
from hbn_foundation.submission.calls import symbol_of
from hbn_foundation.submission.modules import External, Module, ModuleReference, Sources, Symbol
from hbn_foundation.submission.names import (
    Function,
    Reference,
    class_body_references,
    module_references,
)
from hbn_foundation.submission.values import Values

ALWAYS = ("forward",)
PLAIN = symbol_of(Values)
CHECKS_OF_PARAMETERS = ("model_validator", "field_validator", "field_serializer")


@dataclass(frozen=True)
class Use:
    """One place in the source of a definition where something of another one is named.

    Attributes
    ----------
    node
        The name, or the attribute of a module, that stands there.
    target
        What it stands for.
    """

    node: ast.expr
    target: Symbol | External


@dataclass
class Piece:
    """A definition that is needed, and what is kept of it."""

    symbol: Symbol
    module: Module
    node: ast.stmt
    members: list[ast.stmt] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)

    @property
    def is_parameters(self) -> bool:
        """Whether it is a group of parameters, of which plain values are made."""
        live = live_object(self.symbol)
        return isinstance(live, type) and issubclass(live, Params)


def live_object(symbol: Symbol) -> Any:
    """Return what a symbol is in this process."""
    return getattr(importlib.import_module(symbol.module), symbol.name)


class Closure:
    """Everything that some definitions need.

    Parameters
    ----------
    sources
        Which packages' source is carried along.
    roots
        The definitions to begin with.
    called
        Methods that are called from outside.

    Raises
    ------
    UserError
        When a module that is needed does something as it is imported, which a single file of
        definitions cannot repeat.
    """

    def __init__(
        self, sources: Sources, roots: Iterable[Symbol], called: Iterable[str] = ()
    ) -> None:
        self.sources = sources
        self.pieces: dict[Symbol, Piece] = {}
        self.externals: set[External] = set()
        self._used_names = set(called)
        for root in roots:
            self._add(root)
        while self._grow():
            pass
        for name in {symbol.module for symbol in self.pieces}:
            _check_only_defines(sources.read(name))

    def _add(self, symbol: Symbol) -> None:
        if symbol in self.pieces:
            return
        module = self.sources.read(symbol.module)
        if symbol.name not in module.definitions:
            raise UserError(f"export: {symbol.module} defines no {symbol.name} at its top")
        piece = Piece(symbol, module, module.definitions[symbol.name])
        self.pieces[symbol] = piece
        if piece.is_parameters:
            self._add(PLAIN)

    def _grow(self) -> bool:
        """Look at every piece again; tell whether anything was added."""
        before = len(self.pieces), len(self._used_names)
        kept = sum(len(piece.members) for piece in self.pieces.values())
        for piece in list(self.pieces.values()):
            self._look_at(piece)
        return before != (len(self.pieces), len(self._used_names)) or kept != sum(
            len(piece.members) for piece in self.pieces.values()
        )

    def _look_at(self, piece: Piece) -> None:
        node = piece.node
        if isinstance(node, ast.ClassDef):
            piece.members = [member for member in node.body if self._is_kept(piece, member)]
            references = _of_class_head(node, piece.is_parameters)
            for member in piece.members:
                references += _of_member(node, member, piece.is_parameters)
            parts: list[ast.AST] = list(piece.members)
        else:
            references, parts = list(module_references(node)), [node]
        piece.uses = [use for reference in references for use in self._use(piece, reference)]
        for use in piece.uses:
            if isinstance(use.target, Symbol):
                self._add(use.target)
            else:
                self.externals.add(use.target)
        for part in parts:
            self._used_names.update(_names_used(part))

    def _use(self, piece: Piece, reference: Reference) -> list[Use]:
        found = self.sources.find(piece.module, reference.name.id)
        if found is None or found == piece.symbol:
            return [] if found is None else [Use(reference.name, piece.symbol)]
        if not isinstance(found, ModuleReference):
            return [Use(reference.name, found)]
        if reference.attribute is None:
            place = piece.module.place(reference.name)
            raise UserError(f"export: {place} passes a module of the project on as a value")
        target = self.sources.follow(External(found.module, reference.attribute.attr))
        if isinstance(target, ModuleReference):
            place = piece.module.place(reference.name)
            raise UserError(f"export: {place} takes more than one attribute of a module")
        return [Use(reference.attribute, target)]

    def _is_kept(self, piece: Piece, member: ast.stmt) -> bool:
        if not isinstance(member, Function):
            return not (piece.is_parameters and _is_configuration(member))
        if any(_called_name(one) in CHECKS_OF_PARAMETERS for one in member.decorator_list):
            return False
        name = member.name
        if name in ALWAYS or name in self._used_names or name.startswith("__"):
            return True
        bases = [] if piece.is_parameters else live_object(piece.symbol).__mro__
        return any(name in vars(base) for base in bases if not self.sources.holds(base.__module__))


def _of_class_head(node: ast.ClassDef, is_parameters: bool) -> list[Reference]:
    """Names of bases and decorators; the base of all parameters is replaced."""
    head = [*node.decorator_list, *node.bases, *node.keywords]
    references = [reference for part in head for reference in module_references(part)]
    return [r for r in references if not (is_parameters and r.name.id == Params.__name__)]


def _of_member(owner: ast.ClassDef, member: ast.stmt, is_parameters: bool) -> list[Reference]:
    """Names of a member; of a parameter its type alone, as its value is given."""
    if is_parameters and isinstance(member, ast.AnnAssign):
        return list(module_references(member.annotation))
    return list(class_body_references(owner, [member]))


def _is_configuration(member: ast.stmt) -> bool:
    return isinstance(member, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "model_config" for target in member.targets
    )


def _called_name(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def _names_used(node: ast.AST) -> set[str]:
    """Attributes that are taken, also those that `getattr` may take by their name in a string."""
    names = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute):
            names.add(part.attr)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            names.update([part.value] if part.value.isidentifier() else [])
    return names


def _check_only_defines(module: Module) -> None:
    """Refuse a module that changes something at its top, such as an entry of a table."""
    tree = ast.parse(module.source)
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom | Function | ast.ClassDef):
            continue
        if isinstance(statement, ast.If) and isinstance(statement.test, ast.Name | ast.Attribute):
            continue
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        if not targets or not all(isinstance(t, ast.Name | ast.Tuple) for t in targets):
            raise UserError(
                f"export: {module.place(statement)} does something as it is imported; a module "
                "that a submission is made of may only define"
            )
