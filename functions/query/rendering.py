"""Answers and passages in the shapes of the API."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from functions.query.answering import Done
from functions.query.schemas import Cited, QueryAnswer, Result, Usage
from functions.query.service import Found
from shared.core.models import Citation, Passage


def answer(id: UUID, found: Found, done: Done) -> dict[str, Any]:
    return QueryAnswer(
        id=id,
        answer=done.answer,
        supported=done.supported,
        citations=[cited(citation) for citation in done.citations],
        sources=[result(passage) for passage in found.retrieved.passages],
        retrieval=found.retrieved.retrieval,
        timings_ms=found.timings.as_ms(),
        warnings=found.warnings,
        mode=done.mode,
        usage=usage(done),
        dropped_citations=done.tally.dropped_citations,
        truncated=done.truncated,
    ).model_dump(mode="json")


def usage(done: Done) -> Usage:
    spent = done.spent
    return Usage(
        prompt_tokens=spent.prompt_tokens,
        completion_tokens=spent.completion_tokens,
        gpu_seconds=spent.gpu_seconds,
        cost_usd=spent.cost_usd,
    )


def result(passage: Passage) -> Result:
    return Result(
        chunk_id=passage.chunk_id,
        document_id=passage.document_id,
        generation=passage.generation,
        uri=passage.uri,
        page=passage.page,
        headings=list(passage.headings),
        text=passage.text,
        score=round(passage.score, 4),
    )


def cited(citation: Citation) -> Cited:
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
