"""Embedding spaces: what a change takes, and the change."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from functions.query.routes.access import Operator, Wired
from functions.query.schemas import COLLECTION_PATTERN
from functions.query.space_schemas import PlanView, Promotion, Rollback, SpaceChange, SpaceView
from shared.core.models import Storage
from shared.core.planning import Change

router = APIRouter(prefix="/v1/index", tags=["index"])


@router.get("/spaces")
async def spaces(_: Operator, wired: Wired) -> list[SpaceView]:
    """Each space, and how much it lacks of what is searchable."""
    return await wired.spaces.listed()


@router.get("/plan")
async def plan(
    who: Operator,
    wired: Wired,
    change: Change = Change.MODEL,
    fingerprint: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")] = None,
    dimension: Annotated[int | None, Query(ge=1, le=4000)] = None,
    storage: Storage | None = None,
    chunks_per_second: Annotated[float, Query(ge=0.001, le=1e9)] = 500,
    collection: Annotated[str | None, Query(pattern=COLLECTION_PATTERN)] = None,
) -> PlanView:
    """What a change of the index takes, or of one collection of the caller's tenant, before anything is spent."""
    of = (who.tenant_id, collection) if collection is not None else None
    return await wired.spaces.plan(change, fingerprint, dimension, storage, chunks_per_second, of)


@router.post("/spaces/{id}/promote")
async def promote(
    id: Annotated[int, Path(ge=1, le=2**31 - 1)], body: Promotion, who: Operator, wired: Wired
) -> SpaceChange:
    """Makes a space the active one, if evaluations of it and of the active one speak for it."""
    return await wired.spaces.promote(who, id, body)


@router.post("/spaces/rollback")
async def rollback(body: Rollback, who: Operator, wired: Wired) -> SpaceChange:
    """Makes the space that was the active one before that again, as long as it was not reclaimed."""
    return await wired.spaces.rollback(who, body.reason)


@router.get("/spaces/changes")
async def changes(
    _: Operator, wired: Wired, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> list[SpaceChange]:
    """Who made which space the active one, and on what grounds; newest first."""
    return await wired.spaces.changes(limit)
