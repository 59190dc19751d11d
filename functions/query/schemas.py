"""The shapes of the HTTP API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.core.models import Status

MAX_QUESTION = 4_000
MAX_TOP_K = 50


def _question(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain NUL")
    if not text.strip():
        raise ValueError("must not be blank")
    return text.strip()


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SearchRequest(_Request):
    question: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION), AfterValidator(_question)]
    collection: str = "default"
    top_k: int = Field(5, ge=1, le=MAX_TOP_K)
    filter: dict[str, Any] | None = None


class QueryRequest(SearchRequest):
    pass


class Result(BaseModel):
    chunk_id: int
    document_id: UUID
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


class Deletion(BaseModel):
    id: UUID
    status: Status
    """deleted: no query that starts from now on sees the document."""
