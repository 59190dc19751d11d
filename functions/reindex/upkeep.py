"""What a sweep does besides walking through the bucket: wakes who was not woken, removes what is kept for a while only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from shared.core.errors import RagzeroError
from shared.telemetry import get_logger

_log = get_logger(__name__)


class Store(Protocol):
    def sleeping_work(self, patience_seconds: float) -> int | None: ...
    def drain_epochs(self) -> int: ...
    def forget(self) -> dict[str, int]: ...


class EmbeddingJob(Protocol):
    def wake(self, backlog: int) -> None: ...


class Upkeep:
    """embedding_job is None where the CPU lane does everything."""

    def __init__(self, store: Store, embedding_job: EmbeddingJob | None, knock_after_seconds: float) -> None:
        self._store = store
        self._embedding_job = embedding_job
        self._knock_after = knock_after_seconds

    def run(self) -> dict[str, Any]:
        """Each part on its own: one that fails is tried again by the next sweep, and stops no other."""
        done: dict[str, Any] = {}
        for part in (self._knock, self._drain, self._forget):
            done |= self._tried(part)
        return done

    def _tried(self, part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return part()
        except RagzeroError as error:
            name = part.__name__.strip("_")
            _log.warning("upkeep_unfinished", part=name, reason=str(error))
            return {name: str(error)}

    def _knock(self) -> dict[str, Any]:
        """A knock that was not heard is repeated while work waits and nobody is at it."""
        backlog = self._store.sleeping_work(self._knock_after)
        if backlog is None or self._embedding_job is None:
            return {}
        self._embedding_job.wake(max(1, backlog))
        return {"knocked_for": backlog}

    def _drain(self) -> dict[str, Any]:
        tenants = self._store.drain_epochs()
        return {"epochs_told": tenants} if tenants else {}

    def _forget(self) -> dict[str, Any]:
        return {name: count for name, count in self._store.forget().items() if count}
