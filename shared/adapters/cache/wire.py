"""What both transports to Redis take and give."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Protocol


class ReplyError(Exception):
    """An error reply. It is a value here: one failing command must not lose its neighbours' replies."""


Argument = str | bytes | int | float
Command = Sequence[Argument]
Reply = Any
"""int, bytes, None, ReplyError, or a list of these."""


class Transport(Protocol):
    async def send(self, commands: Sequence[Command]) -> list[Reply]:
        """One reply per command, in order. Raises Unavailable; whether the commands ran is then unknown."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Script:
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """The Lua script of that name in this folder."""
    text = files(__package__).joinpath(f"{name}.lua").read_text()
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
