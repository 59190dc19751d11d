"""Candidates of collections: other chunk sizes, another language or parser, built beside and exchanged at once."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from functions.query.candidate_schemas import (
    BuildRequest,
    Built,
    CandidateView,
    CollectionChangeView,
    NewCandidate,
    Reclaimed,
)
from functions.query.routes.access import Operator, Wired
from functions.query.schemas import COLLECTION_PATTERN
from functions.query.space_schemas import Promotion, Rollback

router = APIRouter(prefix="/v1/index/candidates", tags=["index"])
_Name = Annotated[str, Path(pattern=COLLECTION_PATTERN)]


@router.post("", status_code=201)
async def make(body: NewCandidate, who: Operator, wired: Wired) -> CandidateView:
    """A candidate for a collection of the caller's tenant. What is uploaded from now on goes to both."""
    return await wired.candidates.make(who, body)


@router.get("")
async def candidates(who: Operator, wired: Wired) -> list[CandidateView]:
    """Each with what it lacks."""
    return await wired.candidates.listed(who)


@router.get("/changes")
async def changes(
    who: Operator, wired: Wired, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> list[CollectionChangeView]:
    """Which candidates took the place of their collection, and on what grounds; newest first."""
    return await wired.candidates.changes(who, limit)


@router.post("/{name}/build", status_code=202)
async def build(name: _Name, body: BuildRequest, who: Operator, wired: Wired) -> Built:
    """Has ingest look at documents that it lacks, page by page; vectors of texts that stay are reused."""
    return await wired.candidates.build(who, name, body.after, body.limit)


@router.post("/{name}/promote")
async def promote(name: _Name, body: Promotion, who: Operator, wired: Wired) -> CollectionChangeView:
    """Puts it in the place of its collection, if evaluations of both speak for it."""
    return await wired.candidates.promote(who, name, body)


@router.post("/{name}/rollback")
async def rollback(name: _Name, body: Rollback, who: Operator, wired: Wired) -> CollectionChangeView:
    """Makes the collection what it was before, as long as that was not reclaimed."""
    return await wired.candidates.rollback(who, name, body.reason)


@router.delete("/{name}", responses={202: {"description": "There is more to remove; call again."}})
async def reclaim(name: _Name, who: Operator, wired: Wired, response: Response) -> Reclaimed:
    """Removes the candidate, or what the collection was before, for good."""
    done = await wired.candidates.reclaim(who, name)
    response.status_code = 200 if done.status == "reclaimed" else 202
    return done
