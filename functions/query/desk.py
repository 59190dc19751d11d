"""How answers reach their callers: at once, as a stream, or later under an address of their own.

Identical questions are answered once: in this process by following the same flight, across processes by waiting for
what the other one puts in the cache. An answer that a model writes is kept for a day; whoever asks for one that nobody
writes any more (the process was frozen, the caller of the stream went away) makes it go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID, uuid4

from functions.query.answer_cache import AnswerCache, Turn, lasting
from functions.query.answering import AnswerService, Ask, Done, OnCold, Sources, Status, Text
from functions.query.flights import Event, Flight, Flights
from functions.query.gate import Admission, Gate
from functions.query.kept import Kept
from functions.query.likeness import SemanticCache
from functions.query.service import Found, QueryService, Question
from functions.query.spending import Spending
from shared.core.credentials import Principal
from shared.core.errors import Gone, NotFound, RagzeroError
from shared.core.labels import Labels
from shared.core.models import StoredAnswer
from shared.core.recipes import Order
from shared.core.vectors import packed as pack
from shared.core.vectors import unpacked
from shared.telemetry import metrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RESUME_S = 25.0
_LEASE_MARGIN_S = 10.0


class Store(Protocol):
    async def begin(self, tenant: UUID, id: UUID, request: Mapping[str, Any], lease_s: float) -> None: ...
    async def finish(
        self,
        tenant: UUID,
        id: UUID,
        body: Mapping[str, Any],
        sources: Sequence[tuple[UUID, int]],
        *,
        failed: bool = False,
    ) -> None: ...
    async def release(self, tenant: UUID, id: UUID) -> None: ...
    async def resume(
        self, tenant: UUID, acl: Labels, id: UUID, lease_s: float
    ) -> Mapping[str, Any] | None: ...
    async def get(self, tenant: UUID, acl: Labels, id: UUID) -> StoredAnswer | None: ...


class Epochs(Protocol):
    async def epoch(self, tenant: UUID) -> int: ...


class Render(Protocol):
    """Makes the stored (and sent) form of an answer."""

    def __call__(self, id: UUID, found: Found, done: Done) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Request:
    """deadline_ms: how long the caller waits for all of it.

    order, labels: what names the answer in the caches. read: an answer made before will do; keep: this one will do for
    others.
    """

    question: Question
    on_cold: OnCold
    deadline_ms: int
    extractive: bool
    order: Order | None = None
    labels: list[str] | None = None
    read: bool = True
    keep: bool = True
    max_tokens: int | None = None

    def to_dict(self) -> dict[str, Any]:
        question = self.question
        return {
            "question": question.text,
            "collection": question.collection,
            "top_k": question.top_k,
            "filter": question.filter,
            "acl": None if question.acl is None else list(question.acl),
            "on_cold": self.on_cold,
            "max_tokens": self.max_tokens,
            "mode": question.mode,
            "per_document": question.per_document,
            "focus": question.focus,
        }


@dataclass(frozen=True, slots=True)
class Running:
    """The answer is being written; ask for it again."""

    id: UUID


Reply = dict[str, Any] | Kept | Running


@dataclass(frozen=True, slots=True)
class Caches:
    """Answers by their very question in Redis, by its meaning in Postgres."""

    exact: AnswerCache
    semantic: SemanticCache


class AnswerDesk:
    """patience_s: how long a model is waited for when nobody holds the line."""

    def __init__(
        self,
        answers: AnswerService,
        store: Store,
        render: Render,
        patience_s: float,
        questions: QueryService,
        caches: Caches,
        spending: Spending,
        epochs: Epochs,
        gate: Gate,
    ) -> None:
        self._answers = answers
        self._questions = questions
        self._store = store
        self._render = render
        self._patience_s = patience_s
        self._caches = caches
        self._spending = spending
        self._epochs = epochs
        self._gate = gate
        self._flights = Flights()

    @property
    def has_model(self) -> bool:
        return self._answers.has_model

    async def answer(self, admission: Admission, request: Request) -> Reply:
        """The whole answer, or where it will be when the caller's time ends first."""
        goes_on = self._writes(request)
        flight = await self._joined(admission, request, self._patience_s, kept=goes_on)
        reply = await _awaited(flight, request.deadline_ms / 1000 if goes_on else None)
        if isinstance(reply, Running):
            await flight.promise()
        return reply

    async def stream(self, admission: Admission, id: UUID, request: Request) -> AsyncGenerator[Event, None]:
        """The events as they come. When all who follow go away, the model stops, and the answer can be resumed."""
        flight = await self._joined(admission, request, request.deadline_ms / 1000, id=id)
        async with aclosing(flight.follow()) as events:
            async for event in events:
                yield event

    async def fetch(self, who: Principal, id: UUID) -> Reply:
        """A kept answer. Raises NotFound, and Gone when a document it came from has changed since."""
        kept = await self._store.get(who.tenant_id, who.acl, id)
        if kept is None:
            raise NotFound("there is no such answer; answers are kept for a day")
        if kept.status == "running":
            return await self._resumed(who, id)
        if not kept.current:
            raise Gone("a document this answer came from was changed or deleted since; ask again")
        if kept.status == "failed":
            raise RagzeroError((kept.body or {}).get("detail"))
        return kept.body or {}

    async def close(self) -> None:
        """Lets go of answers in the making; whoever asks for them later makes them go on."""
        await self._flights.close()

    def _writes(self, request: Request) -> bool:
        return self._answers.has_model and not request.extractive

    async def _joined(
        self,
        admission: Admission,
        request: Request,
        seconds: float,
        *,
        id: UUID | None = None,
        kept: bool = False,
    ) -> Flight:
        """The flight of the same question that is under way, or a new one."""
        name = None
        if request.read and admission.asked is not None:
            name = f"{admission.asked.answer} {request.on_cold}"
            if flight := await self._flights.joinable(name, lambda: self._epoch(admission)):
                flight.kept = flight.kept or kept
                metrics.count("flights_joined")
                return flight
        flight = Flight(id or uuid4(), kept=kept)
        maker = _Maker(self, flight, admission.who.tenant_id, request, time.monotonic() + seconds)
        flight.promise = maker.promised
        self._flights.begin(flight, name, maker.made(admission))
        return flight

    async def _epoch(self, admission: Admission) -> int:
        """Not older than when the caller came."""
        known = admission.epoch
        return known if known is not None else await self._epochs.epoch(admission.who.tenant_id)

    async def _resumed(self, who: Principal, id: UUID) -> Reply:
        lease_s = self._patience_s + _LEASE_MARGIN_S
        stored = await self._store.resume(who.tenant_id, who.acl, id, lease_s)
        if stored is None:
            return Running(id)
        flight = Flight(id, kept=True)
        maker = _Maker(self, flight, who.tenant_id, _request(stored), time.monotonic() + self._patience_s)
        maker.begun = asyncio.create_task(_nothing())
        self._flights.begin(flight, None, maker.resumed())
        return await _awaited(flight, _RESUME_S)


