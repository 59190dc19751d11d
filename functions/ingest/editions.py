"""What was looked at gets its edition in the candidate of its collection: to one that is being built, and to what the
collection was before, until that is reclaimed. So that either can take its place at any time.

    read -> parse -> chunk -> begin -> stage -> embed -> finish

Best effort, and never in the way of what is published: who looks at a document anew takes it from us. What is left out
is counted as lacking, and made when the document is looked at again; vectors made so far are kept.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Collection as Several
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from functions.ingest.cutting import Cut
from shared.core.chunking import CHUNKER_VERSION, ChunkOptions, chunk
from shared.core.errors import RagzeroError, UnreadableDocument
from shared.core.models import Chunk, Claim, Draft, Edition, ObjectState, ParsedDocument, Stage, Wanted
from shared.core.ports import Embedder
from shared.telemetry import checkpoint, get_logger, metrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = get_logger(__name__)
_EMBED_AT_ONCE = 64


class Store(Protocol):
    def wanted(self, tenant: UUID, documents: Sequence[UUID]) -> list[Wanted]: ...
    def begin(self, tenant: UUID, wanted: Wanted, pipeline: str, lease_seconds: float) -> Claim | None: ...
    def stage(self, draft: Draft) -> Stage: ...
    def store_vectors(self, claim: Claim, chunk_ids: Sequence[int], vectors: NDArray[np.float32]) -> None: ...
    def extend(self, claim: Claim, lease_seconds: float) -> None: ...
    def release(self, claim: Claim) -> None: ...
    def finish(self, claim: Claim, edition: Edition) -> None: ...
    def hand_over(self, claim: Claim, edition: Edition) -> int: ...
    def fail(self, claim: Claim, pipeline: str, reason: str) -> None: ...


class Object(Protocol):
    """As it was when it was asked for."""

    @property
    def state(self) -> ObjectState: ...
    def read(self) -> bytes: ...
    def close(self) -> None: ...


class Objects(Protocol):
    def get(self, key: str) -> Object | None: ...


class Parsers(Protocol):
    def parse(self, data: bytes, *, name: str) -> ParsedDocument: ...


@dataclass(frozen=True, slots=True)
class Made:
    """A document whose edition is stored. backlog: so many chunks of its tenant wait for the embedding job now, the
    edition's among them; None: it has its vectors."""

    tenant: UUID
    document: UUID
    backlog: int | None = None


@dataclass(frozen=True, slots=True)
class _Read:
    """What a document is in a candidate; reason: why it cannot be anything there."""

    edition: Edition
    chunks: Sequence[Chunk]
    reason: str | None = None


