"""A file of infra/modal as its tests see it: the module, and what it told Modal, whose own checks ran too."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
KEY = "the-key-of-the-modal-tests"
_LOGIC = (ast.If, ast.For, ast.While, ast.Try, ast.With, ast.Lambda, ast.comprehension)


class Definition:
    """told and args hold the last call's keyword and positional arguments by the name of what was called."""

    def __init__(self) -> None:
        self.told: dict[str, dict[str, Any]] = {}
        self.args: dict[str, tuple[Any, ...]] = {}
        self.module = ModuleType("not loaded")

    def record(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, key: str) -> None:
        original = getattr(owner, name)

        def recording(*args: Any, **kwargs: Any) -> Any:
            self.args[key], self.told[key] = args, kwargs
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, recording)


def load(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    recorded: Iterable[tuple[Any, str, str]],
    environment: Mapping[str, str],
) -> Definition:
    """Runs file as `modal deploy` does, from the root and by its path; recorded: (owner, attribute, key)."""
    defined = Definition()
    monkeypatch.chdir(ROOT)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as patching:
        for owner, name, key in recorded:
            defined.record(patching, owner, name, key)
        spec = importlib.util.spec_from_file_location(f"modal_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        defined.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(defined.module)
    return defined


def logic(file: Path) -> list[ast.AST]:
    """Branches, loops and the like: whatever would be untested in a file that only Modal runs."""
    return [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, _LOGIC)]
