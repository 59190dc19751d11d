"""A sweep: compares the bucket with the index, and has ingest look at whatever differs.

Nothing is repaired here: a hint makes ingest look at the object as it is then, so one that is late, wrong or sent
twice does no harm. A sweep that runs out of time goes on from its cursor when it is called again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from functions.reindex.walk import Means, OutOfTime, Walk
from shared.core.errors import RagzeroError
from shared.core.sweeping import Kind, Sweep
from shared.telemetry import get_logger, metrics

_log = get_logger(__name__)


class SweepService:
    def __init__(self, means: Means) -> None:
        self._means = means

    def run(self, deadline: float) -> dict[str, Any]:
        """What was done until the deadline (time.monotonic() seconds): status is busy, paused or done; counts."""
        sweep = self._means.store.begin()
        if sweep is None:
            return {"status": "busy"}
        walk = Walk(self._means, sweep, deadline)
        status = self._walked(walk, sweep)
        if status == "done":
            _measure(walk.counts)
        _log.info("sweep_" + status, sweep=sweep.id, **walk.counts)
        return {"status": status, "sweep": sweep.id, "counts": dict(walk.counts)}

    def close(self) -> None:
        self._means.store.close()

    def _walked(self, walk: Walk, sweep: Sweep) -> str:
        try:
            walk.go()
        except OutOfTime:
            self._means.store.pause(sweep)
            return "paused"
        except RagzeroError as error:
            with suppress(RagzeroError):  # the lease runs out, too
                self._means.store.pause(sweep, str(error))
            raise
        return "done"


def _measure(counts: Mapping[str, int]) -> None:
    metrics.count("sweep_objects", counts["objects"])
    for kind in Kind:
        metrics.count("sweep_repairs", counts[kind], kind=kind.value)
    metrics.gauge("sweep_held_back", counts["held"])
    metrics.gauge("sweep_unrepaired", counts["unrepaired"])
