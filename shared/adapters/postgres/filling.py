"""What a space lacks of the index, and where its vectors go; as the embedding job, which sees whose documents there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from psycopg import Cursor, sql
from psycopg.rows import DictRow

from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.generations import store_vectors, vectors_statement
from shared.adapters.postgres.sql import load
from shared.core.chunking import embedding_text, text_hash
from shared.core.errors import Busy, Conflict, NotFound, RagzeroError
from shared.core.models import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SQL = load("filling")
_JOB = {"app.embed_job": "on"}
_MOST = 2**31
_DELETED_MEANWHILE = 10


class FillStore:
    """Of one space."""

    def __init__(self, database: Database, space: int) -> None:
        self._database = database
        self._space = space
        self._itself: Space | None = None

    def lacks(self, most: int = _MOST) -> int:
        """How many chunks that queries see, or are about to, have no vector; counting ends at most."""
        with self._database.transaction(None, local=_JOB) as cursor:
            row = cursor.execute(_SQL["lacks"], {"space": self._space, "most": most}).fetchone()
        return int(row["chunks"]) if row else 0

    def tenants(self) -> list[UUID]:
        with self._database.transaction(None, local=_JOB) as cursor:
            return [row["id"] for row in cursor.execute(_SQL["tenants"])]

    def documents(
        self, tenant: UUID, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[tuple[datetime, UUID]]:
        """(created_at, id) of the next ones, oldest first."""
        at, id = after or (None, None)
        values = {"tenant": tenant, "after_at": at, "after_id": id, "limit": limit}
        with self._database.transaction(tenant) as cursor:
            return [(row["created_at"], row["id"]) for row in cursor.execute(_SQL["documents"], values)]

    def reuse(self, tenant: UUID, documents: Sequence[UUID]) -> int:
        """How many of their chunks have a vector now without an encoder: another chunk has the same text, or another space
        the same vector, stored no less exactly."""
        values = {"tenant": tenant, "documents": list(documents)}

        def reused(cursor: Cursor[DictRow]) -> int:
            sources = cursor.execute(_SQL["sources"], {"space": self._space}).fetchall()
            copied = sum(cursor.execute(self._copying(source["id"]), values).rowcount for source in sources)
            return copied + cursor.execute(vectors_statement(_SQL["reuse"], self._space), values).rowcount

        return self._inserted(tenant, reused)

    def lacking(self, tenant: UUID, documents: Sequence[UUID], limit: int) -> list[tuple[int, str]]:
        """(chunk id, embedding text) of their first chunks without a vector."""
        values = {"documents": list(documents), "limit": limit}
        with self._database.transaction(tenant) as cursor:
            rows = cursor.execute(vectors_statement(_SQL["lacking"], self._space), values).fetchall()
        return [(row["id"], embedded_text(row)) for row in rows]

    def store(self, tenant: UUID, chunk_ids: Sequence[int], vectors: NDArray[np.float32]) -> int:
        """How many are new: one that is there stays as it is, and a chunk that went away needs none."""
        space = self._known()
        return self._inserted(tenant, lambda cursor: store_vectors(cursor, space, chunk_ids, vectors))

    def _inserted(self, tenant: UUID, insert: Callable[[Cursor[DictRow]], int]) -> int:
        """How many rows are new. Chunks that are deleted while it runs break it; it does not see them the next time."""
        for _ in range(_DELETED_MEANWHILE):
            with suppress(Conflict), self._database.transaction(tenant) as cursor:
                return insert(cursor)
        raise Busy("database", "documents are deleted faster than their vectors can be stored")

    def _known(self) -> Space:
        if self._itself is None:
            with self._database.transaction(None) as cursor:
                row = cursor.execute(load("spaces")["get"], {"id": self._space}).fetchone()
            if row is None:
                raise NotFound(f"there is no embedding space {self._space}")
            self._itself = Space(**row)
        return self._itself

    def _copying(self, source: int) -> sql.Composed:
        return sql.SQL(_SQL["copy"]).format(
            vectors=sql.Identifier(f"vectors_{self._space:d}"), source=sql.Identifier(f"vectors_{source:d}")
        )

    def close(self) -> None:
        self._database.close()


def embedded_text(row: DictRow) -> str:
    """What the encoder sees of a chunk. Raises RagzeroError when that is not the text that was hashed."""
    seen = embedding_text(row["headings"], row["text"])
    if text_hash(seen) != row["text_hash"]:
        raise RagzeroError(f"chunk {row['id']} does not have the text that was hashed")
    return seen
