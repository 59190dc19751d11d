"""Dead letters: messages that ingest has given up on. Seen, sent again, or thrown away with a reason.

The queue gives messages out in no order and shows each to one reader at a time; so whoever looks for some takes all in
hand, batch by batch, and puts back what is not wanted.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from functions.query.index_schemas import LetterFilter, LetterPage, LettersMoved, LetterState, LetterView
from shared.core.errors import InvalidInput, RagzeroError
from shared.core.hints import Hint, hints
from shared.core.keys import tenant_of
from shared.telemetry import checkpoint, get_logger

_log = get_logger(__name__)
_HOLD_S = 90  # longer than any call may take
_BUDGET_S = 20.0
_EMPTY_ANSWERS = 2  # a queue on many servers may have messages and yet show none


class Letter(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def body(self) -> str: ...
    @property
    def sent_at(self) -> datetime | None: ...
    @property
    def receives(self) -> int: ...


class DeadQueue(Protocol):
    def receive(self, visibility_seconds: int) -> Sequence[Any]: ...
    def delete(self, letters: Sequence[Any]) -> None: ...
    def release(self, letters: Sequence[Any]) -> None: ...


class Ingest(Protocol):
    def send(self, bodies: Sequence[str]) -> None: ...


class Store(Protocol):
    async def documents_of(self, tenant: UUID, keys: Sequence[str]) -> Mapping[str, Mapping[str, Any]]: ...
    async def discard(
        self, letters: Sequence[tuple[str, str, datetime | None]], reason: str, who: str
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Read:
    """A letter, and what is known of what it speaks of."""

    letter: Any
    keys: tuple[str, ...]
    state: LetterState
    problem: str | None

    def view(self, *, body: bool = False) -> LetterView:
        return LetterView(
            id=self.letter.id,
            sent_at=self.letter.sent_at,
            receives=self.letter.receives,
            state=self.state,
            keys=list(self.keys),
            problem=self.problem,
            body=self.letter.body if body else None,
        )


class LetterService:
    def __init__(
        self, dead: DeadQueue, ingest: Ingest, store: Store, bucket: str, default_tenant: UUID | None
    ) -> None:
        self._dead = dead
        self._ingest = ingest
        self._store = store
        self._bucket = bucket
        self._default_tenant = default_tenant

    async def page(self, wanted: LetterFilter, limit: int) -> LetterPage:
        found: list[Read] = []
        async with _Hand(self._dead) as hand:
            async for letters in hand.batches():
                found += [read for read in await self._read(letters) if _matches(read, wanted)]
                if len(found) > limit:
                    break
        found.sort(key=lambda read: (read.letter.sent_at is None, read.letter.sent_at, read.letter.id))
        body = wanted.ids is not None
        return LetterPage(items=[read.view(body=body) for read in found[:limit]], more=len(found) > limit)

    async def redrive(self, wanted: LetterFilter) -> LettersMoved:
        """Back to ingest. Sent before they are removed: what happens in between is sent twice, which does no harm."""

        async def send(letters: Sequence[Letter]) -> None:
            await asyncio.to_thread(self._ingest.send, [letter.body for letter in letters])
            checkpoint("letters_sent")

        return await self._move(wanted, send)

    async def discard(self, wanted: LetterFilter, reason: str, who: str) -> LettersMoved:
        async def keep(letters: Sequence[Letter]) -> None:
            await self._store.discard([(one.id, one.body, one.sent_at) for one in letters], reason, who)

        return await self._move(wanted, keep)

    async def _move(
        self, wanted: LetterFilter, first: Callable[[Sequence[Letter]], Awaitable[None]]
    ) -> LettersMoved:
        moved, seen = 0, 0
        async with _Hand(self._dead) as hand:
            async for letters in hand.batches():
                chosen = [read.letter for read in await self._read(letters) if _matches(read, wanted)]
                if chosen:
                    await first(chosen)
                    await hand.remove(chosen)
                moved, seen = moved + len(chosen), seen + len(letters)
        _log.info("dead_letters_moved", moved=moved, kept=seen - moved, done=hand.emptied)
        return LettersMoved(moved=moved, kept=seen - moved, done=hand.emptied)

    async def _read(self, letters: Sequence[Letter]) -> list[Read]:
        understood = {letter.id: _hints(letter.body) for letter in letters}
        known = await self._documents([hint for found, _ in understood.values() for hint in found])
        return [self._judged(letter, *understood[letter.id], known) for letter in letters]

    async def _documents(self, found: Sequence[Hint]) -> dict[str, Mapping[str, Any]]:
        keys: dict[UUID, list[str]] = defaultdict(list)
        for hint in found:
            with suppress(InvalidInput):
                keys[tenant_of(hint.key, self._default_tenant)].append(hint.key)
        known: dict[str, Mapping[str, Any]] = {}
        for tenant, some in keys.items():
            known |= await self._store.documents_of(tenant, some)
        return known

    def _judged(
        self,
        letter: Letter,
        found: Sequence[Hint],
        problem: str | None,
        known: Mapping[str, Mapping[str, Any]],
    ) -> Read:
        keys = tuple(hint.key for hint in found)
        if problem is not None or not found:
            return Read(letter, keys, "unreadable", problem or "it is about no object")
        if all(_superseded(hint, known.get(hint.key)) for hint in found):
            return Read(letter, keys, "superseded", None)
        return Read(letter, keys, "open", self._trouble(found[0], known.get(found[0].key)))

    def _trouble(self, hint: Hint, document: Mapping[str, Any] | None) -> str | None:
        if hint.bucket != self._bucket:
            return f"it is about the bucket {hint.bucket[:80]!r}"
        try:
            tenant_of(hint.key, self._default_tenant)
        except InvalidInput as error:
            return str(error)
        if document is None:
            return "no document has come of it: its tenant may not exist, or ingest always failed at once"
        return document["reason"] or f"the document is {document['status']}"


class _Hand:
    """All messages that are seen stay in hand, so that none is seen twice, and go back in the end."""

    def __init__(self, dead: DeadQueue) -> None:
        self._dead = dead
        self._held: dict[str, Any] = {}
        self._ends = time.monotonic() + _BUDGET_S
        self.emptied = False

    async def batches(self) -> AsyncIterator[list[Any]]:
        """Until the queue shows nothing new, or time is over."""
        empty = 0
        while time.monotonic() < self._ends:
            letters = await asyncio.to_thread(self._dead.receive, _HOLD_S)
            fresh = [letter for letter in letters if letter.id not in self._held]
            self._held |= {letter.id: letter for letter in letters}
            empty = 0 if fresh else empty + 1
            if empty == _EMPTY_ANSWERS:
                self.emptied = True
                return
            if fresh:
                yield fresh

    async def remove(self, letters: Sequence[Any]) -> None:
        await asyncio.to_thread(self._dead.delete, letters)
        for letter in letters:
            del self._held[letter.id]

    async def __aenter__(self) -> _Hand:
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(RagzeroError):  # their time runs out, too
            await asyncio.to_thread(self._dead.release, list(self._held.values()))


def _hints(body: str) -> tuple[list[Hint], str | None]:
    try:
        return list(hints(body)), None
    except InvalidInput as error:
        return [], str(error)


def _superseded(hint: Hint, document: Mapping[str, Any] | None) -> bool:
    """Its event, or a newer one of the same key, has been worked on; one without a sequencer never is."""
    if document is None or not hint.sequencer:
        return False
    done: str = document["done_sequencer"]
    return hint.sequencer.ljust(64, "0") <= done


def _matches(read: Read, wanted: LetterFilter) -> bool:
    return (
        (wanted.ids is None or read.letter.id in wanted.ids)
        and (wanted.state is None or read.state == wanted.state)
        and (wanted.prefix is None or any(key.startswith(wanted.prefix) for key in read.keys))
    )
