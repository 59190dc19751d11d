"""The shapes of the HTTP API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from shared.core.conversation import MAX_EARLIER, MAX_QUESTION
from shared.core.errors import InvalidInput
from shared.core.labels import MAX_LABELS, labels
from shared.core.models import Status
from shared.core.retrieval import Mode

MAX_TOP_K = 50


def _question(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain NUL")
    if not text.strip():
        raise ValueError("must not be blank")
    return text.strip()


def _whole(value: Any) -> Any:
    exact = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if exact else value


class Request(BaseModel):
    """Numbers are no texts, and texts no numbers; 3.0 is an integer, as in all JSON."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="before")
    @classmethod
    def _integers(cls, given: Any) -> Any:
        return {name: _whole(value) for name, value in given.items()} if isinstance(given, dict) else given


class StrictRequest(Request):
    """Takes nothing that it does not know."""

    model_config = ConfigDict(extra="forbid")


def _labels(given: list[str]) -> list[str]:
    try:
        return list(labels(given))
    except InvalidInput as error:
        raise ValueError(str(error)) from error


SEEN = r"[^\s\u0000\u001c-\u001f\u0085]"
"""Somewhere in a text that is not blank: these separators are blank to us, and not to every reader of a pattern."""
QuestionText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_QUESTION,
        json_schema_extra={"pattern": rf"^[^\u0000]*{SEEN}[^\u0000]*$"},
    ),
    AfterValidator(_question),
]
COLLECTION_PATTERN = "^[a-z0-9][a-z0-9_-]{0,62}$"
COLLECTION_FORM: JsonDict = {"pattern": COLLECTION_PATTERN}
"""For the description, as the forms below; what is wrong with a name is said in words."""
METADATA_FORM: JsonDict = {"propertyNames": {"pattern": "^[a-z0-9_-]*[a-z0-9][a-z0-9_-]*$"}}
_LABEL_FORM: JsonDict = {"pattern": "^ *[A-Za-z0-9][A-Za-z0-9:_.-]{0,62} *$"}
_FILTER_FORM: JsonDict = {
    "minProperties": 1,
    "propertyNames": {"pattern": r"^(\$and|\$or|\$not|[^$\u0000][^\u0000]{0,127})$"},
}
ChunkTokens = Annotated[int, Field(ge=32, le=512)]
OverlapTokens = Annotated[int, Field(ge=0, le=128)]
Label = Annotated[str, Field(json_schema_extra=_LABEL_FORM)]
Acl = Annotated[list[Label], Field(max_length=MAX_LABELS), AfterValidator(_labels)]
Filter = Annotated[dict[str, Any], Field(json_schema_extra=_FILTER_FORM)]


class SearchRequest(StrictRequest):
    question: QuestionText
    collection: str = Field("default", json_schema_extra=COLLECTION_FORM)
    top_k: int = Field(5, ge=1, le=MAX_TOP_K)
    filter: Filter | None = None
    acl: Acl | None = Field(
        None,
        description="Sees documents with these labels only, as far as the key does, and those without any.",
    )
    mode: Mode = Field(
        "balanced",
        description="fast: by meaning alone; balanced: by meaning and words; thorough: more candidates, re-ranked where a "
        "re-ranker is set up, the best passages with the text around them, and no document with most of the places.",
    )
    per_document: int | None = Field(
        None,
        ge=1,
        le=MAX_TOP_K,
        description="At most so many passages of one document, while others have any.",
    )


class QueryRequest(SearchRequest):
    earlier: Annotated[list[QuestionText], Field(max_length=MAX_EARLIER)] = Field(
        default_factory=list,
        description="What the same person asked before, oldest first. A question that leans on it is made to stand alone: "
        "by the model where one writes the answer, else by the words it lacks. A stream says in its status `condensed` "
        "what is asked of the documents then.",
    )
    stream: bool = Field(False, description="Server-sent events instead of one answer at the end.")
    on_cold: Literal["wait", "extractive", "fallback"] = Field(
        "wait",
        description="While the model wakes: wait for it, answer with quotes, or ask the fallback model.",
    )
    deadline_ms: int | None = Field(
        None,
        ge=100,
        le=900_000,
        description="Without streaming: 202 with an address for the answer after this time (25 000 unless said, and at most).",
    )
    generate: bool = Field(True, description="False: quotes only, no model is asked.")
    cache: Literal["read", "bypass", "refresh"] = Field(
        "read",
        description="read: an answer made before will do while no document changed; bypass: caches are left alone; "
        "refresh: the answer is made anew and kept.",
    )


class Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    gpu_seconds: float = 0.0
    cost_usd: float | None = Field(
        None, description="By the price table of the settings; null when not known."
    )


class Result(BaseModel):
    chunk_id: int
    document_id: UUID
    generation: int = Field(
        description="Of the document; a newer one means that the document was changed since."
    )
    uri: str
    page: int | None
    headings: list[str]
    text: str
    score: float = Field(description="Fused relevance among the candidates of this question, 0..1.")


class Cited(BaseModel):
    marker: int = Field(description="Stands as [marker] in the answer; the number of the source, from 1.")
    document_id: UUID
    uri: str
    page: int | None
    quote: str
    start: int = Field(description="Where the quote begins in the document's text, in characters.")
    end: int
    score: float


class SearchAnswer(BaseModel):
    results: list[Result]
    retrieval: str = Field(
        description="`exact` or `ann`, with `_keywords` when the encoder could not be used."
    )
    timings_ms: dict[str, float]
    warnings: list[str] = []


class QueryAnswer(BaseModel):
    id: UUID
    answer: str
    supported: bool = Field(description="False when nothing in the documents supports an answer.")
    citations: list[Cited]
    sources: list[Result]
    retrieval: str
    timings_ms: dict[str, float]
    warnings: list[str] = []
    mode: Literal["extractive", "model", "fallback"] = Field(description="Who wrote the answer.")
    usage: Usage
    dropped_citations: int = Field(0, description="Markers that did not hold and were taken out.")
    truncated: bool = Field(False, description="The model was cut off by the most tokens an answer may have.")
    cached: Literal["exact", "semantic", "no"] = Field(
        "no",
        description="Whether it was made before: for this very question, or for one that means the same.",
    )
    age_s: int = Field(0, description="How long ago it was made, in seconds.")


class AnswerPending(BaseModel):
    id: UUID
    status: Literal["running"] = "running"
    status_url: str


class Event(BaseModel):
    status: str
    at: datetime
    detail: str | None = None


class DocumentView(BaseModel):
    id: UUID
    uri: str
    collection: str
    status: Status
    reason: str | None = Field(description="Why the document is not searchable, for a person.")
    reason_code: str | None
    generation: int
    media_type: str | None
    bytes: int | None
    pages: int | None
    chunks: int
    timeline: list[Event]
    metadata: dict[str, Any]
    flags: list[str]
    acl: list[str] | None = Field(description="The labels that a key needs one of; null for none.")
    created_at: datetime
    updated_at: datetime


class DocumentPage(BaseModel):
    items: list[DocumentView]
    next_cursor: str | None


class UploadAccepted(BaseModel):
    id: UUID
    uri: str
    status: Status
    status_url: str


class Receipt(BaseModel):
    """The index never answers from before the change again. So do the caches, unless nobody could tell them."""

    coherent: bool = Field(description="Whether every cache knows of the change.")
    until: datetime | None = Field(None, description="Otherwise: when the last of them will, at the latest.")


class Deletion(Receipt):
    id: UUID
    status: Status
    """deleted: no query that starts from now on sees the document in the index."""


class NewCollection(StrictRequest):
    name: Annotated[str, Field(min_length=1, max_length=63, json_schema_extra=COLLECTION_FORM)]
    language: Annotated[str, Field(max_length=63)] = Field(
        "english", description="Of its full-text search: a text search configuration of PostgreSQL."
    )
    chunk_tokens: ChunkTokens | None = Field(None, description="null: 240, unless overlap_tokens is given.")
    overlap_tokens: OverlapTokens | None = Field(None, description="At most a quarter of chunk_tokens.")


class CollectionChange(StrictRequest):
    """What is not named stays. Only while the collection is empty, unless its documents are to be read again."""

    language: Annotated[str, Field(max_length=63)] = ""
    chunk_tokens: ChunkTokens | None = None
    overlap_tokens: OverlapTokens | None = None
    reread: bool = Field(
        False,
        description="Each document keeps what was made of it until `scripts/rag index reread` has it read again.",
    )


class CollectionView(BaseModel):
    name: str
    language: str
    chunk_tokens: int | None = Field(description="null: what ingest does where nothing is said.")
    overlap_tokens: int | None
    documents: int = Field(description="Searchable ones that the key may see.")
    chunks: int
    created_at: datetime


class CollectionPage(BaseModel):
    items: list[CollectionView]
    next_cursor: str | None


class CollectionRemoval(BaseModel):
    name: str
    status: Literal["deleted", "emptied", "deleting"] = Field(
        description="deleting: there is more to remove, call again."
    )
    documents: int = Field(description="Removed by this call, from the index and the bucket.")
    remaining: int
