"""What a sweep does besides walking through the bucket: wakes who was not woken, removes what is kept for a while only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

from shared.core.errors import RagzeroError
from shared.telemetry import get_logger

_log = get_logger(__name__)
_DELIVERY_S = 30.0
_ERASED = 500  # documents, in one sweep


class Store(Protocol):
    def sleeping_work(self, patience_seconds: float) -> int | None: ...
    def drain_epochs(self) -> int: ...
    def forget(self) -> dict[str, int]: ...


class Eraser(Protocol):
    def due(self, after_seconds: float, limit: int) -> dict[UUID, list[UUID]]: ...
    def erase(self, tenant: UUID, documents: Sequence[UUID]) -> int: ...


class Courier(Protocol):
    def deliver(self, seconds: float, *, fresh: bool = False) -> dict[str, int]: ...


class Closing(Protocol):
    def run(self) -> int: ...


class EmbeddingJob(Protocol):
    def wake(self, backlog: int) -> None: ...


class Upkeep:
    """embedding_job is None where the CPU lane does everything."""

    def __init__(
        self,
        store: Store,
        eraser: Eraser,
        courier: Courier,
        closing: Closing,
        embedding_job: EmbeddingJob | None,
        knock_after_seconds: float,
        erase_after_seconds: float,
    ) -> None:
        self._store = store
        self._eraser = eraser
        self._courier = courier
        self._closing = closing
        self._embedding_job = embedding_job
        self._knock_after = knock_after_seconds
        self._erase_after = erase_after_seconds

    def run(self) -> dict[str, Any]:
        """Each part on its own: one that fails is tried again by the next sweep, and stops no other."""
        done: dict[str, Any] = {}
        for part in (self._knock, self._drain, self._close, self._erase, self._deliver, self._forget):
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

    def _close(self) -> dict[str, Any]:
        documents = self._closing.run()
        return {"of_closed_tenants": documents} if documents else {}

    def _erase(self) -> dict[str, Any]:
        """What is left of documents that were deleted: by now nobody can be writing down anything about them."""
        erased = 0
        for tenant, documents in self._eraser.due(self._erase_after, _ERASED).items():
            try:
                erased += self._eraser.erase(tenant, documents)
            except RagzeroError as error:
                _log.warning("deletion_unfinished", tenant=str(tenant), reason=str(error))
        return {"erased": erased} if erased else {}

    def _deliver(self) -> dict[str, Any]:
        return dict(self._courier.deliver(_DELIVERY_S))

    def _forget(self) -> dict[str, Any]:
        return {name: count for name, count in self._store.forget().items() if count}
