"""Candidates of collections: made, looked at, exchanged with their collections, removed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from shared.adapters.postgres.coherence import EpochStore
from shared.adapters.postgres.collections import check_language
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.sql import load
from shared.core.errors import Conflict, NotFound
from shared.core.keys import candidate_name
from shared.core.models import Candidate, Settings

_SQL = load("candidates")
_EXCHANGING = {"app.exchange": "on", "statement_timeout": "25s"}
_AT_ONCE = 200
_MOVED_AT_ONCE = 5_000
Row = dict[str, Any]


class CandidateStore:
    """epochs: how caches hear of an exchange."""

    def __init__(self, database: Database, epochs: EpochStore) -> None:
        self._database = database
        self._epochs = epochs

    def make(
        self, tenant: UUID, name: str, language: str | None, sizes: tuple[int | None, int | None] | None
    ) -> Candidate:
        """language, sizes in tokens: the collection's own where nothing is said. One that is there and just like that is
        taken. Raises NotFound, Conflict when there is another one, InvalidInput for a language nobody knows."""
        chunk_tokens, overlap_tokens = sizes or (None, None)
        values = {
            "tenant": tenant,
            "name": name,
            "candidate_name": candidate_name(name),
            "language": language,
            "cut": sizes is not None,
            "chunk_tokens": chunk_tokens,
            "overlap_tokens": overlap_tokens,
        }
        with self._database.transaction(tenant) as cursor:
            if language is not None:
                check_language(cursor, language)
            made = cursor.execute(_SQL["make"], values).fetchone()
            candidate = _known(cursor, tenant, name)
        live = candidate.live
        wanted = Settings(language or live.language, *(sizes or (live.chunk_tokens, live.overlap_tokens)))
        if made is None:
            _check_same(candidate, wanted)
        return candidate

    def get(self, tenant: UUID, name: str) -> Candidate:
        with self._database.transaction(tenant) as cursor:
            return _known(cursor, tenant, name)

    def listed(self, tenant: UUID) -> list[Candidate]:
        with self._database.transaction(tenant) as cursor:
            return _listed(cursor, tenant, None)

    def lacking(
        self, tenant: UUID, candidate: int, after: UUID | None, limit: int
    ) -> list[tuple[UUID, str, str]]:
        """(id, key, done sequencer) of documents that it lacks, in the order of their ids."""
        values = {"tenant": tenant, "id": candidate, "after": after, "limit": limit}
        with self._database.transaction(tenant) as cursor:
            rows = cursor.execute(_SQL["lacking"], values).fetchall()
        return [(row["id"], row["key"], row["done_sequencer"]) for row in rows]

    def exchange(
        self,
        tenant: UUID,
        name: str,
        kind: str,
        *,
        by: str,
        evidence: list[dict[str, Any]],
        forced_because: str | None,
    ) -> Row:
        """Puts the candidate in the place of its collection, at once for everybody: what was done.

        promote takes one that was built, rollback one that was there before. Publishers wait meanwhile, and then find that
        their collection was exchanged. Raises NotFound, or Conflict when it lacks documents.
        """
        with self._database.transaction(tenant, local=_EXCHANGING) as cursor:
            cursor.execute(_SQL["alone"])
            candidate = _known(cursor, tenant, name)
            _check_ready(candidate, kind)
            values = _values(tenant, candidate, kind) | {
                "evidence": Jsonb(evidence),
                "forced_because": forced_because,
                "changed_by": by,
            }
            _turn(cursor, values)
            row = cursor.execute(_SQL["record"], values).fetchone()
            assert row is not None
            self._epochs.bump(cursor, tenant)
        return row

    def changes(self, tenant: UUID, limit: int) -> list[Row]:
        """Newest first."""
        with self._database.transaction(tenant) as cursor:
            return cursor.execute(_SQL["changes"], {"tenant": tenant, "limit": limit}).fetchall()

    def give_up(self, tenant: UUID, name: str) -> Candidate:
        """It gets nothing more, and cannot take its collection's place."""
        with self._database.transaction(tenant) as cursor:
            candidate = _known(cursor, tenant, name)
            cursor.execute(_SQL["give_up"], {"candidate": candidate.id})
        return candidate

    def remove_some(self, tenant: UUID, candidate: Candidate) -> int:
        """How many of its documents went, of one that was given up."""
        values = {"candidate": candidate.id, "limit": _AT_ONCE}
        with self._database.transaction(tenant) as cursor:
            row = cursor.execute(_SQL["remove_some"], values).fetchone()
        return int(row["documents"]) if row else 0

    def remove(self, tenant: UUID, candidate: Candidate) -> bool:
        """Once none of its documents is left; False when there is more to do: call again."""
        values = {
            "tenant": tenant,
            "live": candidate.live_id,
            "candidate": candidate.id,
            "limit": _MOVED_AT_ONCE,
        }
        with self._database.transaction(tenant) as cursor:
            cursor.execute(_SQL["lock"], values)
            if cursor.execute(_SQL["move_rest"], values).rowcount == _MOVED_AT_ONCE:
                return False
            cursor.execute(_SQL["forget_lexemes"], values)
            cursor.execute(_SQL["remove"], values)
        return True


