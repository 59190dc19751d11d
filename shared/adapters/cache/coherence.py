"""How readers keep the epoch in Redis true. shared/adapters/cache/README.md tells the whole protocol."""

from __future__ import annotations

from uuid import UUID

from shared.adapters.cache.client import Cache
from shared.adapters.cache.epochs import names_of
from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.sql import load

_SQL = load("coherence")


async def restore(cache: Cache, database: AsyncDatabase, tenant: UUID, ticket: str) -> int | None:
    """Puts the tenant's epoch back into Redis, which gave this ticket because it had none.

    The epoch, or None when it is left to the next reader: somebody is publishing right now, or the ticket is void.
    The order is what makes it safe: ticket, then Postgres, then Redis.
    """
    async with database.transaction(tenant) as cursor:
        row = await (await cursor.execute(_SQL["settled_epoch"], {"tenant": tenant})).fetchone()
    if row is None:
        return None
    epoch = int(row["epoch"])
    restored = await cache.run("restore_epoch", names_of(tenant), [ticket, epoch, cache.lease_s])
    return epoch if restored == 1 else None


async def drain(cache: Cache, database: AsyncDatabase, tenant: UUID) -> None:
    """Tells Redis what some publisher could not; for when Postgres is found at a higher epoch than Redis."""
    values = {"tenant": tenant}
    async with database.transaction(tenant, read_only=True) as cursor:
        row = await (await cursor.execute(_SQL["committed_epoch"], values)).fetchone()
    if row is None:
        return
    await cache.run("raise_epoch", names_of(tenant), [row["epoch"]])
    if row["untold"]:
        async with database.transaction(tenant) as cursor:
            await cursor.execute(_SQL["told"], values | {"epoch": row["epoch"]})
