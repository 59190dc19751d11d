"""Collections of a tenant: made, changed while they are empty, and removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from shared.adapters.postgres.coherence import EpochStore
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.sql import load
from shared.core.errors import Conflict, InvalidInput, NotFound

_SQL = load("collections")
MOST = 1_000
_AT_ONCE = 5_000


class CollectionStore:
    """epochs: how caches hear of a change."""

    def __init__(self, database: Database, epochs: EpochStore) -> None:
        self._database = database
        self._epochs = epochs

    def make(
        self, tenant: UUID, name: str, language: str, chunk_tokens: int | None, overlap_tokens: int | None
    ) -> None:
        """Raises Conflict when it is there, or when there are too many; InvalidInput for a language nobody knows."""
        values = {
            "tenant": tenant,
            "name": name,
            "language": language,
            "chunk_tokens": chunk_tokens,
            "overlap_tokens": overlap_tokens,
        }
        with self._database.transaction(tenant) as cursor:
            check_language(cursor, language)
            row = cursor.execute(_SQL["count"], values).fetchone()
            if row is not None and row["collections"] >= MOST:
                raise Conflict(f"a tenant has up to {MOST} collections")
            if cursor.execute(_SQL["make"], values).rowcount == 0:
                raise Conflict(f"there is a collection {name!r} already")

    def change(self, tenant: UUID, name: str, changes: Mapping[str, Any], *, reread: bool = False) -> None:
        """changes: language, chunk_tokens, overlap_tokens; those not named stay.

        Raises Conflict while there is anything in it, which was made under the old settings, unless it is to be reread.
        """
        with self._database.transaction(tenant) as cursor:
            row = _locked(cursor, tenant, name)
            if not (row["empty"] or reread):
                raise Conflict(
                    f"the collection {name!r} is not empty; other settings would need its documents indexed anew:"
                    " build a candidate (scripts/rag index apply --collection), empty this one first, or say reread"
                )
            known = {**row, **changes}
            check_language(cursor, known["language"])
            cursor.execute(_SQL["change"], known)
            self._epochs.bump(cursor, tenant)

    def contents(self, tenant: UUID, name: str, limit: int) -> tuple[list[tuple[UUID, str]], int]:
        """(id, key) of some of its documents, whatever their labels, and how many there are."""
        with self._database.transaction(tenant) as cursor:
            values = {"tenant": tenant, "name": name, "limit": limit}
            rows = cursor.execute(_SQL["contents"], values).fetchall()
        return [(row["id"], row["key"]) for row in rows], rows[0]["documents"] if rows else 0

    def remove(self, tenant: UUID, name: str) -> bool:
        """False when there is more to do: call again. Whoever publishes into it at this time is refused, and comes back.

        A cascade would take visible documents along, so it is removed only once none is left in it.
        """
        with self._database.transaction(tenant) as cursor:
            values = {"tenant": tenant, "id": _locked(cursor, tenant, name)["id"], "limit": _AT_ONCE}
            cursor.execute(_SQL["move_rest"], values)
            row = cursor.execute(_SQL["left"], values).fetchone()
            if row is None or row["some"]:
                return False
            cursor.execute(_SQL["forget_lexemes"], values)
            cursor.execute(_SQL["remove"], values)
            self._epochs.bump(cursor, tenant)
        return True


def _locked(cursor: Cursor[DictRow], tenant: UUID, name: str) -> DictRow:
    row = cursor.execute(_SQL["lock"], {"tenant": tenant, "name": name}).fetchone()
    if row is None:
        raise NotFound(f"there is no collection {name!r}")
    return row


def check_language(cursor: Cursor[DictRow], language: str) -> None:
    known = [row["language"] for row in cursor.execute(_SQL["languages"]).fetchall()]
    if language not in known:
        raise InvalidInput(f"language is one of {', '.join(known)}, not {language[:80]!r}", field="language")