def _check_same(candidate: Candidate, wanted: Settings) -> None:
    if (candidate.state, candidate.settings) != ("building", wanted):
        raise Conflict(
            f"the collection {candidate.collection!r} has a candidate already, {candidate.state}, with"
            f" {candidate.settings}: promote it, or reclaim it first"
        )


def _turn(cursor: Cursor[DictRow], values: Row) -> None:
    """In the order in which publishers take their locks: documents first."""
    values["documents"] = cursor.execute(_SQL["exchange"], values).rowcount
    left = cursor.execute(_SQL["left"], values).fetchone()
    if left is None or left["some"]:
        raise Conflict(f"a document of {values['name']!r} has just changed; try again")
    for step in ("step_aside", "retire", "install", "forget_labels", "count_labels"):
        cursor.execute(_SQL[step], values)


def _values(tenant: UUID, candidate: Candidate, kind: str) -> Row:
    return {
        "tenant": tenant,
        "name": candidate.collection,
        "candidate_name": candidate_name(candidate.collection),
        "kind": kind,
        "live": candidate.live_id,
        "candidate": candidate.id,
        "state": "retired" if kind == "promote" else "building",
        "from_settings": str(candidate.live),
        "to_settings": str(candidate.settings),
    }


def _check_ready(candidate: Candidate, kind: str) -> None:
    name, wanted = candidate.collection, "building" if kind == "promote" else "retired"
    if candidate.state != wanted:
        raise Conflict(
            f"the candidate of {name!r} is {candidate.state}, and {kind} takes one that is {wanted}"
        )
    if candidate.lacking or candidate.on_the_way:
        raise Conflict(
            f"the candidate of {name!r} lacks {candidate.lacking} documents ({candidate.unreadable} of them cannot be"
            f" read), and {candidate.on_the_way} wait for the embedding job; scripts/rag index apply makes them"
        )


def _known(cursor: Cursor[DictRow], tenant: UUID, name: str) -> Candidate:
    found = _listed(cursor, tenant, name)
    if not found:
        raise NotFound(f"there is no collection {name!r} that has a candidate")
    return found[0]


def _listed(cursor: Cursor[DictRow], tenant: UUID, name: str | None) -> list[Candidate]:
    rows = cursor.execute(_SQL["list"], {"tenant": tenant, "name": name}).fetchall()
    return [_candidate(row) for row in rows]


def _candidate(row: DictRow) -> Candidate:
    sides = [
        Settings(*(row.pop(f"{side}{name}") for name in ("language", "chunk_tokens", "overlap_tokens")))
        for side in ("", "live_")
    ]
    return Candidate(settings=sides[0], live=sides[1], **row)
