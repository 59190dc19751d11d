"""How answers reach their callers: at once, as a stream, or later under an address of their own.

An answer that a model writes is kept for a day. Whoever asks for one that nobody writes any more (the process was
frozen, the caller of the stream went away) makes it go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID, uuid4

from functions.query.answering import AnswerService, Ask, Done, Event, OnCold, Sources, Status, Text
from functions.query.service import Found, Question
from shared.core.errors import Gone, NotFound, RagzeroError
from shared.core.models import Passage, StoredAnswer
from shared.telemetry import get_logger

_log = get_logger(__name__)
_RESUME_S = 25.0
_LEASE_MARGIN_S = 10.0


class Store(Protocol):
    async def begin(self, tenant: UUID, id: UUID, request: Mapping[str, Any], lease_s: float) -> None: ...
    async def finish(
        self,
        tenant: UUID,
        id: UUID,
        body: Mapping[str, Any],
        passages: list[Passage],
        *,
        failed: bool = False,
    ) -> None: ...
    async def release(self, tenant: UUID, id: UUID) -> None: ...
    async def resume(self, tenant: UUID, id: UUID, lease_s: float) -> Mapping[str, Any] | None: ...
    async def get(self, tenant: UUID, id: UUID) -> StoredAnswer | None: ...


class Render(Protocol):
    """Makes the stored (and sent) form of an answer."""

    def __call__(self, id: UUID, found: Found, done: Done) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Request:
    """deadline_ms: how long the caller waits for all of it."""

    question: Question
    on_cold: OnCold
    deadline_ms: int
    extractive: bool

    def to_dict(self) -> dict[str, Any]:
        question = self.question
        return {
            "question": question.text,
            "collection": question.collection,
            "top_k": question.top_k,
            "filter": question.filter,
            "on_cold": self.on_cold,
        }


@dataclass(frozen=True, slots=True)
class Running:
    """The answer is being written; ask for it again."""

    id: UUID


class AnswerDesk:
    """patience_s: how long a model is waited for when nobody holds the line."""

    def __init__(self, answers: AnswerService, store: Store, render: Render, patience_s: float) -> None:
        self._answers = answers
        self._store = store
        self._render = render
        self._patience_s = patience_s
        self._writing: set[asyncio.Task[dict[str, Any]]] = set()

    async def answer(self, tenant: UUID, request: Request) -> dict[str, Any] | Running:
        """The whole answer, or where it will be when the caller's time ends first."""
        id = uuid4()
        if request.extractive or not self._answers.has_model:
            return await self._write(tenant, id, request, time.monotonic() + self._patience_s, keep=False)
        await self._store.begin(tenant, id, request.to_dict(), self._patience_s + _LEASE_MARGIN_S)
        return await self._waited(tenant, id, request, request.deadline_ms / 1000)

    async def fetch(self, tenant: UUID, id: UUID) -> dict[str, Any] | Running:
        """A kept answer. Raises NotFound, and Gone when a document it came from has changed since."""
        kept = await self._store.get(tenant, id)
        if kept is None:
            raise NotFound("there is no such answer; answers are kept for a day")
        if kept.status == "running":
            return await self._resumed(tenant, id)
        if not kept.current:
            raise Gone("a document this answer came from was changed or deleted since; ask again")
        if kept.status == "failed":
            raise RagzeroError((kept.body or {}).get("detail"))
        return kept.body or {}

    async def stream(self, tenant: UUID, id: UUID, request: Request) -> AsyncGenerator[Event, None]:
        """The events as they come. When the caller goes away, the model stops, and the answer can be resumed."""
        ask = _ask(request, time.monotonic() + request.deadline_ms / 1000)
        keep = not request.extractive and self._answers.has_model
        if keep:
            await self._store.begin(
                tenant, id, request.to_dict(), request.deadline_ms / 1000 + _LEASE_MARGIN_S
            )
        finished = False
        try:
            async with aclosing(self._answers.events(tenant, ask)) as events:
                async for event in self._kept(tenant, id, events, keep):
                    finished = isinstance(event, Done)
                    yield event
        finally:
            if keep and not finished:
                with suppress(RagzeroError):
                    await asyncio.shield(self._store.release(tenant, id))

    async def close(self) -> None:
        """Lets go of answers in the making; whoever asks for them later makes them go on."""
        for task in self._writing:
            task.cancel()
        await asyncio.gather(*self._writing, return_exceptions=True)

    async def _resumed(self, tenant: UUID, id: UUID) -> dict[str, Any] | Running:
        stored = await self._store.resume(tenant, id, self._patience_s + _LEASE_MARGIN_S)
        if stored is None:
            return Running(id)
        return await self._waited(tenant, id, _request(stored), _RESUME_S)

    async def _waited(
        self, tenant: UUID, id: UUID, request: Request, seconds: float
    ) -> dict[str, Any] | Running:
        task = asyncio.create_task(
            self._write(tenant, id, request, time.monotonic() + self._patience_s, keep=True)
        )
        self._writing.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait({task}, timeout=seconds)
        return task.result() if done else Running(id)

    def _forget(self, task: asyncio.Task[dict[str, Any]]) -> None:
        self._writing.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.warning("answer_failed", error=type(error).__name__)

    async def _write(
        self, tenant: UUID, id: UUID, request: Request, deadline: float, *, keep: bool
    ) -> dict[str, Any]:
        body: dict[str, Any] = {}
        found: Found | None = None
        try:
            async with aclosing(self._answers.events(tenant, _ask(request, deadline))) as events:
                async for event in events:
                    match event:
                        case Sources():
                            found = event.found
                        case Done():
                            assert found is not None
                            body = self._render(id, found, event)
        except RagzeroError as error:
            if keep:
                await self._store.finish(tenant, id, {"detail": str(error)}, [], failed=True)
            raise
        except asyncio.CancelledError:
            if keep:
                await asyncio.shield(self._store.release(tenant, id))
            raise
        if keep and found is not None:
            await self._store.finish(tenant, id, body, found.retrieved.passages)
        return body

    async def _kept(
        self, tenant: UUID, id: UUID, events: AsyncGenerator[Event, None], keep: bool
    ) -> AsyncGenerator[Event, None]:
        """events; the finished answer is stored before its last event goes out."""
        found: Found | None = None
        async for event in events:
            if isinstance(event, Sources):
                found = event.found
            if keep and found is not None and isinstance(event, Done):
                await self._store.finish(tenant, id, self._render(id, found, event), found.retrieved.passages)
            yield event


def _ask(request: Request, deadline: float) -> Ask:
    return Ask(request.question, request.on_cold, deadline, request.extractive)


def _request(stored: Mapping[str, Any]) -> Request:
    question = Question(stored["question"], stored["collection"], stored["top_k"], stored["filter"])
    return Request(question, stored["on_cold"], int(_RESUME_S * 1000), extractive=False)


__all__ = ["AnswerDesk", "Done", "Request", "Running", "Sources", "Status", "Text"]
