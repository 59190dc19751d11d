"""What the audit counts, and what is to go because its time has come; of all tenants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg.types.json import Jsonb

from shared.adapters.cache.epochs import Epochs
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.generations import vectors_statement
from shared.adapters.postgres.sql import load

_SQL = load("audit")
_SWEEPING = {"app.sweep": "on"}
_COUNTED = (
    "chunks_of_deleted",
    "chunks_of_older_generations",
    "editions_of_deleted",
    "metadata_of_deleted",
    "answers_kept_too_long",
    "responses_kept_too_long",
)


class AuditStore:
    """grace_seconds: what was deleted less long ago may be on its way out."""

    def __init__(
        self, database: Database, bucket: str, grace_seconds: float, epochs: Epochs | None = None
    ) -> None:
        self._database = database
        self._epochs = epochs
        self._bucket = bucket
        self._values = {"grace": grace_seconds}

    def count(self) -> dict[str, int]:
        """How much is still there of what should be gone, by what it is."""
        counted = {name: self._count(name) for name in _COUNTED}
        with self._database.transaction(None, local=_SWEEPING) as cursor:
            spaces = [row["id"] for row in cursor.execute(_SQL["spaces"])]
        return counted | {
            f"vectors_of_deleted_in_space_{space}": self._count("vectors_of_deleted", space)
            for space in spaces
        }

    def cached(self) -> int | None:
        """Answers in the cache that were made before something was deleted that has been erased; None without a cache.
        Raises Unavailable."""
        if self._epochs is None or not self._epochs.configured:
            return None
        with self._database.transaction(None, local=_SWEEPING) as cursor:
            erased = cursor.execute(_SQL["erased_epochs"], self._values).fetchall()
        return sum(self._epochs.count_stale(row["tenant"], row["epoch"]) or 0 for row in erased)

    def discarded(self, limit: int) -> list[str]:
        """Letters that somebody gave up on."""
        with self._database.transaction(None, local=_SWEEPING) as cursor:
            return [row["body"] for row in cursor.execute(_SQL["discarded"], {"limit": limit})]

    def erased(self, keys: Sequence[str]) -> int:
        """How many of these are names of erased documents, and of no other one since."""
        values = {"keys": list(keys), "bucket": self._bucket}
        with self._database.transaction(None, local=_SWEEPING) as cursor:
            row = cursor.execute(_SQL["erased"], self._values | values).fetchone()
        return int(row["found"]) if row else 0

    def keep(self, findings: Mapping[str, int]) -> int:
        values = {"findings": Jsonb(dict(findings)), "clean": not any(findings.values())}
        with self._database.transaction(None, local=_SWEEPING) as cursor:
            row = cursor.execute(_SQL["keep"], values).fetchone()
        assert row is not None
        return int(row["id"])

    def expired(self, after: str, limit: int) -> list[tuple[str, int]]:
        """(key, days) of documents that may have outlived their time, in the order of their keys."""
        values = {"bucket": self._bucket, "after": after, "limit": limit}
        with self._database.transaction(None, local=_SWEEPING) as cursor:
            return [(row["key"], row["days"]) for row in cursor.execute(_SQL["expired"], values)]

    def close(self) -> None:
        self._database.close()

    def _count(self, name: str, space: int = 0) -> int:
        with self._database.transaction(None, local=_SWEEPING) as cursor:
            row = cursor.execute(vectors_statement(_SQL[name], space), self._values).fetchone()
        return int(row["found"]) if row else 0
