"""The shapes of the HTTP API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
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
    stream: bool = Field(False, description="Server-sent events instead of one answer at the end.")
    on_cold: Literal["wait", "extractive", "fallback"] = Field(
        "wait",
        description="While the model wakes: wait for it, answer with quotes, or ask the fallback model.",
    )
    deadline_ms: int | None = Field(
        None,
        ge=100,
        le=900_000,
        description="Without streaming: 202 with an address for the answer after this time (25 000 unless said).",
    )
    generate: bool = Field(True, description="False: quotes only, no model is asked.")


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
