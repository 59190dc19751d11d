"""The shapes of what the API tells about the index: why a document is not searchable, dead letters, sweeps, checks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

Code = Literal[
    "searchable",
    "event_not_seen",
    "queued",
    "in_progress",
    "waiting_for_embedding",
    "failed",
    "outdated",
    "gone_from_bucket",
    "deletion_held_back",
    "deleted",
    "hidden_by_labels",
]
Remedy = Literal["wait", "requeue", "replace", "confirm_deletes", "other_key"]


class EventFacts(BaseModel):
    """outstanding: an event was seen whose work is not done. Sequencers order the events of one key."""

    seen: bool
    outstanding: bool
    seen_sequencer: str | None
    done_sequencer: str | None


class LeaseFacts(BaseModel):
    held: bool
    until: datetime | None
    attempts: int = Field(description="How often a worker has taken this document so far.")


class FailureFacts(BaseModel):
    code: str
    reason: str


class EmbeddingFacts(BaseModel):
    """Among the tenant's own work; others' is not shown, but slows it down."""

    waiting_since: datetime
    chunks: int = Field(description="Of this document, that still lack a vector.")
    chunks_ahead: int
    documents_ahead: int
    in_hand: bool = Field(description="A job works on it right now.")
    attempts: int
    last_error: str | None
    eta_s: float | None = Field(description="At the pace of the last hour; null when there was none.")


class GenerationFacts(BaseModel):
    published: int | None = Field(description="The one that queries see.")
    newest: int


class ObjectFacts(BaseModel):
    bytes: int
    last_modified: datetime
    indexed: bool = Field(description="False: this is not the version that was worked on.")


class SweepFacts(BaseModel):
    finding: str
    seen_at: datetime
    hints: int
    hinted_at: datetime | None
    held_by: int | None


class Why(BaseModel):
    key: str
    document_id: UUID | None
    searchable: bool = Field(description="Queries find some generation of it.")
    code: Code
    explanation: str
    remedy: Remedy | None
    event: EventFacts
    lease: LeaseFacts | None = None
    failure: FailureFacts | None = None
    embedding: EmbeddingFacts | None = None
    generation: GenerationFacts | None = None
    object: ObjectFacts | None = Field(None, description="Null: the bucket has none.")
    labels: list[str] | None = Field(None, description="Only keys with one of these see it; null: every key.")
    sweep: SweepFacts | None = None


_EITHER: JsonDict = {
    "oneOf": [
        {"required": ["key"], "properties": {"key": {"type": "string"}, "document_id": {"type": "null"}}},
        {
            "required": ["document_id"],
            "properties": {"document_id": {"type": "string"}, "key": {"type": "null"}},
        },
    ]
}


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class RequeueRequest(_Request):
    model_config = ConfigDict(json_schema_extra=_EITHER)

    key: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    document_id: Annotated[UUID, Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.key is None) == (self.document_id is None):
            raise ValueError("expected either key or document_id")
        return self


class Requeued(BaseModel):
    key: str
    document_id: UUID | None


LetterState = Literal["open", "superseded", "unreadable"]


class LetterFilter(_Request):
    """Those that match all of it; nothing given: all."""

    ids: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = None
    prefix: str | None = Field(None, max_length=1024, description="Of the key.")
    state: LetterState | None = None


class DiscardRequest(LetterFilter):
    reason: str = Field(min_length=3, max_length=500)


class LetterView(BaseModel):
    id: str
    sent_at: datetime | None
    receives: int
    state: LetterState = Field(
        description="superseded: newer events of its keys have been worked on; unreadable: no S3 event."
    )
    keys: list[str]
    problem: str | None = Field(description="What is known of why it is here.")
    body: str | None = None


class LetterPage(BaseModel):
    items: list[LetterView]
    more: bool


class LettersMoved(BaseModel):
    moved: int
    kept: int = Field(description="Seen, and not asked for.")
    done: bool = Field(description="False: time was over before all were seen; ask again.")


class DiscardedLetter(BaseModel):
    message_id: str
    body: str
    sent_at: datetime | None
    reason: str
    discarded_by: str
    discarded_at: datetime


class SweepView(BaseModel):
    id: int
    working: bool | None
    listed: bool
    counts: dict[str, int]
    error: str | None
    confirmed_at: datetime | None
    confirmed_by: str | None
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class Confirmed(BaseModel):
    id: int
    held: int = Field(
        description="Documents that the next sweep has ingest delete, unless they are there again."
    )
    confirmed_by: str


class Check(BaseModel):
    status: Literal["ok", "warn", "fail"]
    detail: str
    remedy: str | None = None


class SettingInForce(BaseModel):
    variable: str
    source: str = Field(description="The environment, a parameter by name, a default.")
    value: str | None = Field(description="null where there is none, and of secrets.")


class NamedCheck(Check):
    name: str


class Health(BaseModel):
    status: Literal["ok", "warn", "fail"]
    checks: list[NamedCheck]
