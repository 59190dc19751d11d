"""The shapes of what the API tells about candidates: collections as they would be, built beside what they are."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from functions.query.schemas import COLLECTION_FORM, ChunkTokens, OverlapTokens, StrictRequest
from shared.core.models import CandidateState


class NewCandidate(StrictRequest):
    """What is not named is as the collection has it. Nothing named: the same again, by the parser as it is now."""

    collection: str = Field("default", json_schema_extra=COLLECTION_FORM)
    language: Annotated[str, Field(max_length=63)] | None = None
    chunk_tokens: ChunkTokens | None = None
    overlap_tokens: OverlapTokens | None = None


class SettingsView(BaseModel):
    language: str
    chunk_tokens: int | None = Field(description="null: what ingest does where nothing is said.")
    overlap_tokens: int | None


class Refused(BaseModel):
    document_id: UUID
    reason: str


class CandidateView(BaseModel):
    id: int
    collection: str
    state: CandidateState = Field(
        description="building: to come; retired: what the collection was before; going: being removed."
    )
    settings: SettingsView
    live: SettingsView = Field(description="Those of the collection as it is.")
    documents: int
    chunks: int
    live_chunks: int
    lacking: int = Field(description="Documents that it does not have as they are now.")
    unreadable: int = Field(description="Of those lacking: cut like that, nothing comes of them.")
    refused: list[Refused] = Field(description="Of those unreadable, twenty at most.")
    on_the_way: int = Field(description="Documents that wait for the embedding job first.")
    created_at: datetime


class BuildRequest(StrictRequest):
    after: Annotated[UUID, Field(strict=False)] | None = None
    limit: int = Field(100, ge=1, le=500)


class Built(BaseModel):
    """Ingest makes what it is told to look at; calling again later tells what is lacking still."""

    told: int
    next: UUID | None = Field(description="Goes on after this one; null: all that is lacking was told.")


class CollectionChangeView(BaseModel):
    id: int
    kind: Literal["promote", "rollback"]
    collection: str
    from_collection: int
    to_collection: int
    from_settings: str
    to_settings: str
    documents: int
    evidence: list[dict[str, Any]]
    forced_because: str | None
    changed_by: str
    at: datetime


class Reclaimed(BaseModel):
    collection: str
    status: Literal["reclaimed", "reclaiming"] = Field(description="reclaiming: there is more, call again.")
    documents: int = Field(description="Whose chunks went with this call.")
