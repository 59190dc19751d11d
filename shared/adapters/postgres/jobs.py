"""Jobs: many documents at once, and how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from psycopg import sql

from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.filters import compiled
from shared.adapters.postgres.sql import load
from shared.core.errors import InvalidInput, NotFound
from shared.core.filters import Filter
from shared.core.jobs import MOST_DOCUMENTS, Failed, Job, Matched
from shared.core.labels import Labels

_SQL = load("jobs")
_SHOWN_FAILED, _SHOWN = 100, 20


class JobStore:
    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database

    async def make(self, tenant: UUID, kind: str, documents: Sequence[UUID]) -> UUID:
        async with self._database.transaction(tenant) as cursor:
            row = await (await cursor.execute(_SQL["make"], {"tenant": tenant, "kind": kind})).fetchone()
            assert row is not None
            values = {"id": row["id"], "tenant": tenant, "documents": list(documents)}
            await cursor.execute(_SQL["add"], values)
        return UUID(str(row["id"]))

    async def add(self, tenant: UUID, id: UUID, documents: Sequence[UUID]) -> None:
        """To a batch of uploads. Raises NotFound, and InvalidInput when it would have too many."""
        async with self._database.transaction(tenant) as cursor:
            await cursor.execute(_SQL["hold"], {"id": id})
            row = await (await cursor.execute(_SQL["taking"], {"id": id, "kind": "upload"})).fetchone()
            if row is None:
                raise NotFound("there is no such batch of uploads")
            if row["documents"] + len(documents) > MOST_DOCUMENTS:
                raise InvalidInput(f"a job has up to {MOST_DOCUMENTS} documents", field="job_id")
            values = {"id": id, "tenant": tenant, "documents": list(documents)}
            await cursor.execute(_SQL["add"], values)

    async def get(self, tenant: UUID, acl: Labels, id: UUID) -> Job | None:
        """With the documents that acl may see."""
        values = {"id": id, "limit": _SHOWN_FAILED}
        async with self._database.transaction(tenant, acl=acl, read_only=True) as cursor:
            row = await (await cursor.execute(_SQL["get"], values)).fetchone()
            if row is None:
                return None
            counts = await (await cursor.execute(_SQL["counts"], values)).fetchall()
            failed = await (await cursor.execute(_SQL["failed"], values)).fetchall()
        known = {one["status"]: one["documents"] for one in counts}
        return Job(**row, counts=known, failed=[Failed(**one) for one in failed])

    async def todo(self, tenant: UUID, acl: Labels, id: UUID, limit: int) -> list[tuple[UUID, str]]:
        """(id, key) of documents it is not through with."""
        async with self._database.transaction(tenant, acl=acl, read_only=True) as cursor:
            rows = await (await cursor.execute(_SQL["todo"], {"id": id, "limit": limit})).fetchall()
        return [(row["id"], row["key"]) for row in rows]

    async def done(self, tenant: UUID, id: UUID, documents: Sequence[UUID]) -> None:
        async with self._database.transaction(tenant) as cursor:
            await cursor.execute(_SQL["done"], {"id": id, "documents": list(documents)})

    async def matching(self, tenant: UUID, acl: Labels, tree: Filter, collection: str | None) -> Matched:
        """Raises InvalidInput on a filter about parts of documents."""
        condition = compiled(tree)
        if condition.about_chunks:
            raise InvalidInput(
                "documents are deleted as a whole: the filter cannot ask for a page", field="filter"
            )
        statement = sql.SQL(_SQL["matching"]).format(condition=condition.document)
        values = condition.parameters | {"tenant": tenant, "collection": collection, "limit": MOST_DOCUMENTS}
        async with self._database.transaction(tenant, acl=acl, read_only=True) as cursor:
            rows = await (await cursor.execute(statement, values)).fetchall()
        total = rows[0]["matched"] if rows else 0
        return Matched(total, [row["id"] for row in rows], [row["uri"] for row in rows[:_SHOWN]])
