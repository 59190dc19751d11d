"""Editions in Postgres: which documents lack theirs, and how one is begun and finished beside the visible generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.documents import DocumentStore
from shared.adapters.postgres.generations import check_complete, locked, stage
from shared.adapters.postgres.sql import load
from shared.adapters.postgres.waiting import leave
from shared.core.errors import LeaseLost
from shared.core.models import Claim, Collection, Draft, Edition, Stage, Wanted

_SQL = load("editions")


class EditionStore:
    """documents: on the same database; it stores chunks and vectors, for an edition as for what is published."""

    def __init__(self, database: Database, documents: DocumentStore) -> None:
        self._database = database
        self._documents = documents
        self.store_vectors = documents.store_vectors
        self.extend = documents.extend
        self.release = documents.release

    def wanted(self, tenant: UUID, documents: Sequence[UUID]) -> list[Wanted]:
        """Those of the documents that candidates are to have, too, or have already."""
        with self._database.transaction(tenant) as cursor:
            rows = cursor.execute(_SQL["wanted"], {"documents": list(documents)}).fetchall()
        return [_wanted(row) for row in rows]

    def begin(self, tenant: UUID, wanted: Wanted, pipeline: str, lease_seconds: float) -> Claim | None:
        """The lease, with the number of the edition's generation; None while somebody else has the document, when it is
        not what was read any more, or when it has that edition by now."""
        values = {
            "id": wanted.document,
            "collection": wanted.candidate.id,
            "content_hash": wanted.content_hash,
            "pipeline": pipeline,
            "lease": lease_seconds,
        }
        with self._database.transaction(tenant) as cursor:
            row = cursor.execute(_SQL["begin"], values).fetchone()
        return Claim(**row) if row else None

    def stage(self, draft: Draft) -> Stage:
        """Stores the edition's chunks. Raises LeaseLost."""
        space, claim = self._documents.space(), draft.claim
        with self._database.transaction(claim.tenant_id) as cursor:
            locked(cursor, [claim])
            return stage(cursor, space, [draft], {claim.id: claim.generation})[0]

    def finish(self, claim: Claim, edition: Edition) -> None:
        """The edition is whole; the lease ends. Raises LeaseLost, or Conflict when vectors are missing."""
        space = self._documents.space()  # a transaction within the one below would take the tenant from it
        with self._database.transaction(claim.tenant_id) as cursor:
            locked(cursor, [claim])
            check_complete(cursor, space, {claim.id: edition.chunks}, {claim.id: claim.generation})
            self._finish(cursor, claim, edition, {"status": "whole", "reason": None})

    def hand_over(self, claim: Claim, edition: Edition) -> int:
        """Leaves its vectors to the embedding job; the lease ends. How many chunks of this tenant wait now. Raises
        LeaseLost or SpaceChanged."""
        space, values = self._documents.space(), _fence(claim) | {"tenant": claim.tenant_id}
        with self._database.transaction(claim.tenant_id) as cursor:
            locked(cursor, [claim])
            cursor.execute(_SQL["wait"], values)
            self._finish(cursor, claim, edition, {"status": "waiting", "reason": None})
            return leave(cursor, space, values, edition=True)

    def fail(self, claim: Claim, pipeline: str, reason: str) -> None:
        """The candidate cannot have this document, and why; the lease ends."""
        edition = Edition(pipeline, None, None, (), 0)
        self._documents.space()  # as above
        with self._database.transaction(claim.tenant_id) as cursor:
            locked(cursor, [claim])
            self._finish(cursor, claim, edition, {"status": "failed", "reason": reason})

    def _finish(self, cursor: Cursor[DictRow], claim: Claim, edition: Edition, came: dict[str, Any]) -> None:
        values = _columns(edition) | came | {"space": self._documents.space().id}
        if cursor.execute(_SQL["finish"], _fence(claim) | values).fetchone() is None:
            raise LeaseLost


def _wanted(row: DictRow) -> Wanted:
    candidate = Collection(
        row["id"],
        row["live"],
        row["language"],
        row["chunk_tokens"],
        row["overlap_tokens"],
        row["documents"],
        row["chunks"],
        row["created_at"],
    )
    return Wanted(
        row["document"],
        row["key"],
        row["content_hash"],
        row["bytes"],
        candidate,
        row["building"],
        row["made_with"],
    )


def _fence(claim: Claim) -> dict[str, Any]:
    return {
        "id": claim.id,
        "attempt": claim.attempt,
        "generation": claim.generation,
        "content_hash": claim.content_hash,
    }


def _columns(edition: Edition) -> dict[str, Any]:
    return {
        "pipeline": edition.pipeline,
        "media_type": edition.media_type,
        "pages": edition.pages,
        "flags": list(edition.flags),
        "chunks": edition.chunks,
    }
