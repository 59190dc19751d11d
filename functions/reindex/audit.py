"""Deletes, proved; and documents that go by themselves.

A document whose metadata says `expires_after: 30` is deleted from the bucket thirty days after its object was last put.
Ingest hears of it as of any delete.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from shared.core.models import ObjectState
from shared.telemetry import get_logger, metrics

_log = get_logger(__name__)
_AT_ONCE = 200


class Store(Protocol):
    def count(self) -> dict[str, int]: ...
    def keep(self, findings: Mapping[str, int]) -> int: ...
    def expired(self, after: str, limit: int) -> list[tuple[str, int]]: ...
    def close(self) -> None: ...


class Objects(Protocol):
    def head(self, key: str) -> ObjectState | None: ...
    def erase(self, key: str) -> int | None: ...


class Audit:
    def __init__(
        self, store: Store, bucket: Objects, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._now = now

    def run(self, _deadline: float) -> dict[str, Any]:
        """What is still there of what was deleted; nothing, if all is well."""
        findings = self._store.count()
        id = self._store.keep(findings)
        left = {name: count for name, count in findings.items() if count}
        metrics.gauge("audit_findings", sum(left.values()))
        if left:
            _log.error("deleted_data_left", audit=id, **left)
        return {"status": "done", "audit": id, "clean": not left, "findings": findings}

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

    def _expired(self, key: str, days: int) -> bool:
        """The object's own age decides: it may have been put again since."""
        state = self._bucket.head(key)
        if state is None or state.last_modified > self._now() - timedelta(days=days):
            return False
        self._bucket.erase(key)
        metrics.count("documents", outcome="expired")
        _log.info("document_expired", key=key, days=days)
        return True