@dataclass(slots=True)
class _Maker:
    """Makes one answer, event by event, into its flight."""

    desk: AnswerDesk
    flight: Flight
    tenant: UUID
    request: Request
    deadline: float
    found: Found | None = None
    vector_kept: asyncio.Task[None] | None = None
    begun: asyncio.Task[None] | None = None

    async def promised(self) -> None:
        """From here on the answer can be asked for by its id."""
        if self.begun is None:
            self.begun = asyncio.create_task(self._begin())
        await asyncio.shield(self.begun)

    async def resumed(self) -> None:
        await self.written(None)

    async def made(self, admission: Admission) -> None:
        """What another process makes of the same question is waited for, not made again."""
        exact = self.desk._caches.exact
        turn = await exact.turn(admission, self.deadline) if self.request.read else Turn()
        if isinstance(turn, Kept):
            await self._reuse(turn)
            return
        kept = False
        try:
            async with exact.flying(turn):
                kept = await self._made(admission)
        finally:
            await asyncio.shield(exact.land(turn, kept=kept))

    async def _made(self, admission: Admission) -> bool:
        """Whether it went into the cache."""
        if found := await self._similar(admission):
            await self._reuse(found)
            return False
        metrics.count("cache_lookups", result="no")
        objection = await self.desk._spending.objection(admission)
        instead = objection if self.desk._writes(self.request) else None
        if self.desk._writes(self.request) and not instead and self.begun is None:
            self.begun = asyncio.create_task(self._begin())
        return await self.written(admission, instead)

    async def _similar(self, admission: Admission) -> Kept | None:
        """The vector is made here and remembered for the retrieval."""
        if self.request.question.space is not None:
            return None
        # of the space whose vector follows: it may be another one later
        partition = self._partition(admission)
        vector = await self._vector(admission)
        if vector is None or not (self.request.read and self._by_meaning):
            return None
        semantic, question = self.desk._caches.semantic, self.request.question.text
        return await semantic.find(self.tenant, partition, question, vector)

    async def _vector(self, admission: Admission) -> NDArray[np.float32] | None:
        """From Redis when it was there on the way in, else made now and put there."""
        questions, text = self.desk._questions, self.request.question.text
        named = self.desk._caches.exact.names_vector(admission.asked, self.tenant, text)
        packed = admission.visited.vector if admission.visited and named else None
        if packed and (known := unpacked(packed, questions.active.dimension)) is not None:
            questions.learn(text, known)
            return known
        vector = await questions.vector(text)
        if vector is not None and named and admission.asked is not None:
            self.vector_kept = asyncio.create_task(
                self.desk._caches.exact.keep_vector(admission.asked.vector, pack(vector))
            )
        return vector

    @property
    def _by_meaning(self) -> bool:
        """Only what a model would have to write is worth it: quotes are made in no time."""
        return self.desk._caches.semantic.used and self.desk._writes(self.request)

    def _partition(self, admission: Admission) -> bytes:
        assert self.request.order is not None
        return self.desk._caches.exact.partition(admission.who, self.request.order, self.request.labels)

    async def _reuse(self, kept: Kept) -> None:
        metrics.count("cache_lookups", result=kept.how)
        self.flight.reached(kept.epoch)
        if self.begun:
            body = kept.parsed() | {"id": str(self.flight.id)}
            await self.begun
            await self.desk._store.finish(self.tenant, self.flight.id, body, _origins(body))
        self.flight.add(kept)

    async def written(self, admission: Admission | None, instead: str | None = None) -> bool:
        """instead: why there will be quotes. Whether it went into the cache."""
        try:
            return await self._events(admission, instead)
        except RagzeroError as error:
            if self.begun:
                detail = {"detail": str(error)}
                await self.begun
                await self.desk._store.finish(self.tenant, self.flight.id, detail, [], failed=True)
            raise
        except BaseException:
            await asyncio.shield(self._release())
            raise

    async def _events(self, admission: Admission | None, instead: str | None) -> bool:
        cached, request = False, self.request
        extractive = request.extractive or instead is not None
        ask = Ask(request.question, request.on_cold, self.deadline, extractive, request.max_tokens)
        async with aclosing(self.desk._answers.events(self.tenant, ask)) as events:
            async for event in events:
                if isinstance(event, Sources):
                    self._retrieved(admission, event.found, instead)
                    if self.begun:
                        await self.begun  # from here on the caller knows the answer's id
                if isinstance(event, Done):
                    cached = await self._finished(admission, event)
                self.flight.add(event)
        return cached

    def _retrieved(self, admission: Admission | None, found: Found, instead: str | None) -> None:
        self.found = found
        if admission is not None:
            self.desk._gate.behind(admission, found.retrieved.epoch)
        if instead is not None:
            found.warnings.append(f"quotes instead of a written answer: {instead}")
        self.flight.reached(found.retrieved.epoch)

    async def _finished(self, admission: Admission | None, done: Done) -> bool:
        """Everything that must be durable before the caller hears that the answer is done."""
        assert self.found is not None
        self.flight.body = body = self.desk._render(self.flight.id, self.found, done)
        await self.desk._spending.record(self.tenant, done.spent, admission)
        if self.begun:
            await self.begun
            await self.desk._store.finish(self.tenant, self.flight.id, body, _origins(body))
        if admission is None or not self._worth_keeping(done):
            return False
        return await self._cached(admission, self.found.retrieved.epoch, body)

    async def _cached(self, admission: Admission, epoch: int, body: dict[str, Any]) -> bool:
        """Under the epoch of the snapshot it was made from, so that a publish since then makes it void."""
        assert admission.asked is not None
        await self.desk._caches.exact.keep(admission.asked.answer, epoch, body)
        text = self.request.question.text
        partition = self._partition(admission)
        if self._by_meaning and (vector := await self.desk._questions.vector(text)) is not None:
            await self.desk._caches.semantic.keep(self.tenant, partition, epoch, text, vector, lasting(body))
        return True

    def _worth_keeping(self, done: Done) -> bool:
        """Only what the caller asked for: no quotes where a written answer was wanted, nothing with a warning."""
        wanted = "model" if self.desk._writes(self.request) else "extractive"
        return self.request.keep and done.mode == wanted and not (self.found and self.found.warnings)

    async def _begin(self) -> None:
        lease_s = self.deadline - time.monotonic() + _LEASE_MARGIN_S
        await self.desk._store.begin(self.tenant, self.flight.id, self.request.to_dict(), lease_s)

    async def _release(self) -> None:
        if self.begun:
            with suppress(RagzeroError):
                await self.begun
                await self.desk._store.release(self.tenant, self.flight.id)


async def _awaited(flight: Flight, seconds: float | None) -> Reply:
    """Raises what went wrong. Running after so many seconds."""
    try:
        async with asyncio.timeout(seconds), aclosing(flight.follow()) as events:
            async for event in events:
                if isinstance(event, Kept):
                    return event
    except TimeoutError:
        return Running(flight.id)
    return flight.body


def _origins(body: Mapping[str, Any]) -> list[tuple[UUID, int]]:
    """The documents an answer came from, and their generations."""
    return [(UUID(str(source["document_id"])), source["generation"]) for source in body["sources"]]


async def _nothing() -> None:
    """A resumed answer was begun before."""


def _request(stored: Mapping[str, Any]) -> Request:
    acl = stored.get("acl", [])
    question = Question(
        stored["question"],
        stored["collection"],
        stored["top_k"],
        stored["filter"],
        None if acl is None else tuple(acl),
        stored.get("mode", "balanced"),
        stored.get("per_document"),
        stored.get("focus"),
    )
    return Request(
        question,
        stored["on_cold"],
        int(_RESUME_S * 1000),
        extractive=False,
        max_tokens=stored.get("max_tokens"),
    )


__all__ = ["AnswerDesk", "Done", "Request", "Running", "Sources", "Status", "Text"]
