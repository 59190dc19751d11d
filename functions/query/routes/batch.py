"""Many questions in one request, each of them counted, limited and answered as if it had come alone."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from functions.query import problems
from functions.query.asking import BUFFERED_MS, Wish
from functions.query.desk import Running
from functions.query.kept import Kept
from functions.query.routes.access import ApiKey, Wired
from functions.query.schemas import AnswerPending, QueryAnswer, SearchRequest, StrictRequest
from functions.query.wiring import Graph
from shared.core.errors import DeadlineExceeded, Forbidden, RagzeroError, Unauthorized

router = APIRouter(prefix="/v1/query/batch", tags=["questions"])
_MOST = 100
_AT_ONCE = 8
_MAX_BODY = 1024 * 1024
_LEAST_MS = 100


class BatchQuestion(SearchRequest):
    on_cold: Literal["wait", "extractive", "fallback"] = "wait"
    generate: bool = True
    cache: Literal["read", "bypass", "refresh"] = "read"


class BatchRequest(StrictRequest):
    questions: Annotated[list[BatchQuestion], Field(min_length=1, max_length=_MOST)]
    deadline_ms: int = Field(BUFFERED_MS, ge=_LEAST_MS, le=BUFFERED_MS, description="For all of them.")


class BatchItem(BaseModel):
    status: int = Field(description="What POST /v1/query would have answered: 200, 202, or a problem's.")
    answer: QueryAnswer | None = None
    pending: AnswerPending | None = None
    problem: dict[str, Any] | None = None
    retry_after_s: float | None = None


class BatchAnswer(BaseModel):
    items: list[BatchItem] = Field(description="In the order of the questions.")
    answered: int


@router.post("", max_body_size=_MAX_BODY)
async def batch(body: BatchRequest, key: ApiKey, wired: Wired) -> BatchAnswer:
    """Up to 100 questions. What went wrong with one of them is said in its place, the others are answered."""
    until, places = time.monotonic() + body.deadline_ms / 1000, asyncio.Semaphore(_AT_ONCE)

    async def one(asked: BatchQuestion) -> BatchItem:
        async with places:
            return await _item(wired, key, asked, until)

    items = await asyncio.gather(*(one(asked) for asked in body.questions))
    _complain_once(items)
    return BatchAnswer(items=items, answered=sum(item.status == 200 for item in items))


async def _item(wired: Graph, key: str, asked: BatchQuestion, until: float) -> BatchItem:
    try:
        wish = _wish(asked, until)
        reply = await wired.asking.whole(await wired.asking.admit(key, wish), wish)
    except RagzeroError as error:
        problem = problems.told(error)
        wait = getattr(error, "retry_after", None)
        return BatchItem(status=problem["status"], problem=problem, retry_after_s=wait)
    if isinstance(reply, Running):
        return BatchItem(status=202, pending=_pending(reply.id))
    answer = reply.parsed() if isinstance(reply, Kept) else reply
    return BatchItem(status=200, answer=QueryAnswer.model_validate(answer))


def _complain_once(items: list[BatchItem]) -> None:
    """A key that may not ask is told so itself, not in the place of every question."""
    statuses = {item.status for item in items}
    if statuses == {401}:
        raise Unauthorized
    if statuses == {403}:
        raise Forbidden(items[0].problem["detail"] if items[0].problem else None)


def _wish(asked: BatchQuestion, until: float) -> Wish:
    left_ms = int((until - time.monotonic()) * 1000)
    if left_ms < _LEAST_MS:
        raise DeadlineExceeded("time", "the time for all questions was over before this one")
    return Wish(
        asked.question,
        asked.collection,
        left_ms,
        asked.top_k,
        asked.filter,
        asked.acl,
        asked.on_cold,
        asked.generate,
        asked.cache,
        mode=asked.mode,
        per_document=asked.per_document,
    )


def _pending(id: UUID) -> AnswerPending:
    return AnswerPending(id=id, status_url=f"/v1/answers/{id}")
