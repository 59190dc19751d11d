"""The nouns of ragzero: plain, frozen, and free of I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import UUID

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Status(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    SEARCHABLE = "searchable"
    FAILED = "failed"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Block:
    """A run of text with one place in its document.

    text has no leading or trailing whitespace and is never empty; page counts from 1 (None where the
    format has no pages); headings is the path from the outermost heading to the innermost.
    """

    text: str
    page: int | None = None
    headings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """What a parser makes of a file. flags names what was noticed on the way, e.g. `scripts_removed`."""

    media_type: str
    blocks: tuple[Block, ...]
    pages: int | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document that is embedded and found as a whole.

    start and end are character offsets into the document's text (its blocks joined by a blank line);
    embedding_text is what the encoder sees (heading path, then text); text_hash is the SHA-256 of that, hex.
    """

    ordinal: int
    text: str
    page: int | None
    headings: tuple[str, ...]
    start: int
    end: int
    embedding_text: str
    text_hash: str


class Storage(StrEnum):
    """How a space's vectors are kept. binary: as float16, with an index over their signs alone."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BINARY = "binary"


@dataclass(frozen=True, slots=True)
class Space:
    """An embedding space: everything that decides which vector a text gets (ARCHITECTURE §6), and how it is kept."""

    id: int
    name: str
    model: str
    revision: str
    dimension: int
    fingerprint: str
    query_prefix: str = ""
    document_prefix: str = ""
    storage: Storage = Storage.FLOAT16


@dataclass(frozen=True, slots=True)
class KnownSpace:
    """A space with where it stands: building, active or retired. built_at is None while it cannot become the active one."""

    id: int
    name: str
    model: str
    revision: str
    dimension: int
    fingerprint: str
    state: str
    built_at: datetime | None
    created_at: datetime
    storage: Storage = Storage.FLOAT16


@dataclass(frozen=True, slots=True)
class ObjectState:
    """An object in the bucket as it is now."""

    bucket: str
    key: str
    etag: str
    version_id: str | None
    bytes: int
    last_modified: datetime
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved chunk with its scores; score is the fused one, in 0..1."""

    chunk_id: int
    document_id: UUID
    generation: int
    uri: str
    text: str
    page: int | None
    headings: tuple[str, ...]
    start: int
    score: float
    dense: float
    lexical: float
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Citation:
    """A quote that stands, character for character, in a passage retrieved for this question.

    start and end are offsets of the quote in the document's text.
    """

    marker: int
    document_id: UUID
    uri: str
    page: int | None
    quote: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Observed:
    """A document as an event found it; handled means the work of that event is done already. claim is None then, and
    while another worker has it."""

    id: UUID
    handled: bool
    claim: Claim | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease on a document. attempt is the fencing token; the rest is the row as it was when claimed."""

    id: UUID
    tenant_id: UUID
    collection_id: int
    bucket: str
    key: str
    status: str
    etag: str | None
    version_id: str | None
    content_hash: bytes | None
    pipeline: str | None
    metadata: dict[str, Any]
    generation: int
    published_generation: int | None
    attempt: int


@dataclass(frozen=True, slots=True)
class Version:
    """What was worked on: one version of an object, under one pipeline, for one event."""

    etag: str
    version_id: str | None
    size: int
    metadata: dict[str, Any]
    pipeline: str
    sequencer: str
    content_hash: bytes | None = None
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """A complete generation, ready to be made visible."""

    version: Version
    generation: int
    collection: int
    chunks: int
    pages: int | None
    flags: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        hash = self.version.content_hash
        return {**asdict(self), "version": {**asdict(self.version), "content_hash": hash and hash.hex()}}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        hash = data["version"]["content_hash"]
        version = Version(**{**data["version"], "content_hash": hash and bytes.fromhex(hash)})
        return cls(**{**data, "version": version, "flags": tuple(data["flags"])})


@dataclass(frozen=True, slots=True)
class Draft:
    """A document in chunks that are not stored yet, and where they go."""

    claim: Claim
    collection: Collection
    chunks: Sequence[Chunk]


@dataclass(frozen=True, slots=True)
class Stage:
    """A generation whose chunks are stored. missing: (chunk id, ordinal) of those that lack a vector."""

    generation: int
    missing: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Ready:
    """A generation that is whole with these vectors, shape (len(chunk_ids), dimension of the space); None: without any."""

    claim: Claim
    publication: Publication
    chunk_ids: Sequence[int] = ()
    vectors: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A document's generation that waits for its vectors, or only for being published."""

    tenant_id: UUID
    document_id: UUID
    generation: int


