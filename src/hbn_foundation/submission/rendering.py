"""Python source of definitions from several modules in one file.

The text of the project is kept, its comments too. A name that would mean two things in one file
gets its module's name before it; a group of parameters becomes a frozen class of plain values.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections import Counter
from collections.abc import Iterable, Iterator

from hbn_foundation.errors import UserError
from hbn_foundation.params import Params
from hbn_foundation.submission.closure import PLAIN, Closure, Piece
from hbn_foundation.submission.modules import External, Symbol
from hbn_foundation.submission.text import Definition, Edit, SourceText

ALLOWED_PACKAGES = ("torch",)
FUTURE = "from __future__ import annotations"


class Rendering:
    """The pieces of a closure as source of one file.

    Parameters
    ----------
    closure
        What is needed.
    taken
        Names that the rest of the file uses.

    Attributes
    ----------
    names
        What each definition is called in the file.

    Raises
    ------
    UserError
        When a package besides torch and the standard library is needed.
    """

    def __init__(self, closure: Closure, taken: Iterable[str] = ()) -> None:
        self.closure = closure
        self.imported = _imported_names(closure)
        self.names = _unique_names(closure, {*taken, *self.imported, *dir(builtins)})

    def imports(self) -> str:
        """Write the imports, the standard library's first."""
        groups: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
        for name, external in self.imported.items():
            is_torch = external.module.split(".")[0] in ALLOWED_PACKAGES
            if external.name is None:
                renamed = f" as {name}" if name != external.module else ""
                groups[is_torch][f"import {external.module}{renamed}"] = []
            else:
                renamed = f" as {name}" if name != external.name else ""
                part = f"{external.name}{renamed}"
                groups[is_torch].setdefault(f"from {external.module} import ", []).append(part)
        parts = [FUTURE]
        for group in filter(None, groups):
            lines = (head + ", ".join(sorted(names)) for head, names in group.items())
            parts.append("\n".join(sorted(lines, key=lambda line: (line[:4] == "from", line))))
        return "\n\n".join(parts)

    def definitions(self) -> str:
        """Write every piece under its module's name, each module's after those it imports."""
        pieces: dict[str, list[Piece]] = {}
        for piece in self.closure.pieces.values():
            pieces.setdefault(piece.symbol.module, []).append(piece)
        order = self.closure.sources.in_order(pieces)
        order.sort(key=lambda name: name != PLAIN.module)  # parameters are made of it
        return "\n\n\n".join(self._section(name, pieces[name]) for name in order)

    def _section(self, module: str, pieces: list[Piece]) -> str:
        text = f"# {'-' * 8} {module.partition('.')[2] or module} {'-' * 8}"
        by_line = {piece.node.lineno: piece for piece in pieces}
        after_constant = False
        for line in sorted(by_line):
            is_constant = not isinstance(by_line[line].node, Definition)
            gap = "\n" if is_constant and after_constant else "\n\n\n"
            text += gap + self._text(by_line[line])
            after_constant = is_constant
        return text

    def _text(self, piece: Piece) -> str:
        source = SourceText(piece.module.source)
        edits = self._edits(piece, source)
        node = piece.node
        if isinstance(node, ast.ClassDef):
            if piece.is_parameters:
                return self._parameters(piece, source, edits)
            edits += source.leave_out(node, piece.members)
        text = source.between(source.first(node), source.last(node), edits)
        return text if piece.members or not isinstance(node, ast.ClassDef) else f"{text}\n    pass"

    def _parameters(self, piece: Piece, source: SourceText, edits: list[Edit]) -> str:
        """Write a group of parameters: its fields without defaults, its own methods."""
        node = piece.node
        assert isinstance(node, ast.ClassDef)
        bases = [source.between(source.start(b), source.stop(b), edits) for b in node.bases]
        plain = self.names[PLAIN]
        bases = [plain if base == Params.__name__ else base for base in bases]
        name = self.names[piece.symbol]
        lines = ["@dataclass(frozen=True)", f"class {name}({', '.join(bases)}):"]
        for member in piece.members:
            if isinstance(member, ast.AnnAssign):
                annotation = source.between(
                    source.start(member.annotation), source.stop(member.annotation), edits
                )
                lines.append(f"    {ast.unparse(member.target)}: {annotation}")
            elif isinstance(member, ast.Expr):
                lines += [source.between(source.first(member), source.last(member)), ""]
            else:
                lines += ["", source.between(source.first(member), source.last(member), edits)]
        return "\n".join(lines if piece.members else [*lines, "    pass"])

    def _edits(self, piece: Piece, source: SourceText) -> list[Edit]:
        """Return what has to be written otherwise in one file."""
        edits = []
        for use in piece.uses:
            if isinstance(use.target, Symbol):
                name = self.names[use.target]
                if not isinstance(use.node, ast.Name) or use.node.id != name:
                    edits.append(source.replace(use.node, name))
        own = self.names[piece.symbol]
        if own != piece.symbol.name and isinstance(piece.node, Definition):
            edits.append(source.rename(piece.node, own))
        if isinstance(piece.node, ast.ClassDef):
            edits += [
                source.replace(part, own)
                for member in piece.members
                for part in ast.walk(member)
                if isinstance(part, ast.Name) and part.id == "Self"
            ]
        return edits


def _imported_names(closure: Closure) -> dict[str, External]:
    """Return what each imported name of the file stands for."""
    names: dict[str, External] = {}
    for piece in closure.pieces.values():
        for use in piece.uses:
            target = use.target
            if not isinstance(target, External) or target == External("typing", "Self"):
                continue
            place = piece.module.place(use.node)
            package = target.module.split(".")[0]
            if package not in ALLOWED_PACKAGES and package not in sys.stdlib_module_names:
                raise UserError(
                    f"export: {place} needs {package}; where a submission runs, there are torch "
                    "and the standard library alone"
                )
            if not isinstance(use.node, ast.Name):
                raise UserError(f"export: {place} takes {ast.unparse(use.node)} of a module")
            if names.setdefault(use.node.id, target) != target:
                raise UserError(
                    f"export: {use.node.id} is {_written(target)} at {place} and "
                    f"{_written(names[use.node.id])} elsewhere; import both under one name"
                )
    return names


def _unique_names(closure: Closure, taken: set[str]) -> dict[Symbol, str]:
    """Name each definition; where a name is not free, its module's name is put before it.

    A definition that is taken of a module (`symmetric.log`) stands alone in one file, where a
    variable of the same name would hide it.
    """
    counts = Counter(symbol.name for symbol in closure.pieces)
    of_modules = {
        use.target
        for piece in closure.pieces.values()
        for use in piece.uses
        if isinstance(use.node, ast.Attribute)
    }
    variables = {name for piece in closure.pieces.values() for name in _variables(piece.node)}
    names: dict[Symbol, str] = {}
    for symbol in closure.pieces:
        name, home = symbol.name, symbol.module.rpartition(".")[2]
        hidden = symbol in of_modules and name in variables
        if counts[name] > 1 or name in taken or hidden:
            if name.isupper():
                name = f"{home.upper()}_{name}"
            elif name[0].isupper():
                name = home.title().replace("_", "") + name
            else:
                name = f"{home}_{name}"
        while name in taken | variables - {symbol.name} or name in names.values():
            name += "_"
        names[symbol] = name
    return names


def _variables(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.arg):
            yield part.arg
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id


def _written(external: External) -> str:
    return external.module + (f".{external.name}" if external.name else "")
