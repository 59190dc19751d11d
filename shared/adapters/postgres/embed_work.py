"""The embedding job's side of the queue in Postgres: slices under lease, their texts, their vectors.

One instance is for one thread. Transactions are short; none is open while an encoder works.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from shared.adapters.cache.epochs import Epochs
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.documents import DocumentStore
from shared.adapters.postgres.filling import FillStore, embedded_text
from shared.adapters.postgres.generations import store_vectors, vectors_statement
from shared.adapters.postgres.sql import load
from shared.core.errors import LeaseLost, SpaceMismatch
from shared.core.models import EmbedSlice, Space, Waiting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SQL = load("embed_work")
_DOCUMENTS_SQL = load("documents")
_TYPICAL_SLICE = 64  # chunks; more slices than this needs are looked at, not taken


class EmbedWorkStore:
    def __init__(self, database: Database, epochs: Epochs | None = None) -> None:
        self._database = database
        self._documents = DocumentStore(database, epochs)

    def space(self) -> Space:
        return self._documents.space()

    def has_work(self) -> bool:
        with self._as_job() as cursor:
            row = cursor.execute(_SQL["has_work"]).fetchone()
        return row is not None and bool(row["found"])

    def claim(self, chunks: int, lease_seconds: float, max_attempts: int) -> list[EmbedSlice]:
        """Slices of about that many chunks, none when no slice is free."""
        values = {
            "chunks": chunks,
            "slices": max(1, chunks // _TYPICAL_SLICE),
            "lease": lease_seconds,
            "max_attempts": max_attempts,
            "space": self.space().id,
        }
        with self._as_job() as cursor:
            rows = cursor.execute(_SQL["claim_slices"], values).fetchall()
        return sorted((EmbedSlice(**row) for row in rows), key=lambda claimed: claimed.id)

    def exhausted(self, max_attempts: int) -> list[tuple[Waiting, str | None]]:
        """Documents that were tried too often, with the last error (None when whoever tried just ended)."""
        with self._as_job() as cursor:
            rows = cursor.execute(_SQL["exhausted"], {"max_attempts": max_attempts}).fetchall()
        return [(_waiting(row), row["last_error"]) for row in rows]

    def embedded(self) -> list[Waiting]:
        """Documents that only wait for being published."""
        with self._as_job() as cursor:
            return [_waiting(row) for row in cursor.execute(_SQL["embedded"]).fetchall()]

    def next_lease_end(self) -> float | None:
        """Seconds until a slice may be free again; None when there is no slice."""
        with self._as_job() as cursor:
            row = cursor.execute(_SQL["next_lease_end"]).fetchone()
        return None if row is None or row["seconds"] is None else max(0.0, row["seconds"])

    def read(self, slice: EmbedSlice) -> list[tuple[int, str]]:
        """(chunk id, embedding text) of the chunks that lack a vector.

        Raises RagzeroError when a text is not the one that was hashed.
        """
        values = {
            "document": slice.document_id,
            "generation": slice.generation,
            "first": slice.first_ordinal,
            "last": slice.last_ordinal,
        }
        statement = vectors_statement(_SQL["read_slice"], self.space().id)
        with self._database.transaction(slice.tenant_id) as cursor:
            rows = cursor.execute(statement, values).fetchall()
        return [(row["id"], embedded_text(row)) for row in rows]

    def store(self, slice: EmbedSlice, chunk_ids: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """The vectors of a slice, all or none, in each space of the active one's model, and the slice is done. Raises
        LeaseLost, or SpaceMismatch when another space has become the active one.

        Not by COPY: Postgres refuses that on tables with row-level security, and building the HNSW graph is
        nearly all of the time anyway.
        """
        space = self.space()
        twins = [one for one in self._documents.other_spaces() if one.fingerprint == space.fingerprint]
        with self._database.transaction(slice.tenant_id) as cursor:
            if not cursor.execute(_SQL["finish_slice"], {"id": slice.id, "token": slice.token}).fetchone():
                raise LeaseLost
            active = cursor.execute(_DOCUMENTS_SQL["active_space"]).fetchone()
            if active is None or active["id"] != space.id:
                raise SpaceMismatch(f"space {space.id} ({space.name}) is not the active one any more")
            for one in (space, *twins):
                store_vectors(cursor, one, chunk_ids, vectors)

    def give_back(self, slices: Sequence[EmbedSlice]) -> None:
        """Not worked on after all; the try does not count."""
        with self._as_job() as cursor:
            cursor.execute(_SQL["give_back"], _held(slices))

    def blame(self, slices: Sequence[EmbedSlice], error: str) -> None:
        """The try failed, because of these slices; they are free for another one."""
        with self._as_job() as cursor:
            cursor.execute(_SQL["blame"], _held(slices) | {"error": error[:500]})

    def publish(self, waiting: Waiting) -> bool:
        """False when somebody else did, or nobody waits for it any more. Raises Conflict when vectors are missing."""
        return self._documents.publish_waiting(waiting.tenant_id, waiting.document_id, waiting.generation)

    def follow(self, waiting: Waiting) -> None:
        """The other spaces get what they can have of that document without an encoder."""
        for space in self._documents.other_spaces():
            FillStore(self._database, space.id).reuse(waiting.tenant_id, [waiting.document_id])

    def fail(self, waiting: Waiting, code: str, reason: str) -> bool:
        return self._documents.fail_waiting(
            waiting.tenant_id, waiting.document_id, waiting.generation, code, reason
        )

    def clean(self, waiting: Waiting) -> int:
        """How many chunks of older generations, or of a failed document, were removed for good."""
        where = (waiting.tenant_id, waiting.document_id)
        return self._documents.clean(*where, keep=waiting.generation) + self._documents.clean(
            *where, keep=None
        )

    def drain_outbox(self, tenant: UUID) -> None:
        self._documents.drain_outbox(tenant)

    def close(self) -> None:
        self._documents.close()

    @contextmanager
    def _as_job(self) -> Iterator[Cursor[DictRow]]:
        """A transaction that sees the work (ids only) of all tenants and nothing else."""
        with self._database.transaction(None) as cursor:
            cursor.execute("set local app.embed_job = 'on'")
            yield cursor


def _waiting(row: DictRow) -> Waiting:
    return Waiting(row["tenant_id"], row["document_id"], row["generation"])


def _held(slices: Sequence[EmbedSlice]) -> dict[str, Any]:
    return {"ids": [slice.id for slice in slices], "tokens": [slice.token for slice in slices]}
