"""Parts of a source text, with replacements at places that its syntax tree names.

Positions are of bytes, as the tree's columns are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, order=True)
class Edit:
    """What to write from byte `start` up to byte `stop`."""

    start: int
    stop: int
    text: str


class SourceText:
    """A source text and the places of its tree's nodes.

    Parameters
    ----------
    source
        The text, UTF-8.
    """

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.lines = source.splitlines(keepends=True)
        self._starts = [0, *accumulate(len(line) for line in self.lines)]

    def start(self, node: ast.expr | ast.stmt) -> int:
        """Position of a node's first byte, decorators not counted."""
        return self._starts[node.lineno - 1] + node.col_offset

    def stop(self, node: ast.expr | ast.stmt) -> int:
        """Position behind a node's last byte."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._starts[node.end_lineno - 1] + node.end_col_offset

    def first(self, node: ast.stmt) -> int:
        """Position of the line where a statement begins, with decorators and comments above it."""
        number = min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", []))])
        while number > 1 and self.lines[number - 2].lstrip().startswith(b"#"):
            number -= 1
        return self._starts[number - 1]

    def last(self, node: ast.stmt) -> int:
        """Position behind the line where a statement ends, a comment behind it included."""
        assert node.end_lineno is not None
        return self._starts[node.end_lineno - 1] + len(self.lines[node.end_lineno - 1].rstrip())

    def replace(self, node: ast.expr, text: str) -> Edit:
        """Write something else for an expression."""
        return Edit(self.start(node), self.stop(node), text)

    def rename(self, node: Definition, name: str) -> Edit:
        """Give a class or function another name."""
        start = self.start(node)
        found = re.compile(rb"(?:class|(?:async\s+)?def)\s+(\w+)").match(self.source, start)
        assert found is not None
        return Edit(found.start(1), found.end(1), name)

    def leave_out(self, owner: ast.ClassDef, kept: Iterable[ast.stmt]) -> list[Edit]:
        """Leave out the members of a class that are not kept, and what stands above them."""
        edits, behind = [], None
        for member in owner.body:
            start = self.first(member) if behind is None else behind
            behind = self.last(member)
            if member not in kept:
                edits.append(Edit(start, behind, ""))
        return edits

    def between(self, start: int, stop: int, edits: Iterable[Edit] = ()) -> str:
        """Return the text between two positions, edited; edits within another one are dropped."""
        parts, here = [], start
        for edit in sorted(set(edits), key=lambda edit: (edit.start, -edit.stop)):
            if edit.start >= here and edit.stop <= stop:
                parts += [self.source[here : edit.start], edit.text.encode()]
                here = edit.stop
        return b"".join([*parts, self.source[here:stop]]).decode()
