"""Publishers tell Redis of a new epoch before it is true, and leave word where they cannot (ARCHITECTURE §5, F7)."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
import redis

from functions.embed import wiring as embed_wiring
from functions.ingest import wiring as ingest_wiring
from scripts.local.redis_server import RedisServer
from scripts.local.rest_shim import RestShim
from shared.adapters.cache import client as cache_client
from shared.adapters.cache import coherence, epochs
from shared.adapters.cache.epochs import TICKET_S, Epochs, names_of
from shared.adapters.onnx_embedder import OnnxEmbedder
from shared.adapters.postgres.connection import AsyncDatabase, Database
from shared.adapters.postgres.documents import DocumentStore
from shared.core.models import Coherence
from shared.settings import EmbedSettings
from tests.support.installation import Installation
from tests.support.servers import revive
from tests.support.waiting import PATIENT

LEASE_S = 600
ROLES = ["ragzero_ingest", "ragzero_embed", "ragzero_query"]


@pytest.fixture(params=["redis", "rest"])
def where(
    request: pytest.FixtureRequest, empty_redis: redis.Redis, redis_server: RedisServer, rest_shim: RestShim
) -> dict[str, Any]:
    """The settings of either way to Redis."""
    rest = {"redis_rest_url": rest_shim.url, "redis_rest_token": rest_shim.token}
    way = rest if request.param == "rest" else {"redis_url": redis_server.url}
    return way | {"epoch_lease_seconds": LEASE_S, **PATIENT}


@pytest.fixture
def over_resp(empty_redis: redis.Redis, redis_server: RedisServer) -> dict[str, Any]:
    return {"redis_url": redis_server.url, "epoch_lease_seconds": LEASE_S, **PATIENT}


@pytest.fixture
def make_store(installation: Installation) -> Iterator[Callable[..., DocumentStore]]:
    made: list[DocumentStore] = []

    def make(told: Epochs | None = None, role: str = "ragzero_ingest") -> DocumentStore:
        made.append(DocumentStore(Database(installation.url(role)), told))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
async def reading(installation: Installation) -> AsyncIterator[AsyncDatabase]:
    database = AsyncDatabase(installation.url("ragzero_query"), max_connections=2)
    yield database
    await database.close()


def connected(way: dict[str, Any]) -> Epochs:
    return epochs.connect(EmbedSettings(database_url="postgres://", **way))


def cache_at(way: dict[str, Any]) -> cache_client.Cache:
    made = cache_client.connect(EmbedSettings(database_url="postgres://", **way))
    assert made is not None
    return made


def publish(store: DocumentStore, tenant: uuid.UUID) -> Coherence:
    """The shortest change there is."""
    with store._database.transaction(tenant) as cursor:
        return store.bump(cursor, tenant).coherence


def believes(client: redis.Redis, tenant: uuid.UUID, epoch: int) -> None:
    """Redis has this epoch, its lease half over, and has given out a ticket before it got it."""
    client.set(names_of(tenant)[0], epoch, ex=LEASE_S // 2)
    client.set(names_of(tenant)[1], "ticket", ex=TICKET_S)


def believed(client: redis.Redis, tenant: uuid.UUID) -> int | None:
    value = client.get(names_of(tenant)[0])
    return None if value is None else int(value)


def left(installation: Installation) -> list[int]:
    return [row["epoch"] for row in installation.rows("select epoch from epoch_outbox")]


# Redis is told.


@pytest.mark.parametrize("role", ROLES)
def test_redis_knows_before_it_is_true(
    installation: Installation,
    empty_redis: redis.Redis,
    where: dict[str, Any],
    role: str,
    make_store: Callable[..., DocumentStore],
) -> None:
    """Seen by others while the publisher has not committed; a lease is not prolonged, a ticket is void."""
    tenant, before = installation.tenant, installation.epoch()
    believes(empty_redis, tenant, before)
    store = make_store(connected(where), role)
    with store._database.transaction(tenant) as cursor:
        assert store.bump(cursor, tenant).coherence == Coherence(True)
        assert (believed(empty_redis, tenant), installation.epoch()) == (before + 1, before)
    assert (believed(empty_redis, tenant), installation.epoch()) == (before + 1, before + 1)
    assert empty_redis.ttl(names_of(tenant)[0]) <= LEASE_S // 2
    assert not empty_redis.exists(names_of(tenant)[1])
    assert left(installation) == []


def test_a_change_that_is_undone_does_no_harm(
    installation: Installation,
    empty_redis: redis.Redis,
    over_resp: dict[str, Any],
    make_store: Callable[..., DocumentStore],
) -> None:
    """Redis is ahead, so everybody misses, until the next change makes it true."""
    tenant, before = installation.tenant, installation.epoch()
    believes(empty_redis, tenant, before)
    store = make_store(connected(over_resp))
    with pytest.raises(ZeroDivisionError), store._database.transaction(tenant) as cursor:
        store.bump(cursor, tenant)
        raise ZeroDivisionError
    assert (believed(empty_redis, tenant), installation.epoch()) == (before + 1, before)
    assert publish(store, tenant).coherent
    assert believed(empty_redis, tenant) == installation.epoch() == before + 1


def test_redis_is_not_made_to_believe_what_it_has_lost(
    installation: Installation,
    empty_redis: redis.Redis,
    where: dict[str, Any],
    make_store: Callable[..., DocumentStore],
) -> None:
    """Only readers put an epoch back: a publisher's word may come late."""
    assert publish(make_store(connected(where)), installation.tenant).coherent
    assert empty_redis.keys() == []


