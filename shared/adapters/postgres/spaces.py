"""Embedding spaces, and the change from one to another, as operators see them over the API."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.generations import vectors_statement
from shared.adapters.postgres.sql import load
from shared.core.errors import Conflict
from shared.core.models import KnownSpace
from shared.core.planning import Size

_SQL = load("spaces")
_OPERATOR = {"app.operator": "on"}
_MOST = 2**31
Row = dict[str, Any]


class SpaceStore:
    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database

    async def listed(self) -> list[KnownSpace]:
        async with self._database.transaction(None, read_only=True) as cursor:
            return [KnownSpace(**row) for row in await (await cursor.execute(_SQL["list"])).fetchall()]

    async def lacking(self, id: int, most: int = _MOST) -> int:
        """Chunks that queries see, or are about to, without a vector in that space; counting ends at most."""
        async with self._database.transaction(None, acl=None, local=_OPERATOR) as cursor:
            row = await (await cursor.execute(_SQL["lacking"], {"id": id, "most": most})).fetchone()
        return int(row["chunks"]) if row else 0

    async def change(
        self, kind: str, id: int, *, by: str, evidence: list[dict[str, Any]], forced_because: str | None
    ) -> Row:
        """Makes that space the active one, at once for everybody: what was done.

        Publishers wait meanwhile, and then find that theirs is not the active one any more. Raises Conflict when the
        space is not complete.
        """
        async with self._database.transaction(None, acl=None, local=_OPERATOR) as cursor:
            await cursor.execute(_SQL["alone"])
            lacking = await (await cursor.execute(_SQL["lacking"], {"id": id, "most": _MOST})).fetchone()
            if lacking and lacking["chunks"]:
                raise Conflict(
                    f"space {id} lacks the vectors of {lacking['chunks']} chunks; scripts/rag index apply makes them"
                )
            old = await (await cursor.execute(_SQL["retire"])).fetchone()
            new = await (await cursor.execute(_SQL["activate"], {"id": id})).fetchone()
            if old is None or new is None:
                raise Conflict(f"space {id} is not built yet; scripts/rag index apply builds it")
            values = {
                "kind": kind,
                "from_space": old["id"],
                "from_name": old["name"],
                "to_space": new["id"],
                "to_name": new["name"],
                "evidence": Jsonb(evidence),
                "forced_because": forced_because,
                "changed_by": by,
            }
            row = await (await cursor.execute(_SQL["record"], values)).fetchone()
        assert row is not None
        return row

    async def changes(self, limit: int) -> list[Row]:
        """Newest first."""
        async with self._database.transaction(None, read_only=True, local=_OPERATOR) as cursor:
            return await (await cursor.execute(_SQL["changes"], {"limit": limit})).fetchall()

    async def size(self, space: int) -> Size:
        """Of what all tenants have; known: texts with a vector in that space."""
        total = Size()
        for tenant in await self._tenants():
            total += await self.size_of(space, tenant)
        return total

    async def size_of(self, space: int, tenant: UUID, collection: str | None = None) -> Size:
        """Of what one tenant has, or one collection of it."""
        statement, values = (
            vectors_statement(_SQL["size"], space),
            {"tenant": tenant, "collection": collection},
        )
        async with self._database.transaction(tenant, acl=None, read_only=True) as cursor:
            row = await (await cursor.execute(statement, values)).fetchone()
        return Size(row["documents"], row["chunks"], row["texts"], row["known"]) if row else Size()

    async def _tenants(self) -> list[UUID]:
        async with self._database.transaction(None, read_only=True, local=_OPERATOR) as cursor:
            return [row["id"] for row in await (await cursor.execute(_SQL["tenants"])).fetchall()]
