"""What the receipt of a deleted document counts: what was removed for good, by place."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from shared.adapters.postgres import generations
from shared.adapters.postgres.sql import load

_SQL = load("receipts")


def remove_rest(cursor: Cursor[DictRow], document: UUID) -> int:
    """How many chunks a document still had that is gone; they and their vectors stand in its receipt."""
    told = cursor.execute(_SQL["has_receipt"], {"id": document}).fetchone() is not None
    vectors = _vectors_of(cursor, document) if told else {}
    removed = generations.remove(cursor, document, below=None)
    if told and removed:
        note_removed(cursor, document, {"index.chunks": removed, **vectors})
    return removed


def _vectors_of(cursor: Cursor[DictRow], document: UUID) -> dict[str, int]:
    """By space."""
    found: dict[str, int] = {}
    for space in cursor.execute(_SQL["spaces"]).fetchall():
        statement = generations.vectors_statement(_SQL["count_vectors"], space["id"])
        row = cursor.execute(statement, {"id": document}).fetchone()
        found[f"index.vectors.{space['name']}"] = int(row["vectors"]) if row else 0
    return found


def note_removed(cursor: Cursor[DictRow], document: UUID, removed: Mapping[str, int]) -> None:
    if removed:
        values = {"id": document, "places": list(removed), "counts": list(removed.values())}
        cursor.execute(_SQL["note_removed"], values)
