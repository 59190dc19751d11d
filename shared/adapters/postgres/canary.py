"""The canary's side of Postgres: the same vectors looked up by the index and without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgvector import HalfVector
from psycopg.types.json import Jsonb

from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.documents import vectors_statement
from shared.adapters.postgres.sql import load
from shared.core.canary import Tuning, Watched, Within

_SQL = load("canary")
_SWEEPING = {"app.sweep": "on"}
_DEPTH = 10
_FILTERS = 3  # of one collection


class CanaryStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    def watched(self, more_than: int) -> list[Watched]:
        """Collections with more chunks than that."""
        with self._database.transaction(None, local=_SWEEPING) as cursor:
            rows = cursor.execute(_SQL["collections"], {"more_than": more_than}).fetchall()
        return [Watched(row["id"], row["tenant_id"], row["space"]) for row in rows]

    def filters(self, watched: Watched, more_than: int) -> list[Within]:
        """Metadata that more chunks than that have, and not all: what questions may be narrowed to."""
        rows = self._rows("filters", watched, {}, {"more_than": more_than, "most": _FILTERS})
        return [row["within"] for row in rows]

    def sample(self, watched: Watched, within: Within, samples: int) -> list[HalfVector]:
        rows = self._rows("sample", watched, {}, {"within": Jsonb(within), "samples": samples})
        return [row["embedding"] for row in rows]

    def by_index(
        self, watched: Watched, within: Within, vectors: Sequence[HalfVector], ef_search: int
    ) -> list[list[int]]:
        """Chunk ids, nearest first, as questions get them when they are searched that wide."""
        local = {"hnsw.ef_search": str(ef_search), "hnsw.iterative_scan": "relaxed_order"}
        # anything that sorts would not be the index
        return self._nearest(
            watched, within, vectors, local | {"enable_seqscan": "off", "enable_sort": "off"}
        )

    def exactly(self, watched: Watched, within: Within, vectors: Sequence[HalfVector]) -> list[list[int]]:
        return self._nearest(watched, within, vectors, {"enable_indexscan": "off"})

    def tune(self, watched: Watched, tuning: Tuning) -> None:
        """Questions go by it from now on."""
        values = {"ef_search": tuning.ef_search, "exact": tuning.exact, "recall": tuning.recall}
        name = "tune" if tuning.alarming else "well"
        with self._database.transaction(watched.tenant) as cursor:
            cursor.execute(_SQL[name], _of(watched) | values)

    def close(self) -> None:
        self._database.close()

    def _nearest(
        self, watched: Watched, within: Within, vectors: Sequence[HalfVector], local: dict[str, str]
    ) -> list[list[int]]:
        asked = {"within": Jsonb(within), "limit": _DEPTH}
        found = [self._rows("nearest", watched, local, asked | {"vector": vector}) for vector in vectors]
        return [[row["id"] for row in rows] for rows in found]

    def _rows(
        self, name: str, watched: Watched, local: dict[str, str], values: dict[str, Any]
    ) -> list[dict[str, Any]]:
        statement = vectors_statement(_SQL[name], watched.space)
        with self._database.transaction(watched.tenant, local=local) as cursor:
            return cursor.execute(statement, _of(watched) | values, binary=True).fetchall()


def _of(watched: Watched) -> dict[str, Any]:
    return {"collection": watched.collection, "tenant": watched.tenant, "space": watched.space}
