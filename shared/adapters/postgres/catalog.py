"""What the API reads about documents, keys and the active space."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import DictRow

from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.sql import load
from shared.adapters.postgres.tenants import with_limits
from shared.core.credentials import Principal, StoredKey
from shared.core.errors import ConfigurationError, NotFound
from shared.core.keys import uri_of
from shared.core.labels import Labels
from shared.core.models import Collection, Document, Space, Status

_SQL = load("catalog")
_USED_S = 60.0
_MOST_USED = 10_000


class Catalog:
    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database
        self._used: dict[str, float] = {}

    async def space(self, id: int | None = None) -> Space:
        """That one, else the active one. Raises NotFound; ConfigurationError when none was made yet."""
        statement = load("documents")["active_space"] if id is None else load("spaces")["get"]
        async with self._database.transaction(None, read_only=True) as cursor:
            row = await (await cursor.execute(statement, {"id": id})).fetchone()
        if row is None and id is not None:
            raise NotFound(f"there is no embedding space {id}")
        if row is None:
            raise ConfigurationError("DATABASE_URL", "no embedding space is active; run scripts/migrate")
        return Space(**row)

    async def key_at(self, id: str) -> tuple[StoredKey, int] | None:
        """A key, and its tenant's epoch in the same snapshot."""
        async with self._database.transaction(None, read_only=True, local={"app.key_id": id}) as cursor:
            row = await (await cursor.execute(_SQL["key"], {"id": id})).fetchone()
        return _key(row) if row else None

    async def used(self, who: Principal) -> None:
        """Notes that a key is in use, at most once a minute; for requests that talk to the database anyway."""
        now = time.monotonic()
        if now - self._used.get(who.key_id, -_USED_S) < _USED_S:
            return
        if len(self._used) >= _MOST_USED:
            self._used.clear()
        self._used[who.key_id] = now
        async with self._database.transaction(who.tenant_id, local={"app.key_id": who.key_id}) as cursor:
            await cursor.execute(_SQL["used"], {"id": who.key_id, "seconds": _USED_S})

    async def document(self, tenant: UUID, acl: Labels, id: UUID) -> Document | None:
        async with self._database.transaction(tenant, acl=acl, read_only=True) as cursor:
            row = await (await cursor.execute(_SQL["document"], {"id": id})).fetchone()
        return _document(row) if row else None

    async def documents(
        self,
        tenant: UUID,
        acl: Labels,
        *,
        limit: int,
        status: str | None = None,
        collection: str | None = None,
        after: tuple[datetime, UUID] | None = None,
    ) -> list[Document]:
        """Those that acl may see, newest first, after the (created_at, id) given."""
        values: dict[str, Any] = {
            "tenant": tenant,
            "limit": limit,
            "status": status,
            "collection": collection,
            "after_at": after[0] if after else None,
            "after_id": after[1] if after else None,
        }
        async with self._database.transaction(tenant, acl=acl, read_only=True) as cursor:
            rows = await (await cursor.execute(_SQL["documents"], values)).fetchall()
        return [_document(row) for row in rows]

    async def collections(
        self,
        tenant: UUID,
        acl: Labels,
        *,
        limit: int,
        name: str | None = None,
        after: tuple[datetime, int] | None = None,
    ) -> list[Collection]:
        """One or all, newest first, after the (created_at, id) given; counting what acl may see."""
        values: dict[str, Any] = {
            "tenant": tenant,
            "limit": limit,
            "name": name,
            "after_at": after[0] if after else None,
            "after_id": after[1] if after else None,
        }
        async with self._database.transaction(tenant, acl=acl, read_only=True) as cursor:
            rows = await (await cursor.execute(_SQL["collections"], values)).fetchall()
        return [Collection(**row) for row in rows]


def _key(row: DictRow) -> tuple[StoredKey, int]:
    known = with_limits(row)
    epoch = known.pop("epoch")
    acl = None if known["acl"] is None else tuple(known["acl"])
    return StoredKey(**known | {"scopes": tuple(known["scopes"]), "acl": acl}), epoch


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
        acl=row["acl"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
