"""A document's source in the bucket: fetched, and described otherwise."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from functions.query.documents import as_texts
from functions.query.routes.access import Reader, Wired, Writer
from functions.query.schemas import METADATA_FORM, DocumentView, Receipt, StrictRequest

router = APIRouter(prefix="/v1/documents/{id}", tags=["documents"])


class SourceLink(BaseModel):
    url: str = Field(description="Answers with the file, to be saved; needs no key.")
    bytes: int
    expires_at: datetime


class DocumentChange(StrictRequest):
    metadata: dict[str, str | int | float | bool | None] = Field(
        min_length=1,
        max_length=64,
        description="null takes a name away; what is not named stays. `acl` names the labels that may see it.",
        examples=[{"year": 2026, "draft": None, "acl": "hr,finance"}],
        json_schema_extra=METADATA_FORM,
    )


class DocumentChanged(Receipt):
    document: DocumentView


@router.get("/source")
async def source(id: UUID, who: Reader, wired: Wired) -> SourceLink:
    """A link to the object in the bucket, to be saved as a file."""
    state = await wired.documents.source(who, id)
    until = datetime.now(UTC) + timedelta(seconds=wired.links.seconds)
    url = await asyncio.to_thread(wired.links.get, state.key)
    return SourceLink(url=url, bytes=state.bytes, expires_at=until)


@router.patch("")
async def describe(id: UUID, body: DocumentChange, who: Writer, wired: Wired) -> DocumentChanged:
    """Other metadata, without indexing anew; questions from now on know of it. It is the object's own in the bucket."""
    given = body.metadata
    changes: dict[str, str | None] = {name: None for name, value in given.items() if value is None}
    changes |= as_texts({name: value for name, value in given.items() if value is not None})
    document, coherence = await wired.documents.describe(who, id, changes)
    return DocumentChanged(
        document=DocumentView.model_validate(document, from_attributes=True),
        coherent=coherence.coherent,
        until=coherence.until,
    )
