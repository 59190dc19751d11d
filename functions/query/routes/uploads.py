"""Uploads straight into the bucket, many at once, large ones in parts."""

from __future__ import annotations

import mimetypes
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from functions.query.documents import as_texts
from functions.query.routes.access import Wired, Writer
from functions.query.schemas import COLLECTION_FORM, METADATA_FORM, StrictRequest, UploadAccepted
from functions.query.uploads import File, Ticket
from functions.query.wiring import Graph
from shared.core.keys import collection_name, uri_of
from shared.core.models import Status

router = APIRouter(prefix="/v1/uploads", tags=["documents"])
_MOST_FILES = 100
_MAX_BODY = 1024 * 1024
Token = Annotated[str, Field(min_length=1, max_length=8_192)]


class FileToUpload(StrictRequest):
    name: Annotated[str, Field(min_length=1, max_length=1024, examples=["reports/2026.pdf"])]
    size: int = Field(ge=0, lt=2**53, description="Bytes; the bucket takes exactly as many.")
    content_type: Annotated[str, Field(pattern=r"^[\w.+-]+/[\w.+-]+$", max_length=127)] | None = Field(
        None, description="Guessed from the name unless said. What a file is, its bytes decide."
    )
    metadata: dict[str, str | int | float | bool] = Field(
        default_factory=dict, max_length=64, json_schema_extra=METADATA_FORM
    )


class NewUploads(StrictRequest):
    files: Annotated[list[FileToUpload], Field(min_length=1, max_length=_MOST_FILES)]
    collection: Annotated[str, Field(max_length=63, json_schema_extra=COLLECTION_FORM)] | None = None
    job_id: Annotated[UUID, Field(strict=False)] | None = Field(
        None, description="Adds them to that batch of uploads; a new one unless said."
    )


class PartView(BaseModel):
    number: int = Field(description="From 1.")
    size: int = Field(description="Bytes: the next so many of the file.")
    url: str


class UploadTicket(BaseModel):
    name: str
    document_id: UUID
    uri: str
    status_url: str
    method: Literal["POST", "PUT"] = Field(
        description="POST: all of the file, as the last field `file` of a form. PUT: each part to its own address."
    )
    url: str | None = Field(None, description="Where the form goes.")
    fields: dict[str, str] | None = Field(None, description="The form's other fields.")
    parts: list[PartView] | None = None
    upload_id: str | None = Field(None, description="Completes, or gives up, an upload in parts.")


class UploadsBegun(BaseModel):
    job_id: UUID
    job_url: str
    expires_at: datetime
    uploads: list[UploadTicket] = Field(description="In the order of the files.")


class Completion(StrictRequest):
    upload_id: Token
    etags: Annotated[list[Annotated[str, Field(max_length=128)]], Field(min_length=1, max_length=10_000)] = (
        Field(description="The ETag that each part was answered with, in their order.")
    )


class Abortion(StrictRequest):
    upload_id: Token


class Aborted(BaseModel):
    status: Literal["aborted"] = "aborted"


@router.post("", status_code=201, max_body_size=_MAX_BODY)
async def begin(body: NewUploads, who: Writer, wired: Wired) -> UploadsBegun:
    """Addresses to upload files to. Each is searchable once its document, or the job, says so."""
    within = {} if body.collection is None else {"collection": collection_name(body.collection)}
    files = [
        File(
            one.name,
            one.size,
            one.content_type or mimetypes.guess_type(one.name)[0] or "application/octet-stream",
            as_texts(one.metadata) | within,
        )
        for one in body.files
    ]
    until = datetime.now(UTC) + timedelta(seconds=wired.uploads.seconds)
    job, tickets = await wired.uploads.begin(who, files, body.job_id)
    return UploadsBegun(
        job_id=job,
        job_url=f"/v1/jobs/{job}",
        expires_at=until,
        uploads=[_view(wired, ticket) for ticket in tickets],
    )


@router.post("/complete", status_code=202, max_body_size=_MAX_BODY)
async def complete(body: Completion, who: Writer, wired: Wired) -> UploadAccepted:
    """Makes the parts one object. 409 when that, or giving it up, was done before."""
    id, key = await wired.uploads.complete(who, body.upload_id, body.etags)
    return UploadAccepted(
        id=id, uri=uri_of(wired.bucket, key), status=Status.PENDING, status_url=f"/v1/documents/{id}"
    )


@router.post("/abort")
async def abort(body: Abortion, who: Writer, wired: Wired) -> Aborted:
    """Gives an upload in parts up. One that is never completed is given up after a day."""
    await wired.uploads.abort(who, body.upload_id)
    return Aborted()


def _view(wired: Graph, ticket: Ticket) -> UploadTicket:
    parts = [PartView.model_validate(part, from_attributes=True) for part in ticket.parts]
    return UploadTicket(
        name=ticket.name,
        document_id=ticket.document,
        uri=uri_of(wired.bucket, ticket.key),
        status_url=f"/v1/documents/{ticket.document}",
        method="PUT" if parts else "POST",
        url=ticket.url,
        fields=dict(ticket.fields) if ticket.fields else None,
        parts=parts or None,
        upload_id=ticket.upload,
    )
