"""Which distributions' modules a function can come to import, seen from its source."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = ("functions", "shared")


def foreign_imports(function: str) -> set[str]:
    """Names of all modules of others, late imports included, that functions/<function> and what it imports name."""
    todo = list((ROOT / "functions" / function).rglob("*.py"))
    seen: set[Path] = set()
    foreign: set[str] = set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in _imported(ast.parse(path.read_text())):
            if name.partition(".")[0] in OURS:
                todo += _modules(name)
            else:
                foreign.add(name)
    return {name for name in foreign if name.partition(".")[0] not in sys.stdlib_module_names}


def _modules(name: str) -> Iterator[Path]:
    """A module, or the package it names, or the module that the name is of."""
    path = ROOT.joinpath(*name.split("."))
    yield from (file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists())


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module.partition(".")[0] in OURS:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from _imported(node)
