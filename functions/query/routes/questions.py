"""Search and answers."""

from __future__ import annotations

from fastapi import APIRouter

from functions.query.routes.access import Reader, Wired
from functions.query.schemas import Cited, QueryAnswer, QueryRequest, Result, SearchAnswer, SearchRequest
from functions.query.service import Question
from shared.core.models import Citation, Passage

router = APIRouter(prefix="/v1", tags=["questions"])


@router.post("/search")
async def search(body: SearchRequest, who: Reader, wired: Wired) -> SearchAnswer:
    """The passages that speak to a question, best first."""
    found = await wired.questions.search(who.tenant_id, _question(body))
    return SearchAnswer(
        results=[_result(passage) for passage in found.retrieved.passages],
        retrieval=found.retrieved.retrieval,
        timings_ms=found.timings.as_ms(),
        warnings=found.warnings,
    )


@router.post("/query")
async def query(body: QueryRequest, who: Reader, wired: Wired) -> QueryAnswer:
    """An answer whose every quote stands in a document, with the passages it came from."""
    answered = await wired.questions.answer(who.tenant_id, _question(body))
    found = answered.found
    return QueryAnswer(
        id=answered.id,
        answer=answered.extract.answer,
        supported=answered.extract.supported,
        citations=[_cited(citation) for citation in answered.extract.citations],
        sources=[_result(passage) for passage in found.retrieved.passages],
        retrieval=found.retrieved.retrieval,
        timings_ms=found.timings.as_ms(),
        warnings=found.warnings,
    )


def _question(body: SearchRequest) -> Question:
    return Question(body.question, body.collection, body.top_k, body.filter)


def _result(passage: Passage) -> Result:
    return Result(
        chunk_id=passage.chunk_id,
        document_id=passage.document_id,
        uri=passage.uri,
        page=passage.page,
        headings=list(passage.headings),
        text=passage.text,
        score=round(passage.score, 4),
    )


def _cited(citation: Citation) -> Cited:
    return Cited(
        marker=citation.marker,
        document_id=citation.document_id,
        uri=citation.uri,
        page=citation.page,
        quote=citation.quote,
        start=citation.start,
        end=citation.end,
        score=citation.score,
    )
