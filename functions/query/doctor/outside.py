"""Checks of what lies beside the database: cache, clocks, bucket and queues."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from functions.query.doctor.database import Facts
from functions.query.doctor.results import fail, ok, warn
from functions.query.index_schemas import Check
from shared.core.errors import RagzeroError
from shared.core.setup import BucketSetup, QueueState

_CLOCKS_S = 2.0
_NEEDED_EVENTS = ("s3:ObjectCreated:", "s3:ObjectRemoved:")
_EXPIRY = "s3:LifecycleExpiration:"
_LEAST_RECEIVES = 5


class Bucket(Protocol):
    def setup(self) -> BucketSetup: ...


class Queue(Protocol):
    def state(self) -> QueueState: ...


class Cache(Protocol):
    async def call(self, *command: Any) -> Any: ...


class OutsideChecks:
    """queue, dead and cache are None where the settings name none."""

    def __init__(
        self, store: Facts, bucket: Bucket, queue: Queue | None, dead: Queue | None, cache: Cache | None
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._queue = queue
        self._dead = dead
        self._cache = cache

    async def cache(self) -> Check:
        if self._cache is None:
            return ok("none is set up")
        await self._cache.call("PING")
        try:
            policy = _text((await self._cache.call("CONFIG", "GET", "maxmemory-policy"))[1])
        except RagzeroError:
            return ok("answers; its eviction policy is not for us to read")
        if policy == "noeviction":
            detail = "answers, but refuses writes once it is full"
            return warn(detail, "let it evict: maxmemory-policy allkeys-lru, or eviction in the console")
        return ok(f"answers, evicts ({policy})")

    async def clocks(self) -> Check:
        apart = {
            "the database": await _offset(self._database_clock),
            "the bucket": await self._bucket_offset(),
        }
        if self._cache is not None:
            apart["the cache"] = await _offset(self._cache_clock)
        said = ", ".join(f"{name} {seconds:+.1f} s" for name, seconds in apart.items())
        if any(abs(seconds) > _CLOCKS_S for seconds in apart.values()):
            return warn(
                f"compared with ours: {said}",
                "synchronise them (leases and order do not depend on it)",
            )
        return ok(f"{', '.join(apart)} and ours agree within {_CLOCKS_S:g} s")

    async def _database_clock(self) -> float:
        return float((await self._store.fact("here"))[0]["at"])

    async def _cache_clock(self) -> float:
        assert self._cache is not None
        seconds, micros = await self._cache.call("TIME")
        return int(seconds) + int(micros) / 1e6

    async def _bucket_offset(self) -> float:
        """The bucket's clock shows whole seconds."""
        offset = await _offset(self._bucket_clock)
        return min(offset, offset + 1, key=abs) if not -1 <= offset <= 0 else 0.0

    async def _bucket_clock(self) -> float:
        return (await asyncio.to_thread(self._bucket.setup)).at.timestamp()

    async def notifications(self) -> Check:
        setup = await asyncio.to_thread(self._bucket.setup)
        target = (await asyncio.to_thread(self._queue.state)).arn if self._queue else None
        told = [
            event
            for arn, events in setup.events.items()
            if target is None or arn == target
            for event in events
        ]
        wanted = (*_NEEDED_EVENTS, _EXPIRY) if setup.expiring else _NEEDED_EVENTS
        if missing := [family + "*" for family in wanted if family + "*" not in told]:
            detail = f"the bucket does not tell the queue of {', '.join(missing)}; only sweeps find these"
            return fail(detail, "terraform apply, or put-bucket-notification-configuration")
        if not setup.versioned:
            return warn("complete; the bucket keeps no versions", "turn versioning on")
        return ok(", ".join(sorted(set(told))))

    async def queue(self) -> Check:
        if self._queue is None:
            return warn("not known here", "set RAGZERO_QUEUE_URL")
        state = await asyncio.to_thread(self._queue.state)
        if state.dead_letters_to is None or (state.max_receives or 0) < _LEAST_RECEIVES:
            detail = f"what fails goes to {state.dead_letters_to} after {state.max_receives} receives"
            return fail(detail, f"set a redrive policy with maxReceiveCount >= {_LEAST_RECEIVES}")
        if self._dead and (await asyncio.to_thread(self._dead.state)).arn != state.dead_letters_to:
            detail = f"what fails goes to {state.dead_letters_to}, which is not RAGZERO_DEAD_LETTER_URL"
            return fail(detail, "correct RAGZERO_DEAD_LETTER_URL")
        return ok(f"{state.waiting} messages wait, {state.in_flight} are being worked on")

    async def dead_letters(self) -> Check:
        if self._dead is None:
            return warn("not known here", "set RAGZERO_DEAD_LETTER_URL")
        state = await asyncio.to_thread(self._dead.state)
        if state.waiting + state.in_flight:
            return warn(f"{state.waiting + state.in_flight}", "scripts/rag index dead-letters")
        return ok("none")


async def _offset(clock: Callable[[], Awaitable[float]]) -> float:
    """Seconds by which a clock is ahead of ours, at least: it was read at some moment between asking and hearing."""
    asked = time.time()
    there = await clock()
    return there - min(max(there, asked), time.time())


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
