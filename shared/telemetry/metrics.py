"""Counters, histograms and gauges of this process, all declared in CATALOGUE.

    metrics.count("cache_lookups", result="exact")
    metrics.observe("stage_seconds", 0.012, stage="embed")
    metrics.gauge("breaker_open", 1, dependency="redis")

They leave as Prometheus text (`metrics.text()`) or, where nobody comes to fetch them, as CloudWatch EMF lines
(`metrics.flush()`, once per request or batch). Labels have few values: never tenants, keys or text.
"""

from __future__ import annotations

import sys
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["counter", "histogram", "gauge"]
Form = Literal["prometheus", "emf", "off"]
Key = tuple[str, tuple[tuple[str, Any], ...]]
WINDOW_MINUTES = 5
BOUNDS = tuple(0.0005 * 2 ** (step / 4) for step in range(76))  # seconds: 0.5 ms to 4 min, 19 % apart
_MOST_SERIES = 1_000


@dataclass(frozen=True, slots=True)
class Metric:
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


CATALOGUE: dict[str, Metric] = {
    "requests": Metric("counter", "HTTP requests answered.", ("route", "method", "status")),
    "request_seconds": Metric("histogram", "From a request's head to the end of its answer.", ("route",)),
    "stage_seconds": Metric("histogram", "Stages of a request.", ("stage",)),
    "requests_in_flight": Metric("gauge", "HTTP requests being answered."),
    "open_streams": Metric("gauge", "Answers being streamed."),
    "requests_limited": Metric("counter", "Requests refused because a limit was reached (429)."),
    "requests_expired": Metric("counter", "Requests given up at their deadline."),
    "cache_lookups": Metric("counter", "Questions by how the cache could answer them.", ("result",)),
    "flights_joined": Metric("counter", "Questions answered by the work for an identical one."),
    "generator_calls": Metric("counter", "Answers a model was asked for.", ("outcome",)),
    "generator_tokens": Metric("counter", "Tokens as the model's server counts them.", ("kind",)),
    "generator_cold_starts": Metric("counter", "Answers that had to wait for a model to wake."),
    "breaker_open": Metric("gauge", "1 while a dependency is not asked any more.", ("dependency",)),
    "database_pool": Metric("gauge", "The pool of database connections.", ("state",)),
    "webhook_messages": Metric("counter", "Attempts at messages to webhooks, by outcome.", ("outcome",)),
    "documents": Metric("counter", "Documents worked on, by outcome.", ("outcome",)),
    "editions": Metric("counter", "Documents worked on for a candidate, by outcome.", ("outcome",)),
    "sweep_objects": Metric("counter", "Objects that sweeps compared with the index."),
    "sweep_repairs": Metric(
        "counter", "Documents that sweeps had looked at again; 0 when all is well.", ("kind",)
    ),
    "sweep_held_back": Metric("gauge", "Deletes that wait for a confirmation."),
    "sweep_unrepaired": Metric("gauge", "Keys that stay different from the bucket, whatever ingest is told."),
    "canary_recall": Metric(
        "gauge", "The least share of the ten nearest that the index of a collection found."
    ),
    "canary_alarms": Metric("gauge", "Collections whose index found too little; 0 when all is well."),
    "audit_findings": Metric("gauge", "Rows left of what was deleted; 0 when all is well."),
}


