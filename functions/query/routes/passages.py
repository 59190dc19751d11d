"""What stands in a document, as the index holds it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from functions.query.routes.access import Reader, Wired

router = APIRouter(prefix="/v1/documents/{id}/chunks", tags=["documents"])


class ChunkView(BaseModel):
    id: int
    ordinal: int = Field(description="From 0, in reading order.")
    page: int | None
    headings: list[str]
    text: str
    start: int = Field(description="Where it begins in the document's text, in characters.")
    end: int = Field(description="Where it ends; the next one may begin before that.")


class ChunkPage(BaseModel):
    document_id: UUID
    generation: int | None = Field(description="null while nothing of the document is searchable.")
    total: int
    items: list[ChunkView]
    previous_cursor: str | None
    next_cursor: str | None


@router.get("")
async def chunks(
    id: UUID,
    who: Reader,
    wired: Wired,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    at: Annotated[
        int | None,
        Query(ge=0, le=2**31 - 1, description="Begin with the chunk that holds this character of the text."),
    ] = None,
    chunk_id: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Begin with this one.")] = None,
) -> ChunkPage:
    """The chunks that queries see, in reading order. 410 when the document was changed since the cursor was made."""
    page = await wired.passages.page(who, id, limit=limit, cursor=cursor, at=at, chunk=chunk_id)
    found = page.excerpt
    return ChunkPage(
        document_id=found.document_id,
        generation=found.generation,
        total=found.total,
        items=[ChunkView.model_validate(one, from_attributes=True) for one in found.chunks],
        previous_cursor=page.earlier,
        next_cursor=page.later,
    )
