"""Answers that can be asked for again, and how long models take to wake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.sql import load
from shared.core.labels import Labels
from shared.core.models import StoredAnswer

_SQL = load("answers")


class AnswerStore:
    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database

    async def begin(self, tenant: UUID, id: UUID, request: Mapping[str, Any], lease_s: float) -> None:
        """request's acl are the labels that whoever asks may see; without them, the answer is for keys that see all."""
        values = {"id": id, "tenant": tenant, "request": Jsonb(request), "acl": request.get("acl")}
        await self._write(tenant, "begin", values | {"lease": lease_s})

    async def finish(
        self,
        tenant: UUID,
        id: UUID,
        body: Mapping[str, Any],
        sources: Sequence[tuple[UUID, int]],
        *,
        failed: bool = False,
    ) -> None:
        """Keeps the answer. sources: the documents it was made from, and their generations."""
        values = {
            "id": id,
            "tenant": tenant,
            "status": "failed" if failed else "done",
            "body": Jsonb(body),
            "documents": [document for document, _ in sources],
            "generations": [generation for _, generation in sources],
        }
        async with self._database.transaction(tenant) as cursor:
            await cursor.execute(_SQL["sources"], values)
            await cursor.execute(_SQL["finish"], values)

    async def release(self, tenant: UUID, id: UUID) -> None:
        await self._write(tenant, "release", {"id": id})

    async def resume(self, tenant: UUID, acl: Labels, id: UUID, lease_s: float) -> Mapping[str, Any] | None:
        """The request of an answer nobody writes any more; it is the caller's to write now."""
        async with self._database.transaction(tenant, acl=acl) as cursor:
            row = await (await cursor.execute(_SQL["resume"], {"id": id, "lease": lease_s})).fetchone()
        return row["request"] if row else None

    async def get(self, tenant: UUID, acl: Labels, id: UUID) -> StoredAnswer | None:
        """An answer made from nothing but what acl may see, too."""
        async with self._database.transaction(tenant, acl=acl, read_only=True) as cursor:
            row = await (await cursor.execute(_SQL["get"], {"id": id})).fetchone()
        return StoredAnswer(row["status"], row["body"], row["current"]) if row else None

    async def woke(self, model: str, waited_s: float) -> None:
        await self._write(None, "woke", {"model": model, "waited_s": waited_s})

    async def eta_s(self, model: str) -> float | None:
        """The median of the last ten wake-ups of that model; None before the first."""
        async with self._database.transaction(None, read_only=True) as cursor:
            row = await (await cursor.execute(_SQL["eta"], {"model": model})).fetchone()
        return row["seconds"] if row else None

    async def _write(self, tenant: UUID | None, name: str, values: Mapping[str, Any]) -> None:
        async with self._database.transaction(tenant) as cursor:
            await cursor.execute(_SQL[name], values)
