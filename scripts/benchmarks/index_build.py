"""Questions while the graph of another space is built: how long they take, with so many workers besides the one that builds.

scripts/bench index-build [--chunks 30000] [--seconds 15] [--workers 0 2]

The collection is that of scripts/bench retrieval; a question is the hybrid statement, asked again after a pause.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from scripts.benchmarks.corpus import DIMENSION, Corpus, load
from scripts.benchmarks.throwaway import percentile, report
from scripts.local.postgres import Postgres
from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.migrate import ROLES, migrate
from shared.adapters.postgres.search import Searcher
from shared.adapters.postgres.space_tables import build_index, ensure_space
from shared.core.models import Space

_PASSWORD = "bench"  # noqa: S105 - of a server that lives for this run, on loopback
_TENANT = uuid.UUID(int=1)
_ACTIVE = Space(1, "bench", "bench", "1", DIMENSION, "bench")
_NEXT = Space(2, "next", "bench", "2", DIMENSION, "next")
_PAUSE_S = 0.02


def made(postgres: Postgres, corpus: Corpus, chunks: int) -> None:
    """A searchable collection, and a space of the same vectors without an index."""
    migrate(postgres.dsn(), dict.fromkeys(ROLES, _PASSWORD))
    ensure_space(postgres.dsn(), _ACTIVE)
    load(postgres.dsn(), corpus, chunks, _TENANT)
    ensure_space(postgres.dsn(), _NEXT)
    with psycopg.connect(postgres.dsn(), autocommit=True) as db:
        db.execute("insert into vectors_2 select * from vectors_1")
        db.execute("vacuum analyze vectors_2")


async def asked(postgres: Postgres, corpus: Corpus, over: Callable[[], bool]) -> list[float]:
    """Milliseconds that each question took, until it is over."""
    rng, times = np.random.default_rng(2), list[float]()
    database = AsyncDatabase(postgres.dsn("ragzero_query", _PASSWORD), max_connections=1)
    searcher = Searcher(database)
    while not over():
        text, vector = corpus.draw(rng, 5, 3)
        started = time.perf_counter()
        await searcher.search(_TENANT, "default", text, vector, _ACTIVE, limit=10)
        times.append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(_PAUSE_S)
    await database.close()
    return times


def undisturbed(postgres: Postgres, corpus: Corpus, seconds: float) -> dict[str, Any]:
    ends = time.monotonic() + seconds
    return _figures(asyncio.run(asked(postgres, corpus, lambda: time.monotonic() > ends)))


def building(postgres: Postgres, corpus: Corpus, workers: int) -> dict[str, Any]:
    with psycopg.connect(postgres.dsn(), autocommit=True) as db:
        db.execute("drop index if exists vectors_2_hnsw")
    options = {"memory": "256MB", "workers": workers}
    build = threading.Thread(target=build_index, args=(postgres.dsn(), 2), kwargs=options)
    started = time.perf_counter()
    build.start()
    times = asyncio.run(asked(postgres, corpus, lambda: not build.is_alive()))
    return _figures(times) | {"seconds": round(time.perf_counter() - started, 1)}


def _figures(times: list[float]) -> dict[str, Any]:
    return {"questions": len(times), "p50_ms": percentile(times, 0.5), "p95_ms": percentile(times, 0.95)}


def main() -> None:
    formatted = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatted)
    parser.add_argument("--chunks", type=int, default=30_000)
    parser.add_argument("--seconds", type=float, default=15, help="undisturbed")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    given = parser.parse_args()
    corpus = Corpus.made(np.random.default_rng(0))
    with tempfile.TemporaryDirectory(prefix="ragzero-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with Postgres(folder, durable=False) as postgres:
            assert isinstance(postgres, Postgres)
            made(postgres, corpus, given.chunks)
            before = undisturbed(postgres, corpus, given.seconds)
            found = {count: building(postgres, corpus, count) for count in given.workers}
    ratios = {count: round(one["p95_ms"] / before["p95_ms"], 2) for count, one in found.items()}
    report(chunks=given.chunks, before=before, building_with_workers=found, p95_over_before=ratios)


if __name__ == "__main__":
    main()
