"""Collections through the API: listed, made, changed while they are empty, and removed with all that is in them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from functions.query import paging
from functions.query.documents import DocumentService
from functions.query.writing import Writer
from shared.core.chunking import ChunkOptions
from shared.core.credentials import Principal
from shared.core.errors import Forbidden, InvalidInput, NotFound
from shared.core.keys import DEFAULT_COLLECTION, collection_name
from shared.core.labels import Labels
from shared.core.models import Collection

_USUAL = ChunkOptions()
_BATCH = 16
_PATIENCE_S = 20.0


class Catalog(Protocol):
    async def collections(
        self,
        tenant: UUID,
        acl: Labels,
        *,
        limit: int,
        name: str | None = None,
        after: tuple[datetime, int] | None = None,
    ) -> list[Collection]: ...


class Store(Protocol):
    def make(
        self, tenant: UUID, name: str, language: str, chunk_tokens: int | None, overlap_tokens: int | None
    ) -> None: ...
    def change(self, tenant: UUID, name: str, changes: Mapping[str, Any], *, reread: bool) -> None: ...
    def contents(self, tenant: UUID, name: str, limit: int) -> tuple[list[tuple[UUID, str]], int]: ...
    def remove(self, tenant: UUID, name: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Removal:
    """documents went just now, remaining ones are left for the next call. over: the collection itself is gone, too, or
    empty when it is the default one."""

    documents: int
    remaining: int
    over: bool


class CollectionService:
    """most_tokens: the longest chunk that the encoder reads whole."""

    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        documents: DocumentService,
        writer: Writer,
        most_tokens: Callable[[], int],
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._documents = documents
        self._writer = writer
        self._most_tokens = most_tokens

    async def get(self, who: Principal, name: str) -> Collection:
        found = await self._catalog.collections(who.tenant_id, who.acl, limit=1, name=name)
        if not found:
            raise NotFound(f"there is no collection {name!r}")
        return found[0]

    async def list(
        self, who: Principal, *, limit: int, cursor: str | None
    ) -> tuple[list[Collection], str | None]:
        """A page of collections, newest first, and the cursor of the next page."""
        rows = await self._catalog.collections(
            who.tenant_id, who.acl, limit=limit + 1, after=paging.opened(cursor, paging.number)
        )
        return paging.page(rows, limit)

    async def make(
        self, who: Principal, name: str, language: str, chunk_tokens: int | None, overlap_tokens: int | None
    ) -> Collection:
        sizes = self.sizes(chunk_tokens, overlap_tokens)
        await self._writer.run(
            lambda: self._store.make(who.tenant_id, collection_name(name), language, *sizes)
        )
        return await self.get(who, name)

    async def change(self, who: Principal, name: str, changes: Mapping[str, Any]) -> Collection:
        """changes: language, chunk_tokens, overlap_tokens; those not named stay. reread: whether what is in it is to be
        read again, and need not go before."""
        known = await self.get(who, name)
        sizes = self.sizes(
            changes.get("chunk_tokens", known.chunk_tokens),
            changes.get("overlap_tokens", known.overlap_tokens),
        )
        wanted = dict(changes) | dict(zip(("chunk_tokens", "overlap_tokens"), sizes, strict=True))
        reread = bool(wanted.pop("reread", False))
        await self._writer.run(lambda: self._store.change(who.tenant_id, name, wanted, reread=reread))
        return await self.get(who, name)

    async def remove(self, who: Principal, name: str) -> Removal:
        """As much of it as a call may take; calling again goes on. No query sees the documents that went."""
        if who.acl is not None:
            raise Forbidden("this API key does not see every document, so it may not remove a collection")
        await self.get(who, name)
        deadline, gone = time.monotonic() + _PATIENCE_S, 0
        while True:
            batch, there = await self._writer.run(lambda: self._store.contents(who.tenant_id, name, _BATCH))
            if not batch or time.monotonic() > deadline:
                break
            await asyncio.gather(*(self._documents.remove(who.tenant_id, id, key) for id, key in batch))
            gone += len(batch)
        return Removal(gone, there, not there and await self._finished(who.tenant_id, name, deadline))

    async def _finished(self, tenant: UUID, name: str, deadline: float) -> bool:
        if name == DEFAULT_COLLECTION:
            return True
        while not (removed := await self._writer.run(lambda: self._store.remove(tenant, name))):
            if time.monotonic() > deadline:
                break
        return removed

    def sizes(self, chunk_tokens: int | None, overlap_tokens: int | None) -> tuple[int | None, int | None]:
        """Both or none; what is not given follows from what is. Raises InvalidInput."""
        if chunk_tokens is None and overlap_tokens is None:
            return None, None
        size = _USUAL.max_tokens if chunk_tokens is None else chunk_tokens
        overlap = min(_USUAL.overlap_tokens, size // 6) if overlap_tokens is None else overlap_tokens
        most = self._most_tokens()
        if size > most:
            raise InvalidInput(
                f"chunk_tokens is at most {most}, which is what the encoder reads, not {size}",
                field="chunk_tokens",
            )
        if overlap > size // 4:
            raise InvalidInput(
                f"overlap_tokens is at most a quarter of chunk_tokens, {size // 4}, not {overlap}",
                field="overlap_tokens",
            )
        return size, overlap