@dataclass(frozen=True, slots=True)
class EmbedSlice:
    """Chunks of one document's generation that lack vectors, under lease. token is the fencing token."""

    id: int
    tenant_id: UUID
    document_id: UUID
    generation: int
    first_ordinal: int
    last_ordinal: int
    chunks: int
    token: int
    attempts: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Passages, best first; how they were found (`exact` or `ann`); the tenant's epoch in the same snapshot.

    words are the question's lexemes with their inverse document frequency in the collection.
    """

    passages: list[Passage]
    retrieval: str
    epoch: int
    words: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Document:
    """A document as its owner sees it. generation is the published one, or the newest begun while there is none."""

    id: UUID
    bucket: str
    key: str
    uri: str
    collection: str
    status: Status
    reason_code: str | None
    reason: str | None
    generation: int
    media_type: str | None
    bytes: int | None
    pages: int | None
    chunks: int
    timeline: list[dict[str, Any]]
    metadata: dict[str, Any]
    flags: list[str]
    created_at: datetime
    updated_at: datetime
    acl: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """language: of its full-text search. Its chunks' sizes in tokens are None where ingest's own hold."""

    id: int
    name: str
    language: str
    chunk_tokens: int | None
    overlap_tokens: int | None
    documents: int
    chunks: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Settings:
    """How a collection cuts its documents, and in which language it looks for words; None: as ingest does."""

    language: str
    chunk_tokens: int | None
    overlap_tokens: int | None

    def __str__(self) -> str:
        sizes = "usual" if self.chunk_tokens is None else f"{self.chunk_tokens}+{self.overlap_tokens}"
        return f"{sizes}/{self.language}"


CandidateState = Literal["building", "retired", "going"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """The other side of a collection: to come, or what it was before. live: how the collection is now.

    lacking: documents that it does not have as they are now, of them unreadable ones, some of which are named in refused;
    on_the_way: those that wait for
    the embedding job, and will be in the collection.
    """

    id: int
    live_id: int
    collection: str
    state: CandidateState
    settings: Settings
    live: Settings
    documents: int
    chunks: int
    live_chunks: int
    lacking: int
    unreadable: int
    on_the_way: int
    created_at: datetime
    refused: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A document whose collection has a candidate; candidate goes by the name of that collection.

    made_with: the pipeline of the edition that is there; None when there is none of the document's content.
    """

    document: UUID
    key: str
    content_hash: bytes
    size: int
    candidate: Collection
    building: bool
    made_with: str | None


@dataclass(frozen=True, slots=True)
class Edition:
    """A generation of a document as its candidate has it."""

    pipeline: str
    media_type: str | None
    pages: int | None
    flags: tuple[str, ...]
    chunks: int


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """status is running, done or failed; current is False when a source was changed or deleted since."""

    status: str
    body: dict[str, Any] | None
    current: bool


@dataclass(frozen=True, slots=True)
class Similar:
    """An answer given before to a question near this one; epoch is the current one, similarity the cosine."""

    question: str
    body: dict[str, Any]
    epoch: int
    similarity: float
    age_s: int


Rating = Literal["good", "bad"]


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody thought of an answer, and what they expected. collection, filter: of the question, where known."""

    id: int
    answer_id: UUID
    key_id: str
    question: str
    rating: Rating
    comment: str | None
    expected: str | None
    created_at: datetime
    collection: str | None
    filter: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Coherence:
    """Whether no cache answers from before a change any more; if one may, until when at the latest."""

    coherent: bool
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """An HTTP answer as it was sent."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Earlier:
    """A request under the same idempotency key that came first; answered is None while it is at it."""

    fingerprint: bytes
    answered: Answered | None
