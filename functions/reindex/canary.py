"""The canary: does the index still find what is there?

Each collection that is searched by the index is asked for the neighbours of some of its own chunks, with the index and
without: in all of it, and within what people may filter by. One that misses too much is searched wider from then on, or
exactly when that does not help, and somebody is told.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shared.core.canary import Tuning, Watched, Within, recall
from shared.telemetry import get_logger, metrics

_log = get_logger(__name__)


class Store(Protocol):
    def watched(self, more_than: int) -> list[Watched]: ...
    def filters(self, watched: Watched, more_than: int) -> list[Within]: ...
    def sample(self, watched: Watched, within: Within, samples: int) -> list[Any]: ...
    def widths(self, watched: Watched) -> Sequence[int]: ...
    def by_index(
        self, watched: Watched, within: Within, vectors: Sequence[Any], ef_search: int
    ) -> list[list[int]]: ...
    def exactly(self, watched: Watched, within: Within, vectors: Sequence[Any]) -> list[list[int]]: ...
    def tune(self, watched: Watched, tuning: Tuning) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """vectors, looked for within; there: what has to be found, for each."""

    within: Within
    vectors: list[Any]
    there: list[list[int]]


class Canary:
    """bar: the least recall@10. more_than: smaller collections are always searched exactly."""

    def __init__(self, store: Store, *, bar: float, samples: int, more_than: int) -> None:
        self._store = store
        self._bar = bar
        self._samples = samples
        self._more_than = more_than

    def run(self, deadline: float) -> dict[str, Any]:
        """What was found until the deadline (time.monotonic() seconds): the lowest recall, and the alarms by collection."""
        lowest, alarms, looked_at = 1.0, {}, 0
        for watched in self._store.watched(self._more_than):
            if time.monotonic() > deadline:
                break
            tuning = self._judged(watched)
            self._store.tune(watched, tuning)
            looked_at, lowest = looked_at + 1, min(lowest, tuning.recall)
            if tuning.alarming:
                alarms[watched.collection] = tuning
                self._alarm(watched, tuning)
        metrics.gauge("canary_recall", lowest)
        metrics.gauge("canary_alarms", len(alarms))
        return {
            "status": "done",
            "collections": looked_at,
            "recall": round(lowest, 4),
            "alarms": {id: "exact" if one.exact else one.ef_search for id, one in alarms.items()},
        }

    def close(self) -> None:
        self._store.close()

    def _judged(self, watched: Watched) -> Tuning:
        filters: list[Within] = [{}, *self._store.filters(watched, self._more_than)]
        asked = [self._asked(watched, within) for within in filters]
        first, *wider = self._store.widths(watched)
        usual = self._recall(watched, asked, first)
        if usual >= self._bar:
            return Tuning(usual)
        for width in wider:
            if self._recall(watched, asked, width) >= self._bar:
                return Tuning(usual, ef_search=width)
        return Tuning(usual, exact=True)

    def _asked(self, watched: Watched, within: Within) -> _Asked:
        vectors = self._store.sample(watched, within, self._samples)
        return _Asked(within, vectors, self._store.exactly(watched, within, vectors))

    def _recall(self, watched: Watched, asked: Sequence[_Asked], width: int) -> float:
        """The worst of them: who asks within a filter is not helped by what others find."""
        return min(
            recall(self._store.by_index(watched, one.within, one.vectors, width), one.there) for one in asked
        )

    def _alarm(self, watched: Watched, tuning: Tuning) -> None:
        now = "scanned exactly" if tuning.exact else f"searched with ef_search {tuning.ef_search}"
        _log.error(
            "index_misses_chunks",
            collection=watched.collection,
            tenant=str(watched.tenant),
            recall=round(tuning.recall, 4),
            bar=self._bar,
            now=now,
        )
