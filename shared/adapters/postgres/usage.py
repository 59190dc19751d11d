"""What tenants used, by day."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from uuid import UUID

from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.sql import load
from shared.core.usage import DayUsage, Usage

_SQL = load("usage")


class UsageStore:
    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database

    async def record(self, tenant: UUID, used: Usage) -> float:
        """Adds to today's usage; US dollars spent this month, that included."""
        async with self._database.transaction(tenant) as cursor:
            row = await (await cursor.execute(_SQL["record"], asdict(used) | {"tenant": tenant})).fetchone()
        assert row is not None
        return float(row["spent"])

    async def spent(self, tenant: UUID) -> float:
        """US dollars, this month."""
        async with self._database.transaction(tenant, read_only=True) as cursor:
            row = await (await cursor.execute(_SQL["spent"], {"tenant": tenant})).fetchone()
        assert row is not None
        return float(row["spent"])

    async def days(self, tenant: UUID, first: date, last: date) -> list[DayUsage]:
        """Days on which something was used, in order."""
        values = {"tenant": tenant, "first": first, "last": last}
        async with self._database.transaction(tenant, read_only=True) as cursor:
            rows = await (await cursor.execute(_SQL["days"], values)).fetchall()
        return [DayUsage(row.pop("day"), Usage(**row)) for row in rows]
