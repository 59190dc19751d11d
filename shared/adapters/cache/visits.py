"""What a request of the query function asks of Redis: one round trip on the way in, and what it leaves there.

Names and tags are explained in the table of shared/adapters/cache/README.md. Everything read back is opened with the
sealer and compared with the epoch: what does not hold is treated as if it were not there.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from shared.core.credentials import Limits, StoredKey
from shared.core.sealing import Sealer
from shared.core.visits import Asked, Names, Stream, Visited

_COUNTERS_S = 40 * 86_400
_MOST_RECORDS, _MOST_ANSWERS = 10_000, 500
_LONGEST_ANSWER = 16 * 1024  # that is kept here, too
_NOTHING = "rz:-"  # stands where a script needs a key name and there is nothing to look up


_T = TypeVar("_T")


class Scripts(Protocol):
    async def call(self, *command: Any) -> Any: ...
    async def many(self, commands: list[tuple[Any, ...]]) -> list[Any]: ...
    async def run(self, script: str, keys: list[str], args: list[Any]) -> Any: ...


class _Memory(Generic[_T]):
    """What was opened last is not opened again while it stays the same, byte by byte."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, tuple[bytes, int, _T]] = {}

    def get(self, name: str, value: bytes, epoch: int) -> _T | None:
        known = self._known.get(name)
        return known[2] if known is not None and known[0] == value and known[1] == epoch else None

    def keep(self, name: str, value: bytes, epoch: int, opened: _T) -> _T:
        if len(self._known) >= self._most:
            self._known.clear()
        self._known[name] = (value, epoch, opened)
        return opened


