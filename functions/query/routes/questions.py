"""Search and answers."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any
from uuid import UUID, uuid4

from anyio import CancelScope
from fastapi import APIRouter, Response
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field

from functions.query.desk import Reply, Request, Running
from functions.query.fastlane import ADMISSION, BODY
from functions.query.flights import Event
from functions.query.gate import Admission
from functions.query.kept import Kept, parsed
from functions.query.rendering import result
from functions.query.routes.access import ApiKey, Reader, Wired
from functions.query.schemas import AnswerPending, QueryAnswer, QueryRequest, SearchAnswer, SearchRequest
from functions.query.service import Question
from functions.query.streaming import server_sent
from functions.query.wiring import Graph
from shared.core.credentials import Principal
from shared.core.recipes import Order
from shared.core.visits import Stream
from shared.telemetry import metrics

router = APIRouter(prefix="/v1", tags=["questions"])
_BUFFERED_MS = 25_000
_STREAMED_MS = 300_000
_LONGEST_MS = 900_000
_PENDING: dict[int | str, dict[str, Any]] = {
    202: {"model": AnswerPending, "description": "Still being written."}
}


@router.post("/search")
async def search(body: SearchRequest, who: Reader, wired: Wired) -> SearchAnswer:
    """The passages that speak to a question, best first."""
    found = await wired.questions.search(who.tenant_id, _question(body, who))
    return SearchAnswer(
        results=[result(passage) for passage in found.retrieved.passages],
        retrieval=found.retrieved.retrieval,
        timings_ms=found.timings.as_ms(),
        warnings=found.warnings,
    )


@router.post("/query", response_model=QueryAnswer, responses=_PENDING)
async def query(body: QueryRequest, key: ApiKey, wired: Wired, request: HttpRequest) -> Response:
    """An answer whose every citation stands in a document, with the passages it came from."""
    started = time.perf_counter()
    order = _order(body, written=body.generate and wired.desk.has_model)
    stream = Stream(uuid4().hex, (body.deadline_ms or _STREAMED_MS) / 1000) if body.stream else None
    admission = request.scope.get(ADMISSION) or await wired.gate.admit(
        key, lambda who: wired.answers.asked(who, order, body.acl, read=body.cache == "read"), stream
    )
    who = admission.who.require("query")
    if body.cache == "read" and not body.stream and request.scope.get(BODY):
        wired.bodies.learn(request.scope[BODY], order, body.acl)
    if stream is not None:
        return _streamed(wired, admission, _request(body, who, order, _STREAMED_MS), stream)
    if admission.answer is not None:
        return Response(_kept(admission).response(started), media_type="application/json")
    return _delivered(await wired.desk.answer(admission, _request(body, who, order, _BUFFERED_MS)), started)


@router.get("/answers/{id}", response_model=QueryAnswer, responses=_PENDING)
async def answer(id: Annotated[UUID, Field()], who: Reader, wired: Wired) -> Response:
    """An answer that a model wrote, or is writing. Kept for a day, and while its documents are what they were."""
    return _delivered(await wired.desk.fetch(who, id), time.perf_counter())


def _streamed(wired: Graph, admission: Admission, request: Request, stream: Stream) -> Response:
    id = UUID(stream.id)
    events = _once(_kept(admission)) if admission.answer else wired.desk.stream(admission, id, request)

    async def sent() -> AsyncGenerator[str, None]:
        try:
            async with aclosing(server_sent(id, events)) as lines:
                async for line in lines:
                    yield line
        finally:
            with CancelScope(shield=True):
                await wired.gate.end_stream(admission, stream)

    return StreamingResponse(sent(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _once(kept: Kept) -> AsyncGenerator[Event, None]:
    yield kept


def _kept(admission: Admission) -> Kept:
    assert admission.answer is not None
    metrics.count("cache_lookups", result="exact")
    return parsed(admission.answer, admission.epoch or 0)


def _delivered(answer: Reply, started: float) -> Response:
    """started: on time.perf_counter's clock."""
    if isinstance(answer, Kept):
        return Response(answer.response(started), media_type="application/json")
    if isinstance(answer, Running):
        url = f"/v1/answers/{answer.id}"
        pending = AnswerPending(id=answer.id, status_url=url)
        return JSONResponse(
            pending.model_dump(mode="json"), 202, headers={"Location": url, "Retry-After": "2"}
        )
    return JSONResponse(answer)


def _question(body: SearchRequest, who: Principal) -> Question:
    return Question(body.question, body.collection, body.top_k, body.filter, who.narrowed(body.acl))


def _order(body: QueryRequest, *, written: bool) -> Order:
    return Order(body.question, body.collection, body.top_k, body.filter, written)


def _request(body: QueryRequest, who: Principal, order: Order, usual_ms: int) -> Request:
    return Request(
        _question(body, who),
        body.on_cold,
        min(body.deadline_ms or usual_ms, _LONGEST_MS if body.stream else usual_ms),
        extractive=not body.generate,
        order=order,
        labels=body.acl,
        read=body.cache == "read",
        keep=body.cache != "bypass",
    )
