"""Documents through the API: listed, uploaded into the bucket, deleted from it.

The bucket stays the only source: an upload is an object put there, a delete an object removed.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import IO, Protocol, TypeVar
from uuid import UUID

from shared.core.errors import InvalidInput, NotFound, RagzeroError
from shared.core.keys import collection_name, key_of
from shared.core.models import Document, Status

_Result = TypeVar("_Result")
_MAX_METADATA = 2_048


class Catalog(Protocol):
    async def document(self, tenant: UUID, id: UUID) -> Document | None: ...
    async def documents(
        self,
        tenant: UUID,
        *,
        limit: int,
        status: str | None = None,
        collection: str | None = None,
        after: tuple[datetime, UUID] | None = None,
    ) -> list[Document]: ...


class Store(Protocol):
    def announce(self, tenant: UUID, bucket: str, key: str) -> UUID: ...
    def withdraw(self, tenant: UUID, document: UUID) -> None: ...
    def tombstone(self, tenant: UUID, document: UUID, sequencer: str = "") -> None: ...


class Objects(Protocol):
    @property
    def name(self) -> str: ...
    def put(self, key: str, body: IO[bytes], *, content_type: str, metadata: Mapping[str, str]) -> None: ...
    def delete(self, key: str) -> None: ...


class DocumentService:
    def __init__(self, catalog: Catalog, store: Store, bucket: Objects, default_tenant: UUID | None) -> None:
        self._catalog = catalog
        self._store = store
        self._bucket = bucket
        self._default_tenant = default_tenant
        # the store has one connection, so its writes take turns
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer")

    async def get(self, tenant: UUID, id: UUID) -> Document:
        document = await self._catalog.document(tenant, id)
        if document is None:
            raise NotFound("there is no such document")
        return document

    async def list(
        self, tenant: UUID, *, limit: int, cursor: str | None, status: Status | None, collection: str | None
    ) -> tuple[list[Document], str | None]:
        """A page of documents, newest first, and the cursor of the next page."""
        after = _opened(cursor) if cursor else None
        rows = await self._catalog.documents(
            tenant, limit=limit + 1, status=status, collection=collection, after=after
        )
        more = len(rows) > limit
        return rows[:limit], _cursor(rows[limit - 1]) if more else None

    async def upload(
        self, tenant: UUID, name: str, body: IO[bytes], content_type: str, metadata: Mapping[str, str]
    ) -> tuple[UUID, str]:
        """(document id, key). The document is pending until the bucket's event has been worked on."""
        key, described = key_of(tenant, name, self._default_tenant), _checked(metadata)
        id = await self._write(lambda: self._store.announce(tenant, self._bucket.name, key))
        try:
            await asyncio.to_thread(
                self._bucket.put, key, body, content_type=content_type, metadata=described
            )
        except RagzeroError:
            await self._write(lambda: self._store.withdraw(tenant, id))
            raise
        return id, key

    async def delete(self, tenant: UUID, id: UUID) -> Document:
        """Invisible at once, then removed from the bucket; only then is it reported as deleted.

        The second tombstone fences off a worker that read the object before it was gone.
        """
        document = await self.get(tenant, id)
        await self._write(lambda: self._store.tombstone(tenant, id))
        await asyncio.to_thread(self._bucket.delete, document.key)
        await self._write(lambda: self._store.tombstone(tenant, id))
        return document

    async def _write(self, write: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._writer, write)


def parse_metadata(raw: str | None, collection: str | None) -> dict[str, str]:
    """The upload's metadata field, a flat JSON object, with the collection among it."""
    try:
        values = json.loads(raw) if raw else {}
    except (ValueError, RecursionError) as error:
        raise InvalidInput("metadata is a JSON object", field="metadata") from error
    if not isinstance(values, dict) or not all(
        isinstance(v, str | int | float | bool) for v in values.values()
    ):
        raise InvalidInput("metadata is a flat JSON object of texts, numbers and booleans", field="metadata")
    found = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    return found | ({"collection": collection_name(collection)} if collection else {})


def _checked(metadata: Mapping[str, str]) -> dict[str, str]:
    for name, value in metadata.items():
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum() or name != name.lower():
            raise InvalidInput(
                f"a metadata name has only a-z, 0-9, - and _, not {name[:80]!r}", field="metadata"
            )
        if any(ord(character) < 32 for character in value):
            raise InvalidInput(f"the metadata {name!r} contains control characters", field="metadata")
    size = sum(len(name) + len(value.encode()) for name, value in metadata.items())
    if size > _MAX_METADATA:
        raise InvalidInput(f"metadata has up to {_MAX_METADATA} bytes, not {size}", field="metadata")
    return dict(metadata)


def _cursor(document: Document) -> str:
    return base64.urlsafe_b64encode(f"{document.created_at.isoformat()} {document.id}".encode()).decode()


def _opened(cursor: str) -> tuple[datetime, UUID]:
    try:
        moment, _, id = base64.urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        return datetime.fromisoformat(moment), UUID(id)
    except ValueError as error:
        raise InvalidInput("the cursor is not one this API gave out", field="cursor") from error
