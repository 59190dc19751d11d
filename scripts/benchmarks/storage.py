"""How a space's vectors may be stored, and what each way costs: recall@10 against the exact scan of float32, time, index.

100 000 vectors (of a .npy file, such as scripts.benchmarks.passages makes of real text; else synthetic ones) as float32,
as float16, and as float16 under an index over their signs, each in a space of its own, built as `index apply` does.
bare: the thinnest SQL, `order by embedding <=> $1 limit 10`, as a superuser. statement: the one that a question in the
mode `fast` is answered by, under row-level security and with its document. Each in a transaction of its own. The statement
and the bare SQL that looks as wide take turns, so that what else the machine does meets both.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import psycopg
from numpy.typing import NDArray
from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg import sql

from scripts.benchmarks.corpus import Corpus
from scripts.benchmarks.throwaway import percentile, report
from scripts.local.postgres import Postgres
from shared.adapters.postgres import storage
from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.filters import compiled
from shared.adapters.postgres.migrate import ROLES, migrate
from shared.adapters.postgres.search import LOCAL, Scope, Searcher
from shared.adapters.postgres.space_tables import build_index, ensure_space
from shared.core.models import Space, Storage

Vectors = NDArray[np.float32]
_DEPTH = 10
_WIDTHS = (40, 60, 80, 100, 200)
_PASSWORD = "bench"  # noqa: S105 - of a server that lives for this run, on loopback
_TENANT = uuid.UUID(int=1)
_EXACT_ROWS = (1_000, 10_000, 30_000)
_TURN = 20

_LOADED = """
insert into tenants (id, name) values (%(tenant)s, 'bench');
insert into collections (tenant_id, name, documents, chunks) values (%(tenant)s, 'default', %(chunks)s / 4, %(chunks)s);
insert into documents (id, tenant_id, collection_id, bucket, key, status, generation, published_generation, chunks)
select lpad(n::text, 32, '0')::uuid, %(tenant)s, 1, 'b', n::text, 'searchable', 1, 1, 4
from generate_series(0, (%(chunks)s - 1) / 4) as n;
insert into chunks (id, tenant_id, collection_id, document_id, generation, ordinal, text, start_char, end_char, text_hash,
                    weights)
