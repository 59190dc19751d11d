"""Sets of questions asked in one space, and what the answers are worth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from functions.query.answering import AnswerService, Ask, Done, Sources, Spent
from functions.query.evaluation_schemas import (
    EvaluationView,
    GoldenQuestion,
    Judged,
    NewEvaluation,
    OutcomeView,
    QuestionAsked,
)
from functions.query.service import Found, Question
from shared.core.credentials import Principal
from shared.core.errors import Conflict, RagzeroError
from shared.core.evaluation import Golden, Outcome, Summary, Verdict, compared, judged, summarised
from shared.core.models import Citation, Passage, Space

_SECONDS = 25.0


class Run(Protocol):
    """One evaluation as it is stored."""

    @property
    def id(self) -> int: ...
    @property
    def space_id(self) -> int: ...
    @property
    def candidate_id(self) -> int | None: ...
    @property
    def candidate_of(self) -> str | None: ...
    @property
    def questions_digest(self) -> str: ...
    @property
    def k(self) -> int: ...
    @property
    def generated(self) -> bool: ...
    @property
    def finished_at(self) -> datetime | None: ...


class Store(Protocol):
    async def make(
        self,
        tenant: UUID,
        name: str,
        space: Space,
        digest: str,
        k: int,
        generated: bool,
        made_by: str,
        candidate: str | None,
    ) -> Run: ...
    async def get(self, tenant: UUID, id: int) -> Run: ...
    async def listed(self, tenant: UUID, limit: int, before: int | None = None) -> Sequence[Run]: ...
    async def note(self, tenant: UUID, id: int, number: int, question: str, outcome: Outcome) -> None: ...
    async def outcomes(
        self, tenant: UUID, id: int, after: int = ..., limit: int = ...
    ) -> list[tuple[int, str, Outcome]]: ...
    async def finish(self, tenant: UUID, id: int, summary: Summary) -> Run: ...
    async def recent(self, tenant: UUID, limit: int) -> list[dict[str, str]]: ...
    async def golden(self, tenant: UUID, limit: int) -> list[dict[str, Any]]: ...


class Spaces(Protocol):
    async def space(self, id: int | None = None) -> Space: ...


class Spending(Protocol):
    async def record(self, tenant: UUID, spent: Spent, admission: None) -> None: ...


class EvaluationService:
    def __init__(self, store: Store, answers: AnswerService, spaces: Spaces, spending: Spending) -> None:
        self._store = store
        self._answers = answers
        self._spaces = spaces
        self._spending = spending

    async def begin(self, who: Principal, wanted: NewEvaluation) -> EvaluationView:
        """Bound to the space that is asked for, or the active one, and to the candidate, from here on."""
        space = await self._spaces.space(wanted.space)
        generated = wanted.generate and self._answers.has_model
        made = await self._store.make(
            who.tenant_id,
            wanted.name,
            space,
            wanted.questions_digest,
            wanted.k,
            generated,
            who.key_id,
            wanted.candidate,
        )
        return _view(made)

    async def ask(self, who: Principal, id: int, asked: QuestionAsked) -> Judged:
        """Answers a question in the evaluation's space, past all caches, and keeps what that was worth."""
        run = await self._store.get(who.tenant_id, id)
        question = Question(
            asked.question,
            asked.collection,
            run.k,
            asked.filter,
            who.acl,
            space=run.space_id,
            candidate=run.candidate_id if asked.collection == run.candidate_of else None,
        )
        found, done, elapsed = await self._answered(who.tenant_id, question, generate=run.generated)
        golden = Golden(asked.question, tuple(asked.documents), tuple(asked.answers))
        passages = found.retrieved.passages[: run.k]
        outcome = replace(
            judged(golden, [_names(one) for one in passages], map(_names, done.citations), done.answer),
            supported=done.supported,
            latency_ms=round(elapsed * 1000, 3),
            cost_usd=done.spent.cost_usd,
        )
        await self._store.note(who.tenant_id, id, asked.number, asked.question, outcome)
        return Judged(answer=done.answer, mode=done.mode, **outcome.to_dict())

    async def finish(self, who: Principal, id: int) -> EvaluationView:
        run = await self._store.get(who.tenant_id, id)
        outcomes = [outcome for _, _, outcome in await self._store.outcomes(who.tenant_id, id)]
        if not outcomes:
            raise Conflict(f"evaluation {id} has not been asked a question yet")
        return _view(await self._store.finish(who.tenant_id, id, summarised(outcomes, run.k)))

    async def get(self, who: Principal, id: int) -> EvaluationView:
        return _view(await self._store.get(who.tenant_id, id))

    async def listed(self, who: Principal, limit: int, before: int | None) -> list[EvaluationView]:
        return [_view(run) for run in await self._store.listed(who.tenant_id, limit, before)]

    async def outcomes(self, who: Principal, id: int, after: int, limit: int) -> list[OutcomeView]:
        await self._store.get(who.tenant_id, id)
        rows = await self._store.outcomes(who.tenant_id, id, after, limit)
        return [OutcomeView(number=n, question=text, **one.to_dict()) for n, text, one in rows]

    async def recent(self, who: Principal, limit: int) -> list[dict[str, str]]:
        return await self._store.recent(who.tenant_id, limit)

    async def golden(self, who: Principal, limit: int) -> list[GoldenQuestion]:
        return [GoldenQuestion(**one) for one in await self._store.golden(who.tenant_id, limit)]

    async def compare(
        self, who: Principal, before: int, after: int, margin: float, least_overlap: float
    ) -> tuple[Verdict, Run, Run]:
        """Raises Conflict when the two did not ask the same questions to the same depth."""
        runs = [await self._store.get(who.tenant_id, id) for id in (before, after)]
        rows = [await self._store.outcomes(who.tenant_id, run.id) for run in runs]
        numbers = [[number for number, _, _ in asked] for asked in rows]
        if len({(run.questions_digest, run.k) for run in runs}) > 1 or numbers[0] != numbers[1]:
            raise Conflict(f"evaluations {before} and {after} did not ask the same questions with the same k")
        earlier, later = ([outcome for _, _, outcome in asked] for asked in rows)
        verdict = compared(earlier, later, runs[0].k, margin=margin, least_overlap=least_overlap)
        return verdict, runs[0], runs[1]

    async def _answered(
        self, tenant: UUID, question: Question, *, generate: bool
    ) -> tuple[Found, Done, float]:
        started, found, done = time.perf_counter(), None, None
        ask = Ask(question, "wait", time.monotonic() + _SECONDS, extractive=not generate)
        async with aclosing(self._answers.events(tenant, ask)) as events:
            async for event in events:
                if isinstance(event, Sources):
                    found = event.found
                if isinstance(event, Done):
                    done = event
        if found is None or done is None:
            raise RagzeroError("an answer ended without its sources")
        if done.mode != "extractive":
            await self._spending.record(tenant, done.spent, None)
        return found, done, time.perf_counter() - started


def _names(source: Passage | Citation) -> tuple[str, str, str]:
    return source.uri, source.uri.split("/", 3)[-1], str(source.document_id)


def _view(run: Run) -> EvaluationView:
    return EvaluationView.model_validate(run, from_attributes=True)
