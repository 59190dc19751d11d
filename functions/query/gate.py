"""Who asks, within which limits, at which epoch, and the answer if it is known: in one round trip to Redis.

A key never changes its tenant or its secret, so those are remembered in this process and a wrong secret costs nobody
anything. Everything else about a key may change and is believed only under the tenant's current epoch; what Redis does
not know, or when it does not answer, Postgres does.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol
from uuid import UUID

from functions.query.limiting import LocalLimits, Rates
from shared.core.credentials import Limits, PresentedKey, Principal, StoredKey, digest, present
from shared.core.errors import RagzeroError, TooMany, Unauthorized, Unavailable
from shared.core.visits import Asked, Names, Stream, Visited
from shared.telemetry import bind, get_logger

_log = get_logger(__name__)
_MOST_KNOWN = 10_000
_RECORD_S = 3_600
_UNKNOWN_S, _INACTIVE_S = 30.0, 1.0
_WRONG_RATE, _WRONG_BURST = 1.0, 60


class Keys(Protocol):
    async def key_at(self, id: str) -> tuple[StoredKey, int] | None:
        """A key, and its tenant's epoch in the same snapshot."""

    async def used(self, who: Principal) -> None: ...


class Epochs(Protocol):
    async def restore(self, tenant: UUID, ticket: str) -> None: ...
    async def drain(self, tenant: UUID) -> None: ...


class Visits(Protocol):
    """Redis, as far as the gate needs it."""

    async def visit(
        self, names: Names, limits: Limits, asked: Asked | None = None, stream: Stream | None = None
    ) -> Visited: ...
    async def find(self, key_id: str) -> StoredKey | None: ...
    async def remember(self, key: StoredKey, epoch: int, seconds: int) -> None: ...
    async def end_stream(self, names: Names, id: str) -> None: ...


Question = Callable[[Principal], Asked]


@dataclass(frozen=True, slots=True)
class Admission:
    """visited is None while Redis is away. asked names the question's entries for this caller."""

    who: Principal
    names: Names
    limits: Limits
    visited: Visited | None
    asked: Asked | None = None

    @property
    def epoch(self) -> int | None:
        return self.visited.epoch if self.visited else None

    @property
    def answer(self) -> bytes | None:
        return self.visited.answer if self.visited else None


