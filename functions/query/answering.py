"""One answer as a sequence of events: status, sources, tokens, citations, done, or an error as the last one.

The passages are shown before the model has said anything. What happens while the model wakes is the caller's choice:
wait for it, take quotes instead, or ask another model.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal, Protocol
from uuid import UUID

from functions.query.citing import CitationFilter, Tally
from functions.query.extracting import NOT_FOUND, extract
from functions.query.prompting import Budget, CountTokens, Prompt, build
from functions.query.service import Found, QueryService, Question
from shared.core.completion import Finish, GenerationEvent, Token, Usage, Waking
from shared.core.errors import BadUpstream, ConfigurationError, DeadlineExceeded, RagzeroError, Unavailable
from shared.core.models import Citation
from shared.telemetry import get_logger

_log = get_logger(__name__)
OnCold = Literal["wait", "extractive", "fallback"]
Mode = Literal["extractive", "model", "fallback"]
ANSWER_VERSION = "2"
"""Rises with every change of the prompt or of how quotes are chosen, so that caches forget what was made before."""
UNSUPPORTED = "No passage in the documents supports this."
# A model that has said nothing for this long is taken to be asleep, where the caller does not want to wait for it.
_COLD_AFTER_S = 0.6


class Generator(Protocol):
    @property
    def model(self) -> str: ...
    def stream(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int,
        temperature: float = 0.0,
        deadline: float,
    ) -> AsyncGenerator[GenerationEvent, None]: ...
    async def knock(self) -> None: ...


class Wakeups(Protocol):
    async def woke(self, model: str, waited_s: float) -> None: ...
    async def eta_s(self, model: str) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Models:
    """The model, the one to ask while it wakes, and how much fits into either."""

    main: Generator | None = None
    fallback: Generator | None = None
    budget: Budget = field(default_factory=Budget)
    count_tokens: CountTokens = len


@dataclass(frozen=True, slots=True)
class Ask:
    """deadline: on time.monotonic's clock. extractive: quotes are wanted, no model.

    max_tokens: fewer than the settings allow an answer.
    """

    question: Question
    on_cold: OnCold
    deadline: float
    extractive: bool = False
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """state is retrieving, generating or waking_gpu."""

    state: str
    waited_s: float | None = None
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class Sources:
    found: Found


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Spent:
    """What the model took; None where nobody counted."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    gpu_seconds: float = 0.0
    cost_usd: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    answer: str
    supported: bool
    citations: list[Citation]
    mode: Mode
    spent: Spent
    tally: Tally = field(default_factory=Tally)
    truncated: bool = False


Event = Status | Sources | Text | Done


