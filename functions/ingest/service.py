"""The life of a document, from a hint that something happened to a key to a published generation or a tombstone.

    observe -> claim -> get the object -> parse -> chunk -> stage -> embed -> publish -> clean up
                                                                   └-> hand over to the embedding job, and knock

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
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from functions.ingest.cutting import Cut
from functions.ingest.editions import EditionMaker, Object, Objects
from functions.ingest.events import Hint
from functions.ingest.following import Follower, Stored
from shared.core.chunking import CHUNKER_VERSION, ChunkOptions, chunk
from shared.core.errors import (
    InvalidInput,
    LeaseLost,
    OutcomeUnknown,
    RagzeroError,
    SpaceMismatch,
    UnreadableDocument,
)
from shared.core.keys import DEFAULT_COLLECTION, collection_name, document_metadata, tenant_of
from shared.core.labels import document_labels
from shared.core.models import (
    Chunk,
    Claim,
    Collection,
    ObjectState,
    Observed,
    ParsedDocument,
    Publication,
    Space,
    Version,
)
from shared.core.ports import Embedder
from shared.telemetry import checkpoint, get_logger, metrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = get_logger(__name__)
_EMBED_AT_ONCE = 64
_STORE_AT_ONCE = 1_000
_DELIVERY_S, _REMINDED_S = 5.0, 30.0


class Store(Protocol):
    def space(self, *, fresh: bool = False) -> Space: ...
    def is_open(self, tenant: UUID) -> bool | None: ...
    def observe(
        self, tenant: UUID, bucket: str, key: str, sequencer: str, lease_seconds: float
    ) -> Observed: ...
    def extend(self, claim: Claim, lease_seconds: float) -> None: ...
    def release(self, claim: Claim) -> None: ...
    def settle(self, claim: Claim, sequencer: str) -> None: ...
    def collection(self, tenant: UUID, name: str) -> Collection: ...
    def begin(self, claim: Claim) -> int: ...
    def stage(
        self, claim: Claim, generation: int, collection: Collection, chunks: Sequence[Chunk]
    ) -> list[tuple[int, int]]: ...
    def store_vectors(self, claim: Claim, chunk_ids: Sequence[int], vectors: NDArray[np.float32]) -> None: ...
    def hand_over(self, claim: Claim, publication: Publication, missing: int) -> int: ...
    def publish(self, claim: Claim, publication: Publication) -> None: ...
    def is_published(self, claim: Claim, generation: int) -> bool: ...
    def touch(self, claim: Claim, version: Version) -> None: ...
    def fail(self, claim: Claim, version: Version, code: str, reason: str) -> None: ...
    def tombstone(self, tenant: UUID, document: UUID, sequencer: str = "") -> object: ...
    def clean(self, tenant: UUID, document: UUID, keep: int | None) -> int: ...
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


@dataclass(slots=True)
class _Staged:
    """A generation in the database that lacks some vectors; texts are those to embed, by chunk id."""

    claim: Claim
    publication: Publication
    texts: dict[int, str]
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
        self._backlog: dict[UUID, int] = {}
        self._touched: set[UUID] = set()
        self._looked_at: dict[UUID, set[UUID]] = {}
        self._stored: list[Stored] = []

    def process(self, work: Iterable[tuple[str, Hint]], deadline: float) -> set[str]:
        """The messages that must come back. work pairs a message with a hint; deadline is in time.monotonic() seconds.
        Raises SpaceMismatch when the active space's model is not at hand.

        Small documents are embedded together, so that the encoder sees full batches; large ones come last, alone.
        """
        self._embedder = self._active()
        self._tenants.clear()
        unfinished: set[str] = set()
        small: list[_Staged] = []
        large: list[_Staged] = []
        for hint, messages in _by_key(work).items():
            staged = self._guarded(hint, messages, deadline, unfinished)
            if staged:
                (large if len(staged.texts) > _EMBED_AT_ONCE else small).append(staged)
            if sum(len(s.texts) for s in small) >= _EMBED_AT_ONCE:
                unfinished |= self._finish(small, deadline)
                small = []
        for together in (small, *([one] for one in large)):
            unfinished |= self._finish(together, deadline)
        self._knock()
        if self._touched:
            self._deliver(min(_DELIVERY_S, deadline - time.monotonic()), fresh=True)
        self._drain()
        self._edit(deadline)
        self._follow(deadline)
        return unfinished

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

    def _guarded(
        self, hint: Hint, messages: set[str], deadline: float, unfinished: set[str]
    ) -> _Staged | None:
        """One document's trouble is its own: whatever happens, the rest of the batch goes on."""
        if time.monotonic() > deadline:
            unfinished |= messages
            return None
        try:
            return self._prepare(hint, messages)
        except Exception as error:
            metrics.count("documents", outcome="unfinished")
            _log.warning("document_unfinished", key=hint.key, error=type(error).__name__, reason=str(error))
            unfinished |= messages
            return None

    def _prepare(self, hint: Hint, messages: set[str]) -> _Staged | None:
        tenant = self._tenant(hint)
        lease = self._limits.lease_seconds
        observed = self._store.observe(tenant, hint.bucket, hint.key, hint.sequencer, lease)
        if observed.handled:
            return None
        self._touched.add(tenant)
        self._looked_at.setdefault(tenant, set()).add(observed.id)
        if observed.claim is None:
            raise LeaseLost("another worker has this document; the message waits for it")
        try:
            return self._look(observed.claim, hint, messages)
        except BaseException:
            self._store.release(observed.claim)
            raise

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

    def _look(self, claim: Claim, hint: Hint, messages: set[str]) -> _Staged | None:
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
        collection = self._store.collection(tenant, name)
        return Cut.of(collection, self._options)

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
    ) -> _Staged | None:
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
            return self._stage(claim, version, plan, data, messages)
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

    def _stage(
        self, claim: Claim, version: Version, plan: Cut, data: bytes, messages: set[str]
    ) -> _Staged | None:
        """None when the embedding job does the rest."""
        generation = self._store.begin(claim)
        checkpoint("parsing")
        document = self._parsers.parse(data, name=claim.key)
        chunks = chunk(document, self._embedder, plan.options)
        if not chunks:
            raise UnreadableDocument("no_text", "the file contains no text")
        missing = self._store.stage(claim, generation, plan.collection, chunks)
        checkpoint("staged")
        publication = Publication(
            replace(version, media_type=document.media_type),
            generation,
            plan.collection.id,
            len(chunks),
            document.pages,
            document.flags,
        )
        if self._embedding_job and len(missing) > self._limits.cpu_lane_chunks:
            self._hand_over(claim, publication, len(missing))
            return None
        return _Staged(
            claim, publication, {id: chunks[ordinal].embedding_text for id, ordinal in missing}, messages
        )

    def _hand_over(self, claim: Claim, publication: Publication, missing: int) -> None:
        self._backlog[claim.tenant_id] = self._store.hand_over(claim, publication, missing)
        checkpoint("handed_over")
        self._stored.append(Stored(claim.tenant_id, claim.id, handed_over=True))
        metrics.count("documents", outcome="handed_over")
        _log.info("document_handed_over", document=str(claim.id), chunks=missing)

    def _knock(self) -> None:
        """Once per batch, after commit. A knock that is not heard costs time only: the next one, or the sweep, is."""
        if self._embedding_job is None or not self._backlog:
            return
        backlog, self._backlog = sum(self._backlog.values()), {}
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

    def _drain(self) -> None:
        """Caches that could not be told of a change before may hear of it now; else the next batch tells them."""
        touched, self._touched = self._touched, set()
        for tenant in touched:
            try:
                self._store.drain_outbox(tenant)
            except RagzeroError as error:
                _log.warning("outbox_not_drained", tenant=str(tenant), reason=str(error))

    def _edit(self, deadline: float) -> None:
        """Candidates of collections get what was looked at, too."""
        looked_at, self._looked_at = self._looked_at, {}
        for made in self._editions.make(looked_at, self._embedder, deadline):
            self._stored.append(Stored(made.tenant, made.document, handed_over=made.backlog is not None))
            if made.backlog is not None:
                self._backlog[made.tenant] = made.backlog
        self._knock()

    def _follow(self, deadline: float) -> None:
        stored, self._stored = self._stored, []
        self._follower.follow(stored, self._embedder.fingerprint, deadline)

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

    def _finish(self, waiting: list[_Staged], deadline: float) -> set[str]:
        """Embeds what is missing, then publishes each document; the messages of those that did not get there."""
        try:
            self._embed(waiting, deadline)
        except Exception as error:
            _log.warning("embedding_unfinished", documents=len(waiting), reason=str(error))
            for staged in waiting:
                self._give_up(staged)
            return set().union(*(staged.messages for staged in waiting))
        return set().union(*(staged.messages for staged in waiting if not self._published(staged)))

    def _embed(self, waiting: list[_Staged], deadline: float) -> None:
        """Each text once, however often it stands in these documents."""
        places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, staged in enumerate(waiting):
            for id, text in staged.texts.items():
                places[text].append((number, id))
        texts = list(places)
        for first in range(0, len(texts), _EMBED_AT_ONCE):
            if time.monotonic() > deadline:
                raise RagzeroError("out of time; the vectors made so far are kept, the rest comes next time")
            some = texts[first : first + _EMBED_AT_ONCE]
            self._embed_some(waiting, some, [places[text] for text in some])
            if first:
                for staged in waiting:
                    self._store.extend(staged.claim, self._limits.lease_seconds)

    def _embed_some(
        self, waiting: list[_Staged], texts: list[str], places: list[list[tuple[int, int]]]
    ) -> None:
        """places: for each text, the documents (by their number in waiting) and chunks where it stands."""
        vectors = self._embedder.encode(texts)
        checkpoint("embedded")
        rows: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for row, found in enumerate(places):
            for number, id in found:
                rows[number].append((id, row))
        for number, mine in rows.items():
            for first in range(0, len(mine), _STORE_AT_ONCE):
                ids, which = zip(*mine[first : first + _STORE_AT_ONCE], strict=True)
                self._store.store_vectors(waiting[number].claim, ids, vectors[list(which)])

    def _published(self, staged: _Staged) -> bool:
        claim, publication = staged.claim, staged.publication
        checkpoint("publishing")
        try:
            self._publish(claim, publication)
        except Exception as error:
            _log.warning("publish_unfinished", document=str(claim.id), reason=str(error))
            self._give_up(staged)
            return False
        checkpoint("published")
        self._stored.append(Stored(claim.tenant_id, claim.id, handed_over=False))
        metrics.count("documents", outcome="published")
        _log.info("document_published", document=str(claim.id), chunks=publication.chunks)
        if claim.generation > 0:
            self._clean(claim, publication.generation)
        return True

    def _clean(self, claim: Claim, keep: int) -> None:
        """Older generations are invisible already; what is left of them now goes with the next one."""
        try:
            self._store.clean(claim.tenant_id, claim.id, keep=keep)
        except RagzeroError as error:
            _log.warning("left_to_clean", document=str(claim.id), reason=str(error))

    def _publish(self, claim: Claim, publication: Publication) -> None:
        try:
            self._store.publish(claim, publication)
        except OutcomeUnknown:
            if not self._store.is_published(claim, publication.generation):
                raise

    def _give_up(self, staged: _Staged) -> None:
        try:
            self._store.release(staged.claim)
        except RagzeroError as error:
            _log.warning("lease_left_to_expire", document=str(staged.claim.id), reason=str(error))


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