def test_a_document_from_upload_to_deletion(
    installation: Installation,
    empty_redis: redis.Redis,
    where: dict[str, Any],
    make_store: Callable[..., DocumentStore],
) -> None:
    settings = installation.ingest_settings(**where)
    installation.ingest = ingest_wiring.build(settings, installation.embedder)
    tenant = installation.tenant
    believes(empty_redis, tenant, installation.epoch())
    for change in (
        lambda: installation.put("crane.txt", "The crane lifts forty tonnes."),
        lambda: installation.put("crane.txt", "The crane lifts forty tonnes.", {"site": "north"}),
        lambda: installation.put("crane.txt", b"\x00\x01\x02"),
        lambda: installation.delete("crane.txt"),
    ):
        before = installation.epoch()
        change()
        installation.deliver()
        assert believed(empty_redis, tenant) == installation.epoch() > before
    store = make_store(connected(where))
    assert store.tombstone(tenant, installation.document("crane.txt")["id"]) == Coherence(True)
    assert left(installation) == []


# Redis cannot be told.


def test_without_redis_word_is_left(
    installation: Installation, make_store: Callable[..., DocumentStore]
) -> None:
    """Whoever answers questions may have a cache. The receipt says until when it may answer from before."""
    store = make_store(Epochs(lease_s=LEASE_S))
    first, second = publish(store, installation.tenant), publish(store, installation.tenant)
    assert left(installation) == [installation.epoch()]
    assert not first.coherent
    assert first.until is not None
    assert second.until is not None
    assert second.until > first.until
    assert abs(first.until - datetime.now(UTC) - timedelta(seconds=LEASE_S + TICKET_S)) < timedelta(minutes=1)


def test_a_change_that_is_undone_leaves_no_word(
    installation: Installation, make_store: Callable[..., DocumentStore]
) -> None:
    store = make_store()
    with pytest.raises(ZeroDivisionError), store._database.transaction(installation.tenant) as cursor:
        store.bump(cursor, installation.tenant)
        raise ZeroDivisionError
    assert left(installation) == []


