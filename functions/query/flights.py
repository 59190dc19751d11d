"""Answers in the making: whoever asks the same meanwhile takes part in the one that is being made.

A newcomer may only join what was retrieved at an epoch at least as new as the one it saw when it came: otherwise it
could be told something from before a publish it knows of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any
from uuid import UUID

from functions.query import answering
from functions.query.kept import Kept
from shared.core.errors import Unavailable

Event = answering.Event | Kept
Epoch = Callable[[], Awaitable[int]]
_ANY_EPOCH = 2**63


class Flight:
    """The events of one answer so far. It ends when its work does, or when nobody follows it any more.

    kept: it goes on although nobody follows. epoch: of the snapshot its passages came from. body: the whole answer,
    once it is done. promise: sees to it that the answer can be asked for by its id. ending: it is being given up.
    """

    def __init__(self, id: UUID, *, kept: bool = False) -> None:
        self.id = id
        self.kept = kept
        self.epoch: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._events: list[Event] = []
        self._changed = asyncio.Event()
        self._followers = 0
        self.body: dict[str, Any] = {}
        self.promise: Callable[[], Awaitable[None]] = _nothing
        self.ending = False
        self._task: asyncio.Task[None] | None = None

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.create_task(work)
        self._task.add_done_callback(self._ended)

    def reached(self, epoch: int) -> None:
        if not self.epoch.done():
            self.epoch.set_result(epoch)

    def add(self, event: Event) -> None:
        self._events.append(event)
        self._wake()

    async def follow(self) -> AsyncGenerator[Event, None]:
        """All events, from the first one. Raises what the work raised, and Unavailable when it was given up."""
        self._followers += 1
        at = 0
        try:
            while True:
                while at < len(self._events):
                    yield self._events[at]
                    at += 1
                if self._task is not None and self._task.done():
                    # not what _ended is told: that comes a turn of the loop later
                    _outcome(self._task)
                    return
                await self._changed.wait()
        finally:
            self._followers -= 1
            if not self._followers and not self.kept:
                await self.cancel()

    async def cancel(self) -> None:
        self.ending = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({self._task})

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # which nobody may be there to hear of
        if not self.epoch.done():
            # whoever asked the same meets the same trouble; but not that the first one went away
            self.epoch.cancel() if task.cancelled() else self.epoch.set_result(_ANY_EPOCH)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _outcome(task: asyncio.Task[None]) -> None:
    """Raises what the task ended with."""
    if task.cancelled():
        raise Unavailable("ragzero", "the server is about to stop; ask again")
    task.result()


async def _nothing() -> None:
    pass


class Flights:
    def __init__(self) -> None:
        self._by_name: dict[str, Flight] = {}
        self._all: set[Flight] = set()

    async def joinable(self, name: str, current: Epoch) -> Flight | None:
        """One of that name whose passages are as new as the newcomer's epoch."""
        mine: int | None = None
        tried: Flight | None = None
        while (flight := self._by_name.get(name)) is not None and flight is not tried:
            await asyncio.wait({flight.epoch})
            mine = await current() if mine is None else mine
            if not flight.ending and not flight.epoch.cancelled() and flight.epoch.result() >= mine:
                return flight
            tried = flight
        return None

    def begin(self, flight: Flight, name: str | None, work: Coroutine[Any, Any, None]) -> None:
        self._all.add(flight)
        if name is not None:
            self._by_name[name] = flight
        flight.begin(self._flown(flight, name, work))

    async def close(self) -> None:
        """Ends all of them; what they keep for later they let go of."""
        await asyncio.gather(*(flight.cancel() for flight in list(self._all)))

    async def _flown(self, flight: Flight, name: str | None, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            self._all.discard(flight)
            if name is not None and self._by_name.get(name) is flight:
                del self._by_name[name]