class Gate:
    """visits is None where no Redis is set up; defaults: what applies to keys and tenants without limits of their own."""

    def __init__(
        self, keys: Keys, visits: Visits | None, epochs: Epochs, pepper: str, defaults: Limits
    ) -> None:
        self._keys = keys
        self._visits = visits
        self._epochs = epochs
        self._pepper = pepper
        self._defaults = defaults
        self._known: OrderedDict[str, tuple[StoredKey, Names, Limits]] = OrderedDict()
        self._verified: dict[str, str] = {}
        self._refused: dict[str, float] = {}
        self._wrong = Rates()
        self._local = LocalLimits()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def admit(
        self, text: str | None, question: Question | None = None, stream: Stream | None = None
    ) -> Admission:
        """Raises Unauthorized; TooMany beyond a rate or when all of the tenant's streams are taken."""
        if not text:
            raise Unauthorized
        id = self._verified.get(text) or await self._presented(text)
        if self._refused and self._refused.get(id, 0.0) > time.monotonic():
            raise Unauthorized
        stored, names, limits = self._known.get(id) or await self._found(id)
        asked = question(_principal(stored)) if question else None
        visited = await self._visited(names, limits, asked, stream)
        if visited is None:
            return await self._admitted_locally(stored.id, names, question, stream)
        return await self._admitted(stored, names, limits, visited, question, asked, stream)

    async def end_stream(self, admission: Admission, stream: Stream) -> None:
        self._local.end_stream(admission.names.tenant, stream.id)
        if self._visits is not None and admission.visited is not None:
            try:
                await self._visits.end_stream(admission.names, stream.id)
            except Unavailable as error:
                _log.info("stream_slot_left", reason=str(error))  # it expires

    async def close(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _presented(self, text: str) -> str:
        """The id of a key whose secret is right; that is remembered, for a key's secret never changes."""
        presented = present(text, self._pepper)
        if self._refused and self._refused.get(presented.id, 0.0) > time.monotonic():
            raise Unauthorized
        stored, _, _ = self._known.get(presented.id) or await self._found(presented.id)
        self._verify(presented, stored)
        if len(self._verified) >= _MOST_KNOWN:
            self._verified.clear()
        self._verified[text] = presented.id
        return presented.id

    def _verify(self, presented: PresentedKey, stored: StoredKey) -> None:
        """In constant time. Guessing the secret of a key is slowed down without slowing its owner."""
        if hmac.compare_digest(digest(presented.secret, self._pepper), stored.digest):
            return
        if wait := self._wrong.wait_s(presented.id, _WRONG_RATE, _WRONG_BURST):
            raise TooMany("too many wrong secrets for this API key", retry_after=wait)
        raise Unauthorized

    async def _visited(
        self, names: Names, limits: Limits, asked: Asked | None, stream: Stream | None
    ) -> Visited | None:
        if self._visits is None:
            return None
        try:
            return await self._visits.visit(names, limits, asked, stream)
        except Unavailable:
            return None

    async def _admitted(
        self,
        believed: StoredKey,
        names: Names,
        limits: Limits,
        visited: Visited,
        question: Question | None,
        asked: Asked | None,
        stream: Stream | None,
    ) -> Admission:
        stored = visited.record
        if visited.epoch is None and visited.ticket:
            self._in_background(self._epochs.restore(believed.tenant_id, visited.ticket))
        if stored is None:
            stored = await self._looked_up(believed.id, visited.epoch)
        elif stored != believed:
            self._remember(stored)
        if _inactive(stored, visited.now):
            self._turn_away(stored.id, names, stream)
        if visited.wait_s:
            raise TooMany("too many requests with this API key", retry_after=visited.wait_s)
        if stored.acl != believed.acl and question:
            asked, visited = question(_principal(stored)), replace(visited, answer=None)
        if stream and not visited.granted and not visited.answer:
            raise _all_streams_taken(limits)
        return self._let_in(Admission(_principal(stored), names, limits, visited, asked))

    async def _admitted_locally(
        self, id: str, names: Names, question: Question | None, stream: Stream | None
    ) -> Admission:
        stored = await self._looked_up(id, None)
        limits = self._effective(stored.limits)
        if not stored.active:
            raise Unauthorized
        if wait := self._local.wait_s(names, limits):
            raise TooMany("too many requests with this API key", retry_after=wait)
        if stream and not self._local.begin_stream(
            names.tenant, stream.id, stream.seconds, limits.streams or 1
        ):
            raise _all_streams_taken(limits)
        who = _principal(stored)
        return self._let_in(Admission(who, names, limits, None, question(who) if question else None))

    def _let_in(self, admission: Admission) -> Admission:
        who = admission.who
        bind(tenant=who.tenant_id, key=who.key_id)
        if admission.answer is None:  # a hit asks Postgres nothing and tells it nothing
            self._in_background(self._keys.used(who))
        return admission

    def behind(self, admission: Admission, epoch: int) -> None:
        """Postgres was found at epoch. Where Redis is at an older one, somebody could not tell it, or just does."""
        if admission.epoch is not None and admission.epoch < epoch:
            self._in_background(self._epochs.drain(admission.who.tenant_id))

    async def _found(self, id: str) -> tuple[StoredKey, Names, Limits]:
        """What never changes of a key this process has not seen yet."""
        stored = None
        if self._visits is not None:
            try:
                stored = await self._visits.find(id)
            except Unavailable:
                stored = None
        return self._remember(stored) if stored else self._remember(await self._looked_up(id, None))

    async def _looked_up(self, id: str, epoch: int | None) -> StoredKey:
        """The key as Postgres knows it; kept in Redis when that is at the same epoch."""
        found = await self._keys.key_at(id)
        if found is None:
            self._refuse_for(id, _UNKNOWN_S)
            raise Unauthorized
        stored, at = found
        if self._visits is not None and epoch == at:
            self._in_background(self._visits.remember(stored, at, _RECORD_S))
        self._remember(stored)
        return stored

    def _turn_away(self, id: str, names: Names, stream: Stream | None) -> NoReturn:
        """A revoked or expired key must not use up its tenant's rate or streams."""
        if stream and self._visits is not None:
            self._in_background(self._visits.end_stream(names, stream.id))
        self._refuse_for(id, _INACTIVE_S)
        raise Unauthorized

    def _refuse_for(self, id: str, seconds: float) -> None:
        """An id with our tag and without a row, or an inactive one, is not looked up with every request."""
        if len(self._refused) >= _MOST_KNOWN:
            self._refused.clear()
        self._refused[id] = time.monotonic() + seconds

    def _remember(self, stored: StoredKey) -> tuple[StoredKey, Names, Limits]:
        names = Names.of(stored.id, stored.tenant_id)
        self._known[stored.id] = known = (stored, names, self._effective(stored.limits))
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return known

    def _effective(self, own: Limits) -> Limits:
        given = {name: getattr(own, name) for name in Limits.__slots__ if getattr(own, name) is not None}
        return replace(self._defaults, **given)

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(_quietly(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _quietly(work: Awaitable[Any]) -> None:
    try:
        await work
    except RagzeroError as error:
        _log.info("cache_not_written", reason=str(error))


def _inactive(stored: StoredKey, now: float) -> bool:
    """active is what the database said when the record was made; a key may have expired since. now: Redis's clock."""
    return not stored.active or (stored.expires_at is not None and stored.expires_at <= now)


def _all_streams_taken(limits: Limits) -> TooMany:
    return TooMany(f"{limits.streams} answers are being streamed already, which is the limit", retry_after=5)


def _principal(stored: StoredKey) -> Principal:
    return Principal(stored.id, stored.tenant_id, stored.scopes, stored.acl)
