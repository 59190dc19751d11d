"""Retrieval at size, as ratios to the thinnest statement doing the vector part alone, in one run.

The collection is synthetic (a Zipf vocabulary, texts and vectors that share topics), in a Postgres of its own;
quality is measured on real text by `scripts/bench quality`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg.rows import dict_row

from scripts.benchmarks.corpus import DIMENSION, Corpus, load
from scripts.benchmarks.throwaway import percentile, report
from scripts.local.postgres import Postgres
from shared.adapters.postgres import storage
from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.filters import compiled
from shared.adapters.postgres.migrate import ROLES, migrate
from shared.adapters.postgres.search import LOCAL, Scope, Searcher, SearchOptions
from shared.adapters.postgres.space_tables import ensure_space
from shared.adapters.postgres.sql import load as load_sql
from shared.core import filters
from shared.core.models import Space

_PASSWORD = "bench"  # noqa: S105 - of a server that lives for this run, on loopback
_TENANT = uuid.UUID(int=1)
_SPACE = Space(1, "bench", "bench", "1", DIMENSION, "bench")
_ONE_PERCENT = filters.parse({"bucket": 7})


async def measure(
    postgres: Postgres, corpus: Corpus, tenant: uuid.UUID, chunks: int, questions: int
) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    asked = [corpus.draw(rng, 5, 3) for _ in range(questions)]
    database = AsyncDatabase(postgres.dsn("ragzero_query", _PASSWORD), max_connections=1)
    searcher = Searcher(database, SearchOptions())
    connection = await psycopg.AsyncConnection.connect(
        postgres.dsn(), autocommit=True, prepare_threshold=None
    )
    await _prepare(connection)
    statements = await psycopg.AsyncConnection.connect(
        postgres.dsn("ragzero_query", _PASSWORD), prepare_threshold=None
    )
    await _prepare(statements)
    await statements.execute("select set_config('app.tenant_id', %s, false)", [str(tenant)])

    async def vector_only(vector: NDArray[np.float32]) -> list[int]:
        return await _bare(connection, "", vector)

    async def hybrid(text: str, vector: NDArray[np.float32]) -> list[int]:
        found = await searcher.search(tenant, "default", text, vector, _SPACE, limit=10)
        return [passage.chunk_id for passage in found.passages]

    async def fast(text: str, vector: NDArray[np.float32]) -> list[int]:
        found = await searcher.search(tenant, "default", text, vector, _SPACE, limit=10, keywords=False)
        return [passage.chunk_id for passage in found.passages]

    async def filtered(text: str, vector: NDArray[np.float32]) -> list[int]:
        found = await searcher.search(tenant, "default", text, vector, _SPACE, limit=10, filter=_ONE_PERCENT)
        return [passage.chunk_id for passage in found.passages]

    async def statement(text: str, vector: NDArray[np.float32]) -> list[int]:
        return await _hybrid_statement(statements, tenant, searcher, text, vector, chunks)

    async def timed(run: Callable[[], Awaitable[list[int]]]) -> float:
        started = time.perf_counter()
        await run()
        return (time.perf_counter() - started) * 1000

    ways: dict[str, Callable[[str, NDArray[np.float32]], Awaitable[list[int]]]] = {
        "vector_only_sql": lambda _text, vector: vector_only(vector),
        "hybrid_sql": statement,
        "hybrid": hybrid,
        "fast": fast,
        "hybrid_1_percent": filtered,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(2):
        for text, vector in asked:
            for name, way in ways.items():
                elapsed = await timed(functools.partial(way, text, vector))
                if repeat:
                    times[name].append(elapsed)
    recall, short = await _filtered_recall(connection, filtered, asked[:100])
    await connection.close()
    await statements.close()
    await database.close()
    return _figures(chunks, times) | {"filtered_recall_at_10": recall, "filtered_answers_short_of_10": short}


async def _prepare(connection: psycopg.AsyncConnection[Any]) -> None:
    from pgvector.psycopg import register_vector_async

    await register_vector_async(connection)
    width = storage.width(_SPACE.storage, storage.nearest(_SPACE.storage, SearchOptions().candidates))
    for name, value in {**LOCAL, "hnsw.ef_search": str(width)}.items():
        await connection.execute("select set_config(%s, %s, false)", [name, value])


async def _bare(
    connection: psycopg.AsyncConnection[Any], where: str, vector: NDArray[np.float32]
) -> list[int]:
    statement = f"select chunk_id from vectors_1 {where} order by embedding <=> %s limit 10"
    rows = await (await connection.execute(statement.encode(), [HalfVector(vector)], binary=True)).fetchall()
    return [row[0] for row in rows]


async def _hybrid_statement(
    connection: psycopg.AsyncConnection[Any],
    tenant: uuid.UUID,
    searcher: Searcher,
    text: str,
    vector: NDArray[np.float32],
    chunks: int,
) -> list[int]:
    """The very statements the adapter sends, in a transaction that is open already, and nothing around them."""
    asked = {"tenant": tenant, "collection": "default", "question": text, "rare": 500}
    cursor = connection.cursor(binary=True, row_factory=dict_row)
    row = await (await cursor.execute(load_sql("search")["scope"], asked)).fetchone()
    assert row is not None
    scope = Scope.of(row, chunks)
    statement = next(searcher.statements(False, True, compiled(None), _SPACE))
    parameters = searcher.parameters(scope, vector, limit=10, space=_SPACE)
    rows = await (await cursor.execute(statement, parameters)).fetchall()
    return [row["chunk_id"] for row in rows]


async def _filtered_recall(
    connection: psycopg.AsyncConnection[Any],
    filtered: Callable[[str, NDArray[np.float32]], Awaitable[list[int]]],
    asked: list[tuple[str, NDArray[np.float32]]],
) -> tuple[float, int]:
    """Against the exact ranking of every chunk that passes the filter, by the same fused score."""
    hits, short = 0, 0
    await connection.execute("set enable_indexscan = off")
    for text, vector in asked:
        found = await filtered(text, vector)
        short += len(found) < 10
        hits += len(set(found) & set(await _exact(connection, text, vector)))
    return round(hits / (10 * len(asked)), 4), short


async def _exact(
    connection: psycopg.AsyncConnection[Any], text: str, vector: NDArray[np.float32]
) -> list[int]:
    rows = await (
        await connection.execute(
            """with words as (
                   select l.lexeme, ln(1 + (n.total - l.chunks + 0.5) / (l.chunks + 0.5)) as idf
                   from unnest(tsvector_to_array(to_tsvector('english', %(text)s))) as asked (lexeme)
                   join lexemes l on l.lexeme = asked.lexeme, (select count(*) as total from chunks) as n)
               select c.id
               from chunks c join vectors_1 v on v.chunk_id = c.id join documents d on d.id = c.document_id,
                    (select ('{' || string_agg(lexeme_index(lexeme) || ':' || idf, ',') || '}/268435456')::sparsevec as w,
                            1.9 * sum(idf) as most from words) as q
               where d.metadata ->> 'bucket' = '7'
               order by 2 * greatest(1 - (v.embedding <=> %(vector)s), 0) - (c.weights <#> q.w) / q.most desc, c.id
               limit 10""",
            {"text": text, "vector": HalfVector(vector)},
            binary=True,
        )
    ).fetchall()
    return [row[0] for row in rows]


def _figures(chunks: int, times: dict[str, list[float]]) -> dict[str, Any]:
    p50 = {name: percentile(values, 0.5) for name, values in times.items()}
    p95 = {name: percentile(values, 0.95) for name, values in times.items()}
    return {
        "chunks": chunks,
        "p50_ms": p50,
        "p95_ms": p95,
        "hybrid_over_vector_only_p50": round(p50["hybrid"] / p50["vector_only_sql"], 2),
        "hybrid_over_vector_only_p95": round(p95["hybrid"] / p95["vector_only_sql"], 2),
        "adapter_over_sql_p50": round(p50["hybrid"] / p50["hybrid_sql"], 2),
        "fast_over_hybrid_p50": round(p50["fast"] / p50["hybrid"], 2),
        "filtered_over_unfiltered_p50": round(p50["hybrid_1_percent"] / p50["hybrid"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="use, or make, a database in this folder and keep it")
    parser.add_argument("--questions", type=int, default=300)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="ragzero-bench-"))
        )
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
        filled = (folder / "data").exists()
        postgres = Postgres(folder, durable=False)
        stack.enter_context(postgres)
        corpus = Corpus.made(np.random.default_rng(0))
        if not filled:
            migrate(postgres.dsn(), dict.fromkeys(ROLES, _PASSWORD))
            ensure_space(postgres.dsn(), _SPACE)
            load(postgres.dsn(), corpus, arguments.chunks, _TENANT)
        report(**asyncio.run(measure(postgres, corpus, _TENANT, arguments.chunks, arguments.questions)))


if __name__ == "__main__":
    main()
