"""Whole answers in Redis, each under the epoch its passages were read at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID, uuid4

import orjson

from functions.query.gate import Admission
from functions.query.kept import Kept, parsed
from shared.core.credentials import Principal
from shared.core.errors import Unavailable
from shared.core.recipes import Order, Recipe, answer_name, partition, vector_name
from shared.core.visits import Asked, Names
from shared.telemetry import get_logger

_log = get_logger(__name__)
_VOLATILE = ("timings_ms", "usage", "cached", "age_s")
_FLIGHT_S = 9
_OPEN, _OPEN_S = b"open", 3


class Entries(Protocol):
    async def keep(self, name: str, epoch: int, payload: bytes, seconds: int) -> None: ...
    async def keep_vector(self, name: str, payload: bytes, seconds: int) -> None: ...
    async def look(
        self, names: Names, answer: str, flight: str
    ) -> tuple[tuple[bytes, int] | None, bytes | None]: ...
    async def take_off(self, flight: str, owner: str, seconds: int) -> bool: ...
    async def stay_up(self, flight: str, owner: str, seconds: int) -> None: ...
    async def land(self, flight: str, owner: str, leave: bytes | None, seconds: int) -> None: ...


def lasting(body: Mapping[str, Any]) -> dict[str, Any]:
    """An answer without what concerns one request alone."""
    return {field: value for field, value in body.items() if field not in _VOLATILE}


@dataclass(frozen=True, slots=True)
class Turn:
    """Ours to make; without a flight others may be making it, too."""

    flight: str = ""
    owner: str = ""


class AnswerCache:
    """entries is None where there is no Redis. recipe changes with the active space."""

    def __init__(self, recipe: Callable[[], Recipe], entries: Entries | None, seconds: int) -> None:
        self._recipe = recipe
        self._entries = entries
        self._seconds = seconds

    @property
    def space(self) -> str:
        return self._recipe().space

    def asked(self, who: Principal, order: Order, acl: list[str] | None, *, read: bool) -> Asked:
        seen, recipe = who.narrowed(acl), self._recipe()
        return Asked(
            answer_name(recipe, who.tenant_id, seen, order),
            vector_name(recipe, who.tenant_id, order.question),
            read,
        )

    def names_vector(self, asked: Asked | None, tenant: UUID, question: str) -> bool:
        """Whether the vector under that name is one of the space that is now the active one."""
        return asked is not None and asked.vector == vector_name(self._recipe(), tenant, question)

    def partition(self, who: Principal, order: Order, acl: list[str] | None) -> bytes:
        return partition(self._recipe(), who.narrowed(acl), order)

    async def keep(self, name: str, epoch: int, body: Mapping[str, Any]) -> None:
        """Best effort: an answer that cannot be kept is made again."""
        if self._entries is None:
            return
        payload = b"%d:%b" % (int(time.time()), orjson.dumps(lasting(body)))
        try:
            await self._entries.keep(name, epoch, payload, self._seconds)
        except Unavailable as error:
            _log.info("answer_not_kept", reason=str(error))

    async def keep_vector(self, name: str, payload: bytes) -> None:
        """Best effort, too."""
        if self._entries is None:
            return
        with suppress(Unavailable):
            await self._entries.keep_vector(name, payload, self._seconds)

    async def turn(self, admission: Admission, deadline: float) -> Kept | Turn:
        """The answer another process is making, once it is done; or that it is ours to make.

        The others' work is not waited for beyond deadline (time.monotonic's clock).
        """
        entries, asked = self._entries, admission.asked
        if entries is None or asked is None or admission.visited is None:
            return Turn()
        turn = Turn("rz:f:" + asked.answer.removeprefix("rz:a:"), uuid4().hex)
        try:
            return await _waited(entries, admission.names, asked, turn, deadline)
        except Unavailable:
            return Turn()

    @asynccontextmanager
    async def flying(self, turn: Turn) -> AsyncIterator[None]:
        """While we make an answer, the others see that we are at it."""
        task = asyncio.create_task(self._stay_up(turn)) if turn.flight else None
        try:
            yield
        finally:
            if task:
                task.cancel()

    async def land(self, turn: Turn, *, kept: bool) -> None:
        """Lets those who wait go on: to the answer, or, when it was not worth keeping, each to its own."""
        if self._entries is None or not turn.flight:
            return
        try:
            await self._entries.land(turn.flight, turn.owner, None if kept else _OPEN, _OPEN_S)
        except Unavailable:
            _log.info("flight_not_landed")  # it ends by itself

    async def _stay_up(self, turn: Turn) -> None:
        while self._entries is not None:
            await asyncio.sleep(_FLIGHT_S / 3)
            with suppress(Unavailable):
                await self._entries.stay_up(turn.flight, turn.owner, _FLIGHT_S)


async def _waited(entries: Entries, names: Names, asked: Asked, turn: Turn, deadline: float) -> Kept | Turn:
    pause = 0.01
    while not await entries.take_off(turn.flight, turn.owner, _FLIGHT_S):
        await asyncio.sleep(pause)
        pause = min(0.25, pause * 1.5)
        found, holder = await entries.look(names, asked.answer, turn.flight)
        if found:
            return parsed(*found)
        if holder == _OPEN or time.monotonic() > deadline:
            return Turn()
    return turn
