"""Lists page by page: newest first, and a cursor that says where the next page begins."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from shared.core.errors import InvalidInput


class Listed(Protocol):
    @property
    def id(self) -> UUID | str | int: ...
    @property
    def created_at(self) -> datetime: ...


_Row = TypeVar("_Row", bound=Listed)
_Id = TypeVar("_Id")


def page(rows: Sequence[_Row], limit: int) -> tuple[list[_Row], str | None]:
    """At most limit of the rows, of which there is one more when another page follows, and the cursor of that page."""
    shown = list(rows[:limit])
    return shown, _cursor(shown[-1]) if len(rows) > limit else None


def opened(cursor: str | None, id: Callable[[str], _Id]) -> tuple[datetime, _Id] | None:
    """Where a page begins: after the row made at that time, with that id."""
    if cursor is None:
        return None
    try:
        moment, _, last = base64.urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        return datetime.fromisoformat(moment), id(last)
    except ValueError as error:
        raise InvalidInput("the cursor is not one this API gave out", field="cursor") from error


def number(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise ValueError(text)
    return int(text)


def hexadecimal(text: str) -> str:
    return bytes.fromhex(text).hex()


def _cursor(row: Any) -> str:
    return base64.urlsafe_b64encode(f"{row.created_at.isoformat()} {row.id}".encode()).decode()
