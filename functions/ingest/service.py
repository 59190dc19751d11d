"""The life of a document, from a hint that something happened to a key to a published generation or a tombstone.

    observe and claim, with others of its batch -> get the object -> parse -> chunk -> finish, with others of its batch -> clean up

A hint never says what to do; the object's current state does. No transaction is open while a parser, the
encoder or the bucket is at work.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from functions.ingest import claiming, finishing
from functions.ingest.batch import Batch
from functions.ingest.claiming import Claimed, Claimer
from functions.ingest.cutting import Cut
from functions.ingest.editions import EditionMaker, Object, Objects
from functions.ingest.events import Hint
from functions.ingest.finishing import Finisher, Parsed
from functions.ingest.following import Follower, Stored
from shared.core.chunking import CHUNKER_VERSION, ChunkOptions, chunk
from shared.core.errors import (
    InvalidInput,
    RagzeroError,
    SpaceMismatch,
    UnreadableDocument,
)
from shared.core.keys import DEFAULT_COLLECTION, collection_name, document_metadata
from shared.core.labels import document_labels
from shared.core.models import (
    Claim,
    Collection,
    Draft,
    ObjectState,
    ParsedDocument,
    Space,
    Version,
)
from shared.core.ports import Embedder
from shared.telemetry import checkpoint, get_logger, metrics

_log = get_logger(__name__)
_DELIVERY_S, _REMINDED_S = 5.0, 30.0


class Store(claiming.Store, finishing.Store, Protocol):
    def space(self, *, fresh: bool = False) -> Space: ...
    def settle(self, claim: Claim, sequencer: str) -> None: ...
    def collection(self, tenant: UUID, name: str) -> Collection: ...
    def touch(self, claim: Claim, version: Version) -> None: ...
    def fail(self, claim: Claim, version: Version, code: str, reason: str) -> None: ...
    def tombstone(self, tenant: UUID, document: UUID, sequencer: str = "") -> object: ...
    def drain_outbox(self, tenant: UUID) -> None: ...
    def close(self) -> None: ...


class Bucket(claiming.Bucket, Objects, Protocol): ...


class EmbeddingJob(Protocol):
    def wake(self, backlog: int) -> None: ...


class Courier(Protocol):
    def deliver(self, seconds: float, *, fresh: bool = False) -> object: ...
    def expect(self) -> None: ...


class Parsers(Protocol):
    def parse(self, data: bytes, *, name: str) -> ParsedDocument: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    lease_seconds: float = 120
    max_object_bytes: int = 100 * 2**20
    cpu_lane_chunks: int = 64


class IngestService:
    """embedders: by the fingerprint of their space; during a change of models, those of both."""

    def __init__(
        self,
        *,
        store: Store,
        bucket: Bucket,
        parsers: Parsers,
        parser_version: str,
        embedders: Mapping[str, Embedder],
        editions: EditionMaker,
        follower: Follower,
        default_tenant: UUID | None,
        embedding_job: EmbeddingJob | None = None,
        courier: Courier | None = None,
        limits: Limits = Limits(),
        options: ChunkOptions = ChunkOptions(),
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._parsers = parsers
        self._pipeline = f"{parser_version}/{CHUNKER_VERSION}"
        self._embedders = embedders
        self._embedder = self._active()
        self._editions = editions
        self._follower = follower
        self._default_tenant = default_tenant
        self._embedding_job = embedding_job
        self._courier = courier
        self._limits = limits
        self._options = options
        self._collections: dict[tuple[UUID, str], Collection] = {}  # as they were then

    def process(self, work: Iterable[tuple[str, Hint]], deadline: float) -> set[str]:
        """The messages that must come back. work pairs a message with a hint; deadline is in time.monotonic() seconds.
        Raises SpaceMismatch when the active space's model is not at hand.

        Small documents are embedded together, so that the encoder sees full batches; large ones come last, alone.
        """
        self._embedder = self._active()
        self._collections.clear()
        batch = Batch(deadline)
        finisher = self._finisher(batch)
        for claimed in self._claimer(batch).claim(work):
            self._prepare(claimed, finisher, batch)
        finisher.finish()
        self._knock(batch)
        if batch.touched:
            self._deliver(min(_DELIVERY_S, batch.left), fresh=True)
        self._drain(batch)
        self._edit(batch)
        self._follower.follow(batch.stored, self._embedder.fingerprint, deadline)
        return batch.unfinished

    def _claimer(self, batch: Batch) -> Claimer:
        lease, tenant = self._limits.lease_seconds, self._default_tenant
        return Claimer(self._store, self._bucket, batch, default_tenant=tenant, lease_seconds=lease)

    def _finisher(self, batch: Batch) -> Finisher:
        lane = self._limits.cpu_lane_chunks if self._embedding_job else None
        lease = self._limits.lease_seconds
        return Finisher(self._store, self._embedder, batch, lease_seconds=lease, cpu_lane_chunks=lane)

    def remind(self, deadline: float) -> bool:
        """Tries again to tell who did not listen; whether that could be done. deadline: as in process."""
        return self._deliver(min(_REMINDED_S, deadline - time.monotonic()), fresh=False)

    def _active(self) -> Embedder:
        """Of the space that this batch's vectors are for; should another become the active one, they come to nothing."""
        space = self._store.space(fresh=True)
        if space.fingerprint not in self._embedders:
            raise SpaceMismatch(f"no model of the active space {space.name!r} is here")
        return self._embedders[space.fingerprint]

    def close(self) -> None:
        self._parsers.close()
        self._store.close()

    def _prepare(self, claimed: Claimed, finisher: Finisher, batch: Batch) -> None:
        """One document's trouble is its own: whatever happens, the rest of the batch goes on."""
        claim = claimed.claim
        try:
            batch.require_time()
            parsed = self._look(claim, claimed.hint, claimed.messages)
        except Exception as error:
            finisher.give_up(claim, claimed.messages, error)
        else:
            if parsed:
                finisher.add(parsed)

    def _look(self, claim: Claim, hint: Hint, messages: set[str]) -> Parsed | None:
        found = self._bucket.get(claim.key)
        if found is None:
            self._forget(claim, hint.sequencer)
            return None
        with closing(found):
            version = self._version(found.state, hint.sequencer)
            plan = self._plan(claim.tenant_id, version)
            if isinstance(plan, Cut):
                version = replace(version, pipeline=f"{self._pipeline}/{plan}")
            if _same_version(claim, version):
                self._store.settle(claim, hint.sequencer)
                return None
            return self._read(claim, found, version, plan, messages)

    def _plan(self, tenant: UUID, version: Version) -> Cut | UnreadableDocument:
        """What the object's metadata asks for, or what is wrong with it."""
        try:
            name = collection_name(str(version.metadata.get("collection", DEFAULT_COLLECTION)))
            if "acl" in version.metadata:
                document_labels(version.metadata["acl"])
        except InvalidInput as error:
            return UnreadableDocument("invalid_metadata", str(error))
        return Cut.of(self._collection(tenant, name), self._options)

    def _collection(self, tenant: UUID, name: str) -> Collection:
        """Should it be exchanged for its candidate meanwhile, what is cut for it is not published."""
        if (tenant, name) not in self._collections:
            self._collections[tenant, name] = self._store.collection(tenant, name)
        return self._collections[tenant, name]

    def _forget(self, claim: Claim, sequencer: str) -> None:
        self._store.tombstone(claim.tenant_id, claim.id, sequencer)
        checkpoint("tombstoned")
        removed = self._store.clean(claim.tenant_id, claim.id, keep=None)
        metrics.count("documents", outcome="deleted")
        _log.info("document_deleted", document=str(claim.id), chunks=removed)

    def _version(self, state: ObjectState, sequencer: str) -> Version:
        return Version(
            etag=state.etag,
            version_id=state.version_id,
            size=state.bytes,
            metadata=document_metadata(state.metadata),
            pipeline=self._pipeline,
            sequencer=sequencer,
        )

    def _read(
        self,
        claim: Claim,
        found: Object,
        version: Version,
        plan: Cut | UnreadableDocument,
        messages: set[str],
    ) -> Parsed | None:
        try:
            if isinstance(plan, UnreadableDocument):
                raise plan
            checkpoint("reading")
            data = self._bytes(found)
            version = replace(version, content_hash=hashlib.sha256(data).digest())
            if _same_content(claim, version):
                self._store.touch(claim, version)
                metrics.count("documents", outcome="unchanged")
                return None
            return self._parsed(claim, version, plan, data, messages)
        except UnreadableDocument as error:
            self._store.fail(claim, version, error.code, error.detail)
            self._store.clean(claim.tenant_id, claim.id, keep=None)
            metrics.count("documents", outcome="failed")
            _log.info("document_failed", document=str(claim.id), code=error.code)
            return None

    def _bytes(self, found: Object) -> bytes:
        size, limit = found.state.bytes, self._limits.max_object_bytes
        if size > limit:
            raise UnreadableDocument("too_large", f"the file has {size} bytes, the limit is {limit}")
        return found.read()

    def _parsed(self, claim: Claim, version: Version, plan: Cut, data: bytes, messages: set[str]) -> Parsed:
        checkpoint("parsing")
        document = self._parsers.parse(data, name=claim.key)
        chunks = chunk(document, self._embedder, plan.options)
        if not chunks:
            raise UnreadableDocument("no_text", "the file contains no text")
        version = replace(version, media_type=document.media_type)
        draft = Draft(claim, plan.collection, chunks)
        return Parsed(draft, version, document.pages, document.flags, messages)

    def _knock(self, batch: Batch) -> None:
        """Once per batch, after commit. A knock that is not heard costs time only: the next one, or the sweep, is."""
        if self._embedding_job is None or not batch.backlog:
            return
        backlog = sum(batch.backlog.values())
        batch.backlog.clear()
        try:
            self._embedding_job.wake(backlog)
        except RagzeroError as error:
            _log.warning("knock_unheard", backlog=backlog, reason=str(error))
        self._expect()

    def _expect(self) -> None:
        """The embedding job publishes documents, and has no way to tell anybody."""
        try:
            if self._courier is not None:
                self._courier.expect()
        except RagzeroError as error:
            _log.warning("webhooks_left", reason=str(error))

    def _drain(self, batch: Batch) -> None:
        """Caches that could not be told of a change before may hear of it now; else the next batch tells them."""
        for tenant in batch.touched:
            try:
                self._store.drain_outbox(tenant)
            except RagzeroError as error:
                _log.warning("outbox_not_drained", tenant=str(tenant), reason=str(error))

    def _edit(self, batch: Batch) -> None:
        """Candidates of collections get what was looked at, too."""
        for made in self._editions.make(batch.looked_at, self._embedder, batch.deadline):
            batch.stored.append(Stored(made.tenant, made.document, handed_over=made.backlog is not None))
            if made.backlog is not None:
                batch.backlog[made.tenant] = made.backlog
        self._knock(batch)

    def _deliver(self, seconds: float, *, fresh: bool) -> bool:
        """Who wants to know of documents is told now; who does not listen, after a reminder."""
        if self._courier is None or seconds <= 0:
            return False
        try:
            self._courier.deliver(seconds, fresh=fresh)
        except RagzeroError as error:
            _log.warning("webhooks_left", reason=str(error))
            return False
        return True


def _same_version(claim: Claim, version: Version) -> bool:
    """The very object version that was searchable, or failed, under the very pipeline."""
    known = claim.status == "failed" or claim.published_generation is not None
    return (
        known
        and (claim.etag, claim.version_id, claim.pipeline)
        == (version.etag, version.version_id, version.pipeline)
        and claim.metadata == version.metadata
    )


def _same_content(claim: Claim, version: Version) -> bool:
    return (
        claim.published_generation is not None
        and claim.content_hash == version.content_hash
        and claim.pipeline == version.pipeline
    )