class Histogram:
    """Observations per bucket of BOUNDS, one more for those beyond, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)

    def add(self, other: Histogram) -> None:
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def quantile(self, share: float) -> float:
        """Off by at most a fifth, the width of a bucket; 0 without observations."""
        rank, seen = share * self.count, 0
        for at, count in enumerate(self.counts):
            if count and seen + count >= rank:
                low, high = BOUNDS[at - 1] if at else 0.0, BOUNDS[min(at, len(BOUNDS) - 1)]
                return low + (high - low) * (rank - seen) / count
            seen += count
        return 0.0


@dataclass(slots=True)
class Series:
    """Numbers by name and labels."""

    counters: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, Histogram] = field(default_factory=dict)

    def add(self, other: Series) -> None:
        for key, value in other.counters.items():
            self.counters[key] = self.counters.get(key, 0.0) + value
        for key, histogram in other.histograms.items():
            self.histograms.setdefault(key, Histogram()).add(histogram)


@dataclass(slots=True)
class Pending:
    """What has not left as EMF yet."""

    counters: dict[Key, float] = field(default_factory=dict)
    observations: dict[Key, list[float]] = field(default_factory=dict)
    gauges: dict[Key, float] = field(default_factory=dict)


class Registry:
    """Everything is kept by the minute, so that both the sum since the start and the last minutes can be told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.form: Form = "off"
        self.service = ""
        self._clock = clock
        self._lock = threading.Lock()
        self._before = Series()
        self._minutes: deque[tuple[int, Series]] = deque()
        self._gauges: dict[Key, float] = {}
        self._pending = Pending()

    def configure(self, form: Form, service: str) -> None:
        """off makes every call a no-op."""
        self.form, self.service = form, service

    def count(self, name: str, value: float = 1, **labels: Any) -> None:
        if self.form == "off":
            return
        key = (name, tuple(labels.items()))
        with self._lock:
            counters = self._minute().counters
            if key not in counters:
                key = _admitted(key, counters, "counter")
            counters[key] = counters.get(key, 0.0) + value
            if self.form == "emf":
                self._pending.counters[key] = self._pending.counters.get(key, 0.0) + value

    def observe(self, name: str, seconds: float, **labels: Any) -> None:
        if self.form == "off":
            return
        key = (name, tuple(labels.items()))
        with self._lock:
            histograms = self._minute().histograms
            histogram = histograms.get(key)
            if histogram is None:
                key = _admitted(key, histograms, "histogram")
                histogram = histograms.setdefault(key, Histogram())
            histogram.counts[bisect_left(BOUNDS, seconds)] += 1
            histogram.sum += seconds
            if self.form == "emf":
                self._pending.observations.setdefault(key, []).append(seconds)

    def gauge(self, name: str, value: float, **labels: Any) -> None:
        if self.form == "off":
            return
        with self._lock:
            key = _admitted((name, tuple(labels.items())), self._gauges, "gauge")
            if self.form == "emf" and self._gauges.get(key) != value:
                self._pending.gauges[key] = value
            self._gauges[key] = value

    def totals(self) -> tuple[Series, dict[Key, float]]:
        """Sums since the start of the process, and the gauges."""
        with self._lock:
            return _summed([self._before, *(series for _, series in self._minutes)]), dict(self._gauges)

    def recent(self) -> Series:
        """The minute that is running and the ones before it, WINDOW_MINUTES in all."""
        with self._lock:
            self._minute()
            return _summed(series for _, series in self._minutes)

    def drain(self) -> Pending:
        with self._lock:
            drained, self._pending = self._pending, Pending()
        return drained

    def _minute(self) -> Series:
        now = int(self._clock() // 60)
        if not self._minutes or self._minutes[-1][0] != now:
            self._minutes.append((now, Series()))
            while self._minutes[0][0] <= now - WINDOW_MINUTES:
                self._before.add(self._minutes.popleft()[1])
        return self._minutes[-1][1]


def _summed(parts: Iterable[Series]) -> Series:
    whole = Series()
    for part in parts:
        whole.add(part)
    return whole


def _admitted(key: Key, known: dict[Key, Any], kind: Kind) -> Key:
    """key as it is declared; of series without end the later ones are counted together."""
    name, labels = key
    metric, values = CATALOGUE[name], dict(labels)
    if metric.kind != kind or set(metric.labels) != set(values):
        raise ValueError(
            f"{name} is a {metric.kind} with the labels {metric.labels}, not a {kind} with {labels}"
        )
    if len(known) >= _MOST_SERIES:
        values = dict.fromkeys(metric.labels, "other")
    return name, tuple((label, values[label]) for label in metric.labels)


registry = Registry()
configure, count, observe, gauge = registry.configure, registry.count, registry.observe, registry.gauge
recent = registry.recent


def text() -> tuple[bytes, str]:
    """In the Prometheus text format, with its media type."""
    from shared.telemetry.prometheus import render  # heavy: loaded when first used

    return render(*registry.totals())


def flush() -> None:
    """Writes what came together since the last time as EMF lines to stdout, where those are wanted."""
    if registry.form == "emf":
        from shared.telemetry.emf import lines

        written = lines(registry.drain(), registry.service, int(time.time() * 1000))
        sys.stdout.write("".join(f"{line}\n" for line in written))
        sys.stdout.flush()
