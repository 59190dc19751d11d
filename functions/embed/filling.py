"""Fills a space that is not the active one with the vectors it lacks, beside all else that goes on.

What is stored is never computed again: a fill that was killed goes on where its space ends. Each text of a tenant is
embedded once, however many chunks have it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from shared.telemetry import checkpoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DOCUMENTS_AT_ONCE = 64


class Store(Protocol):
    def lacks(self, most: int = ...) -> int: ...
    def tenants(self) -> list[UUID]: ...
    def documents(
        self, tenant: UUID, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[tuple[datetime, UUID]]: ...
    def reuse(self, tenant: UUID, documents: Sequence[UUID]) -> int: ...
    def lacking(self, tenant: UUID, documents: Sequence[UUID], limit: int) -> list[tuple[int, str]]: ...
    def store(self, tenant: UUID, chunk_ids: Sequence[int], vectors: NDArray[np.float32]) -> int: ...


Encode = Callable[[Sequence[str]], "NDArray[np.float32]"]


@dataclass(slots=True)
class Filled:
    """embedded: texts that went through the encoder; stored: chunks that got their vector by it; reused: without it."""

    embedded: int = 0
    stored: int = 0
    reused: int = 0
    complete: bool = False


class Filler:
    """most_per_second: texts; what is left of the machine is for others. encode is of the space that store is of."""

    def __init__(
        self,
        store: Store,
        encode: Encode,
        *,
        at_once: int = 256,
        most_per_second: float | None = None,
        told: Callable[[Filled], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._encode = encode
        self._at_once = at_once
        self._most_per_second = most_per_second
        self._told = told

    def run(self, deadline: float) -> Filled:
        """Until nothing that queries see lacks a vector, or the deadline (time.monotonic() seconds) has come."""
        filled = Filled()
        while not filled.complete and time.monotonic() < deadline:
            for tenant in self._store.tenants():
                self._fill(tenant, filled, deadline)
            filled.complete = self._store.lacks(1) == 0
        return filled

    def _fill(self, tenant: UUID, filled: Filled, deadline: float) -> None:
        after: tuple[datetime, UUID] | None = None
        while page := self._store.documents(tenant, after, _DOCUMENTS_AT_ONCE):
            documents = [id for _, id in page]
            filled.reused += self._store.reuse(tenant, documents)
            while rows := self._store.lacking(tenant, documents, self._at_once):
                if time.monotonic() > deadline:
                    return
                self._embed(tenant, rows, filled)
            after = page[-1]

    def _embed(self, tenant: UUID, rows: list[tuple[int, str]], filled: Filled) -> None:
        started = time.monotonic()
        chunks: dict[str, list[int]] = defaultdict(list)
        for id, text in rows:
            chunks[text].append(id)
        vectors = self._encode(list(chunks))
        checkpoint("fill_encoded")
        ids = [id for found in chunks.values() for id in found]
        places = [place for place, found in enumerate(chunks.values()) for _ in found]
        filled.stored += self._store.store(tenant, ids, vectors[places])
        filled.embedded += len(chunks)
        checkpoint("fill_stored")
        self._told(filled)
        if self._most_per_second:
            time.sleep(max(0.0, len(chunks) / self._most_per_second - (time.monotonic() - started)))
