"""Many documents at once: how far a batch of uploads is, and deletes by a filter."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from functions.query.routes.access import Reader, Wired, Writer
from functions.query.schemas import COLLECTION_FORM, Filter, StrictRequest
from shared.core.jobs import MOST_DOCUMENTS, Job
from shared.core.models import Status

router = APIRouter(prefix="/v1", tags=["documents"])


class FailedDocument(BaseModel):
    id: UUID
    uri: str
    reason_code: str | None
    reason: str | None


class JobView(BaseModel):
    id: UUID
    kind: Literal["upload", "delete"]
    status: Literal["running", "done"] = Field(
        description="An upload is done when each document is searchable, failed or deleted. A delete that is running "
        "goes on when it is resumed."
    )
    total: int = Field(description="Documents of it that the key may see.")
    counts: dict[Status, int] = Field(description="Documents by what they are now.")
    remaining: int | None = Field(description="Of a delete: documents it is not through with.")
    failed: list[FailedDocument] = Field(description="The first hundred, with the reason.")
    created_at: datetime


class DeleteRequest(StrictRequest):
    filter: Filter = Field(description="As in questions; not about pages.")
    collection: Annotated[str, Field(max_length=63, json_schema_extra=COLLECTION_FORM)] | None = Field(
        None, description="All of them unless said."
    )
    dry_run: bool = Field(False, description="Only says how many there are.")


class DeleteReport(BaseModel):
    dry_run: bool
    matched: int = Field(description=f"A job takes the first {MOST_DOCUMENTS} of them.")
    sample: list[str] = Field(description="The addresses of the first twenty.")
    job: JobView | None = Field(description="null for a dry run, and when nothing matches.")


@router.get("/jobs/{id}")
async def job(id: UUID, who: Reader, wired: Wired) -> JobView:
    """How far it is. Kept for thirty days."""
    return _view(await wired.jobs.get(who, id))


@router.post("/jobs/{id}/resume")
async def resume(id: UUID, who: Writer, wired: Wired) -> JobView:
    """Goes on with a delete, for as long as a call may take."""
    return _view(await wired.jobs.resume(who, id))


@router.post("/deletions", responses={202: {"description": "There is more to remove; resume the job."}})
async def delete(body: DeleteRequest, who: Writer, wired: Wired, response: Response) -> DeleteReport:
    """Deletes the documents that meet a filter, from the index and the bucket, or says which those are."""
    found = await wired.jobs.delete(who, body.filter, body.collection, dry_run=body.dry_run)
    response.status_code = 202 if found.job and not found.job.over else 200
    return DeleteReport(
        dry_run=body.dry_run,
        matched=found.matched.total,
        sample=list(found.matched.uris),
        job=_view(found.job) if found.job else None,
    )


def _view(job: Job) -> JobView:
    return JobView(
        id=job.id,
        kind="delete" if job.kind == "delete" else "upload",
        status="done" if job.over else "running",
        total=sum(job.counts.values()),
        counts={status: job.counts.get(status, 0) for status in Status},
        remaining=job.remaining if job.kind == "delete" else None,
        failed=[FailedDocument.model_validate(one, from_attributes=True) for one in job.failed],
        created_at=job.created_at,
    )