def test_a_hanging_redis_holds_publishers_up_for_its_time_out_at_most(
    installation: Installation,
    empty_redis: redis.Redis,
    redis_server: RedisServer,
    where: dict[str, Any],
    make_store: Callable[..., DocumentStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And only three of them; what they could not say is said later, and what Redis hears late does no harm.

    The client would wait for much longer than the publishers do.
    """
    monkeypatch.setattr(epochs, "COOLDOWN_S", 600.0)
    tenant, before = installation.tenant, installation.epoch()
    told = connected(where)
    asked, submit = [], told._worker.submit
    monkeypatch.setattr(told._worker, "submit", lambda *args: asked.append(args) or submit(*args))
    store = make_store(told)
    assert publish(store, tenant).coherent
    believes(empty_redis, tenant, before)
    redis_server.freeze()
    try:
        told._timeout_s = 1.0
        started = time.monotonic()
        assert not any(publish(store, tenant).coherent for _ in range(4))
        assert 2.8 < time.monotonic() - started < PATIENT["redis_timeout_ms"] / 1000
        assert len(asked) == 1 + 3
    finally:
        revive(redis_server)
    assert left(installation) == [installation.epoch()] == [before + 5]
    told._timeout_s = 60.0
    told._breaker.succeeded()  # its cool-down is over
    store.drain_outbox(tenant)
    assert left(installation) == []
    assert believed(empty_redis, tenant) == before + 5


def test_the_next_batch_says_what_an_earlier_one_could_not(
    installation: Installation,
    empty_redis: redis.Redis,
    where: dict[str, Any],
    make_store: Callable[..., DocumentStore],
) -> None:
    tenant = installation.tenant
    believes(empty_redis, tenant, installation.epoch())
    assert not publish(make_store(), tenant).coherent
    settings = installation.ingest_settings(**where)
    installation.ingest = ingest_wiring.build(settings, installation.embedder)
    installation.put("crane.txt", "The crane lifts forty tonnes.")
    installation.deliver()
    assert left(installation) == []
    assert believed(empty_redis, tenant) == installation.epoch()


class OnnxAsJob:
    """The CPU's encoder in the embedding job's place."""

    device, dtype, padding_waste = "cpu", "float32", 0.0

    def __init__(self, embedder: OnnxEmbedder) -> None:
        self._embedder = embedder
        self.fingerprint = embedder.fingerprint

    def prove(self) -> None:
        pass

    def encode(self, texts: Sequence[str], between: Callable[[], None]) -> np.ndarray:
        return self._embedder.encode(texts)


def test_the_embedding_job_does_the_same(
    installation: Installation,
    empty_redis: redis.Redis,
    where: dict[str, Any],
    make_store: Callable[..., DocumentStore],
) -> None:
    nobody = {"embed_url": "http://127.0.0.1:1", "embed_key": "a key for nobody's door", "cpu_lane_chunks": 0}
    settings = installation.ingest_settings(**nobody)
    installation.ingest = ingest_wiring.build(settings, installation.embedder)
    installation.put("crane.txt", "The crane lifts forty tonnes.")
    installation.deliver()
    tenant = installation.tenant
    believes(empty_redis, tenant, installation.epoch())
    assert not publish(make_store(), tenant).coherent
    mine = EmbedSettings(database_url=installation.url("ragzero_embed"), patience_seconds=0, **where)
    job = embed_wiring.build(mine, lambda: OnnxAsJob(installation.embedder))
    assert job.run(time.monotonic() + 60).published == 1
    job.close()
    assert left(installation) == []
    assert believed(empty_redis, tenant) == installation.epoch()


# Readers.


async def test_a_reader_restores_what_redis_has_lost(
    installation: Installation, empty_redis: redis.Redis, where: dict[str, Any], reading: AsyncDatabase
) -> None:
    cache, tenant = cache_at(where), installation.tenant
    name, ticket = names_of(tenant)
    empty_redis.set(ticket, "mine", ex=LEASE_S)
    assert await coherence.restore(cache, reading, tenant, "another") is None
    assert believed(empty_redis, tenant) is None
    assert await coherence.restore(cache, reading, tenant, "mine") == installation.epoch()
    assert believed(empty_redis, tenant) == installation.epoch()
    assert LEASE_S - 60 < empty_redis.ttl(name) <= LEASE_S
    assert await coherence.restore(cache, reading, tenant, "mine") is None  # a ticket is good for once
    await cache.close()


async def test_nothing_is_restored_while_somebody_publishes(
    installation: Installation, empty_redis: redis.Redis, over_resp: dict[str, Any], reading: AsyncDatabase
) -> None:
    """Their word may have reached Redis and have been lost with the epoch."""
    cache, tenant = cache_at(over_resp), installation.tenant
    empty_redis.set(names_of(tenant)[1], "mine", ex=LEASE_S)
    with psycopg.connect(installation.url("ragzero_ingest"), prepare_threshold=None) as publisher:
        publisher.execute("select set_config('app.tenant_id', %s, true)", [str(tenant)])
        publisher.execute("update tenants set epoch = epoch + 1 where id = %s", [tenant])
        assert await coherence.restore(cache, reading, tenant, "mine") is None
        assert believed(empty_redis, tenant) is None
        publisher.commit()
    assert await coherence.restore(cache, reading, tenant, "mine") == installation.epoch()
    await cache.close()


async def test_a_reader_who_finds_redis_behind_says_so(
    installation: Installation,
    empty_redis: redis.Redis,
    where: dict[str, Any],
    reading: AsyncDatabase,
    make_store: Callable[..., DocumentStore],
) -> None:
    """Also where nobody left word: Redis itself may have forgotten the last it was told."""
    cache, tenant = cache_at(where), installation.tenant
    for change in (lambda: publish(make_store(), tenant), lambda: None):
        believes(empty_redis, tenant, 1)
        change()
        await coherence.drain(cache, reading, tenant)
        assert believed(empty_redis, tenant) == installation.epoch() == 2
        assert left(installation) == []
    await cache.close()


def test_what_is_left_is_nobody_elses(
    installation: Installation, make_store: Callable[..., DocumentStore]
) -> None:
    publish(make_store(), installation.tenant)
    for role in ROLES:
        with psycopg.connect(installation.url(role), prepare_threshold=None) as connection:
            for tenant in ("", str(uuid.uuid4())):
                connection.execute("select set_config('app.tenant_id', %s, true)", [tenant])
                assert connection.execute("select count(*) from epoch_outbox").fetchone() == (0,)
