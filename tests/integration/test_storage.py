"""Each way to store vectors: a space of its own, filled without an encoder where that is exact, and found through its index."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.psycopg import register_vector
from psycopg import Cursor, sql
from psycopg.rows import DictRow

from functions.ingest.wiring import build as build_ingest
from functions.reindex.canary import Canary
from scripts.migrate import space_of
from shared.adapters.postgres import storage as stored
from shared.adapters.postgres.canary import CanaryStore
from shared.adapters.postgres.catalog import Catalog
from shared.adapters.postgres.connection import AsyncDatabase, Database
from shared.adapters.postgres.filters import compiled
from shared.adapters.postgres.partitions import partition
from shared.adapters.postgres.search import Scope, Searcher, SearchOptions
from shared.adapters.postgres.space_tables import (
    build_index,
    ensure_model,
    ensure_space,
    mark_built,
    renew_functions,
)
from shared.core.filters import parse
from shared.core.models import Passage, Space, Storage
from tests.faults.test_canary import canary
from tests.faults.test_embed_job import NOBODY, CpuEncoder
from tests.integration.test_embed_job import make_job
from tests.support.installation import Installation
from tests.support.model_change import admin_url, fill, promote
from tests.support.operating import client
from tests.support.sweeping import unsound, work_off

_QUESTION = "Which bell rang three times on day 2?"
_COLUMNS = {Storage.FLOAT32: "vector", Storage.FLOAT16: "halfvec", Storage.BINARY: "halfvec"}


@pytest.fixture
def bells(installation: Installation) -> Installation:
    for day in range(3):
        parts = (f"# Day {day}.{part}\n\nBell {part} of day {day} rang {part} times." for part in range(10))
        installation.put(f"{day}.md", "\n\n".join(parts))
    work_off(installation)
    return installation


def built(installation: Installation, storage: Storage) -> tuple[Space, int]:
    """The space of the usual model stored that way, and how many texts had to be embedded for it."""
    admin, embedder = admin_url(installation), installation.embedder
    wanted = space_of(embedder.manifest, storage)
    id = ensure_space(admin, wanted)
    filled = fill(installation, id, embedder.encode)
    build_index(admin, id, workers=0)
    mark_built(admin, id)
    return Space(id, *_without_id(wanted), storage=storage), filled.embedded


def _without_id(space: Space) -> Sequence[Any]:
    return space.name, space.model, space.revision, space.dimension, space.fingerprint


@pytest.mark.parametrize("storage", [Storage.FLOAT32, Storage.BINARY])
def test_a_space_of_another_storage_finds_the_same_by_its_index_and_without(
    bells: Installation, storage: Storage
) -> None:
    """float32 is embedded anew, for half of its digits are not there; signs and float16 are copied."""
    exact, ann = [ranked(bells, exact_below) for exact_below in (10_000, 0)]
    space, embedded = built(bells, storage)
    assert embedded == (30 if storage is Storage.FLOAT32 else 0)
    with client(bells) as api:
        promote(api, space.id)
        (told,) = [one for one in api.get("/v1/index/spaces").json() if one["id"] == space.id]
    assert (told["storage"], told["lacking"], told["name"]) == (storage, 0, space.name)
    assert ranked(bells, 10_000) == exact
    assert ranked(bells, 0) == ann
    assert canary(bells) == {"status": "done", "collections": 1, "recall": 1.0, "alarms": {}}
    (column,) = bells.rows(f"select pg_typeof(embedding)::text as type from vectors_{space.id} limit 1")
    assert column["type"] == _COLUMNS[storage]


def ranked(installation: Installation, exact_below: int) -> list[tuple[str, float]]:
    with client(installation, exact_below=exact_below) as api:
        body = api.post("/v1/search", json={"question": _QUESTION, "top_k": 10}).json()
    assert body["retrieval"] == ("exact" if exact_below else "ann")
    return [(one["text"], round(one["score"], 2)) for one in body["results"]]


@pytest.mark.parametrize("storage", [*Storage])
@pytest.mark.parametrize("keywords", [True, False], ids=["balanced", "fast"])
def test_the_statement_is_answered_from_the_index_of_its_storage(
    bells: Installation, storage: Storage, keywords: bool
) -> None:
    """A type or an expression that differs in the least silently means that every row is looked at."""
    space, _ = built(bells, storage)
    plan = asyncio.run(explained(bells, space, keywords))
    assert f"Index Scan using vectors_{space.id}_hnsw" in plan, plan


async def explained(installation: Installation, space: Space, keywords: bool) -> str:
    database = AsyncDatabase(installation.url("ragzero_query"), max_connections=1)
    searcher = Searcher(database)
    (row,) = installation.rows("select id from collections where chunks = 30")
    known = {"epoch": 1, "visible": 30, "in_scope": 30, "space": space.id, "always_exact": False}
    scope = Scope(row["id"], 30, **known, weights="{}/268435456", most=1.0, words={})
    vector = installation.embedder.encode_query(_QUESTION)
    local = {"enable_seqscan": "off", "enable_sort": "off", "enable_bitmapscan": "off"}
    statement = next(searcher.statements(False, True, compiled(None), space, keywords=keywords))
    values = searcher.parameters(scope, vector, 10, space)
    try:
        async with database.transaction(installation.tenant, acl=None, local=local) as cursor:
            rows = await (await cursor.execute(b"explain " + statement.as_bytes(None), values)).fetchall()
    finally:
        await database.close()
    return "\n".join(row["QUERY PLAN"] for row in rows)


@pytest.mark.parametrize("storage", [*Storage])
def test_the_function_of_a_space_is_answered_from_the_index_of_its_storage(
    bells: Installation, storage: Storage
) -> None:
    """However few rows there are, and however often it was asked: after five times the server's process keeps its plan."""
    space, _ = built(bells, storage)
    vector = HalfVector(bells.embedder.encode_query(_QUESTION))
    (row,) = bells.rows("select id from collections where chunks = 30")
    with psycopg.connect(bells.url("ragzero_query"), prepare_threshold=None) as connection:
        register_vector(connection)
        for name, value in (("app.tenant_id", str(bells.tenant)), ("app.acl", "*")):
            connection.execute("select set_config(%s, %s, true)", [name, value])
        asked = f"select * from nearest_{space.id}(%s::{_COLUMNS[storage]}, %s, 10)".encode()
        for _ in range(8):
            assert len(connection.execute(asked, [vector, row["id"]]).fetchall()) == 10
        scans = f"select pg_stat_get_xact_numscans('vectors_{space.id}_hnsw'::regclass)".encode()
        assert connection.execute(scans).fetchone() == (8,)
        connection.execute("select set_config('app.tenant_id', %s, true)", [str(uuid4())])
        assert connection.execute(asked, [vector, row["id"]]).fetchall() == [], "another tenant's"


