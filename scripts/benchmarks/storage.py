"""How a space's vectors may be stored, and what each way costs: recall@10, the time of the bare statement, the index.

The same synthetic vectors (texts and topics as in `scripts/bench retrieval`, or a .npy file of real ones) as float32, as
float16, and as float16 with an index over their signs, whose nearest are ranked again by the vectors themselves. What is
not exact is held against the exact scan of the float32 vectors.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector, Vector
from pgvector.psycopg import register_vector

from scripts.benchmarks.retrieval import Corpus
from scripts.benchmarks.throwaway import percentile, report
from scripts.local.postgres import Postgres

Vectors = NDArray[np.float32]
_DEPTH = 10


@dataclass(frozen=True)
class Way:
    """One way to store, and to search. {d} is the dimension, {n} how many candidates are ranked again."""

    name: str
    column: str
    index: str
    nearest: str
    widths: tuple[int, ...]


_PLAIN = "select id from {table} order by embedding <=> %(vector)s limit 10"
_AGAIN = """select id from (
    select id, embedding from {table}
    order by binary_quantize(embedding)::bit({d}) <~> binary_quantize(%(vector)s::halfvec({d}))::bit({d}) limit {n}
) as near order by embedding <=> %(vector)s limit 10"""
WAYS = (
    Way("float32", "vector", "embedding vector_cosine_ops", _PLAIN, (40, 100, 200)),
    Way("float16", "halfvec", "embedding halfvec_cosine_ops", _PLAIN, (40, 100, 200)),
    Way(
        "binary", "halfvec", "(binary_quantize(embedding)::bit({d})) bit_hamming_ops", _AGAIN, (100, 200, 400)
    ),
)


def load(db: psycopg.Connection[Any], way: Way, vectors: Vectors) -> float:
    """Seconds that building the index took."""
    dimension = vectors.shape[1]
    db.execute(
        f"create table stored_{way.name} (id int primary key, embedding {way.column}({dimension}) not null)".encode()
    )
    kind = Vector if way.column == "vector" else HalfVector
    with (
        db.cursor() as cursor,
        cursor.copy(f"copy stored_{way.name} from stdin with (format binary)".encode()) as copy,
    ):
        copy.set_types(["int4", way.column])
        for number, vector in enumerate(vectors):
            copy.write_row((number, kind(vector)))
    started = time.perf_counter()
    index = way.index.format(d=dimension)
    db.execute(f"create index {way.name}_hnsw on stored_{way.name} using hnsw ({index})".encode())
    db.execute(f"vacuum analyze stored_{way.name}".encode())
    return time.perf_counter() - started


def measured(
    db: psycopg.Connection[Any], way: Way, width: int, asked: Vectors, there: Sequence[set[int]]
) -> dict[str, Any]:
    dimension = asked.shape[1]
    statement = way.nearest.format(table=f"stored_{way.name}", d=dimension, n=width).encode()
    db.execute(f"set hnsw.ef_search = {width}".encode())
    kind = Vector if way.column == "vector" else HalfVector
    _require_index(db, statement, kind(asked[0]), f"{way.name}_hnsw")
    times, hits = [], 0
    for repeat in range(2):
        for vector, truth in zip(asked, there, strict=True):
            started = time.perf_counter()
            rows = db.execute(statement, {"vector": kind(vector)}, binary=True).fetchall()
            if repeat:
                times.append((time.perf_counter() - started) * 1000)
                hits += len({row[0] for row in rows} & truth)
    recall = round(hits / (_DEPTH * len(asked)), 4)
    return {
        "width": width,
        "recall_at_10": recall,
        "p50_ms": percentile(times, 0.5),
        "p95_ms": percentile(times, 0.95),
    }


def _require_index(db: psycopg.Connection[Any], statement: bytes, vector: Any, index: str) -> None:
    plan = "\n".join(
        row[0] for row in db.execute(b"explain " + statement, {"vector": vector}, binary=True).fetchall()
    )
    if index not in plan:
        raise SystemExit(f"the index {index} was not used:\n{plan}")


def exact(vectors: Vectors, asked: Vectors) -> list[set[int]]:
    return [set(np.argpartition(-(vectors @ one), _DEPTH)[:_DEPTH].tolist()) for one in asked]


def drawn(chunks: int, questions: int) -> tuple[Vectors, Vectors]:
    corpus, rng = Corpus.made(np.random.default_rng(0)), np.random.default_rng(1)
    stored = np.stack([corpus.draw(rng, 90, 30)[1] for _ in range(chunks)])
    asked = np.stack([corpus.draw(rng, 5, 3)[1] for _ in range(questions)])
    return stored, asked


def _given(path: Path, questions: int) -> tuple[Vectors, Vectors]:
    vectors = np.load(path).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[questions:], vectors[:questions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument(
        "--vectors", type=Path, help=".npy file of real ones, of which the first are the questions"
    )
    given = parser.parse_args()
    stored, asked = (
        _given(given.vectors, given.questions) if given.vectors else drawn(given.chunks, given.questions)
    )
    there = exact(stored, asked)
    figures: dict[str, Any] = {"chunks": len(stored), "dimension": stored.shape[1]}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ragzero-bench-")))
        folder.chmod(0o711)
        postgres = stack.enter_context(Postgres(folder, durable=False))
        db = stack.enter_context(psycopg.connect(postgres.dsn(), autocommit=True, prepare_threshold=None))
        db.execute("create extension vector")
        register_vector(db)
        db.execute("set maintenance_work_mem = '1GB'")
        for way in WAYS:
            seconds = load(db, way, stored)
            row = db.execute("select pg_relation_size(%s::regclass)", [f"{way.name}_hnsw"]).fetchone()
            figures[way.name] = {
                "index_mb": round(row[0] / 1e6, 1) if row else None,
                "build_s": round(seconds, 1),
                "searched": [measured(db, way, width, asked, there) for width in way.widths],
            }
    report(**figures)


if __name__ == "__main__":
    main()
