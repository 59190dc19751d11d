"""Tenants that were closed long enough ago: their objects go, ingest makes tombstones of their documents, and what people
wrote about their answers goes, too. Each document's receipt is completed like that of any other delete.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from shared.core.hints import Hint, message, next_sequencer
from shared.telemetry import get_logger

_log = get_logger(__name__)
_ORIGIN = "Closed"
_AT_ONCE = 200  # documents, in one sweep


class Store(Protocol):
    def of_closed(self, days: int, limit: int) -> list[tuple[str, str]]: ...
    def forget_closed(self, days: int) -> int: ...


class Objects(Protocol):
    @property
    def name(self) -> str: ...
    def erase(self, key: str) -> int | None: ...


class Ingest(Protocol):
    def send(self, bodies: Sequence[str]) -> None: ...


class Closing:
    def __init__(self, store: Store, bucket: Objects, ingest: Ingest, days: int) -> None:
        self._store = store
        self._bucket = bucket
        self._ingest = ingest
        self._days = days

    def run(self) -> int:
        """How many documents are on their way out; more than a sweep takes at once are left to the next one."""
        found = self._store.of_closed(self._days, _AT_ONCE)
        for key, _ in found:
            self._bucket.erase(key)
        hints = [Hint(self._bucket.name, key, next_sequencer(done)) for key, done in found]
        self._ingest.send([message(hint, _ORIGIN) for hint in hints])
        if self._store.forget_closed(self._days) or found:
            _log.info("closed_tenants_emptied", documents=len(found))
        return len(found)
