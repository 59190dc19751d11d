"""What answers to a set of questions are worth, in the active space or in one that is to follow it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from functions.query.evaluation_schemas import (
    Comparison,
    EvaluationView,
    GoldenQuestion,
    Judged,
    NewEvaluation,
    OutcomeView,
    QuestionAsked,
    RecentQuestion,
)
from functions.query.routes.access import Operator, Wired

router = APIRouter(prefix="/v1/evaluations", tags=["evaluations"])
_Limit = Annotated[int, Query(ge=1, le=1000)]
_Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
_Share = Annotated[float, Query(ge=0, le=1)]


@router.post("", status_code=201)
async def begin(body: NewEvaluation, who: Operator, wired: Wired) -> EvaluationView:
    """Binds a run to a space; then its questions are asked one by one."""
    return await wired.evaluations.begin(who, body)


@router.get("")
async def listed(
    who: Operator,
    wired: Wired,
    limit: _Limit = 50,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> list[EvaluationView]:
    """Newest first; those before the id given."""
    return await wired.evaluations.listed(who, limit, before)


@router.get("/recent-questions")
async def recent(who: Operator, wired: Wired, limit: _Limit = 200) -> list[RecentQuestion]:
    """What was asked of a model within the last day, to be asked again in another space."""
    return [RecentQuestion(**one) for one in await wired.evaluations.recent(who, limit)]


@router.get("/feedback-questions")
async def golden(who: Operator, wired: Wired, limit: _Limit = 200) -> list[GoldenQuestion]:
    """What feedback tells of questions and what is expected of their answers: the makings of a golden set."""
    return await wired.evaluations.golden(who, limit)


@router.get("/{id}")
async def get(id: _Id, who: Operator, wired: Wired) -> EvaluationView:
    """One run, with its summary once it is finished."""
    return await wired.evaluations.get(who, id)


@router.post("/{id}/questions")
async def ask(id: _Id, body: QuestionAsked, who: Operator, wired: Wired) -> Judged:
    """Answers a question in the run's space, past all caches. Asked again, it counts once."""
    return await wired.evaluations.ask(who, id, body)


@router.get("/{id}/questions")
async def outcomes(
    id: int,
    who: Operator,
    wired: Wired,
    after: Annotated[int, Query(ge=-1, le=2**31 - 1)] = -1,
    limit: _Limit = 200,
) -> list[OutcomeView]:
    """What each question was answered with, in the order of their numbers."""
    return await wired.evaluations.outcomes(who, id, after, limit)


@router.post("/{id}/finish")
async def finish(id: _Id, who: Operator, wired: Wired) -> EvaluationView:
    """Sums the questions up; no more can be asked."""
    return await wired.evaluations.finish(who, id)


@router.get("/{before}/compare/{after}")
async def compare(
    before: int, after: int, who: Operator, wired: Wired, margin: _Share = 0.02, least_overlap: _Share = 0.0
) -> Comparison:
    """Two runs of the same questions: what changed, and whether anything fell by more than the margin."""
    verdict, earlier, later = await wired.evaluations.compare(who, before, after, margin, least_overlap)
    return Comparison(
        changes=verdict.changes,
        overlap=verdict.overlap,
        worse=list(verdict.worse),
        passed=verdict.passed,
        before=EvaluationView.model_validate(earlier, from_attributes=True),
        after=EvaluationView.model_validate(later, from_attributes=True),
    )
