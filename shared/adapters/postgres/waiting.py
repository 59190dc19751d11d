"""What is left to the embedding job, within somebody's transaction: chunks that lack vectors, and who waits for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from shared.adapters.postgres.generations import check_complete, lock, space_changed, vectors_statement
from shared.adapters.postgres.sql import load
from shared.core.models import Space

_SQL = load("waiting")
_SLICE = 256  # chunks that one lease of the embedding job covers, within one document


def leave(cursor: Cursor[DictRow], space: Space, values: Mapping[str, Any], *, edition: bool) -> int:
    """Leaves what lacks vectors to the embedding job; how many chunks of the tenant wait now. values: id, generation,
    tenant; space is held. Raises SpaceChanged."""
    values = {**values, "space": space.id, "slice": _SLICE, "edition": edition}
    if cursor.execute(vectors_statement(_SQL["slice_work"], space.id), values).rowcount == 0:
        raise space_changed(space)
    row = cursor.execute(_SQL["backlog"], values).fetchone()
    assert row is not None
    return int(row["chunks"])


def take(cursor: Cursor[DictRow], document: UUID, generation: int) -> DictRow | None:
    """The document's row, locked, when we are the one to end its wait.

    Not fenced by attempt: an event that was looked at meanwhile and came to nothing changes it, but a new
    generation, a delete or a failure takes the waiting row away.
    """
    row = lock(cursor, document)
    taken = cursor.execute(_SQL["take_waiting"], {"id": document, "generation": generation}).fetchone()
    return row if taken else None


def end_edition(
    cursor: Cursor[DictRow], space: Space, document: UUID, generation: int, reason: str | None
) -> None:
    """It is whole, or reason says why it never will be; with its candidate it may be gone, too."""
    status = "whole" if reason is None else "failed"
    values = {"id": document, "generation": generation, "space": space.id}
    row = cursor.execute(_SQL["end_edition"], values | {"status": status, "reason": reason}).fetchone()
    if row is not None and reason is None:
        check_complete(cursor, space, {document: row["chunks"]}, {document: generation})
