"""What the process knows of its own health and speed, put together for the people who run it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from pydantic import BaseModel

from functions.query.exchanges import Load
from shared.telemetry import metrics
from shared.telemetry.metrics import WINDOW_MINUTES, Histogram, Series

_STARTED = time.monotonic()
_OPEN = "open"
_POOL_STATES = ("pool_max", "pool_size", "pool_available", "requests_waiting")


class Watched(Protocol):
    """Something outside that answers can do without for a while."""

    def status(self) -> Mapping[str, Any]:
        """breaker: closed or open; and whatever else is known, without asking anybody."""


class Pool(Protocol):
    def statistics(self) -> Mapping[str, int]: ...


class PoolStatus(BaseModel):
    """database: the connection pool's own numbers. dependencies: each with its breaker."""

    database: dict[str, int]
    dependencies: dict[str, dict[str, Any]]
    requests_in_flight: int
    open_streams: int
    draining: bool


class Speed(BaseModel):
    """Percentiles in milliseconds, off by at most a fifth."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


class RouteSpeed(Speed):
    error_rate: float
    """Answers with a status of 500 or more, as a share."""


class Performance(BaseModel):
    """Of this process alone, over the last minutes; uptime since it started."""

    window_minutes: int
    uptime_s: float
    routes: dict[str, RouteSpeed]
    stages: dict[str, Speed]
    cache: dict[str, float]
    cache_hit_ratio: float | None
    generator: dict[str, float]


def dependencies(watched: Mapping[str, Watched]) -> dict[str, str]:
    """`ok` or `degraded`, by name."""
    return {name: "degraded" if is_open(one) else "ok" for name, one in watched.items()}


def is_open(watched: Watched) -> bool:
    return bool(watched.status().get("breaker") == _OPEN)


def pool_status(pool: Pool, watched: Mapping[str, Watched], load: Load) -> PoolStatus:
    return PoolStatus(
        database=dict(pool.statistics()),
        dependencies={name: dict(one.status()) for name, one in watched.items()},
        requests_in_flight=load.in_flight,
        open_streams=load.streams,
        draining=load.draining,
    )


def set_gauges(pool: Pool, watched: Mapping[str, Watched], load: Load) -> None:
    """What is not counted as it happens but looked at when numbers leave."""
    metrics.gauge("requests_in_flight", load.in_flight)
    metrics.gauge("open_streams", load.streams)
    numbers = pool.statistics()
    for state in _POOL_STATES:
        metrics.gauge("database_pool", numbers.get(state, 0), state=state)
    for name, one in watched.items():
        metrics.gauge("breaker_open", int(is_open(one)), dependency=name)


def performance(series: Series) -> Performance:
    cache = _counted("cache_lookups", "result", series)
    asked = sum(cache.values())
    return Performance(
        window_minutes=WINDOW_MINUTES,
        uptime_s=round(time.monotonic() - _STARTED, 1),
        routes=_routes(series),
        stages={name: Speed(**_speed(one)) for name, one in _timed("stage_seconds", series)},
        cache=cache,
        cache_hit_ratio=round(1 - cache.get("no", 0.0) / asked, 4) if asked else None,
        generator=_generator(series),
    )


def _routes(series: Series) -> dict[str, RouteSpeed]:
    failed: dict[str, float] = {}
    for (name, labels), value in series.counters.items():
        known = dict(labels)
        if name == "requests" and int(known["status"]) >= 500:
            failed[known["route"]] = failed.get(known["route"], 0.0) + value
    return {
        route: RouteSpeed(error_rate=round(failed.get(route, 0.0) / one.count, 4), **_speed(one))
        for route, one in _timed("request_seconds", series)
    }


def _generator(series: Series) -> dict[str, float]:
    calls = _counted("generator_calls", "outcome", series)
    tokens = {f"{kind}_tokens": value for kind, value in _counted("generator_tokens", "kind", series).items()}
    return {**calls, **tokens, "cold_starts": series.counters.get(("generator_cold_starts", ()), 0.0)}


def _counted(name: str, label: str, series: Series) -> dict[str, float]:
    found: dict[str, float] = {}
    for (each, labels), value in series.counters.items():
        if each == name:
            known = str(dict(labels)[label])
            found[known] = found.get(known, 0.0) + value
    return found


def _timed(name: str, series: Series) -> Iterator[tuple[str, Histogram]]:
    """By the value of its one label."""
    for (each, labels), histogram in series.histograms.items():
        if each == name:
            yield str(labels[0][1]), histogram


def _speed(histogram: Histogram) -> dict[str, Any]:
    shares = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
    return {
        "count": histogram.count,
        **{name: round(histogram.quantile(share) * 1000, 2) for name, share in shares.items()},
    }
