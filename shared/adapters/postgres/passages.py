"""What stands in a document, chunk by chunk."""

from __future__ import annotations

from uuid import UUID

from psycopg.rows import DictRow

from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.sql import load
from shared.core.excerpts import Excerpt, StoredChunk
from shared.core.labels import Labels

_SQL = load("passages")


class Passages:
    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database

    async def excerpt(
        self,
        tenant: UUID,
        acl: Labels,
        id: UUID,
        *,
        limit: int,
        first: int = 0,
        at: int | None = None,
        chunk: int | None = None,
    ) -> Excerpt | None:
        """From the chunk given, else from the one that holds the character at, else from the ordinal first; None when
        acl may not see such a document, or there is none."""
        values = {"id": id, "limit": limit, "first": first, "at": at, "chunk": chunk}
        async with self._database.transaction(tenant, acl=acl, read_only=True) as cursor:
            rows = await (await cursor.execute(_SQL["excerpt"], values)).fetchall()
        if not rows:
            return None
        chunks = [_chunk(row) for row in rows if row["ordinal"] is not None]
        return Excerpt(id, rows[0]["generation"], rows[0]["total"], chunks)


def _chunk(row: DictRow) -> StoredChunk:
    return StoredChunk(
        id=row["id"],
        ordinal=row["ordinal"],
        page=row["page"],
        headings=tuple(row["headings"]),
        text=row["text"],
        start=row["start"],
        end=row["end"],
    )
