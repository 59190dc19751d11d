"""What was answered to requests that may be sent twice."""

from __future__ import annotations

from uuid import UUID

from psycopg.types.json import Jsonb

from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.sql import load
from shared.core.models import Answered, Earlier

_SQL = load("idempotency")


class IdempotencyStore:
    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database

    async def begin(self, tenant: UUID, key: str, fingerprint: bytes, lease_s: float) -> Earlier | None:
        """None when the request is ours to answer; otherwise what is known of the one that came first."""
        values = {"tenant": tenant, "key": key, "fingerprint": fingerprint, "lease": lease_s}
        async with self._database.transaction(tenant) as cursor:
            if await (await cursor.execute(_SQL["begin"], values)).fetchone():
                return None
            row = await (await cursor.execute(_SQL["known"], values)).fetchone()
        if row is None:  # forgotten between the two statements
            return await self.begin(tenant, key, fingerprint, lease_s)
        answered = None
        if row["status"] is not None:
            headers = [(str(name), str(value)) for name, value in row["headers"]]
            answered = Answered(row["status"], headers, row["body"])
        return Earlier(row["fingerprint"], answered)

    async def finish(self, tenant: UUID, key: str, answered: Answered) -> None:
        values = {
            "tenant": tenant,
            "key": key,
            "status": answered.status,
            "headers": Jsonb(answered.headers),
            "body": answered.body,
        }
        async with self._database.transaction(tenant) as cursor:
            await cursor.execute(_SQL["finish"], values)

    async def forget(self, tenant: UUID, key: str) -> None:
        """The request had no effect that is worth keeping: it may be sent again."""
        async with self._database.transaction(tenant) as cursor:
            await cursor.execute(_SQL["forget"], {"tenant": tenant, "key": key})
