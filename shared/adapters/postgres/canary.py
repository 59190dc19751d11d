"""The canary's side of Postgres: the same vectors looked up by the index and without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from shared.adapters.postgres import storage
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.sql import load
from shared.core.canary import Tuning, Watched, Within
from shared.core.models import Space

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
        return [Watched(row["collection"], row["tenant"], Space(**row["space"])) for row in rows]

    def filters(self, watched: Watched, more_than: int) -> list[Within]:
        """Metadata that more chunks than that have, and not all: what questions may be narrowed to."""
        rows = self._rows("filters", watched, {}, {"more_than": more_than, "most": _FILTERS})
        return [row["within"] for row in rows]

    def sample(self, watched: Watched, within: Within, samples: int) -> list[Any]:
        rows = self._rows("sample", watched, {}, {"within": Jsonb(within), "samples": samples})
        return [row["embedding"] for row in rows]

    def widths(self, watched: Watched) -> Sequence[int]:
        """The usual ef_search of its questions, then wider ones."""
        return storage.widths(watched.space.storage)

    def by_index(
        self, watched: Watched, within: Within, vectors: Sequence[Any], ef_search: int
    ) -> list[list[int]]:
        """Chunk ids, nearest first, as questions get them when they are searched that wide."""
        taken = storage.nearest(watched.space.storage, storage.CANDIDATES, ef_search)
        local = {"hnsw.ef_search": str(ef_search), "hnsw.iterative_scan": "relaxed_order"}
        # anything that sorts would not be the index
        local |= {"enable_seqscan": "off", "enable_sort": "off"}
        return self._nearest(
            watched,
            within,
            vectors,
            local,
            storage.nearness(watched.space.storage, watched.space.dimension),
            taken,
        )

    def exactly(self, watched: Watched, within: Within, vectors: Sequence[Any]) -> list[list[int]]:
        return self._nearest(watched, within, vectors, {"enable_indexscan": "off"}, storage.COSINE, _DEPTH)

    def tune(self, watched: Watched, tuning: Tuning) -> None:
        """Questions go by it from now on."""
        values = {"ef_search": tuning.ef_search, "exact": tuning.exact, "recall": tuning.recall}
        name = "tune" if tuning.alarming else "well"
        with self._database.transaction(watched.tenant) as cursor:
            cursor.execute(_SQL[name], _of(watched) | values)

    def close(self) -> None:
        self._database.close()

    def _nearest(
        self,
        watched: Watched,
        within: Within,
        vectors: Sequence[Any],
        local: dict[str, str],
        nearness: sql.Composable,
        taken: int,
    ) -> list[list[int]]:
        asked = {"within": Jsonb(within), "taken": taken, "limit": _DEPTH}
        found = [
            self._rows("nearest", watched, local, asked | {"vector": vector}, nearness=nearness)
            for vector in vectors
        ]
        return [[row["id"] for row in rows] for rows in found]

    def _rows(
        self,
        name: str,
        watched: Watched,
        local: dict[str, str],
        values: dict[str, Any],
        **parts: sql.Composable,
    ) -> list[dict[str, Any]]:
        table = sql.Identifier(f"vectors_{watched.space.id:d}")
        statement = sql.SQL(_SQL[name]).format(vectors=table, **parts)
        with self._database.transaction(watched.tenant, local=local) as cursor:
            return cursor.execute(statement, _of(watched) | values, binary=True).fetchall()


def _of(watched: Watched) -> dict[str, Any]:
    return {"collection": watched.collection, "tenant": watched.tenant, "space": watched.space.id}
