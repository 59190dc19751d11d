"""Many documents at once: how far a batch of uploads is, and deletes by a filter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from functions.query.documents import DocumentService
from shared.core.credentials import Principal
from shared.core.errors import Conflict, InvalidInput, NotFound
from shared.core.filters import Filter, parse
from shared.core.jobs import Job, Matched
from shared.core.keys import collection_name
from shared.core.labels import Labels

_BATCH = 16
_PATIENCE_S = 20.0


class Store(Protocol):
    async def make(self, tenant: UUID, kind: str, documents: Sequence[UUID]) -> UUID: ...
    async def get(self, tenant: UUID, acl: Labels, id: UUID) -> Job | None: ...
    async def todo(self, tenant: UUID, acl: Labels, id: UUID, limit: int) -> list[tuple[UUID, str]]: ...
    async def done(self, tenant: UUID, id: UUID, documents: Sequence[UUID]) -> None: ...
    async def matching(self, tenant: UUID, acl: Labels, tree: Filter, collection: str | None) -> Matched: ...


@dataclass(frozen=True, slots=True)
class BulkDelete:
    """job is None for a dry run, and when nothing matches."""

    matched: Matched
    job: Job | None


class JobService:
    def __init__(self, store: Store, documents: DocumentService) -> None:
        self._store = store
        self._documents = documents

    async def get(self, who: Principal, id: UUID) -> Job:
        job = await self._store.get(who.tenant_id, who.acl, id)
        if job is None:
            raise NotFound("there is no such job")
        return job

    async def delete(
        self, who: Principal, filter: Mapping[str, Any], collection: str | None, *, dry_run: bool
    ) -> BulkDelete:
        """As much of it as a call may take; the job is resumed for the rest."""
        within = None if collection is None else collection_name(collection)
        if not filter:
            raise InvalidInput("the filter needs at least one condition", field="filter")
        matched = await self._store.matching(who.tenant_id, who.acl, parse(filter), within)
        if dry_run or not matched.ids:
            return BulkDelete(matched, None)
        id = await self._store.make(who.tenant_id, "delete", matched.ids)
        return BulkDelete(matched, await self.resume(who, id))

    async def resume(self, who: Principal, id: UUID) -> Job:
        """No query sees the documents it is through with. Raises Conflict for a job that goes on by itself."""
        if (await self.get(who, id)).kind != "delete":
            raise Conflict("only a delete is resumed; uploads go on as their files arrive")
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            batch = await self._store.todo(who.tenant_id, who.acl, id, _BATCH)
            if not batch:
                break
            await asyncio.gather(*(self._documents.remove(who.tenant_id, *one) for one in batch))
            await self._store.done(who.tenant_id, id, [document for document, _ in batch])
        return await self.get(who, id)
