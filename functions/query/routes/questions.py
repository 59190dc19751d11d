"""Search and answers."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field

from functions.query.desk import Request, Running
from functions.query.rendering import result
from functions.query.routes.access import Reader, Wired
from functions.query.schemas import AnswerPending, QueryAnswer, QueryRequest, SearchAnswer, SearchRequest
from functions.query.service import Question
from functions.query.streaming import server_sent

router = APIRouter(prefix="/v1", tags=["questions"])
_BUFFERED_MS = 25_000
_STREAMED_MS = 300_000
_PENDING: dict[int | str, dict[str, Any]] = {
    202: {"model": AnswerPending, "description": "Still being written."}
}


@router.post("/search")
async def search(body: SearchRequest, who: Reader, wired: Wired) -> SearchAnswer:
    """The passages that speak to a question, best first."""
    found = await wired.questions.search(who.tenant_id, _question(body))
    return SearchAnswer(
        results=[result(passage) for passage in found.retrieved.passages],
        retrieval=found.retrieved.retrieval,
        timings_ms=found.timings.as_ms(),
        warnings=found.warnings,
    )


@router.post("/query", response_model=QueryAnswer, responses=_PENDING)
async def query(body: QueryRequest, who: Reader, wired: Wired) -> Response:
    """An answer whose every citation stands in a document, with the passages it came from."""
    if body.stream:
        id = uuid4()
        events = wired.desk.stream(who.tenant_id, id, _request(body, _STREAMED_MS))
        return StreamingResponse(
            server_sent(id, events), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )
    return _delivered(await wired.desk.answer(who.tenant_id, _request(body, _BUFFERED_MS)))


@router.get("/answers/{id}", response_model=QueryAnswer, responses=_PENDING)
async def answer(id: Annotated[UUID, Field()], who: Reader, wired: Wired) -> Response:
    """An answer that a model wrote, or is writing. Kept for a day, and while its documents are what they were."""
    return _delivered(await wired.desk.fetch(who.tenant_id, id))


def _delivered(answer: dict[str, Any] | Running) -> Response:
    if isinstance(answer, Running):
        url = f"/v1/answers/{answer.id}"
        pending = AnswerPending(id=answer.id, status_url=url)
        return JSONResponse(
            pending.model_dump(mode="json"), 202, headers={"Location": url, "Retry-After": "2"}
        )
    return JSONResponse(answer)


def _question(body: SearchRequest) -> Question:
    return Question(body.question, body.collection, body.top_k, body.filter)


def _request(body: QueryRequest, usual_ms: int) -> Request:
    return Request(_question(body), body.on_cold, body.deadline_ms or usual_ms, extractive=not body.generate)
