"""Rates and stream slots counted in this process alone, for as long as Redis does not answer."""

from __future__ import annotations

import time
from collections import OrderedDict

from shared.core.credentials import Limits
from shared.core.visits import Names

_MOST_TRACKED = 10_000


class Rates:
    """The generic cell rate algorithm, as in shared/adapters/cache/visit.lua, for the names seen last."""

    def __init__(self) -> None:
        self._arrivals: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, name: str, rate: float, burst: int) -> float:
        """0 when one more may pass, which is counted then; else the seconds until it may."""
        now, interval = time.monotonic(), 1 / rate
        arrival = max(self._arrivals.get(name, 0.0), now) + interval
        wait = arrival - now - burst * interval
        if wait <= 0:
            self._arrivals[name] = arrival
            self._arrivals.move_to_end(name)
            if len(self._arrivals) > _MOST_TRACKED:
                self._arrivals.popitem(last=False)
        return max(0.0, wait)


class LocalLimits:
    def __init__(self) -> None:
        self._rates = Rates()
        self._streams: dict[str, dict[str, float]] = {}

    def wait_s(self, names: Names, limits: Limits) -> float:
        limited = (
            (names.key_rate, limits.key_rate, limits.key_burst),
            (names.tenant_rate, limits.tenant_rate, limits.tenant_burst),
        )
        return max(
            (self._rates.wait_s(name, rate, burst) for name, rate, burst in limited if rate and burst),
            default=0,
        )

    def begin_stream(self, tenant: str, id: str, seconds: float, most: int) -> bool:
        now = time.monotonic()
        running = {one: until for one, until in self._streams.get(tenant, {}).items() if until > now}
        granted = len(running) < most
        self._streams[tenant] = running | ({id: now + seconds} if granted else {})
        return granted

    def end_stream(self, tenant: str, id: str) -> None:
        running = self._streams.get(tenant, {})
        running.pop(id, None)
        if not running:
            self._streams.pop(tenant, None)
