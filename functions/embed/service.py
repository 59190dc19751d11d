"""One run of the embedding job: takes slices of waiting documents, encodes them, stores the vectors, publishes.

    claim and read | encode | store and publish

On a GPU the three overlap: while one batch is encoded, the next is read and the one before is stored. Any number
of jobs may run side by side; a slice belongs to whoever holds its newest token.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from shared.core.errors import (
    Busy,
    Conflict,
    LeaseLost,
    OutcomeUnknown,
    RagzeroError,
    SpaceMismatch,
    Unavailable,
)
from shared.core.models import EmbedSlice, Space, Waiting
from shared.telemetry import checkpoint, get_logger

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = get_logger(__name__)
_POLL_S = 0.25


class Store(Protocol):
    def space(self) -> Space: ...
    def has_work(self) -> bool: ...
    def claim(self, chunks: int, lease_seconds: float, max_attempts: int) -> list[EmbedSlice]: ...
    def exhausted(self, max_attempts: int) -> list[tuple[Waiting, str | None]]: ...
    def embedded(self) -> list[Waiting]: ...
    def next_lease_end(self) -> float | None: ...
    def read(self, slice: EmbedSlice) -> list[tuple[int, str]]: ...
    def store(self, slice: EmbedSlice, chunk_ids: Sequence[int], vectors: NDArray[np.float32]) -> None: ...
    def give_back(self, slices: Sequence[EmbedSlice]) -> None: ...
    def blame(self, slices: Sequence[EmbedSlice], error: str) -> None: ...
    def publish(self, waiting: Waiting) -> bool: ...
    def follow(self, waiting: Waiting) -> None: ...
    def fail(self, waiting: Waiting, code: str, reason: str) -> bool: ...
    def clean(self, waiting: Waiting) -> int: ...
    def drain_outbox(self, tenant: UUID) -> None: ...
    def close(self) -> None: ...


class Encoder(Protocol):
    device: str
    dtype: str

    @property
    def fingerprint(self) -> str: ...
    @property
    def padding_waste(self) -> float: ...
    def prove(self) -> None: ...
    def encode(self, texts: Sequence[str], between: Callable[[], None]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """seconds_per_claim bounds what a killed job loses, and what is left to store when the last one is encoded."""

    lease_seconds: float = 120
    seconds_per_claim: float = 5
    first_claim_chunks: int = 256
    claim_chunks: int = 4096
    max_attempts: int = 5
    patience_seconds: float = 10
    """How long to wait for slices that others hold, should those die."""


@dataclass(slots=True)
class Report:
    """seconds are those the device was held, load_seconds of them for the encoder; encode_seconds those it computed in."""

    chunks: int = 0
    published: int = 0
    failed: int = 0
    lost: int = 0
    seconds: float = 0.0
    load_seconds: float = 0.0
    idle_seconds: float = 0.0
    encode_seconds: float = 0.0
    chunks_per_second: float = 0.0
    padding_waste: float = 0.0
    device: str = ""
    dtype: str = ""


@dataclass(slots=True)
class _Batch:
    """Slices under lease with (chunk id, text) of their chunks."""

    work: list[tuple[EmbedSlice, list[tuple[int, str]]]]

    @property
    def slices(self) -> list[EmbedSlice]:
        return [slice for slice, _ in self.work]

    @property
    def texts(self) -> list[str]:
        return [text for _, rows in self.work for _, text in rows]


class _Enough(Exception):
    """The deadline is near, or somebody asked to stop."""


class EmbedJob:
    """reading and writing are stores of their own, for two threads use them at once."""

    def __init__(
        self,
        *,
        reading: Store,
        writing: Store,
        encoder: Callable[[], Encoder],
        limits: Limits = Limits(),
    ) -> None:
        self._reading = reading
        self._writing = writing
        self._encoder = encoder
        self._limits = limits
        self._stopping = threading.Event()

    def run(self, deadline: float) -> Report:
        """Works until nothing is left or the deadline (time.monotonic() seconds) is reached; holds no lease then.

        Raises SpaceMismatch, before anything is claimed, when the encoder is not the active space's.
        """
        report = Report()
        started = time.monotonic()
        if self._reading.has_work():
            encoder = self._encoder()
            report.load_seconds = round(time.monotonic() - started, 3)
            for store in (self._reading, self._writing):  # from here on neither goes over to another
                _require_space(encoder, store.space())
            _Run(self._reading, self._writing, encoder, self._limits, report, self._ends(deadline)).work()
            report.device, report.dtype = encoder.device, encoder.dtype
            report.padding_waste = round(encoder.padding_waste, 4)
        report.seconds = round(time.monotonic() - started, 3)
        report.encode_seconds = round(report.encode_seconds, 3)
        working = report.seconds - report.load_seconds - report.idle_seconds
        report.chunks_per_second = round(report.chunks / working, 1) if working > 0 else 0.0
        return report

    def stop(self) -> None:
        """Have the run end soon; what is not stored by then goes back. Can be called from anywhere."""
        self._stopping.set()

    def close(self) -> None:
        self._reading.close()
        self._writing.close()

    def _ends(self, deadline: float) -> Callable[[], bool]:
        return lambda: self._stopping.is_set() or time.monotonic() > deadline


class _Run:
    def __init__(
        self,
        reading: Store,
        writing: Store,
        encoder: Encoder,
        limits: Limits,
        report: Report,
        ends: Callable[[], bool],
    ) -> None:
        self._reading = reading
        self._writing = writing
        self._encoder = encoder
        self._limits = limits
        self._report = report
        self._ends = ends
        self._claim_chunks = limits.first_claim_chunks
        self._held: dict[int, EmbedSlice] = {}
        self._touched: set[UUID] = set()

    def work(self) -> None:
        try:
            with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
                self._reader = reader
                while self._pass(writer):
                    pass
        except _Enough:
            _log.info("embedding_ends_early", slices_returned=len(self._held))
        finally:
            self._return_leases()

    def _pass(self, writer: ThreadPoolExecutor) -> bool:
        """Embeds what is free; whether more may come."""
        storing: Future[None] | None = None
        coming = self._reader.submit(self._take)
        try:
            while (batch := coming.result()) is not None:
                coming = self._reader.submit(self._take)
                vectors = self._encode(batch)
                if storing:
                    storing.result()
                    storing = None
                if vectors is not None:
                    storing = writer.submit(self._store, batch, vectors)
                if storing and self._encoder.device == "cpu":
                    # a database on the same cores would halt the encoder's threads, which wait for each other
                    storing.result()
        finally:
            if storing:
                storing.result()
        writer.submit(self._settle).result()
        return self._await_others()

    # In the reader's thread.

    def _take(self) -> _Batch | None:
        if self._ends():
            raise _Enough
        slices = self._reading.claim(
            self._claim_chunks, self._limits.lease_seconds, self._limits.max_attempts
        )
        self._held |= {slice.id: slice for slice in slices}
        if slices:
            checkpoint("slices_claimed")
        work = [(slice, rows) for slice in slices if (rows := self._read(slice)) is not None]
        return _Batch(work) if slices else None

    def _read(self, slice: EmbedSlice) -> list[tuple[int, str]] | None:
        try:
            return self._reading.read(slice)
        except Unavailable:
            raise
        except RagzeroError as error:
            self._blame([slice], error)
            return None

    def _blame(self, slices: Sequence[EmbedSlice], error: Exception) -> None:
        _log.warning("slices_refused", slices=[slice.id for slice in slices], reason=str(error))
        self._reading.blame(slices, str(error))
        for slice in slices:
            self._held.pop(slice.id, None)

    # In the caller's thread.

    def _encode(self, batch: _Batch) -> NDArray[np.float32] | None:
        """None when the encoder could not, and it was because of these texts."""
        texts = batch.texts
        started = time.monotonic()
        try:
            vectors = self._encoder.encode(texts, self._between)
        except _Enough:
            raise
        except Exception as error:
            self._encoder.prove()  # an encoder that fails on its probes is to blame itself, and ends the run
            self._reader.submit(self._blame, batch.slices, error).result()
            return None
        self._pace(len(texts), time.monotonic() - started)
        checkpoint("embedded")
        return vectors

    def _between(self) -> None:
        if self._ends():
            raise _Enough

    def _pace(self, chunks: int, seconds: float) -> None:
        self._report.encode_seconds += seconds
        affordable = int(chunks / max(seconds, 0.001) * self._limits.seconds_per_claim)
        self._claim_chunks = min(self._limits.claim_chunks, max(self._limits.first_claim_chunks, affordable))

    def _await_others(self) -> bool:
        """Whether slices that others hold come free soon enough to be waited for; waits until then."""
        seconds = self._reading.next_lease_end()
        if seconds is None or seconds > self._limits.patience_seconds:
            return False
        started = time.monotonic()
        time.sleep(min(seconds, _POLL_S) + 0.01)
        self._report.idle_seconds += time.monotonic() - started
        return not self._ends()

    def _return_leases(self) -> None:
        if not self._held:
            return
        try:
            self._reading.give_back(list(self._held.values()))
        except RagzeroError as error:
            _log.warning("leases_left_to_expire", slices=len(self._held), reason=str(error))

    # In the writer's thread.

    def _store(self, batch: _Batch, vectors: NDArray[np.float32]) -> None:
        first = 0
        for slice, rows in batch.work:
            self._store_slice(slice, [id for id, _ in rows], vectors[first : first + len(rows)])
            first += len(rows)
        self._publish_embedded()

    def _store_slice(self, slice: EmbedSlice, chunk_ids: list[int], vectors: NDArray[np.float32]) -> None:
        checkpoint("storing")
        try:
            try:
                self._writing.store(slice, chunk_ids, vectors)
            except (OutcomeUnknown, Busy):  # if it went through, the second time matches no row
                self._writing.store(slice, chunk_ids, vectors)
            self._report.chunks += len(chunk_ids)
        except LeaseLost:
            self._report.lost += len(chunk_ids)
            _log.info("slice_lost", slice=slice.id, document=str(slice.document_id))
        self._held.pop(slice.id, None)
        checkpoint("slice_stored")

    def _settle(self) -> None:
        for waiting, error in self._writing.exhausted(self._limits.max_attempts):
            last = error or "the job ended while it had this document in hand"
            self._fail(waiting, f"embedding failed {self._limits.max_attempts} times; the last time: {last}")
        self._publish_embedded()
        self._drain()

    def _publish_embedded(self) -> None:
        for waiting in self._writing.embedded():
            checkpoint("publishing")
            try:
                published = self._writing.publish(waiting)
            except (OutcomeUnknown, Busy):
                continue  # whoever looks next sees whether it is still to be done
            except Conflict as error:
                self._fail(waiting, f"embedded, but cannot be published: {error}")
                continue
            checkpoint("published")
            self._report.published += published
            self._touched.add(waiting.tenant_id)
            self._tidy(waiting)
            _log.info("document_published", document=str(waiting.document_id), generation=waiting.generation)

    def _fail(self, waiting: Waiting, reason: str) -> None:
        self._report.failed += self._writing.fail(waiting, "embedding_failed", reason)
        self._touched.add(waiting.tenant_id)
        self._clean(waiting)
        _log.warning("document_failed", document=str(waiting.document_id), reason=reason)

    def _drain(self) -> None:
        """Caches that could not be told of a change before may hear of it now."""
        touched, self._touched = self._touched, set()
        for tenant in touched:
            try:
                self._writing.drain_outbox(tenant)
            except RagzeroError as error:
                _log.warning("outbox_not_drained", tenant=str(tenant), reason=str(error))

    def _tidy(self, waiting: Waiting) -> None:
        try:
            self._writing.follow(waiting)
        except RagzeroError as error:
            _log.warning("space_left_behind", document=str(waiting.document_id), reason=str(error))
        self._clean(waiting)

    def _clean(self, waiting: Waiting) -> None:
        try:
            self._writing.clean(waiting)
        except RagzeroError as error:
            _log.warning("older_generations_left", document=str(waiting.document_id), reason=str(error))


def _require_space(encoder: Encoder, space: Space) -> None:
    if encoder.fingerprint != space.fingerprint:
        raise SpaceMismatch(
            f"the encoder is of space {encoder.fingerprint[:12]}, the active one is "
            f"{space.name!r} {space.fingerprint[:12]}"
        )
