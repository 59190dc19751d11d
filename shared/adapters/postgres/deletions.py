"""Receipts of deleted documents, and the last look for traces of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from shared.adapters.cache.epochs import Epochs
from shared.adapters.postgres.connection import AsyncDatabase, Database
from shared.adapters.postgres.receipts import note_removed, remove_rest
from shared.adapters.postgres.sql import load
from shared.core.labels import Labels
from shared.core.receipts import Receipt

_SQL = load("deletions")
_FORGOTTEN = {
    "type": "https://ragzero.dev/problems/gone",
    "title": "Gone",
    "status": 410,
    "detail": "This was answered, and spoke of a document that was deleted since.",
}


class Receipts:
    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database

    async def get(self, tenant: UUID, acl: Labels, document: UUID) -> Receipt | None:
        """Of a document that acl may see; None while it is not deleted."""
        async with self._database.transaction(tenant, acl=acl, read_only=True) as cursor:
            row = await (await cursor.execute(_SQL["receipt"], {"id": document})).fetchone()
        return Receipt(**row) if row else None


class Eraser:
    """epochs: the way to Redis; without one there is no cache to look into."""

    def __init__(self, database: Database, epochs: Epochs) -> None:
        self._database = database
        self._epochs = epochs

    def due(self, after_seconds: float, limit: int) -> dict[UUID, list[UUID]]:
        """Documents deleted longer ago than that which still leave traces, by tenant."""
        with self._database.transaction(None, local={"app.sweep": "on"}) as cursor:
            rows = cursor.execute(_SQL["due"], {"after": after_seconds, "limit": limit}).fetchall()
        found: dict[UUID, list[UUID]] = {}
        for row in rows:
            found.setdefault(row["tenant_id"], []).append(row["document_id"])
        return found

    def erase(self, tenant: UUID, documents: Sequence[UUID]) -> int:
        """How many leave no trace any more. Raises Unavailable when the cache could not be looked into."""
        with self._database.transaction(tenant, local={"app.sweep": "on"}) as cursor:
            cursor.execute(_SQL["revived"], {"ids": list(documents)})
            gone = cursor.execute(_SQL["lock_gone"], {"ids": list(documents)}).fetchall()
            epoch = self._forget(cursor, tenant, gone)
        if not gone:
            return 0
        dropped = self._epochs.drop_stale(tenant, epoch)
        with self._database.transaction(tenant) as cursor:
            for row in gone if dropped is not None else []:
                note_removed(cursor, row["id"], {"cache.answers": dropped or 0})
            cursor.execute(_SQL["erased"], {"ids": [row["id"] for row in gone]})
        return len(gone)

    def _forget(self, cursor: Cursor[DictRow], tenant: UUID, gone: Sequence[DictRow]) -> int:
        """The tenant's epoch; whatever was kept under an older one may go."""
        for row in gone:
            if row["chunks"]:
                remove_rest(cursor, row["id"])
        values = _values(tenant, gone)
        named = {row["document_id"]: row["removed"] for row in cursor.execute(_SQL["erase_answers"], values)}
        shared = {
            "answers.similar": _count(cursor, "erase_similar", values),
            "answers.replays": _count(cursor, "erase_replays", values),
        }
        for row in gone:
            note_removed(cursor, row["id"], {"answers": named.get(row["id"], 0), **shared})
        for name in ("erase_findings", "erase_messages", "erase_letters", "erase_names"):
            cursor.execute(_SQL[name], values)
        now = cursor.execute(_SQL["epoch"], values).fetchone()
        return int(now["epoch"]) if now else 0


def _count(cursor: Cursor[DictRow], name: str, values: Mapping[str, Any]) -> int:
    row = cursor.execute(_SQL[name], values).fetchone()
    return int(row["removed"]) if row else 0


def _values(tenant: UUID, gone: Sequence[DictRow]) -> dict[str, Any]:
    keys = [row["key"] for row in gone]
    spellings = {spelling for key in keys for spelling in (key, quote_plus(key), quote_plus(key, safe="/"))}
    return {
        "tenant": tenant,
        "ids": [row["id"] for row in gone],
        "buckets": [row["bucket"] for row in gone],
        "keys": keys,
        "spellings": sorted(spellings),
        "body": json.dumps(_FORGOTTEN).encode(),
    }
