"""What became of a deleted document."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from functions.query.routes.access import Reader, Wired
from shared.core.errors import NotFound
from shared.core.receipts import Receipt

router = APIRouter(prefix="/v1/documents/{id}/deletion", tags=["documents"])


class RemovedView(BaseModel):
    place: str = Field(
        description="bucket.object, bucket.versions (absent where they may not be listed), index.chunks, "
        "index.vectors.<space>, answers, cache.answers. Of the whole tenant, from before the delete: answers.similar, "
        "answers.replays, cache.answers."
    )
    removed: int
    at: datetime


class DeletionReceipt(BaseModel):
    """Usage is not touched. Of the document remain its id, who could see it, and the hash of its key."""

    document_id: UUID
    key_sha256: str = Field(description="SHA-256 of the object's key, hex: proves which one it was.")
    status: Literal["removing", "removed"] = Field(
        description="removing: no query sees it, and what is left of it is being removed. removed: nothing is left."
    )
    deleted_at: datetime
    epoch: int | None = Field(description="No answer of an older epoch than this is given any more.")
    coherent: bool = Field(description="Whether every cache knows of the delete.")
    until: datetime | None = Field(description="Otherwise: when the last of them will, at the latest.")
    removed: list[RemovedView]
    removed_at: datetime | None = Field(description="When the last traces were looked for and removed.")


@router.get("")
async def deletion(id: UUID, who: Reader, wired: Wired) -> DeletionReceipt:
    """What was removed of a deleted document, from where, and when. 404 while it is not deleted."""
    await wired.documents.get(who, id)
    found = await wired.receipts.get(who.tenant_id, who.acl, id)
    if found is None:
        raise NotFound("the document is not deleted")
    return _view(found)


def _view(receipt: Receipt) -> DeletionReceipt:
    return DeletionReceipt(
        document_id=receipt.document_id,
        key_sha256=receipt.key_sha256,
        status="removing" if receipt.erased_at is None else "removed",
        deleted_at=receipt.requested_at,
        epoch=receipt.epoch,
        coherent=receipt.coherent,
        until=receipt.coherent_until,
        removed=[RemovedView(place=place, **what) for place, what in sorted(receipt.removed.items())],
        removed_at=receipt.erased_at,
    )
