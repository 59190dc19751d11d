"""What the caller's own key is and may do."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from functions.query.routes.access import principal
from shared.core.credentials import SCOPES, Principal

router = APIRouter(prefix="/v1/key", tags=["keys"])


class CallerView(BaseModel):
    id: str
    tenant_id: UUID
    scopes: list[Literal["query", "ingest", "admin"]] = Field(
        description="What the key may do; admin is all of it."
    )
    acl: list[str] | None = Field(
        description="Sees documents with these labels and those without any; null: every document."
    )


@router.get("")
async def caller(who: Annotated[Principal, Depends(principal)]) -> CallerView:
    """For programs that show only what their key allows."""
    held = SCOPES if "admin" in who.scopes else who.scopes
    return CallerView(
        id=who.key_id,
        tenant_id=who.tenant_id,
        scopes=[scope for scope in SCOPES if scope in held],
        acl=None if who.acl is None else list(who.acl),
    )
