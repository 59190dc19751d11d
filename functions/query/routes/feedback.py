"""What people thought of answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, BaseModel, Field

from functions.query import paging
from functions.query.routes.access import Operator, Reader, Wired
from functions.query.schemas import COLLECTION_PATTERN, Filter, QuestionText, StrictRequest
from shared.core import filters
from shared.core.errors import NotFound
from shared.core.models import Rating

router = APIRouter(prefix="/v1")
_MOST = 4_000


def _plain(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain NUL")
    return text


Words = Annotated[str, Field(max_length=_MOST), AfterValidator(_plain)]


class FeedbackGiven(StrictRequest):
    rating: Rating
    comment: Words | None = None
    expected: Words | None = Field(None, description="What the answer should have been.")
    question: QuestionText | None = Field(
        None,
        description="Needed where the answer is not kept: quotes are not, and nothing is for longer than a day.",
    )
    collection: Annotated[str, Field(pattern=COLLECTION_PATTERN)] | None = Field(
        None, description="That the question was about, where the answer is not kept."
    )
    filter: Filter | None = Field(None, description="As the question had it, where the answer is not kept.")


class FeedbackView(BaseModel):
    id: int
    answer_id: UUID
    key_id: str
    question: str
    rating: Rating
    comment: str | None
    expected: str | None
    created_at: datetime
    collection: str | None = Field(description="null where nobody told.")
    filter: dict[str, Any] | None


class FeedbackPage(BaseModel):
    items: list[FeedbackView]
    next_cursor: str | None


@router.post("/answers/{id}/feedback", status_code=204, tags=["questions"])
async def give(id: UUID, body: FeedbackGiven, who: Reader, wired: Wired) -> Response:
    """Whether an answer was of use. What this key said about it before is replaced."""
    if body.filter is not None:
        filters.parse(body.filter)
    known = await wired.feedback.give(
        who,
        id,
        body.rating,
        question=body.question,
        comment=body.comment,
        expected=body.expected,
        collection=body.collection,
        filter=body.filter,
    )
    if not known:
        raise NotFound("there is no such answer any more; repeat its question to say something about it")
    return Response(status_code=204)


@router.get("/admin/feedback", tags=["administration"])
async def given(
    who: Operator,
    wired: Wired,
    tenant_id: Annotated[UUID | None, Query(description="The key's own unless said.")] = None,
    rating: Rating | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> FeedbackPage:
    """Newest first: questions, and what people thought of their answers, as a golden set is made from."""
    rows = await wired.feedback.list(
        tenant_id or who.tenant_id,
        limit=limit + 1,
        rating=rating,
        after=paging.opened(cursor, paging.number),
    )
    shown, following = paging.page(rows, limit)
    items = [FeedbackView.model_validate(row, from_attributes=True) for row in shown]
    return FeedbackPage(items=items, next_cursor=following)
