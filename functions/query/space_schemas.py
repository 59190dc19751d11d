"""The shapes of what the API tells about embedding spaces and changes between them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from functions.query.schemas import StrictRequest
from shared.core.models import Storage


class SpaceView(BaseModel):
    """One that is built can become the active one once nothing is lacking."""

    id: int
    name: str
    model: str
    revision: str
    dimension: int
    storage: Storage
    state: Literal["building", "active", "retired"]
    built_at: datetime | None
    created_at: datetime
    lacking: int = Field(description="Chunks that queries see, or are about to, without a vector here.")


class Compared(StrictRequest):
    """Two evaluations of the same questions: before in the active space, after in the one to come."""

    before: int
    after: int


class Promotion(StrictRequest):
    evaluations: list[Compared] = Field(default_factory=list, max_length=10)
    margin: float = Field(0.02, ge=0, le=1, description="recall, nDCG and containment may fall by so much.")
    least_overlap: float = Field(0.0, ge=0, le=1, description="Of the documents found, before and after.")
    force_reason: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        None, description="Go on without an evaluation, or against it; kept with the change."
    )


class Rollback(StrictRequest):
    reason: Annotated[str, Field(min_length=1, max_length=500)]


class SpaceChange(BaseModel):
    id: int
    kind: Literal["promote", "rollback"]
    from_space: int
    from_name: str
    to_space: int
    to_name: str
    evidence: list[dict[str, Any]]
    forced_because: str | None
    changed_by: str
    at: datetime


class PlanView(BaseModel):
    documents: int
    chunks: int
    vectors_made: int
    vectors_reused: int
    at_most: bool = Field(
        description="How many texts are new is not known before they are cut: this is the most."
    )
    rereads_documents: bool
    gpu_minutes: float
    cost_usd: float = Field(description="By RAGZERO_PRICE_GPU_SECOND.")
    seconds: float
    disk_bytes: int = Field(description="Until the old space is reclaimed.")
