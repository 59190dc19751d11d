"""What the API answers with. Fields may be added to any of these; none goes away."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

Scalar = str | int | float | bool
Filter = dict[str, Any]
Mode = Literal["fast", "balanced", "thorough"]
OnCold = Literal["wait", "extractive", "fallback"]
Status = Literal["pending", "processing", "searchable", "failed", "deleted"]


class Result(TypedDict):
    chunk_id: int
    document_id: str
    generation: int
    uri: str
    page: int | None
    headings: list[str]
    text: str
    score: float


class Cited(TypedDict):
    marker: int
    document_id: str
    uri: str
    page: int | None
    quote: str
    start: int
    end: int
    score: float


class Usage(TypedDict):
    prompt_tokens: int | None
    completion_tokens: int | None
    gpu_seconds: float
    cost_usd: float | None


class SearchAnswer(TypedDict):
    results: list[Result]
    retrieval: str
    timings_ms: dict[str, float]
    warnings: list[str]


class QueryAnswer(TypedDict):
    id: str
    answer: str
    supported: bool
    citations: list[Cited]
    sources: list[Result]
    retrieval: str
    timings_ms: dict[str, float]
    warnings: list[str]
    mode: Literal["extractive", "model", "fallback"]
    usage: Usage
    dropped_citations: int
    cached: Literal["exact", "semantic", "no"]
    age_s: int
    truncated: bool


class StreamEvent(TypedDict):
    """event: status, sources, token, citations or done."""

    event: str
    data: dict[str, Any]


class Event(TypedDict):
    status: str
    at: str
    detail: NotRequired[str | None]


class DocumentView(TypedDict):
    id: str
    uri: str
    collection: str
    status: Status
    reason: str | None
    reason_code: str | None
    generation: int
    media_type: str | None
    bytes: int | None
    pages: int | None
    chunks: int
    timeline: list[Event]
    metadata: dict[str, Any]
    flags: list[str]
    acl: list[str] | None
    created_at: str
    updated_at: str


class DocumentPage(TypedDict):
    items: list[DocumentView]
    next_cursor: str | None


class ChunkView(TypedDict):
    id: int
    ordinal: int
    page: int | None
    headings: list[str]
    text: str
    start: int
    end: int


class ChunkPage(TypedDict):
    document_id: str
    generation: int | None
    total: int
    items: list[ChunkView]
    previous_cursor: str | None
    next_cursor: str | None


class DocumentChanged(TypedDict):
    document: DocumentView
    coherent: bool
    until: str | None


class SourceLink(TypedDict):
    url: str
    bytes: int
    expires_at: str


class Deletion(TypedDict):
    id: str
    status: Status
    coherent: bool
    until: str | None


class RemovedView(TypedDict):
    place: str
    removed: int
    at: str


class DeletionReceipt(TypedDict):
    document_id: str
    key_sha256: str
    status: Literal["removing", "removed"]
    deleted_at: str
    epoch: int | None
    coherent: bool
    until: str | None
    removed: list[RemovedView]
    removed_at: str | None


class PartView(TypedDict):
    number: int
    size: int
    url: str


class UploadTicket(TypedDict):
    name: str
    document_id: str
    uri: str
    status_url: str
    method: Literal["POST", "PUT"]
    url: str | None
    fields: dict[str, str] | None
    parts: list[PartView] | None
    upload_id: str | None


class UploadsBegun(TypedDict):
    job_id: str
    job_url: str
    expires_at: str
    uploads: list[UploadTicket]


class FailedDocument(TypedDict):
    id: str
    uri: str
    reason_code: str | None
    reason: str | None


class JobView(TypedDict):
    id: str
    kind: Literal["upload", "delete"]
    status: Literal["running", "done"]
    total: int
    counts: dict[Status, int]
    remaining: int | None
    failed: list[FailedDocument]
    created_at: str


class DeleteReport(TypedDict):
    dry_run: bool
    matched: int
    sample: list[str]
    job: JobView | None
