"""How long the stages of the work take: for the caller, for the metrics, and as spans where those are wanted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared.telemetry import metrics, requests, tracing


class Timings:
    """Milliseconds per named stage, in the order the stages ended."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started, span = time.perf_counter(), tracing.start(name)
        try:
            yield
        except BaseException as error:
            tracing.failed(span, error)
            raise
        finally:
            tracing.end(span)
            self._ended(name, time.perf_counter() - started)

    def as_ms(self) -> dict[str, float]:
        total = (time.perf_counter() - self._started) * 1000
        return {name: round(ms, 2) for name, ms in {**self._stages, "total": total}.items()}

    def _ended(self, name: str, seconds: float) -> None:
        self._stages[name] = self._stages.get(name, 0.0) + seconds * 1000
        metrics.observe("stage_seconds", seconds, stage=name)
        if (request := requests.current()) is not None:
            request.stages[name] = request.stages.get(name, 0.0) + seconds * 1000
