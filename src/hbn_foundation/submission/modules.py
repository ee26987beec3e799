"""The project's modules as source: what each defines and what its names stand for."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hbn_foundation.errors import UserError


@dataclass(frozen=True, order=True)
class Symbol:
    """A definition at the top of one of the project's modules."""

    module: str
    name: str


@dataclass(frozen=True)
class External:
    """Something of another package: a module, or a name in one."""

    module: str
    name: str | None = None


@dataclass(frozen=True)
class ModuleReference:
    """One of the project's modules, of which attributes are taken."""

    module: str


Meaning = Symbol | External | ModuleReference


@dataclass
class Module:
    """A parsed module.

    Attributes
    ----------
    name
        Dotted name.
    source
        The text, as bytes: syntax trees count columns in bytes.
    definitions
        Statement of each name defined at the top.
    imports
        What each imported name stands for; a project's name is not yet followed to its home.
    imported
        Names of the project's modules that it imports, in order.
    """

    name: str
    source: bytes
    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    imports: dict[str, External] = field(default_factory=dict)
    imported: list[str] = field(default_factory=list)

    def place(self, node: ast.AST) -> str:
        """Say where a node is, for a message."""
        return f"{self.name.replace('.', '/')}.py:{getattr(node, 'lineno', 1)}"


class Sources:
    """The modules whose source is carried into a submission rather than imported by it.

    Parameters
    ----------
    packages
        Names of the packages they belong to.
    """

    def __init__(self, *packages: str) -> None:
        self.packages = packages
        self._modules: dict[str, Module] = {}

    def holds(self, module: str) -> bool:
        """Tell whether a module belongs to these packages."""
        return module.split(".")[0] in self.packages

    def read(self, name: str) -> Module:
        """Parse a module, once.

        Raises
        ------
        UserError
            When there is no source of it.
        """
        if name not in self._modules:
            spec = importlib.util.find_spec(name)
            if spec is None or spec.origin is None:
                raise UserError(f"export: no source of {name}, which the model is made of")
            is_package = spec.submodule_search_locations is not None
            self._modules[name] = self._parse(name, Path(spec.origin), is_package)
        return self._modules[name]

    def find(self, module: Module, name: str) -> Meaning | None:
        """Return what a name of a module stands for; None for a builtin or an unknown name."""
        if name in module.definitions:
            return Symbol(module.name, name)
        imported = module.imports.get(name)
        return None if imported is None else self.follow(imported)

    def follow(self, imported: External) -> Meaning:
        """Follow an imported name to its home, where that is one of these modules."""
        if not self.holds(imported.module):
            return imported
        if imported.name is None:
            return ModuleReference(imported.module)
        inner = f"{imported.module}.{imported.name}"
        home = self.read(imported.module)
        if imported.name not in home.definitions and _is_module(inner):
            return ModuleReference(inner)
        found = self.find(home, imported.name)
        if found is None:
            raise UserError(f"export: {imported.module} defines no {imported.name}")
        return found

    def in_order(self, wanted: Iterable[str]) -> list[str]:
        """Order modules so that each comes after those that it imports, as Python runs them."""
        ordered: dict[str, None] = {}
        seen: set[str] = set()

        def visit(name: str) -> None:
            if name in seen:
                return
            seen.add(name)
            for other in self.read(name).imported:
                visit(other)
            ordered[name] = None

        for name in sorted(wanted):
            visit(name)
        return [name for name in ordered if name in set(wanted)]

    def _parse(self, name: str, path: Path, is_package: bool) -> Module:
        module = Module(name, path.read_bytes())
        for statement in _top_statements(ast.parse(module.source, str(path)).body):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                base = name if is_package else name.rpartition(".")[0]
                for bound, target in _imports(statement, base):
                    module.imports[bound] = target
                    if self.holds(target.module):
                        inner = f"{target.module}.{target.name}"
                        is_inner = target.name is not None and _is_module(inner)
                        module.imported.append(inner if is_inner else target.module)
            for defined in _defined(statement):
                module.definitions[defined] = statement
        return module


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _top_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements at the top, those under `if TYPE_CHECKING` as well."""
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
            yield from statement.body
        else:
            yield statement


def _imports(statement: ast.Import | ast.ImportFrom, base: str) -> Iterator[tuple[str, External]]:
    """Yield each name that an import binds, with what it stands for; `base` is where dots begin."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            bound = alias.asname or alias.name.split(".")[0]
            yield bound, External(alias.name if alias.asname else bound)
        return
    home = statement.module or ""
    if statement.level:
        home = importlib.util.resolve_name("." * statement.level + home, base)
    if home != "__future__":
        for alias in statement.names:
            yield alias.asname or alias.name, External(home, alias.name)


def _defined(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield statement.target.id
