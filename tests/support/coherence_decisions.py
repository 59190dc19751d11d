"""What Redis decides in each situation of the coherence protocol: asked of a real one, once."""

from __future__ import annotations

import asyncio
import uuid

import redis

from shared.adapters.cache.client import Cache
from shared.adapters.cache.epochs import TICKET_S, names_of
from shared.adapters.cache.resp import RespClient
from shared.adapters.cache.visits import Visits
from shared.core.credentials import Limits
from shared.core.sealing import Sealer
from shared.core.visits import Asked, Names

_LEASE_S = 900
_LIMITS = Limits(1e6, 1_000_000, 1e6, 1_000_000, 10)


class Decisions:
    """What Redis does in a situation."""

    def __init__(self, client: redis.Redis, raising: str, restoring: str) -> None:
        self._client = client
        self._raising = raising
        self._restoring = restoring
        self._tenant = uuid.uuid4()
        self._keys = names_of(self._tenant)
        self._known: dict[tuple[object, ...], tuple[int, ...]] = {}

    def raised(self, held: int, ticket: int, epoch: int) -> tuple[int, ...]:
        """(epoch, whether its lease is a new one, whether there is a ticket)."""
        return self._decided(("raised", held, ticket, epoch), self._raising, [epoch])

    def restored(self, held: int, ticket: int, own: bool, epoch: int) -> tuple[int, ...]:
        args = ["ticket" if own else "another", epoch, _LEASE_S]
        return self._decided(("restored", held, ticket, own, epoch), self._restoring, args)

    def looked(self, held: int, ticket: int, answer: int) -> tuple[int, ...]:
        """(whether it is a hit, 1 with the ticket that was there and 2 with a new one, whether the lease was extended)."""
        situation = ("looked", held, ticket, answer)
        if situation not in self._known:
            self._set(held, ticket)
            self._known[situation] = asyncio.run(self._visited(answer))
        return self._known[situation]

    def _decided(self, situation: tuple[object, ...], text: str, args: list[object]) -> tuple[int, ...]:
        if situation not in self._known:
            self._set(int(str(situation[1])), int(str(situation[2])))
            self._client.eval(text, 2, *self._keys, *map(str, args))
            now = int(self._client.get(self._keys[0]) or 0)
            self._known[situation] = (now, int(self._lease_is_new()), self._client.exists(self._keys[1]))
        return self._known[situation]

    def _set(self, held: int, ticket: int) -> None:
        """Its lease half over."""
        epoch, holder = self._keys
        self._client.delete(epoch, holder)
        if held:
            self._client.set(epoch, held, ex=_LEASE_S // 2)
        if ticket:
            self._client.set(holder, "ticket", ex=TICKET_S)

    def _lease_is_new(self) -> bool:
        left = self._client.ttl(self._keys[0])
        assert left != -1, "an epoch without an end"
        return left > _LEASE_S // 2

    async def _visited(self, answer: int) -> tuple[int, ...]:
        url = f"redis://127.0.0.1:{self._client.connection_pool.connection_kwargs['port']}"
        cache = Cache(RespClient(url, timeout_s=30, connect_timeout_s=30), lease_s=_LEASE_S)
        visits, name = Visits(cache, Sealer("a pepper for tests only")), f"rz:a:{self._tenant}:0"
        await cache.call("DEL", name)
        if answer:
            await visits.keep(name, answer, b"text", 60)
        asked = Asked(name, f"rz:q:{self._tenant}:0")
        found = await visits.visit(Names.of("0" * 24, self._tenant), _LIMITS, asked)
        left = await cache.call("TTL", self._keys[1])
        assert left <= TICKET_S
        await cache.close()
        given = 0 if found.ticket is None else 1 if found.ticket == "ticket" else 2
        return int(found.answer is not None), given, int(self._lease_is_new())
