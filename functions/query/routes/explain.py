"""Why a document is or is not found."""

from __future__ import annotations

import json
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from functions.query.explaining import Explanation, Reason
from functions.query.routes.access import Reader, Wired
from functions.query.schemas import COLLECTION_FORM, MAX_TOP_K, Label, QuestionText
from functions.query.service import Question
from shared.core.errors import InvalidInput
from shared.core.labels import labels
from shared.core.retrieval import Fate, Mode, Place

router = APIRouter(prefix="/v1/explain", tags=["questions"])


class StageView(BaseModel):
    rank: int = Field(description="Of its best chunk among all chunks in scope, from 1.")
    score: float


class ExplanationView(BaseModel):
    document_id: UUID
    in_result: bool
    reason: Reason = Field(description="The stage at which the document left, or in_result.")
    detail: str = Field(description="The same for a person.")
    place: int | None = Field(description="Among the results, from 1.")
    scope: int | None = Field(
        description="Chunks that the question, its filter and labels leave to be found."
    )
    chunks: int | None = Field(description="Those of the document among them.")
    meaning: StageView | None = Field(description="By the vectors.")
    words: StageView | None = Field(description="By BM25.")
    fused: StageView | None = Field(description="By both, as retrieval ranks.")
    fetched: int | None = Field(description="Its place among the passages looked at.")
    reranked: int | None = Field(
        description="Its place among them after re-ranking; the same without a re-ranker."
    )
    passages: dict[Fate, int] = Field(
        description="What became of its passages among those looked at: chosen, a duplicate of a better one, over the "
        "document's share, or ranked too low."
    )
    candidates: int = Field(description="How many passages were looked at.")
    retrieval: str | None = Field(description="How, as in POST /v1/search.")


@router.get("")
async def explain(
    question: QuestionText,
    document_id: UUID,
    who: Reader,
    wired: Wired,
    collection: Annotated[str, Query(max_length=63, json_schema_extra=COLLECTION_FORM)] = "default",
    top_k: Annotated[int, Query(ge=1, le=MAX_TOP_K)] = 5,
    mode: Mode = "balanced",
    per_document: Annotated[int | None, Query(ge=1, le=MAX_TOP_K)] = None,
    filter: Annotated[str | None, Query(max_length=8_000, description="As in a body, in JSON.")] = None,
    acl: Annotated[list[Label] | None, Query(max_length=32, description="As in a body.")] = None,
) -> ExplanationView:
    """Where a document stands at each stage of a question, and why it is or is not in the result.

    Every chunk in scope is scored for this, however many there are.
    """
    seen = who.narrowed(None if acl is None else list(labels(acl)))
    asked = Question(question, collection, top_k, _filter(filter), seen, mode, per_document)
    return _view(document_id, await wired.explaining.explain(who, asked, document_id))


def _filter(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("filter is not JSON", field="filter") from error
    if not isinstance(found, dict):
        raise InvalidInput("filter is a JSON object", field="filter")
    return found


def _view(id: UUID, found: Explanation) -> ExplanationView:
    standing = found.standing
    return ExplanationView(
        document_id=id,
        in_result=found.reason == "in_result",
        reason=found.reason,
        detail=found.detail,
        place=found.place,
        scope=standing.scope if standing else None,
        chunks=standing.chunks if standing else None,
        meaning=_stage(standing.meaning if standing else None),
        words=_stage(standing.words if standing else None),
        fused=_stage(standing.fused if standing else None),
        fetched=found.fetched,
        reranked=found.ranked,
        passages=dict(found.passages),
        candidates=found.candidates,
        retrieval=found.retrieval,
    )


def _stage(place: Place | None) -> StageView | None:
    return StageView(rank=place.rank, score=place.score) if place else None