class Watched(Searcher):
    """Remembers whether it asked the function of the space."""

    asked: list[str]

    def statements(self, *args: Any, **options: Any) -> Iterator[sql.Composed]:
        for statement in super().statements(*args, **options):
            self.asked.append(SHORT if f"nearest_{args[3].id}" in statement.as_string(None) else LONG)
            yield statement


SHORT, LONG = "short", "long"


def nearest(installation: Installation, *ways: str, exact_below: int = 0, **how: Any) -> list[Passage]:
    """The first three by meaning alone, asked for in those ways, one after the other."""
    vector = installation.embedder.encode_query(_QUESTION)

    async def found() -> list[Passage]:
        database = AsyncDatabase(installation.url("ragzero_query"), max_connections=1)
        try:
            searcher = Watched(database, SearchOptions(exact_below=exact_below))
            searcher.asked = []
            space = await Catalog(database).space()
            asked = (installation.tenant, "default", _QUESTION, vector, space)
            passages = (await searcher.search(*asked, limit=3, keywords=False, **how)).passages
            assert (searcher.asked, len(passages)) == ([*ways], 3)
            return passages
        finally:
            await database.close()

    return asyncio.run(found())


def test_the_short_way_finds_what_the_long_one_does_and_is_taken_where_it_can_be(bells: Installation) -> None:
    """Where nothing is asked but what is nearest, of all of a collection that is a good part of the space, and the caller sees
    all of it. A server that has no function yet is asked the long way."""
    found = nearest(bells, LONG, exact_below=10_000)
    assert nearest(bells, SHORT) == found
    assert nearest(bells, LONG, filter=parse({"created_at": {"$gt": "2020-01-01"}})) == found
    assert nearest(bells, LONG, candidates=50) == found
    (function,) = bells.rows(
        "select oid::regprocedure::text as name from pg_proc where proname ~ '^nearest_'"
    )
    with psycopg.connect(admin_url(bells)) as connection:
        connection.execute(f"drop function {function['name']}".encode())
    assert nearest(bells, LONG) == found
    renew_functions(admin_url(bells))
    assert nearest(bells, SHORT) == found
    bells.rows("update pg_class set reltuples = 90 where relname = 'vectors_1' returning oid")
    assert nearest(bells, LONG) == found, "others have two thirds of the graph"
    bells.rows("update pg_class set reltuples = 89 where relname = 'vectors_1' returning oid")
    bells.put("secret.md", _QUESTION, {"acl": "sacristy"})
    work_off(bells)
    assert nearest(bells, LONG) == found
    assert nearest(bells, SHORT, acl=None)[0] not in found


