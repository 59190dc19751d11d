"""Why a document is, or is not, among what a question finds: where it stands at each stage, and at which one it left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol
from uuid import UUID

from functions.query.service import QueryService, Question, Trace
from shared.core.credentials import Principal
from shared.core.models import Document, Passage
from shared.core.retrieval import Fate, Standing

Reason = Literal[
    "in_result",
    "not_searchable",
    "other_collection",
    "acl",
    "filter",
    "no_match",
    "below_candidates",
    "duplicate",
    "top_k",
]


class Documents(Protocol):
    async def get(self, who: Principal, id: UUID) -> Document: ...


@dataclass(frozen=True, slots=True)
class Explanation:
    """place: among the results, from 1; fetched and ranked: among what was looked at, before and after re-ranking.

    passages: what became of those of the document that were looked at.
    """

    reason: Reason
    detail: str
    standing: Standing | None = None
    fetched: int | None = None
    ranked: int | None = None
    place: int | None = None
    passages: Mapping[Fate, int] = field(default_factory=dict)
    candidates: int = 0
    retrieval: str | None = None


class ExplainService:
    def __init__(self, questions: QueryService, documents: Documents) -> None:
        self._questions = questions
        self._documents = documents

    async def explain(self, who: Principal, question: Question, id: UUID) -> Explanation:
        """Raises NotFound for what the caller may not see, as everywhere."""
        document = await self._documents.get(who, id)
        if document.chunks == 0:
            because = f": {document.reason}" if document.reason else ""
            return Explanation("not_searchable", f"the document is {document.status}{because}")
        if document.collection != question.collection:
            return Explanation(
                "other_collection", f"the document is in the collection {document.collection!r}"
            )
        standing = await self._questions.standing(who.tenant_id, question, id)
        if gone := _out_of_scope(standing, filtered=question.filter is not None):
            return gone
        trace = await self._questions.traced(who.tenant_id, question)
        return _traced(trace, standing, id, question.top_k)


def _out_of_scope(standing: Standing, *, filtered: bool) -> Explanation | None:
    if not standing.visible:
        return Explanation("acl", "the labels of the question do not include one of the document's", standing)
    if standing.chunks == 0 and filtered:
        return Explanation("filter", "no passage of the document passes the filter", standing)
    if standing.chunks == 0:
        return Explanation("no_match", "the document shares no word with the question", standing)
    return None


def _traced(trace: Trace, standing: Standing, id: UUID, top_k: int) -> Explanation:
    found = trace.found.retrieved
    mine = [fate for one, fate in zip(found.passages, trace.fates, strict=True) if one.document_id == id]
    reason, detail = _verdict(trace, standing, id, mine, top_k)
    return Explanation(
        reason,
        detail,
        standing,
        fetched=_first(trace.fetched, id),
        ranked=_first(found.passages, id),
        place=_first(trace.chosen, id),
        passages=dict(Counter(mine)),
        candidates=len(found.passages),
        retrieval=found.retrieval,
    )


def _verdict(trace: Trace, standing: Standing, id: UUID, mine: list[Fate], top_k: int) -> tuple[Reason, str]:
    ranked = trace.found.retrieved.passages
    if not mine:
        rank = standing.fused.rank if standing.fused else standing.scope
        return "below_candidates", f"rank {rank} of {standing.scope} is below the {len(ranked)} looked at"
    if "chosen" in mine:
        return "in_result", f"place {_first(trace.chosen, id)} of {len(trace.chosen)}"
    if "duplicate" in mine:
        return "duplicate", "its best passage has the same text as one that ranks higher"
    return "top_k", f"place {_first(ranked, id)} of those looked at; {top_k} are shown"


def _first(passages: list[Passage], id: UUID) -> int | None:
    return next((place for place, one in enumerate(passages, 1) if one.document_id == id), None)