overriding system value
select n, %(tenant)s, 1, lpad((n / 4)::text, 32, '0')::uuid, 1, n %% 4, 'x', 0, 1, sha256(n::text::bytea), '{}/268435456'
from generate_series(0, %(chunks)s - 1) as n;
"""
_STORED = """
insert into {vectors} (chunk_id, tenant_id, collection_id, document_id, generation, text_hash, embedding)
select id, %(tenant)s, 1 + id / 4 %% %(of)s, lpad((id / 4)::text, 32, '0')::uuid, 1, sha256(id::text::bytea), embedding from loaded
"""
_SCANS = """
select sum(pg_stat_get_xact_numscans(i.indexrelid)) from pg_index i join pg_class c on c.oid = i.indexrelid
where i.indrelid = %(table)s::regclass and c.relname ~ '_hnsw'
"""


@dataclass(frozen=True, slots=True)
class _Way:
    """A statement, who asks it, what it is asked with besides the vector, and how it is searched."""

    db: psycopg.Connection[Any]
    statement: sql.Composed
    values: Callable[[Vectors], dict[str, Any]]
    about: dict[str, Any]


class Bench:
    def __init__(self, postgres: Postgres, vectors: Vectors, asked: Vectors) -> None:
        self._postgres = postgres
        self._vectors, self._asked = vectors, asked
        self._there = _nearest(vectors, asked, np.arange(len(vectors)))
        self._db = psycopg.connect(postgres.dsn(), autocommit=True, prepare_threshold=None)
        migrate(postgres.dsn(), dict.fromkeys(ROLES, _PASSWORD))
        register_vector(self._db)
        self._load()
        self._caller = psycopg.connect(
            postgres.dsn("ragzero_query", _PASSWORD), autocommit=True, prepare_threshold=None
        )
        register_vector(self._caller)
        for name, value in {"app.tenant_id": str(_TENANT), "app.acl": "*", **LOCAL}.items():
            self._caller.execute("select set_config(%s, %s, false)", [name, value])

    def _load(self) -> None:
        chunks, dimension = self._vectors.shape
        for statement in _LOADED.split(";")[:-1]:
            self._db.execute(statement.encode(), {"tenant": _TENANT, "chunks": chunks})
        self._db.execute(f"create unlogged table loaded (id bigint, embedding vector({dimension}))".encode())
        with (
            self._db.cursor() as cursor,
            cursor.copy("copy loaded from stdin with (format binary)") as copy,
        ):
            copy.set_types(["int8", "vector"])
            for number, vector in enumerate(self._vectors):
                copy.write_row((number, Vector(vector)))
        self._db.execute("vacuum analyze")

    def space(self, way: Storage) -> dict[str, Any]:
        dimension = self._vectors.shape[1]
        wanted = Space(0, f"bench:{way}", "bench", "1", dimension, f"bench:{way}", storage=way)
        # the first space of a database has its index before it has rows
        id = ensure_space(self._postgres.dsn(), wanted)
        space = Space(id, wanted.name, "bench", "1", dimension, wanted.fingerprint, storage=way)
        self._db.execute(f"drop index if exists vectors_{id}_hnsw".encode())
        table = sql.Identifier(f"vectors_{id}")
        self._db.execute(sql.SQL(_STORED).format(vectors=table), {"tenant": _TENANT, "of": 1})
        started = time.perf_counter()
        build_index(self._postgres.dsn(), id, memory="1GB", workers=2)
        seconds = time.perf_counter() - started
        self._db.execute(sql.SQL("vacuum analyze {}").format(table))
        usual = storage.widths(way)[0]
        bare = {
            width: self._measured([self._bare(space, width)], space, self._there)[0]
            for width in _WIDTHS
            if width != usual
        }
        ways = [self._bare(space, usual), self._statement(space)]
        bare[usual], statement = self._measured(ways, space, self._there)
        return {
            "index_mb": self._size(f"vectors_{id}_hnsw"),
            "build_s": round(seconds, 1),
            "bare": [bare[width] for width in _WIDTHS],
            "statement": statement,
        }

    def partitioned(self) -> dict[str, Any]:
        """A tenth of the rows of a float16 space, searched by the graph of all, and by one of its own."""
        wanted = Space(
            0, "bench:tenth", "bench", "1", self._vectors.shape[1], "bench:tenth", storage=Storage.FLOAT16
        )
        space = replace(wanted, id=ensure_space(self._postgres.dsn(), wanted))
        table = sql.Identifier(f"vectors_{space.id}")
        self._db.execute(sql.SQL(_STORED).format(vectors=table), {"tenant": _TENANT, "of": 10})
        found = {}
        mine = np.flatnonzero(np.arange(len(self._vectors)) // 4 % 10 == 0)
        there = _nearest(self._vectors, self._asked, mine)
        for name, collection in (("graph_of_all", None), ("graph_of_its_own", 1)):
            build_index(self._postgres.dsn(), space.id, memory="1GB", workers=2, collection=collection)
            self._db.execute(sql.SQL("vacuum analyze {}").format(table))
            # at this size the planner might rather look at every row
            self._caller.execute(
                "set enable_seqscan = off; set enable_sort = off; set enable_bitmapscan = off"
            )
            (found[name],) = self._measured([self._statement(space, whole=False)], space, there)
        return found

    def exact(self) -> dict[int, float]:
        """Milliseconds that so many rows of the float16 space take without an index, p50."""
        self._db.execute("set enable_indexscan = off")
        statement = (
            b"select chunk_id from (select * from vectors_1 where chunk_id < %(rows)s offset 0) as few "
            b"order by embedding <=> %(vector)s limit 10"
        )
        found = {}
        for rows in (one for one in _EXACT_ROWS if one <= len(self._vectors)):
            times = []
            for vector in storage.values(Storage.FLOAT16, self._asked[:20]):
                started = time.perf_counter()
                self._db.execute(statement, {"vector": vector, "rows": rows}, binary=True).fetchall()
                times.append((time.perf_counter() - started) * 1000)
            found[rows] = percentile(times, 0.5)
        self._db.execute("reset enable_indexscan")
        return found

    def _bare(self, space: Space, width: int) -> _Way:
        statement = sql.SQL(
            "select id from (select v.chunk_id as id, v.embedding from {vectors} v order by {nearness} limit {taken}) "
            "as v order by v.embedding <=> %(vector)s limit 10"
            if space.storage is Storage.BINARY
            else "select v.chunk_id from {vectors} v order by {nearness} limit 10"
        ).format(
            vectors=sql.Identifier(f"vectors_{space.id}"),
            nearness=storage.nearness(space.storage, space.dimension),
            taken=sql.Literal(width),
        )
        self._db.execute(f"set hnsw.ef_search = {width}".encode())
        self._require_index(self._db, statement, {}, space)
        return _Way(self._db, statement, lambda _: {}, {"ef_search": width})

    def _statement(self, space: Space, *, whole: bool = True) -> _Way:
        """whole: the collection is most of the space."""
        chunks = len(self._vectors)
        searcher = Searcher(AsyncDatabase(self._postgres.dsn(), max_connections=1))
        known: dict[str, Any] = {
            "epoch": 1,
            "visible": chunks,
            "in_scope": chunks,
            "space": space.id,
            "always_exact": False,
        }
        scope = Scope(1, chunks, **known, weights="{}/268435456", most=1.0, words={})
        statement = next(
            searcher.statements(False, True, compiled(None), space, keywords=False, shortcut=whole)
        )

        def values(vector: Vectors) -> dict[str, Any]:
            return searcher.parameters(scope, vector, _DEPTH, space, keywords=False)

        taken = values(self._asked[0])["nearest"]
        width = storage.widths(space.storage)[0]
        self._caller.execute(f"set hnsw.ef_search = {width}".encode())
        self._require_index(self._caller, statement, values(self._asked[0]), space)
        return _Way(self._caller, statement, values, {"ef_search": width, "taken": taken})

    def _measured(
        self, ways: Sequence[_Way], space: Space, there: Sequence[set[int]]
    ) -> list[dict[str, Any]]:
        times: list[list[float]] = [[] for _ in ways]
        hits, cpu = [0] * len(ways), [0.0] * len(ways)
        for warm in (False, True):
            cpu = [_cpu(way) for way in ways]
            for first in range(0, len(self._asked), _TURN):
                for number, way in enumerate(ways):
                    for asked in range(first, min(first + _TURN, len(self._asked))):
                        took, rows = self._timed(way, space, self._asked[asked])
                        if warm:
                            times[number].append(took)
                            hits[number] += len(rows & there[asked])
        return [
            way.about
            | {
                "recall_at_10": round(hits[number] / (_DEPTH * len(self._asked)), 4),
                "p50_ms": percentile(times[number], 0.5),
                "p95_ms": percentile(times[number], 0.95),
                "server_cpu_ms": round((_cpu(way) - cpu[number]) * 1000 / len(self._asked), 3),
            }
            for number, way in enumerate(ways)
        ]

    def _timed(self, way: _Way, space: Space, vector: Vectors) -> tuple[float, set[int]]:
        """Milliseconds, and what was found."""
        parameters = way.values(vector) | _bound(space, vector)
        started = time.perf_counter()
        rows = way.db.execute(way.statement, parameters, binary=True).fetchall()
        took = (time.perf_counter() - started) * 1000
        if len(rows) != _DEPTH:
            raise SystemExit(f"space {space.id} gave {len(rows)} rows of {_DEPTH}")
        return took, {row[0] for row in rows}

    def _require_index(
        self, db: psycopg.Connection[Any], statement: sql.Composed, values: dict[str, Any], space: Space
    ) -> None:
        asked = values | _bound(space, self._asked[0])
        with db.transaction():
            db.execute(statement, asked, binary=True)
            (used,) = db.execute(_SCANS, {"table": f"vectors_{space.id}"}).fetchone() or (0,)
        if not used:
            raise SystemExit(f"the index of space {space.id} was not used")

    def _size(self, index: str) -> float | None:
        row = self._db.execute("select pg_relation_size(%s::regclass)", [index]).fetchone()
        return round(row[0] / 1e6, 1) if row else None


def _cpu(way: _Way) -> float:
    """Seconds that the server has spent on it and on whatever its connection was asked before."""
    times = psutil.Process(way.db.info.backend_pid).cpu_times()
    return float(times.user + times.system)


def _nearest(vectors: Vectors, asked: Vectors, among: NDArray[np.int64]) -> list[set[int]]:
    scored = vectors[among] @ asked.T
    return [set(among[np.argpartition(-one, _DEPTH)[:_DEPTH]].tolist()) for one in scored.T]


def _bound(space: Space, vector: Vectors) -> dict[str, Any]:
    return {"vector": storage.values(space.storage, vector[None])[0]}


def drawn(chunks: int, questions: int) -> tuple[Vectors, Vectors]:
    corpus, rng = Corpus.made(np.random.default_rng(0)), np.random.default_rng(1)
    stored = np.stack([corpus.draw(rng, 90, 30)[1] for _ in range(chunks)])
    asked = np.stack([corpus.draw(rng, 5, 3)[1] for _ in range(questions)])
    return stored, asked


def _given(path: Path, chunks: int, questions: int) -> tuple[Vectors, Vectors]:
    vectors = np.load(path).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[questions : questions + chunks], vectors[:questions]


def _ratios(figures: dict[Storage, dict[str, Any]]) -> dict[str, Any]:
    """Of the statement's time to that of bare SQL that looks as wide, and of the indexes' sizes."""
    said = {}
    for way, found in figures.items():
        width = found["statement"]["ef_search"]
        for bare in (one for one in found["bare"] if one["ef_search"] == width):
            for figure in ("p50_ms", "server_cpu_ms"):
                said[f"{way}_statement_over_bare_{figure}"] = round(
                    found["statement"][figure] / bare[figure], 2
                )
    sizes = {way: found["index_mb"] for way, found in figures.items()}
    if {Storage.BINARY, Storage.FLOAT32} <= sizes.keys():
        said["binary_index_over_float32"] = round(sizes[Storage.BINARY] / sizes[Storage.FLOAT32], 3)
    return said


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--vectors", type=Path, help=".npy file, of which the first are the questions")
    parser.add_argument(
        "--only", choices=[*Storage], nargs="+", default=[*Storage], help="ways to store them"
    )
    given = parser.parse_args()
    stored, asked = (
        _given(given.vectors, given.chunks, given.questions)
        if given.vectors
        else drawn(given.chunks, given.questions)
    )
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ragzero-bench-")))
        folder.chmod(0o711)
        bench = Bench(stack.enter_context(Postgres(folder, durable=False)), stored, asked)
        ways = [way for way in (Storage.FLOAT16, Storage.FLOAT32, Storage.BINARY) if way in given.only]
        figures = {way: bench.space(way) for way in ways}
        report(
            chunks=len(stored),
            dimension=stored.shape[1],
            **figures,
            ratios=_ratios(figures),
            exact_ms=bench.exact(),
            a_tenth=bench.partitioned(),
        )


if __name__ == "__main__":
    main()
