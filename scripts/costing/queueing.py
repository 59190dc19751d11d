"""Waiting, simulated: what arrives, who serves it, and for how long. All times in seconds, and never going back."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

HOUR = 3600.0


def poisson(rates: Sequence[float], random: Random) -> Iterator[float]:
    """Arrivals; rates are those of each hour, per second. What goes beyond an hour is drawn anew in the next."""
    for number, rate in enumerate(rates):
        now, end = number * HOUR, (number + 1) * HOUR
        while rate > 0 and (now := now + random.expovariate(rate)) < end:
            yield now


@dataclass
class Servers:
    """count of them, first come first served."""

    count: int
    most: int = 0
    last: float = 0.0
    """The most that were at work at once, and when the last of them is done."""
    _ends: list[float] = field(default_factory=list)

    def start(self, now: float) -> float:
        """When somebody who comes now would be served."""
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        return now if len(self._ends) < self.count else self._ends[0]

    def take(self, now: float, seconds: float) -> float:
        """One of them, as soon as there is one: when it is done."""
        begins = self.start(now)
        if len(self._ends) == self.count:
            heapq.heappop(self._ends)
        heapq.heappush(self._ends, begins + seconds)
        self.most = max(self.most, len(self._ends))
        self.last = max(self.last, begins + seconds)
        return begins + seconds


@dataclass
class _Container:
    asked: float
    ready: float
    places: Servers

    def start(self, now: float) -> float:
        return self.places.start(max(now, self.ready))

    @property
    def idle_from(self) -> float:
        return max(self.ready, self.places.last)


@dataclass
class Fleet:
    """Containers of `places` each. One is woken when those awake are full, and sleeps `tail` seconds after its work."""

    most: int
    places: int
    wakes: float
    tail: float
    on_seconds: float = 0.0
    woken: int = 0
    _awake: list[_Container] = field(default_factory=list)

    def take(self, now: float, seconds: float) -> float:
        """A place, as soon as there is one: when the work is done."""
        self._rest(now)
        container = min(self._awake, key=lambda each: each.start(now), default=None)
        if container is None or (
            container.start(now) > max(now, container.ready) and len(self._awake) < self.most
        ):
            container = self._wake(now)
        return container.places.take(max(now, container.ready), seconds)

    def close(self) -> float:
        """For how long containers were on, all together."""
        self._rest(float("inf"))
        return self.on_seconds

    def _wake(self, now: float) -> _Container:
        self.woken += 1
        self._awake.append(_Container(now, now + self.wakes, Servers(self.places)))
        return self._awake[-1]

    def _rest(self, now: float) -> None:
        for each in [each for each in self._awake if each.idle_from + self.tail < now]:
            self._awake.remove(each)
            self.on_seconds += each.idle_from + self.tail - each.asked
