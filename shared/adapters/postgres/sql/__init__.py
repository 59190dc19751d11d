"""Statements live in the .sql files of this folder, each a block under a `-- name:` line."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def load(file: str) -> dict[str, LiteralString]:
    """The statements of `<file>.sql` by name."""
    parts = _NAME.split(files(__package__).joinpath(f"{file}.sql").read_text())
    return cast(dict[str, LiteralString], dict(zip(parts[1::2], parts[2::2], strict=True)))