class Visits:
    def __init__(self, cache: Scripts, sealer: Sealer) -> None:
        self._cache = cache
        self._sealer = sealer
        self._records: _Memory[StoredKey] = _Memory(_MOST_RECORDS)
        self._answers: _Memory[bytes] = _Memory(_MOST_ANSWERS)

    async def visit(
        self, names: Names, limits: Limits, asked: Asked | None = None, stream: Stream | None = None
    ) -> Visited:
        """Raises Unavailable when Redis does not answer in time."""
        keys, args = command(names, limits, asked, stream)
        return self._visited(names, asked, await self._cache.run("visit", keys, args))

    def _visited(self, names: Names, asked: Asked | None, reply: list[Any]) -> Visited:
        micros, record, epoch, ticket, answer, vector, wait_ms, granted, spent = reply
        number = None if epoch is None else int(epoch)
        opened = self._answer(asked.answer, number, answer) if asked and answer else None
        return Visited(
            now=int(micros) / 1e6,
            record=self._record(names.record, number, record),
            epoch=number,
            ticket=ticket.decode() if ticket else None,
            answer=opened,
            vector=self._sealer.open(asked.vector, vector) if asked and vector else None,
            wait_s=int(wait_ms) / 1000,
            granted=bool(granted),
            spent_usd=None if spent is None else int(spent) / 1e6,
        )

    def _record(self, name: str, epoch: int | None, value: bytes | None) -> StoredKey | None:
        if epoch is None or value is None:
            return None
        if (known := self._records.get(name, value, epoch)) is not None:
            return known
        tag, _, sealed = value.partition(b":")
        payload = self._open(name, epoch, sealed) if tag == b"%d" % epoch else None
        if payload is None:
            return None
        return self._records.keep(name, value, epoch, StoredKey.from_bytes(payload))

    def _answer(self, name: str, epoch: int | None, sealed: bytes) -> bytes | None:
        if epoch is None:
            return None
        if (known := self._answers.get(name, sealed, epoch)) is not None:
            return known
        opened = self._open(name, epoch, sealed)
        if opened is None or len(sealed) > _LONGEST_ANSWER:
            return opened
        return self._answers.keep(name, sealed, epoch, opened)

    def _open(self, name: str, epoch: int | None, sealed: bytes) -> bytes | None:
        return self._sealer.open(f"{name}@{epoch}", sealed)

    def _tagged(self, name: str, epoch: int, payload: bytes) -> bytes:
        return b"%d:" % epoch + self._sealer.seal(f"{name}@{epoch}", payload)

    async def find(self, key_id: str) -> StoredKey | None:
        """A key's record whatever its epoch: good for what never changes of a key, its tenant and digest."""
        name = f"rz:k:{key_id}"
        tag, _, sealed = (await self._cache.call("GET", name) or b"").partition(b":")
        payload = self._open(name, int(tag), sealed) if tag.isdigit() else None
        return StoredKey.from_bytes(payload) if payload else None

    async def remember(self, key: StoredKey, epoch: int, seconds: int) -> None:
        """epoch: read in the same snapshot as the key."""
        name = f"rz:k:{key.id}"
        await self._cache.call("SET", name, self._tagged(name, epoch, key.to_bytes()), "EX", seconds)

    async def keep(self, name: str, epoch: int, payload: bytes, seconds: int) -> None:
        """An answer, under the epoch read in the same snapshot as its passages."""
        await self._cache.call("SET", name, self._tagged(name, epoch, payload), "EX", seconds)

    async def keep_vector(self, name: str, payload: bytes, seconds: int) -> None:
        await self._cache.call("SET", name, self._sealer.seal(name, payload), "EX", seconds)

    async def look(
        self, names: Names, answer: str, flight: str
    ) -> tuple[tuple[bytes, int] | None, bytes | None]:
        """The answer with its epoch, when it holds by now; and who is at it, if anybody is."""
        epoch, value, owner = await self._cache.many([("GET", names.epoch), ("GET", answer), ("GET", flight)])
        tag, _, sealed = (value or b"").partition(b":")
        payload = self._open(answer, int(epoch), sealed) if epoch is not None and tag == epoch else None
        return (payload, int(epoch)) if payload else None, owner

    async def take_off(self, flight: str, owner: str, seconds: int) -> bool:
        """Whether we are the one to compute it."""
        return await self._cache.call("SET", flight, owner, "NX", "EX", seconds) is not None

    async def stay_up(self, flight: str, owner: str, seconds: int) -> None:
        await self._cache.call("SET", flight, owner, "XX", "EX", seconds)

    async def land(self, flight: str, owner: str, leave: bytes | None, seconds: int) -> None:
        """leave: what those who still wait find in our place for some seconds."""
        await self._cache.run("land", [flight], [owner, leave or b"", seconds])

    async def end_stream(self, names: Names, id: str) -> None:
        await self._cache.call("ZREM", names.streams, id)

    async def spent(self, names: Names, usd: float) -> None:
        """What this month's bill has come to; a smaller number than the one that is there changes nothing."""
        name = f"rz:m:{names.tenant}:{_dates()[1]}"
        await self._cache.run("raise_number", [name], [round(usd * 1e6), _COUNTERS_S])

    async def counters(self, tenant: UUID, day: str) -> Mapping[str, int]:
        """questions and hits of a day (yyyymmdd, UTC)."""
        flat = await self._cache.call("HGETALL", f"rz:u:{tenant}:{day}") or []
        return {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}


def command(
    names: Names, limits: Limits, asked: Asked | None, stream: Stream | None
) -> tuple[list[str], list[Any]]:
    """KEYS and ARGV of visit.lua."""
    day, month = _dates()
    keys = [
        names.record,
        names.epoch,
        names.ticket,
        asked.answer if asked else _NOTHING,
        asked.vector if asked else _NOTHING,
        names.key_rate,
        names.tenant_rate,
        names.streams,
        f"rz:u:{names.tenant}:{day}",
        f"rz:m:{names.tenant}:{month}",
    ]
    args = [
        limits.key_rate,
        limits.key_burst,
        limits.tenant_rate,
        limits.tenant_burst,
        limits.streams,
        stream.id if stream else "",
        stream.seconds if stream else 0,
        f"{random.getrandbits(64):016x}",  # nobody else's ticket; a secret it is not
        "" if asked is None else "read" if asked.read else "count",
        _COUNTERS_S,
    ]
    return keys, args


_today: tuple[int, str, str] = (0, "", "")


def _dates() -> tuple[str, str]:
    """yyyymmdd and yyyymm, UTC."""
    global _today
    number = int(time.time()) // 86_400
    if number != _today[0]:
        now = time.gmtime()
        _today = (number, time.strftime("%Y%m%d", now), time.strftime("%Y%m", now))
    return _today[1], _today[2]
