"""Search and answers."""

from __future__ import annotations

import time
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse
from pydantic import Field

from functions.query.asking import BUFFERED_MS, LONGEST_MS, STREAMED_MS, Wish, slot
from functions.query.desk import Reply, Running
from functions.query.fastlane import ADMISSION, BODY
from functions.query.kept import Kept
from functions.query.rendering import result
from functions.query.routes.access import ApiKey, Reader, Wired
from functions.query.schemas import AnswerPending, QueryAnswer, QueryRequest, SearchAnswer, SearchRequest
from functions.query.service import Question
from functions.query.streaming import event_stream, server_sent
from shared.core.conversation import Conversation, focus
from shared.core.credentials import Principal

router = APIRouter(prefix="/v1", tags=["questions"])
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
    asked = Conversation(body.question, tuple(body.earlier))
    question = await wired.asking.question(key, asked, written=body.generate)
    wish = _wish(body, question, focus(asked, question))
    stream = slot(wish.deadline_ms) if body.stream else None
    admission = request.scope.get(ADMISSION) or await wired.asking.admit(key, wish, stream)
    if body.cache == "read" and not body.stream and not body.earlier and request.scope.get(BODY):
        wired.bodies.learn(request.scope[BODY], wired.asking.order(wish), body.acl)
    if stream is not None:
        events = wired.asking.events(admission, wish, stream)
        condensed = None if question == body.question else question
        return event_stream(server_sent(UUID(stream.id), events, condensed))
    return _delivered(await wired.asking.whole(admission, wish), started)


@router.get("/answers/{id}", response_model=QueryAnswer, responses=_PENDING)
async def answer(id: Annotated[UUID, Field()], who: Reader, wired: Wired) -> Response:
    """An answer that a model wrote, or is writing. Kept for a day, and while its documents are what they were."""
    return _delivered(await wired.desk.fetch(who, id), time.perf_counter())


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
    acl = who.narrowed(body.acl)
    return Question(
        body.question, body.collection, body.top_k, body.filter, acl, body.mode, body.per_document
    )


def _wish(body: QueryRequest, question: str, focus: str | None) -> Wish:
    longest, usual = (LONGEST_MS, STREAMED_MS) if body.stream else (BUFFERED_MS, BUFFERED_MS)
    return Wish(
        question,
        body.collection,
        min(body.deadline_ms or usual, longest),
        body.top_k,
        body.filter,
        body.acl,
        body.on_cold,
        body.generate,
        body.cache,
        mode=body.mode,
        per_document=body.per_document,
        focus=focus,
    )
