"""The coherence protocol as a machine whose every run can be enumerated.

What Redis decides is decided by Redis: each script is run on a real one, once for every situation. What happens
between those steps is free: anybody may be slow, die, lose a request or have it carried out long after giving up;
Redis may lose anything at any time; leases and tickets end when they may. Time is discrete, and changes nothing but
that; a lease is two ticks long, a ticket one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import redis

from shared.adapters.cache.wire import script
from tests.support.coherence_decisions import Decisions

LEASE, TICKET = 2, 1


@dataclass(frozen=True)
class Protocol:
    """As it is, unless told otherwise."""

    raising: str = field(default_factory=lambda: script("raise_epoch").text)
    restoring: str = field(default_factory=lambda: script("restore_epoch").text)
    lock: bool = True
    """Readers do not read the epoch while somebody publishes."""
    told_first: bool = True
    """Redis is told before the commit."""
    hits_extend: bool = False
    receipts_count_tickets: bool = True

    def with_raising(self, what: str, instead: str) -> Protocol:
        assert what in self.raising
        return replace(self, raising=self.raising.replace(what, instead))

    def with_restoring(self, what: str, instead: str) -> Protocol:
        assert what in self.restoring
        return replace(self, restoring=self.restoring.replace(what, instead))


@dataclass(frozen=True)
class Bounds:
    publishes: int = 2
    readers: int = 2
    questions: int = 2
    losses: int = 1
    drains: int = 1
    ticks: int = 0


class Reader(NamedTuple):
    """One question at a time, and in the background the epoch put back."""

    questions: int
    answering: int = 0  # -1: about to read the passages; else the epoch of those it read
    ticket: int = 0  # 1: one that is void by now, 2: the one in Redis
    read: int = 0  # the epoch it is about to restore


class World(NamedTuple):
    committed: int  # Postgres: the tenant's epoch
    left: int  # the outbox, 0 when empty
    publishing: int  # the epoch of the transaction that holds the lock, 0: none
    told: int  # by it: 0 not yet, 1 confirmed, 2 not confirmed, 3 to be told after the commit
    held: int  # Redis: the epoch, 0 when missing
    held_until: int
    ticket: int  # whether there is one
    ticket_until: int
    answer: int  # the epoch of the answer in the cache
    late: tuple[int, ...]  # epochs whose raising was given up, and may still happen
    readers: tuple[Reader, ...]
    draining: int
    least: int  # reported: no answer may be older
    promises: tuple[tuple[int, int], ...]  # (epoch, until): reported to hold after that
    now: int
    publishes: int
    losses: int
    drains: int


class StaleAnswer(Exception):
    """Somebody who asked after a change was reported got the answer from before."""


class Machine:
    def __init__(self, client: redis.Redis, protocol: Protocol, bounds: Bounds) -> None:
        self._decide = Decisions(client, protocol.raising, protocol.restoring)
        self._protocol = protocol
        self._bounds = bounds
        self._void_is_void = all(
            self._decide.restored(held, ticket, False, 2) == (held, 0, ticket)
            for held in (0, 1)
            for ticket in (0, 1)
        )

    def explore(self) -> tuple[int, list[str] | None]:
        """How many worlds there are, and the shortest way to a stale answer."""
        starts = list(self._starts())
        came: dict[World, tuple[World, str] | None] = dict.fromkeys(starts)
        queue = deque(starts)
        while queue:
            world = queue.popleft()
            try:
                for step, after in self._steps(world):
                    if after not in came:
                        came[after] = (world, step)
                        if any(
                            reader.questions for reader in after.readers
                        ):  # else nobody is left to be misled
                            queue.append(after)
            except StaleAnswer as stale:
                return len(came), [*_way(came, world), str(stale)]
        return len(came), None

    def _starts(self) -> Iterator[World]:
        """Epoch 1, with and without its copy and an answer."""
        bounds = self._bounds
        readers = (Reader(bounds.questions),) * bounds.readers
        for held, answer in ((0, 0), (0, 1), (1, 0), (1, 1)):
            yield World(
                1, 0, 0, 0, held, LEASE, 0, 0, answer, (), readers, 0, 1, (), 0,
                bounds.publishes, bounds.losses, bounds.drains,
            )  # fmt: skip

    def _steps(self, world: World) -> Iterator[tuple[str, World]]:
        yield from self._publisher(world)
        yield from self._environment(world)
        yield from self._drainer(world)
        for place, reader in enumerate(world.readers):
            if place and reader == world.readers[place - 1]:
                continue  # the same as the one before
            for step, after, changed in self._reader(world, reader):
                readers = [*after.readers[:place], changed, *after.readers[place + 1 :]]
                yield step, after._replace(readers=tuple(sorted(readers)))

    # Publishers: one at a time, for each needs the tenant's row.

    def _publisher(self, world: World) -> Iterator[tuple[str, World]]:
        epoch = world.publishing
        if not epoch:
            if world.publishes:
                yield (
                    f"publish {world.committed + 1}",
                    world._replace(publishing=world.committed + 1, told=0, publishes=world.publishes - 1),
                )
            return
        if world.told == 3:
            yield "tell Redis after the commit", self._raised(world, epoch)._replace(publishing=0, told=0)
            return
        if world.told == 0 and not self._protocol.told_first:
            yield "commit", self._committed(world, 1)._replace(publishing=epoch, told=3)
            return
        if world.told == 0:
            yield "tell Redis", self._raised(world, epoch)._replace(told=1)
            late = tuple(sorted({*world.late, epoch}))
            yield "tell Redis, which does it later or never", world._replace(told=2, late=late)
            return
        yield "commit", self._committed(world, world.told)
        yield "abort", world._replace(publishing=0, told=0)

    def _committed(self, world: World, told: int) -> World:
        epoch = world.publishing
        after = world._replace(committed=epoch, publishing=0, told=0)
        if told == 1:
            return _settled(after._replace(least=epoch))
        if world.drains:
            after = after._replace(left=epoch)
        if self._bounds.ticks:
            until = world.now + LEASE + (TICKET if self._protocol.receipts_count_tickets else 0)
            after = after._replace(promises=(*world.promises, (epoch, until)))
        return after

    def _raised(self, world: World, epoch: int) -> World:
        held, renewed, ticket = self._decide.raised(world.held, world.ticket, epoch)
        return self._kept(world, held, renewed, ticket)

    def _kept(self, world: World, held: int, renewed: int, ticket: int) -> World:
        """A ticket that is gone is void for whoever has it."""
        until = world.now + LEASE if renewed else world.held_until if held else 0
        if (held, until) != (world.held, world.held_until):
            world = world._replace(held=held, held_until=until)
        return world if ticket or not world.ticket else self._void(world)

    def _drainer(self, world: World) -> Iterator[tuple[str, World]]:
        if world.draining:
            epoch = world.draining
            told = self._raised(world, epoch)._replace(draining=0, least=max(world.least, epoch))
            yield "drain", _settled(told._replace(left=world.left if world.left > epoch else 0))
            yield "drain in vain", world._replace(draining=0, late=tuple(sorted({*world.late, epoch})))
        elif world.left and world.drains:
            yield "read the outbox", world._replace(draining=world.committed, drains=world.drains - 1)

    # Readers.

    def _reader(self, world: World, reader: Reader) -> Iterator[tuple[str, World, Reader]]:
        if reader.questions:  # whatever it was at is given up
            yield self._ask(world, Reader(reader.questions - 1))
        if reader.answering == -1:
            yield "read passages", world, reader._replace(answering=world.committed)
        if reader.answering > 0:
            yield "keep the answer", world._replace(answer=reader.answering), reader._replace(answering=0)
        if reader.ticket and not reader.read:
            if world.publishing and world.told != 3 and self._protocol.lock:
                yield "find the row locked", world, reader._replace(ticket=0)
            else:
                yield "read the epoch", world, reader._replace(read=world.committed)
        if reader.read:
            yield self._restore(world, reader)

    def _ask(self, world: World, reader: Reader) -> tuple[str, World, Reader]:
        hit, given, extended = self._decide.looked(world.held, world.ticket, world.answer)
        if hit:
            if world.answer < world.least:
                raise StaleAnswer(f"ask: the answer of {world.answer}, after {world.least} was reported")
            if extended or self._protocol.hits_extend:
                world = world._replace(held_until=world.now + LEASE)
            return "hit", world, reader
        if given == 2:
            world = world._replace(ticket=1, ticket_until=world.now + TICKET)
        return "miss", world, reader._replace(answering=-1, ticket=2 if given else 0)

    def _restore(self, world: World, reader: Reader) -> tuple[str, World, Reader]:
        own = reader.ticket == 2
        held, renewed, ticket = self._decide.restored(world.held, world.ticket, own, reader.read)
        after = self._kept(world, held, renewed, ticket)
        return f"restore {reader.read}", after, reader._replace(ticket=0, read=0)

    # What befalls them.

    def _environment(self, world: World) -> Iterator[tuple[str, World]]:
        for epoch in world.late:
            rest = tuple(each for each in world.late if each != epoch)
            yield f"Redis is told {epoch}, late", self._raised(world, epoch)._replace(late=rest)
        if world.losses:
            poorer = world._replace(losses=world.losses - 1)
            yield "Redis loses the epoch", poorer._replace(held=0, held_until=0)
            if world.ticket:
                yield "Redis loses the ticket", self._void(poorer)
            yield "Redis loses everything", self._void(poorer._replace(held=0, held_until=0, answer=0))
        if world.now < self._bounds.ticks:
            yield "time goes by", self._later(world._replace(now=world.now + 1))

    def _later(self, world: World) -> World:
        if world.held and world.held_until < world.now:
            world = world._replace(held=0, held_until=0)
        if world.ticket and world.ticket_until < world.now:
            world = self._void(world)
        due = [epoch for epoch, until in world.promises if until < world.now]
        return _settled(world._replace(least=max([world.least, *due])))

    def _void(self, world: World) -> World:
        """Without the ticket: whoever has it has nothing, if Redis sees to that."""
        if not world.ticket:
            return world
        if not any(each.ticket == 2 for each in world.readers):
            return world._replace(ticket=0, ticket_until=0)
        void = {"ticket": 0, "read": 0} if self._void_is_void else {"ticket": 1}
        readers = tuple(sorted(each._replace(**void) if each.ticket == 2 else each for each in world.readers))
        return world._replace(ticket=0, ticket_until=0, readers=readers)


def _settled(world: World) -> World:
    """Without promises that say no more than is known."""
    if not world.promises:
        return world
    return world._replace(promises=tuple(each for each in world.promises if each[0] > world.least))


def _way(came: dict[World, tuple[World, str] | None], world: World) -> list[str]:
    steps: list[str] = []
    while (before := came[world]) is not None:
        world, step = before
        steps.append(step)
    return steps[::-1]