def test_when_what_is_nearest_is_not_published_what_comes_after_it_is_found(bells: Installation) -> None:
    """As while a large document waits for the rest of its vectors: those that are there take the first places."""
    more = (f"# Day 2.{part}\n\nBell {part} of day 2 rang {part} times." for part in range(10, 30))
    bells.put("more.md", "\n\n".join(more))
    bells.put("tides.md", "\n\n".join(f"# Tide {n}\n\nTide {n} rose {n} feet." for n in range(4)))
    work_off(bells)
    nearest(bells, SHORT)
    bells.rows("update documents set published_generation = null where key <> 'tides.md' returning id")
    found = nearest(bells, SHORT, LONG)
    assert all("Tide" in one.text for one in found)
    assert found == nearest(bells, LONG, exact_below=10_000)


class Told(Database):
    """Remembers how wide its transactions search, in order."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.widths: list[int] = []

    def transaction(self, *args: Any, **options: Any) -> AbstractContextManager[Cursor[DictRow]]:
        if width := (options.get("local") or {}).get("hnsw.ef_search"):
            self.widths.append(int(width))
        return super().transaction(*args, **options)


@pytest.mark.parametrize("storage", [Storage.FLOAT32, Storage.BINARY])
def test_the_canary_looks_first_as_wide_as_a_question_does_and_then_wider(
    bells: Installation, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The width in force is that of the transaction that a question is answered in."""
    space, _ = built(bells, storage)
    with client(bells) as api:
        promote(api, space.id)
    asked: list[str] = []
    transaction = AsyncDatabase.transaction

    def heard(self: AsyncDatabase, *args: Any, **options: Any) -> Any:
        asked.append((options.get("local") or {}).get("hnsw.ef_search"))
        return transaction(self, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(AsyncDatabase, "transaction", heard)
        assert ranked(bells, 0)
    told = Told(bells.url("ragzero_reindex"))
    with closing(Canary(CanaryStore(told), bar=1.1, samples=1, more_than=0)) as never_content:
        assert never_content.run(time.monotonic() + 60)["alarms"]
    assert str(told.widths[0]) in asked
    assert told.widths == sorted(set(told.widths))


def test_more_is_taken_from_the_index_than_is_asked_for_by_meaning_alone_too() -> None:
    """A graph that other collections share gives its rows in an order that is not quite that of the vectors."""
    searcher = Searcher(AsyncDatabase("postgresql://nobody", max_connections=1))
    space, scope = Space(1, "", "", "", 2, ""), Scope(1, 9, 1, 9, 9, 1, False, "{}/268435456", 1.0, {})
    for keywords in (True, False):
        taken = searcher.parameters(scope, np.ones(2, np.float32), 10, space, keywords=keywords)
        assert taken["nearest"] == stored.CANDIDATES


def test_a_space_of_signs_that_is_searched_wider_is_ranked_anew_as_widely(
    bells: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best chunk has a sign of another kind than all others have: of ten by signs it is none, of thirty it is."""
    monkeypatch.setitem(
        stored._FORMS, Storage.BINARY, replace(stored._FORMS[Storage.BINARY], least=10, width=10)
    )
    space, _ = built(bells, Storage.BINARY)
    with client(bells) as api:
        promote(api, space.id)
    asked = bells.embedder.encode_query(_QUESTION)
    best = confused(bells, space, asked)

    async def first() -> int:
        database = AsyncDatabase(bells.url("ragzero_query"), max_connections=1)
        searcher = Searcher(database, SearchOptions(exact_below=0, candidates=2))
        try:
            found = await searcher.search(
                bells.tenant, "default", _QUESTION, asked, space, limit=1, acl=None, keywords=False
            )
        finally:
            await database.close()
        return found.passages[0].chunk_id

    assert asyncio.run(first()) != best
    bells.rows(
        "insert into search_tunings select id, %s, tenant_id, 30, false, 0.5 from collections where chunks = 30 "
        "returning 1",
        space.id,
    )
    assert asyncio.run(first()) == best


def confused(installation: Installation, space: Space, asked: NDArray[np.float32]) -> int:
    """The chunk whose vector is the question's but for one sign; all others have its signs, and nothing else."""
    best = asked.copy()
    best[np.argsort(np.abs(best))[20]] *= -1  # the least are nothing in sixteen bits
    dice = np.random.default_rng(0)
    with psycopg.connect(admin_url(installation), autocommit=True) as connection:
        register_vector(connection)
        table = f"vectors_{space.id}"
        ids = [
            id for (id,) in connection.execute(f"select chunk_id from {table} order by chunk_id").fetchall()
        ]
        for id in ids:
            vector = best if id == ids[0] else np.sign(asked) * dice.random(len(asked))
            statement = f"update {table} set embedding = %s where chunk_id = %s"
            connection.execute(statement, [HalfVector(vector / np.linalg.norm(vector)), id])
        connection.execute(f"reindex index {table}_hnsw")
    return int(ids[0])


def test_a_large_collection_is_searched_by_a_graph_of_its_own_until_it_shrinks(bells: Installation) -> None:
    bells.put("other.txt", "Another collection's only bell.", {"collection": "other"})
    work_off(bells)
    (space,) = bells.rows("select id, dimension, fingerprint from spaces")
    active = Space(space["id"], "", "", "", space["dimension"], space["fingerprint"])
    (large,) = bells.rows("select id from collections where chunks = 30")
    limits = {"memory": "64MB", "workers": 0}
    assert partition(admin_url(bells), 29, **limits) == ([large["id"]], [])
    assert partition(admin_url(bells), 29, **limits) == ([], [])
    name = f"vectors_{active.id}_hnsw_{large['id']}"
    assert f"Index Scan using {name}" in asyncio.run(explained(bells, active, keywords=False))
    nearest(bells, LONG)  # the function keeps one plan for all collections
    with client(bells, exact_below=0) as api:
        body = {"question": "bell", "collection": "other"}
        assert len(api.post("/v1/search", json=body).json()["results"]) == 1
    assert partition(admin_url(bells), 61, **limits) == ([], [large["id"]])
    assert name not in asyncio.run(explained(bells, active, keywords=False))
    nearest(bells, SHORT)


def test_what_is_uploaded_meanwhile_is_stored_both_ways(bells: Installation) -> None:
    """By ingest, and by the embedding job, which computes each vector once for all spaces of its model."""
    spaces = [built(bells, storage)[0] for storage in (Storage.BINARY, Storage.FLOAT32)]
    lane = bells.ingest_settings(cpu_lane_chunks=4, embed_url=NOBODY, embed_key="k" * 16)
    bells.ingest.close()
    bells.__dict__["ingest"] = build_ingest(lane, bells.embedder)
    bells.put("small.txt", "A new bell was cast.")
    parts = (f"# Tide {n}\n\nTide {n} rose {n} feet." for n in range(8))
    bells.put("large.md", "\n\n".join(parts))
    work_off(bells)
    job = make_job(bells, CpuEncoder(bells.embedder))
    assert job.run(float("inf")).chunks == 8
    job.close()
    with client(bells) as api:
        assert [one["lacking"] for one in api.get("/v1/index/spaces").json()] == [0, 0, 0]
    (kept,) = bells.rows(
        f"""select max(abs(1 + (exact.embedding <#> signs.embedding::vector))) as apart
            from vectors_{spaces[1].id} exact join vectors_{spaces[0].id} signs using (chunk_id)"""
    )
    assert 0 < kept["apart"] < 1e-3
    assert unsound(bells) == []


def test_a_model_that_has_a_space_is_not_given_another_by_migrating(bells: Installation) -> None:
    space, _ = built(bells, Storage.BINARY)
    with client(bells) as api:
        promote(api, space.id)
    model = space_of(bells.embedder.manifest)
    assert ensure_model(admin_url(bells), model) == space.id


def test_a_plan_for_another_storage_says_what_is_copied_and_what_it_takes(bells: Installation) -> None:
    with client(bells) as api:
        plans = {
            storage: api.get("/v1/index/plan", params={"change": "storage", "storage": storage}).json()
            for storage in Storage
        }
    assert {name: plan["vectors_made"] for name, plan in plans.items()} == {
        "float32": 30,
        "float16": 0,
        "binary": 0,
    }
    sizes = [plans[storage]["disk_bytes"] for storage in (Storage.FLOAT32, Storage.FLOAT16, Storage.BINARY)]
    assert sizes == sorted(sizes, reverse=True)
