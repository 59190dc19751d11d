"""Deletes, proved; and documents that go by themselves.

A document whose metadata says `expires_after: 30` is deleted from the bucket thirty days after its object was last put.
Ingest hears of it as of any delete.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from functions.reindex.letters import DeadQueue, keys_in, keys_of
from shared.core.errors import RagzeroError
from shared.core.models import ObjectState
from shared.telemetry import get_logger, metrics

_log = get_logger(__name__)
_AT_ONCE = 200
_LETTERS = 10_000


class Store(Protocol):
    def count(self) -> dict[str, int]: ...
    def cached(self) -> int | None: ...
    def discarded(self, limit: int) -> list[str]: ...
    def erased(self, keys: Sequence[str]) -> int: ...
    def keep(self, findings: Mapping[str, int]) -> int: ...
    def expired(self, after: str, limit: int) -> list[tuple[str, int]]: ...
    def close(self) -> None: ...


class Objects(Protocol):
    def head(self, key: str) -> ObjectState | None: ...
    def erase(self, key: str) -> int | None: ...


class Audit:
    """dead_letters: None where the settings do not name the queue."""

    def __init__(
        self,
        store: Store,
        bucket: Objects,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        dead_letters: DeadQueue | None = None,
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._dead_letters = dead_letters
        self._now = now

    def run(self, _deadline: float) -> dict[str, Any]:
        """What is still there of what was deleted; nothing, if all is well. Places that cannot be looked into now are
        looked into by the next audit, and named."""
        findings = self._store.count() | self._letters()
        unseen = []
        for name, look in (("cached_answers", self._store.cached), ("dead_letters", self._dead)):
            try:
                found = look()
            except RagzeroError as error:
                unseen.append(name)
                _log.warning("place_not_audited", place=name, reason=str(error))
            else:
                findings |= {} if found is None else {f"{name}_of_erased": found}
        id = self._store.keep(findings)
        left = {name: count for name, count in findings.items() if count}
        metrics.gauge("audit_findings", sum(left.values()))
        if left:
            _log.error("deleted_data_left", audit=id, **left)
        return {"status": "done", "audit": id, "clean": not left, "findings": findings, "unseen": unseen}

    def expire(self, deadline: float) -> dict[str, Any]:
        """Deletes objects whose time has come, until the deadline (time.monotonic() seconds)."""
        after, deleted = "", 0
        while rows := self._store.expired(after, _AT_ONCE):
            for key, days in rows:
                if time.monotonic() > deadline:
                    return {"status": "paused", "deleted": deleted}
                deleted += self._expired(key, days)
            after = rows[-1][0]
        return {"status": "done", "deleted": deleted}

    def close(self) -> None:
        self._store.close()

    def _letters(self) -> dict[str, int]:
        keys = [key for body in self._store.discarded(_LETTERS) for key in keys_of(body)]
        return {"discarded_letters_of_erased": self._store.erased(keys)}

    def _dead(self) -> int | None:
        return None if self._dead_letters is None else self._store.erased(keys_in(self._dead_letters))

    def _expired(self, key: str, days: int) -> bool:
        """The object's own age decides: it may have been put again since."""
        state = self._bucket.head(key)
        if state is None or state.last_modified > self._now() - timedelta(days=days):
            return False
        self._bucket.erase(key)
        metrics.count("documents", outcome="expired")
        _log.info("document_expired", key=key, days=days)
        return True
