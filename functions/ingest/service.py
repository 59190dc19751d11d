"""The life of a document, from a hint that something happened to a key to a published generation or a tombstone.

    observe and claim, with others of its batch -> get the object -> parse -> chunk -> finish, with others of its batch -> clean up

A hint never says what to do; the object's current state does. No transaction is open while a parser, the
encoder or the bucket is at work.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from functions.ingest import finishing
from functions.ingest.batch import Batch
from functions.ingest.cutting import Cut
from functions.ingest.editions import EditionMaker, Object, Objects
from functions.ingest.events import Hint
from functions.ingest.finishing import Finisher, Parsed
from functions.ingest.following import Follower, Stored
from shared.core.chunking import CHUNKER_VERSION, ChunkOptions, chunk
from shared.core.errors import (
    InvalidInput,
    LeaseLost,
    RagzeroError,
    SpaceMismatch,
    UnreadableDocument,
)
from shared.core.keys import DEFAULT_COLLECTION, collection_name, document_metadata, tenant_of
from shared.core.labels import document_labels
from shared.core.models import (
    Claim,
    Collection,
    Draft,
    ObjectState,
    Observed,
    ParsedDocument,
    Space,
    Version,
)
from shared.core.ports import Embedder
from shared.telemetry import checkpoint, get_logger, metrics

_log = get_logger(__name__)
_CLAIMED_AT_ONCE = 10
_DELIVERY_S, _REMINDED_S = 5.0, 30.0


class Store(finishing.Store, Protocol):
    def space(self, *, fresh: bool = False) -> Space: ...
    def is_open(self, tenant: UUID) -> bool | None: ...
    def observe(
        self, tenant: UUID, bucket: str, seen: Sequence[tuple[str, str]], lease_seconds: float
    ) -> list[Observed]: ...
    def settle(self, claim: Claim, sequencer: str) -> None: ...
    def collection(self, tenant: UUID, name: str) -> Collection: ...
    def touch(self, claim: Claim, version: Version) -> None: ...
    def fail(self, claim: Claim, version: Version, code: str, reason: str) -> None: ...
    def tombstone(self, tenant: UUID, document: UUID, sequencer: str = "") -> object: ...
    def drain_outbox(self, tenant: UUID) -> None: ...
    def close(self) -> None: ...


class Bucket(Objects, Protocol):
    @property
    def name(self) -> str: ...
    def head(self, key: str) -> ObjectState | None: ...


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


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A document that we have the lease on, and the messages that speak of it."""

    claim: Claim
    hint: Hint
    messages: set[str]


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
        self._tenants: set[UUID] = set()  # seen to be open, in this batch
        self._collections: dict[tuple[UUID, str], Collection] = {}  # as they were then

    def process(self, work: Iterable[tuple[str, Hint]], deadline: float) -> set[str]:
        """The messages that must come back. work pairs a message with a hint; deadline is in time.monotonic() seconds.
        Raises SpaceMismatch when the active space's model is not at hand.

        Small documents are embedded together, so that the encoder sees full batches; large ones come last, alone.
        """
        self._embedder = self._active()
        self._tenants.clear()
        self._collections.clear()
        batch = Batch(deadline)
        finisher = self._finisher(batch)
        for tenant, several in self._by_tenant(_by_key(work), batch).items():
            for first in range(0, len(several), _CLAIMED_AT_ONCE):
                for claimed in self._claimed(tenant, several[first : first + _CLAIMED_AT_ONCE], batch):
                    self._prepare(claimed, finisher, batch)
        finisher.finish()
        self._knock(batch)
        if batch.touched:
            self._deliver(min(_DELIVERY_S, batch.left), fresh=True)
        self._drain(batch)
        self._edit(batch)
        self._follower.follow(batch.stored, self._embedder.fingerprint, deadline)
        return batch.unfinished

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

    def _by_tenant(
        self, hints: Mapping[Hint, set[str]], batch: Batch
    ) -> dict[UUID, list[tuple[Hint, set[str]]]]:
        """Without those that are nobody's."""
        found: dict[UUID, list[tuple[Hint, set[str]]]] = defaultdict(list)
        for hint, messages in hints.items():
            try:
                found[self._tenant(hint)].append((hint, messages))
            except Exception as error:
                batch.leave(hint.key, messages, error)
        return found

    def _claimed(
        self, tenant: UUID, several: Sequence[tuple[Hint, set[str]]], batch: Batch
    ) -> list[_Claimed]:
        """Those whose work is to be done, and by us. What cannot be observed together is tried one by one."""
        seen = [(hint.key, hint.sequencer) for hint, _ in several]
        try:
            batch.require_time()
            observed = self._store.observe(tenant, self._bucket.name, seen, self._limits.lease_seconds)
        except Exception as error:
            if len(several) > 1:
                return [claimed for one in several for claimed in self._claimed(tenant, [one], batch)]
            batch.leave(several[0][0].key, several[0][1], error)
            return []
        claimed: list[_Claimed] = []
        for (hint, messages), found in zip(several, observed, strict=True):
            if found.handled:
                continue
            batch.look_at(tenant, found.id)
            if found.claim is None:
                held = LeaseLost("another worker has this document; the message waits for it")
                batch.leave(hint.key, messages, held)
            else:
                claimed.append(_Claimed(found.claim, hint, messages))
        return claimed

    def _prepare(self, claimed: _Claimed, finisher: Finisher, batch: Batch) -> None:
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

    def _tenant(self, hint: Hint) -> UUID:
        if hint.bucket != self._bucket.name:
            raise InvalidInput(
                f"the event is about the bucket {hint.bucket[:80]!r}, not {self._bucket.name!r}"
            )
        tenant = tenant_of(hint.key, self._default_tenant)
        if tenant in self._tenants:
            return tenant
        is_open = self._store.is_open(tenant)
        if is_open is None:
            raise InvalidInput(f"no tenant {tenant} owns the key {hint.key[:200]!r}")
        if is_open:
            self._tenants.add(tenant)
        elif self._bucket.head(hint.key) is not None:
            raise InvalidInput(
                f"the tenant {tenant}, who owns the key {hint.key[:200]!r}, is closed: nothing of it but deletes is done"
            )
        return tenant

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


def _by_key(work: Iterable[tuple[str, Hint]]) -> dict[Hint, set[str]]:
    """Each key once, with its newest hint and all the messages that spoke of it."""
    newest: dict[tuple[str, str], Hint] = {}
    messages: dict[tuple[str, str], set[str]] = defaultdict(set)
    for message, hint in work:
        place = (hint.bucket, hint.key)
        messages[place].add(message)
        if place not in newest or newest[place].sequencer.ljust(64, "0") < hint.sequencer.ljust(64, "0"):
            newest[place] = hint
    return {hint: messages[place] for place, hint in newest.items()}


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
