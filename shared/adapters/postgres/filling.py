"""What a space lacks of the index, and where its vectors go; as the embedding job, which sees whose documents there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

from pgvector import HalfVector

from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.documents import vectors_statement
from shared.adapters.postgres.embed_work import embedded_text
from shared.adapters.postgres.sql import load
from shared.core.errors import Busy, Conflict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SQL, _DOCUMENTS_SQL = load("filling"), load("documents")
_JOB = {"app.embed_job": "on"}
_MOST = 2**31
_DELETED_MEANWHILE = 10


class FillStore:
    """Of one space."""

    def __init__(self, database: Database, space: int) -> None:
        self._database = database
        self._space = space

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
        """How many of their chunks have a vector now because another chunk has the same text."""
        return self._insert(tenant, _SQL["reuse"], {"tenant": tenant, "documents": list(documents)})

    def lacking(self, tenant: UUID, documents: Sequence[UUID], limit: int) -> list[tuple[int, str]]:
        """(chunk id, embedding text) of their first chunks without a vector."""
        values = {"documents": list(documents), "limit": limit}
        with self._database.transaction(tenant) as cursor:
            rows = cursor.execute(vectors_statement(_SQL["lacking"], self._space), values).fetchall()
        return [(row["id"], embedded_text(row)) for row in rows]

    def store(self, tenant: UUID, chunk_ids: Sequence[int], vectors: NDArray[np.float32]) -> int:
        """How many are new: one that is there stays as it is, and a chunk that went away needs none."""
        values = {"chunk_ids": list(chunk_ids), "embeddings": [HalfVector(vector) for vector in vectors]}
        return self._insert(tenant, _DOCUMENTS_SQL["store_vectors"], values)

    def _insert(self, tenant: UUID, statement: LiteralString, values: Mapping[str, Any]) -> int:
        """How many rows are new. Chunks that are deleted while it runs break it; it does not see them the next time."""
        bound = vectors_statement(statement, self._space)
        for _ in range(_DELETED_MEANWHILE):
            with suppress(Conflict), self._database.transaction(tenant) as cursor:
                return cursor.execute(bound, values, binary=True).rowcount
        raise Busy("database", "documents are deleted faster than their vectors can be stored")

    def close(self) -> None:
        self._database.close()
