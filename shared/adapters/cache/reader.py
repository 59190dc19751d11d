"""The tenants' epochs as the query function needs them."""

from __future__ import annotations

from uuid import UUID

from shared.adapters.cache import coherence
from shared.adapters.cache.client import Cache
from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.sql import load
from shared.core.errors import Unauthorized

_SQL = load("coherence")


class EpochReader:
    """cache is None where there is no Redis."""

    def __init__(self, cache: Cache | None, database: AsyncDatabase) -> None:
        self._cache = cache
        self._database = database

    async def epoch(self, tenant: UUID) -> int:
        """The committed one."""
        async with self._database.transaction(tenant, read_only=True) as cursor:
            row = await (await cursor.execute(_SQL["committed_epoch"], {"tenant": tenant})).fetchone()
        if row is None:
            raise Unauthorized  # the tenant went away meanwhile
        return int(row["epoch"])

    async def restore(self, tenant: UUID, ticket: str) -> None:
        """Puts the epoch that Redis lacks back there, where that is safe."""
        if self._cache is not None:
            await coherence.restore(self._cache, self._database, tenant, ticket)

    async def drain(self, tenant: UUID) -> None:
        """Redis is behind Postgres: tells it what a publisher could not."""
        if self._cache is not None:
            await coherence.drain(self._cache, self._database, tenant)
