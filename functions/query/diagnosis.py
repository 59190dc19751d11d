"""Why a document is not searchable, from everything that is known of it, and what helps."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from functions.query.index_schemas import (
    Code,
    EmbeddingFacts,
    EventFacts,
    FailureFacts,
    GenerationFacts,
    LeaseFacts,
    ObjectFacts,
    Remedy,
    Requeued,
    SweepFacts,
    Why,
)
from shared.core.credentials import Principal
from shared.core.errors import InvalidInput, NotFound
from shared.core.hints import Hint, message, next_sequencer
from shared.core.keys import tenant_of
from shared.core.labels import Labels
from shared.core.models import ObjectState

_ORIGIN = "Requeue"
_UNKNOWN = "neither the bucket nor the index has such a document"
Row = Mapping[str, Any]
Verdict = tuple[Code, str, Remedy | None]


class Store(Protocol):
    async def document(
        self, tenant: UUID, acl: Labels, *, id: UUID | None = None, key: str | None = None
    ) -> Row | None: ...
    async def embedding(self, tenant: UUID, document: UUID) -> Row: ...
    async def throughput(self, tenant: UUID) -> float | None: ...
    async def rework(self, tenant: UUID, document: UUID) -> None: ...


class Objects(Protocol):
    @property
    def name(self) -> str: ...
    def head(self, key: str) -> ObjectState | None: ...


class Ingest(Protocol):
    def send(self, bodies: Sequence[str]) -> None: ...


class DiagnosisService:
    """ingest is None where the queue is not known: then nothing can be requeued."""

    def __init__(
        self, store: Store, bucket: Objects, ingest: Ingest | None, default_tenant: UUID | None
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._ingest = ingest
        self._default_tenant = default_tenant

    async def why(
        self, who: Principal, *, key: str | None, id: UUID | None, labels: Sequence[str] | None = None
    ) -> Why:
        """labels: those of the key that does not see the document. Raises NotFound."""
        found, key, state = await self._known(who, key, id)
        embedding = await self._embedding(who.tenant_id, found) if found and found["waiting"] else None
        code, explanation, remedy = _verdict(found, state, embedding, labels)
        return Why(
            key=key,
            document_id=found["id"] if found else None,
            searchable=bool(found and found["published_generation"]),
            code=code,
            explanation=explanation,
            remedy=remedy,
            object=_object(found, state),
            embedding=embedding,
            **_facts(found),
        )

    async def requeue(self, who: Principal, *, key: str | None, id: UUID | None) -> Requeued:
        """Has ingest look at the object, and work on it as if it were new. Raises NotFound."""
        if self._ingest is None:
            raise NotFound("RAGZERO_QUEUE_URL is not set: the queue of ingest is not known here")
        found, key, _ = await self._known(who, key, id)
        if found:
            await self._store.rework(who.tenant_id, found["id"])
        hint = Hint(self._bucket.name, key, next_sequencer(found["done_sequencer"] if found else ""))
        await asyncio.to_thread(self._ingest.send, [message(hint, _ORIGIN)])
        return Requeued(key=key, document_id=found["id"] if found else None)

    async def _known(
        self, who: Principal, key: str | None, id: UUID | None
    ) -> tuple[Row | None, str, ObjectState | None]:
        """The document, its key, and the object. One that the caller may not see is one that is not there."""
        found = await self._store.document(who.tenant_id, who.acl, id=id, key=key)
        key = found["key"] if found else key
        if key is None or (not found and (who.acl is not None or not self._owns(who, key))):
            raise NotFound(_UNKNOWN)
        state = await asyncio.to_thread(self._bucket.head, key)
        if found is None and state is None:
            raise NotFound(_UNKNOWN)
        return found, key, state

    def _owns(self, who: Principal, key: str) -> bool:
        try:
            return tenant_of(key, self._default_tenant) == who.tenant_id
        except InvalidInput:
            return False

    async def _embedding(self, tenant: UUID, found: Row) -> EmbeddingFacts:
        work = await self._store.embedding(tenant, found["id"])
        pace = await self._store.throughput(tenant)
        left = work["chunks_ahead"] + work["chunks"]
        eta = round(left / pace, 1) if pace else None
        return EmbeddingFacts(waiting_since=found["waiting_since"], eta_s=eta, **work)


def _verdict(
    found: Row | None,
    state: ObjectState | None,
    embedding: EmbeddingFacts | None,
    labels: Sequence[str] | None,
) -> Verdict:
    """The first thing that stands in the way."""
    if found is None or (found["status"] == "deleted" and state is not None):
        return (
            "event_not_seen",
            "The object is in the bucket, but no event about it has arrived. The next sweep finds it.",
            "requeue",
        )
    if found["finding"] == "gone" and found["held_by"] is not None and state is None:
        sweep = found["held_by"]
        return (
            "deletion_held_back",
            f"The object is gone from the bucket, with so many others that sweep {sweep} waits for a confirmation.",
            "confirm_deletes",
        )
    if found["leased"]:
        until = found["lease_until"].isoformat(timespec="seconds")
        return "in_progress", f"A worker has it, until {until} at the latest unless it asks for more.", "wait"
    if embedding is not None:
        return "waiting_for_embedding", _waits(embedding), "wait"
    return _settled(found, state, labels)


def _settled(found: Row, state: ObjectState | None, labels: Sequence[str] | None) -> Verdict:
    status = found["status"]
    if status == "deleted":
        return "deleted", "It was deleted, and the bucket has no such object.", "replace"
    if status in ("pending", "processing"):
        return (
            "queued",
            "Its event waits in the queue, or whoever worked on it ended; a sweep takes it over then.",
            "requeue",
        )
    if state is None:
        return (
            "gone_from_bucket",
            "The bucket has no such object any more; the next sweep deletes it.",
            "requeue",
        )
    if not _is_of(found, state):
        return "outdated", "The bucket has another version, of which no event has arrived.", "requeue"
    if status == "failed":
        return "failed", f"This file cannot be made searchable: {found['reason']}", "replace"
    if labels is not None and found["acl"] is not None and not set(labels) & set(found["acl"]):
        shown = ", ".join(found["acl"]) or "none yet"
        return "hidden_by_labels", f"Only keys with one of its labels see it: {shown}.", "other_key"
    return "searchable", "Queries find it.", None


def _waits(embedding: EmbeddingFacts) -> str:
    if embedding.in_hand:
        return f"The embedding job works on its last {embedding.chunks} chunks."
    ahead = f"{embedding.documents_ahead} documents with {embedding.chunks_ahead} chunks are before it"
    return f"{embedding.chunks} chunks wait for the embedding job; {ahead}."


def _facts(found: Row | None) -> dict[str, Any]:
    if found is None:
        event = EventFacts(seen=False, outstanding=False, seen_sequencer=None, done_sequencer=None)
        return {"event": event}
    seen, done = found["seen_sequencer"], found["done_sequencer"]
    finding = {name: found[name] for name in ("finding", "seen_at", "hints", "hinted_at", "held_by")}
    return {
        "event": EventFacts(
            seen=seen != "", outstanding=seen > done, seen_sequencer=seen or None, done_sequencer=done or None
        ),
        "lease": LeaseFacts(
            held=found["leased"],
            until=found["lease_until"] if found["leased"] else None,
            attempts=found["attempt"],
        ),
        "generation": GenerationFacts(published=found["published_generation"], newest=found["generation"]),
        "failure": FailureFacts(code=found["reason_code"], reason=found["reason"] or "")
        if found["reason_code"]
        else None,
        "labels": found["acl"],
        "sweep": SweepFacts(**finding) if found["finding"] else None,
    }


def _object(found: Row | None, state: ObjectState | None) -> ObjectFacts | None:
    if state is None:
        return None
    indexed = found is not None and _is_of(found, state)
    return ObjectFacts(bytes=state.bytes, last_modified=state.last_modified, indexed=indexed)


def _is_of(found: Row, state: ObjectState) -> bool:
    """Whether this version of the object is the one that was worked on; in a bucket without versions, these bytes."""
    return (found["current_etag"], found["current_version"]) == (state.etag, state.version_id)
