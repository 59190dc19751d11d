"""What the API reads about documents, keys and the active space."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.sql import load
from shared.core.credentials import StoredKey
from shared.core.errors import ConfigurationError
from shared.core.keys import uri_of
from shared.core.models import Document, Space, Status

_SQL = load("catalog")


class Catalog:
    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database

    async def space(self) -> Space:
        """The active embedding space. Raises ConfigurationError when none was made yet."""
        async with self._database.transaction(None, read_only=True) as cursor:
            row = await (await cursor.execute(load("documents")["active_space"])).fetchone()
        if row is None:
            raise ConfigurationError("DATABASE_URL", "no embedding space is active; run scripts/migrate")
        return Space(**row)

    async def key(self, id: str) -> StoredKey | None:
        async with self._database.transaction(None, read_only=True, local={"app.key_id": id}) as cursor:
            row = await (await cursor.execute(_SQL["key"], {"id": id})).fetchone()
        return StoredKey(**row | {"scopes": tuple(row["scopes"])}) if row else None

    async def document(self, tenant: UUID, id: UUID) -> Document | None:
        async with self._database.transaction(tenant, read_only=True) as cursor:
            row = await (await cursor.execute(_SQL["document"], {"id": id})).fetchone()
        return _document(row) if row else None

    async def documents(
        self,
        tenant: UUID,
        *,
        limit: int,
        status: str | None = None,
        collection: str | None = None,
        after: tuple[datetime, UUID] | None = None,
    ) -> list[Document]:
        """Newest first, those after the (created_at, id) given."""
        values: dict[str, Any] = {
            "tenant": tenant,
            "limit": limit,
            "status": status,
            "collection": collection,
            "after_at": after[0] if after else None,
            "after_id": after[1] if after else None,
        }
        async with self._database.transaction(tenant, read_only=True) as cursor:
            rows = await (await cursor.execute(_SQL["documents"], values)).fetchall()
        return [_document(row) for row in rows]


def _document(row: DictRow) -> Document:
    return Document(
        id=row["id"],
        bucket=row["bucket"],
        key=row["key"],
        uri=uri_of(row["bucket"], row["key"]),
        collection=row["collection"],
        status=Status(row["status"]),
        reason_code=row["reason_code"],
        reason=row["reason"],
        generation=row["published_generation"] or row["generation"],
        media_type=row["media_type"],
        bytes=row["bytes"],
        pages=row["pages"],
        chunks=row["chunks"],
        timeline=row["timeline"],
        metadata=row["metadata"],
        flags=row["flags"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
