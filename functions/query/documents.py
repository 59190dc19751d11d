"""Documents through the API: listed, uploaded into the bucket, deleted from it.

The bucket stays the only source: an upload is an object put there, a delete an object removed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime
from typing import IO, Protocol
from uuid import UUID

from functions.query import paging
from functions.query.writing import Writer
from shared.core.credentials import Principal
from shared.core.errors import InvalidInput, NotFound, RagzeroError
from shared.core.keys import collection_name, key_of
from shared.core.labels import Labels, document_labels
from shared.core.models import Coherence, Document, ObjectState, Status

_MAX_METADATA = 2_048


class Catalog(Protocol):
    async def document(self, tenant: UUID, acl: Labels, id: UUID) -> Document | None: ...
    async def documents(
        self,
        tenant: UUID,
        acl: Labels,
        *,
        limit: int,
        status: str | None = None,
        collection: str | None = None,
        after: tuple[datetime, UUID] | None = None,
    ) -> list[Document]: ...


class Store(Protocol):
    def announce(self, tenant: UUID, bucket: str, key: str, acl: Labels, sees: Labels) -> UUID: ...
    def describe(self, tenant: UUID, document: UUID, known: str, state: ObjectState) -> Coherence: ...
    def withdraw(self, tenant: UUID, document: UUID) -> None: ...
    def tombstone(
        self, tenant: UUID, document: UUID, sequencer: str = "", removed: Mapping[str, int] = ...
    ) -> Coherence: ...


class Objects(Protocol):
    @property
    def name(self) -> str: ...
    def put(self, key: str, body: IO[bytes], *, content_type: str, metadata: Mapping[str, str]) -> None: ...
    def head(self, key: str) -> ObjectState | None: ...
    def describe(self, state: ObjectState, metadata: Mapping[str, str]) -> ObjectState: ...
    def erase(self, key: str) -> int | None: ...


class DocumentService:
    """Every method sees what the caller's labels allow, and nothing else."""

    def __init__(
        self, catalog: Catalog, store: Store, bucket: Objects, default_tenant: UUID | None, writer: Writer
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._bucket = bucket
        self._default_tenant = default_tenant
        self._writer = writer

    async def get(self, who: Principal, id: UUID) -> Document:
        document = await self._catalog.document(who.tenant_id, who.acl, id)
        if document is None:
            raise NotFound("there is no such document")
        return document

    async def list(
        self, who: Principal, *, limit: int, cursor: str | None, status: Status | None, collection: str | None
    ) -> tuple[list[Document], str | None]:
        """A page of documents, newest first, and the cursor of the next page."""
        rows = await self._catalog.documents(
            who.tenant_id,
            who.acl,
            limit=limit + 1,
            status=status,
            collection=None if collection is None else collection_name(collection),
            after=paging.opened(cursor, UUID),
        )
        return paging.page(rows, limit)

    async def upload(
        self, who: Principal, name: str, body: IO[bytes], content_type: str, metadata: Mapping[str, str]
    ) -> tuple[UUID, str]:
        """(document id, key). The document is pending until the bucket's event has been worked on."""
        tenant, described = who.tenant_id, checked_metadata(metadata)
        key, acl = key_of(tenant, name, self._default_tenant), labels_of(described)
        id = await self._writer.run(
            lambda: self._store.announce(tenant, self._bucket.name, key, acl, who.acl)
        )
        try:
            await asyncio.to_thread(
                self._bucket.put, key, body, content_type=content_type, metadata=described
            )
        except RagzeroError:
            await self._writer.run(lambda: self._store.withdraw(tenant, id))
            raise
        return id, key

    async def source(self, who: Principal, id: UUID) -> ObjectState:
        """The object that a document is made from, as it is now."""
        document = await self.get(who, id)
        state = await asyncio.to_thread(self._bucket.head, document.key)
        if state is None or document.status is Status.DELETED:
            raise NotFound("the document's source is not in the bucket")
        return state

    async def describe(
        self, who: Principal, id: UUID, changes: Mapping[str, str | None]
    ) -> tuple[Document, Coherence]:
        """Other metadata, in the bucket and then in the index, without indexing anew; None takes a name away.

        Raises Conflict when the object was replaced meanwhile.
        """
        state = await self.source(who, id)
        if "collection" in changes:
            raise InvalidInput(
                "a document moves to another collection only when it is uploaded anew", field="metadata"
            )
        wanted = {**state.metadata, **changes}
        metadata = checked_metadata({name: value for name, value in wanted.items() if value is not None})
        labels_of(metadata)
        described = await asyncio.to_thread(self._bucket.describe, state, metadata)
        coherence = await self._told(who.tenant_id, id, state.etag, described)
        now = await asyncio.to_thread(self._bucket.head, state.key)
        if now is not None and now.metadata != metadata:  # somebody else's change came after ours
            coherence = await self._told(who.tenant_id, id, described.etag, now)
        return await self._seen(who, id), coherence

    async def _told(self, tenant: UUID, id: UUID, known: str, state: ObjectState) -> Coherence:
        return await self._writer.run(lambda: self._store.describe(tenant, id, known, state))

    async def _seen(self, who: Principal, id: UUID) -> Document:
        """Of a document that its own labels may just have hidden from the caller."""
        document = await self._catalog.document(who.tenant_id, None, id)
        if document is None:
            raise NotFound("there is no such document")
        return document

    async def delete(self, who: Principal, id: UUID) -> Coherence:
        document = await self.get(who, id)
        return await self.remove(who.tenant_id, document.id, document.key)

    async def remove(self, tenant: UUID, id: UUID, key: str) -> Coherence:
        """Invisible at once, then removed from the bucket; only then is it reported as deleted.

        The second tombstone fences off a worker that read the object before it was gone.
        """
        await self._writer.run(lambda: self._store.tombstone(tenant, id))
        older = await asyncio.to_thread(self._bucket.erase, key)
        removed = {"bucket.object": 1} | ({} if older is None else {"bucket.versions": older})
        return await self._writer.run(lambda: self._store.tombstone(tenant, id, removed=removed))


def labels_of(metadata: Mapping[str, str]) -> Labels:
    return document_labels(metadata["acl"]) if "acl" in metadata else None


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
    return as_texts(values) | ({"collection": collection_name(collection)} if collection else {})


def as_texts(metadata: Mapping[str, str | float | bool]) -> dict[str, str]:
    """As the bucket keeps it."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}


def checked_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
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