class EditionMaker:
    """cpu_lane_chunks: so many texts of one document at most are embedded here, more by the embedding job; None: all."""

    def __init__(
        self,
        store: Store,
        bucket: Objects,
        parsers: Parsers,
        parser_version: str,
        lease_seconds: float,
        cpu_lane_chunks: int | None,
        options: ChunkOptions = ChunkOptions(),
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._parsers = parsers
        self._pipeline = f"{parser_version}/{CHUNKER_VERSION}"
        self._lease_seconds = lease_seconds
        self._cpu_lane_chunks = cpu_lane_chunks
        self._options = options

    def make(
        self, looked_at: Mapping[UUID, Several[UUID]], embedder: Embedder, deadline: float
    ) -> list[Made]:
        """looked_at: documents by tenant. embedder: of the active space; deadline: time.monotonic() seconds."""
        made: list[Made] = []
        for tenant, documents in looked_at.items():
            try:
                made += [
                    done
                    for wanted in self._store.wanted(tenant, list(documents))
                    if (done := self._made(tenant, wanted, embedder, deadline))
                ]
            except RagzeroError as error:
                _log.warning("editions_left", tenant=str(tenant), reason=str(error))
        return made

    def _made(self, tenant: UUID, wanted: Wanted, embedder: Embedder, deadline: float) -> Made | None:
        cut = Cut.of(wanted.candidate, self._options)
        pipeline = f"{self._pipeline}/{cut}"
        there = wanted.made_with is not None and not (wanted.building and wanted.made_with != pipeline)
        if there or time.monotonic() > deadline:
            return None
        try:
            return self._make(tenant, wanted, cut, pipeline, embedder, deadline)
        except Exception as error:  # one document's trouble is its own
            metrics.count("editions", outcome="unfinished")
            name = type(error).__name__
            _log.warning("edition_unfinished", document=str(wanted.document), error=name, reason=str(error))
            return None

    def _make(
        self, tenant: UUID, wanted: Wanted, cut: Cut, pipeline: str, embedder: Embedder, deadline: float
    ) -> Made | None:
        data = self._bytes(wanted)
        if data is None:
            return None
        read = self._read(wanted, data, cut, pipeline, embedder)
        claim = self._store.begin(tenant, wanted, pipeline, self._lease_seconds)
        if claim is None:
            return None
        checkpoint("edition_begun")
        try:
            backlog = self._kept(claim, cut, read, embedder, deadline)
        except BaseException:
            self._give_up(claim)
            raise
        checkpoint("edition_finished")
        metrics.count("editions", outcome=_outcome(read, backlog))
        return Made(tenant, wanted.document, backlog)

    def _bytes(self, wanted: Wanted) -> bytes | None:
        """None when the object is another one by now, or none: its own event is on the way."""
        found = self._bucket.get(wanted.key)
        if found is None:
            return None
        with closing(found):
            data = found.read() if found.state.bytes == wanted.size else None
        return data if data is not None and hashlib.sha256(data).digest() == wanted.content_hash else None

    def _read(self, wanted: Wanted, data: bytes, cut: Cut, pipeline: str, embedder: Embedder) -> _Read:
        try:
            document = self._parsers.parse(data, name=wanted.key)
            chunks = chunk(document, embedder, cut.options)
            if not chunks:
                raise UnreadableDocument("no_text", "the file contains no text")
        except UnreadableDocument as error:
            return _Read(Edition(pipeline, None, None, (), 0), (), str(error))
        edition = Edition(pipeline, document.media_type, document.pages, document.flags, len(chunks))
        return _Read(edition, chunks)

    def _kept(self, claim: Claim, cut: Cut, read: _Read, embedder: Embedder, deadline: float) -> int | None:
        """How many chunks wait for the embedding job, if it does the rest."""
        if read.reason is not None:
            self._store.fail(claim, read.edition.pipeline, read.reason)
            return None
        missing = self._store.stage(Draft(claim, cut.collection, read.chunks)).missing
        checkpoint("edition_staged")
        if self._cpu_lane_chunks is not None and len(missing) > self._cpu_lane_chunks:
            return self._store.hand_over(claim, read.edition)
        texts: dict[str, list[int]] = defaultdict(list)
        for id, ordinal in missing:
            texts[read.chunks[ordinal].embedding_text].append(id)
        self._embed(claim, texts, embedder, deadline)
        self._store.finish(claim, read.edition)
        return None

    def _embed(
        self, claim: Claim, texts: Mapping[str, Sequence[int]], embedder: Embedder, deadline: float
    ) -> None:
        """texts: with the chunks that have them."""
        every = list(texts)
        for first in range(0, len(every), _EMBED_AT_ONCE):
            if time.monotonic() > deadline:
                raise RagzeroError("out of time; the vectors made so far are kept, the rest comes next time")
            some = every[first : first + _EMBED_AT_ONCE]
            vectors = embedder.encode(some)
            places = [(id, row) for row, text in enumerate(some) for id in texts[text]]
            ids, rows = zip(*places, strict=True)
            self._store.store_vectors(claim, ids, vectors[list(rows)])
            checkpoint("edition_embedded")
            self._store.extend(claim, self._lease_seconds)

    def _give_up(self, claim: Claim) -> None:
        try:
            self._store.release(claim)
        except RagzeroError as error:
            _log.warning("lease_left_to_expire", document=str(claim.id), reason=str(error))


def _outcome(read: _Read, backlog: int | None) -> str:
    if read.reason is not None:
        return "failed"
    return "made" if backlog is None else "handed_over"
