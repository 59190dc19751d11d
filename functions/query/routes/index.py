"""The index under the hood: why a document is not searchable, dead letters, sweeps, checks."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from functions.query.index_schemas import (
    Confirmed,
    DiscardedLetter,
    DiscardRequest,
    Health,
    LetterFilter,
    LetterPage,
    LettersMoved,
    LetterState,
    Requeued,
    RequeueRequest,
    SettingInForce,
    SweepView,
    Why,
)
from functions.query.routes.access import Operator, Wired, Writer
from shared.core.errors import InvalidInput

router = APIRouter(prefix="/v1/index", tags=["index"])
_Limit = Annotated[int, Query(ge=1, le=100)]
_Key = Annotated[str | None, Query(min_length=1, max_length=1024)]


@router.get("/why")
async def why(
    who: Writer,
    wired: Wired,
    key: _Key = None,
    document_id: UUID | None = None,
    labels: Annotated[list[str] | None, Query(max_length=32)] = None,
) -> Why:
    """Why a document is not searchable, and what helps. labels: those of a key that does not see it."""
    if (key is None) == (document_id is None):
        raise InvalidInput("expected either key or document_id", field="key")
    return await wired.index.diagnosis.why(who, key=key, id=document_id, labels=labels)


@router.post("/requeue", status_code=202)
async def requeue(body: RequeueRequest, who: Writer, wired: Wired) -> Requeued:
    """Has the object looked at, and worked on as if it were new."""
    return await wired.index.diagnosis.requeue(who, key=body.key, id=body.document_id)


@router.get("/dead-letters")
async def dead_letters(
    _: Operator,
    wired: Wired,
    limit: _Limit = 50,
    id: Annotated[list[str] | None, Query(max_length=100)] = None,
    prefix: Annotated[str | None, Query(max_length=1024)] = None,
    state: LetterState | None = None,
) -> LetterPage:
    """Messages that ingest has given up on, oldest first; with their bodies when asked for by id."""
    wanted = LetterFilter(ids=id, prefix=prefix, state=state)
    return await wired.index.letters().page(wanted, limit)


@router.post("/dead-letters/redrive")
async def redrive(body: LetterFilter, _: Operator, wired: Wired) -> LettersMoved:
    """Gives letters to ingest once more. Those that newer events have overtaken come to nothing there."""
    return await wired.index.letters().redrive(body)


@router.post("/dead-letters/discard")
async def discard(body: DiscardRequest, who: Operator, wired: Wired) -> LettersMoved:
    """Gives letters up for good; who did and why is kept."""
    wanted = LetterFilter(**body.model_dump(exclude={"reason"}))
    return await wired.index.letters().discard(wanted, body.reason, who.key_id)


@router.get("/dead-letters/discarded")
async def discarded(_: Operator, wired: Wired, limit: _Limit = 50) -> list[DiscardedLetter]:
    """Newest first."""
    return [DiscardedLetter(**row) for row in await wired.index.store.discarded(limit)]


@router.get("/sweeps")
async def sweeps(_: Operator, wired: Wired, limit: _Limit = 20) -> list[SweepView]:
    """Walks through the bucket, newest first, with what each had to repair."""
    return [SweepView(**row) for row in await wired.index.store.sweeps(limit)]


@router.post("/sweeps/{id}/confirm-deletes")
async def confirm_deletes(id: int, who: Operator, wired: Wired) -> Confirmed:
    """Lets go on what that sweep has held back because it was so much. The next sweep has it deleted."""
    return await wired.index.confirm(id, who.key_id)


@router.get("/settings")
async def settings(_: Operator, wired: Wired) -> list[SettingInForce]:
    """What this function goes by, and where it has it from; of secrets the source alone."""
    return [SettingInForce(**one._asdict()) for one in wired.index.settings.in_force()]


@router.get("/doctor")
async def doctor(_: Operator, wired: Wired) -> Health:
    """Checks of the whole installation, each with what helps."""
    return await wired.index.doctor.examine()