class AnswerService:
    def __init__(self, questions: QueryService, models: Models, wakeups: Wakeups) -> None:
        self._questions = questions
        self._models = models
        self._wakeups = wakeups

    @property
    def has_model(self) -> bool:
        return self._models.main is not None

    async def events(self, tenant: UUID, ask: Ask) -> AsyncGenerator[Event, None]:
        """Ends with Done, or raises. Closing it makes the model stop."""
        yield Status("retrieving")
        model = None if ask.extractive else self._models.main
        if model is not None:
            await model.knock()  # its cold start overlaps with the retrieval
        found = await self._questions.search(tenant, ask.question)
        yield Sources(found)
        if model is None or not found.retrieved.passages:
            yield self._extracted(found, ask.question)
            return
        async with aclosing(self._with_model(model, found, ask)) as events:
            async for event in events:
                yield event

    async def _with_model(self, model: Generator, found: Found, ask: Ask) -> AsyncGenerator[Event, None]:
        """The model's answer; quotes (and a warning) when it could not begin one."""
        written = False
        try:
            prompt = self._prompt(found, ask.question)
            async with aclosing(self._chosen(model, prompt, found, ask)) as events:
                async for event in events:
                    written = written or isinstance(event, Text)
                    yield event
        except (Unavailable, ConfigurationError) as error:
            if written or (isinstance(error, DeadlineExceeded) and ask.on_cold == "wait"):
                raise
            _log.warning("model_not_used", reason=str(error))
            found.warnings.append(f"quotes instead of a written answer: {_reason(error)}")
            yield self._extracted(found, ask.question)

    async def _chosen(
        self, model: Generator, prompt: Prompt, found: Found, ask: Ask
    ) -> AsyncGenerator[Event, None]:
        """The model's answer, or that of the fallback while the model sleeps."""
        try:
            async with aclosing(self._written(model, "model", prompt, found, ask)) as events:
                async for event in events:
                    yield event
        except _Asleep as asleep:
            if ask.on_cold != "fallback" or self._models.fallback is None:
                raise Unavailable("generator", "the model is waking up") from asleep
            found.warnings.append("answered by the fallback model: the model is waking up")
            async with aclosing(
                self._written(self._models.fallback, "fallback", prompt, found, ask)
            ) as events:
                async for event in events:
                    yield event

    async def _written(
        self, model: Generator, mode: Mode, prompt: Prompt, found: Found, ask: Ask
    ) -> AsyncGenerator[Event, None]:
        checked = CitationFilter(prompt.passages)
        patient = mode == "fallback" or ask.on_cold == "wait"
        usage, finish, usual = None, None, None
        most = min(ask.max_tokens or self._models.budget.answer, self._models.budget.answer)
        stream = model.stream(prompt.messages, max_tokens=most, deadline=ask.deadline)
        yield Status("generating")
        with found.timings.stage("generate"):
            async with aclosing(stream) as events:
                async for event in _unless_asleep(events, None if patient else _COLD_AFTER_S):
                    match event:
                        case Waking(waited_s):
                            usual = usual or await self._wakeups.eta_s(model.model)
                            yield Status("waking_gpu", round(waited_s, 1), _left(usual, waited_s))
                        case Token(text):
                            if shown := checked.feed(text):
                                yield Text(shown)
                        case Usage():
                            usage = event
                        case Finish():
                            finish = event
        async for last in self._closing(checked, mode, usage, finish, model):
            yield last

    async def _closing(
        self,
        checked: CitationFilter,
        mode: Mode,
        usage: Usage | None,
        finish: Finish | None,
        model: Generator,
    ) -> AsyncIterator[Event]:
        last, note, supported = checked.finish(), "", bool(checked.citations)
        if not supported and NOT_FOUND.lower() not in checked.text.lower():
            note = ("\n\n" if checked.text.strip() else "") + UNSUPPORTED
        if last or note:
            yield Text(last + note)
        if finish is not None and finish.waited_s > 1:
            await self._wakeups.woke(model.model, finish.waited_s)
        answer = (checked.text + note).strip()
        truncated = finish is not None and finish.reason == "length"
        spent = spent_on(usage, finish)
        yield Done(answer, supported, checked.citations, mode, spent, checked.tally, truncated)

    def _prompt(self, found: Found, question: Question) -> Prompt:
        models = self._models
        return build(
            question.text, found.retrieved.passages, models.budget, models.count_tokens, secrets.token_hex(8)
        )

    def _extracted(self, found: Found, question: Question) -> Done:
        with found.timings.stage("answer"):
            extracted = extract(
                found.retrieved.passages,
                found.retrieved.words,
                with_vectors=found.with_vectors,
                focus=question.focus,
            )
        return Done(extracted.answer, extracted.supported, extracted.citations, "extractive", Spent())


class _Asleep(Exception):
    """The model has not begun, and the caller does not want to wait."""


async def _unless_asleep(
    events: AsyncGenerator[GenerationEvent, None], patience_s: float | None
) -> AsyncIterator[GenerationEvent]:
    """The events; raises _Asleep when the first token takes longer than patience_s."""
    until = None if patience_s is None else time.monotonic() + patience_s
    while True:
        try:
            left = None if until is None else max(0.0, until - time.monotonic())
            event = await asyncio.wait_for(anext(events), left)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise _Asleep from error
        if isinstance(event, Waking) and until is not None:
            raise _Asleep
        until = None
        yield event


def _left(usual: float | None, waited_s: float) -> float | None:
    return None if usual is None else round(max(0.0, usual - waited_s), 1)


def spent_on(usage: Usage | None, finish: Finish | None) -> Spent:
    """What one call of a model took."""
    return Spent(
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        gpu_seconds=round(finish.total_s - finish.waited_s, 3) if finish else 0.0,
        cost_usd=finish.cost if finish else None,
    )


def _reason(error: RagzeroError) -> str:
    """For the caller: what is the matter, without the operator's details."""
    match error:
        case ConfigurationError():
            return "the model is not set up correctly"
        case DeadlineExceeded():
            return "the model did not answer in time"
        case BadUpstream():
            return "the model's server gave no usable answer"
        case _:
            return str(error)
