"""How a question is asked, whichever route it comes by: through the gate, of the caches, of the desk."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID, uuid4

from anyio import CancelScope

from functions.query.answer_cache import AnswerCache
from functions.query.answering import OnCold
from functions.query.condensing import Condenser
from functions.query.desk import AnswerDesk, Reply, Request
from functions.query.flights import Event
from functions.query.gate import Admission, Gate
from functions.query.kept import Kept, parsed
from functions.query.service import Question
from shared.core.conversation import Conversation, condensed
from shared.core.credentials import Principal
from shared.core.recipes import Order
from shared.core.retrieval import Mode
from shared.core.visits import Stream
from shared.telemetry import metrics

BUFFERED_MS = 25_000
STREAMED_MS = 300_000
LONGEST_MS = 900_000


@dataclass(frozen=True, slots=True)
class Wish:
    """All that is asked but by whom. deadline_ms: how long the caller waits for all of it.

    max_tokens: of what a model writes; None: what the settings say.
    """

    question: str
    collection: str
    deadline_ms: int
    top_k: int = 5
    filter: dict[str, Any] | None = None
    acl: list[str] | None = None
    on_cold: OnCold = "wait"
    generate: bool = True
    cache: Literal["read", "bypass", "refresh"] = "read"
    max_tokens: int | None = None
    mode: Mode = "balanced"
    per_document: int | None = None
    focus: str | None = None

    def of(self, who: Principal) -> Question:
        return Question(
            self.question,
            self.collection,
            self.top_k,
            self.filter,
            who.narrowed(self.acl),
            self.mode,
            self.per_document,
            self.focus,
        )


class Asking:
    def __init__(self, gate: Gate, answers: AnswerCache, desk: AnswerDesk, condenser: Condenser) -> None:
        self._gate = gate
        self._answers = answers
        self._desk = desk
        self._condenser = condenser

    def order(self, wish: Wish) -> Order:
        """What names the answer in the caches."""
        written = wish.generate and self._desk.has_model
        options = (wish.mode, wish.per_document, wish.focus, wish.max_tokens if written else None)
        return Order(wish.question, wish.collection, wish.top_k, wish.filter, written, options)

    async def question(self, key: str, conversation: Conversation, *, written: bool) -> str:
        """What the last turn asks for, made to stand alone; a model is only asked where the turn does not by itself.

        That takes one more of the key's requests. written: the answer is a model's, too.
        """
        if conversation.stands_alone or not (written and self._condenser.has_model):
            return condensed(conversation)
        admission = await self._gate.admit(key)
        admission.who.require("query")
        return await self._condenser.condensed(admission, conversation)

    async def admit(self, key: str, wish: Wish, stream: Stream | None = None) -> Admission:
        order, read = self.order(wish), wish.cache == "read"
        admission = await self._gate.admit(
            key, lambda who: self._answers.asked(who, order, wish.acl, read=read), stream
        )
        admission.who.require("query")
        return admission

    async def whole(self, admission: Admission, wish: Wish) -> Reply:
        """The answer, or where it will be when the caller's time ends first."""
        return kept(admission) or await self._desk.answer(admission, self._request(admission, wish))

    async def events(self, admission: Admission, wish: Wish, stream: Stream) -> AsyncGenerator[Event, None]:
        """The answer as it comes; gives the stream's slot back at the end, however it ends."""
        try:
            if known := kept(admission):
                yield known
                return
            made = self._desk.stream(admission, UUID(stream.id), self._request(admission, wish))
            async with aclosing(made) as events:
                async for event in events:
                    yield event
        finally:
            with CancelScope(shield=True):
                await self._gate.end_stream(admission, stream)

    def _request(self, admission: Admission, wish: Wish) -> Request:
        return Request(
            wish.of(admission.who),
            wish.on_cold,
            wish.deadline_ms,
            extractive=not wish.generate,
            order=self.order(wish),
            labels=wish.acl,
            read=wish.cache == "read",
            keep=wish.cache != "bypass",
            max_tokens=wish.max_tokens,
        )


def slot(deadline_ms: int) -> Stream:
    """For a stream that goes on for so long at most."""
    return Stream(uuid4().hex, deadline_ms / 1000)


def kept(admission: Admission) -> Kept | None:
    """The answer that was there on the way in."""
    if admission.answer is None:
        return None
    metrics.count("cache_lookups", result="exact")
    return parsed(admission.answer, admission.epoch or 0)
