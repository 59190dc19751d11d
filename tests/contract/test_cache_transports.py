"""Both ways to Redis keep what they promise: answered in a quarter of a second or Unavailable, and nothing mixed up."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from scripts.local.process import HOST
from scripts.local.redis_server import RedisServer
from scripts.local.rest_shim import RestShim
from shared.adapters.cache import client as cache_client
from shared.adapters.cache import resp
from shared.adapters.cache.client import Cache, connect
from shared.adapters.cache.epochs import Epochs, names_of
from shared.adapters.cache.resp import RespClient
from shared.adapters.cache.rest import RestClient
from shared.adapters.cache.wire import Transport
from shared.core.errors import BadUpstream, Busy, ConfigurationError, DeadlineExceeded, Unavailable
from shared.settings import EmbedSettings
from tests.support.servers import revive
from tests.support.waiting import PATIENCE_S, until, within_async
from tests.support.wires import certified, listening, listening_at, piped_to, saying

BINARY = bytes(range(256)) + b"\r\n$-1\r\n\xff"
VALUES = [
    b"",
    b"text",
    "bär 🐻\n".encode(),
    b"OK",
    BINARY,
    b"\x00base64:AAAA",
    b"12:" + BINARY,
    b"x" * 1_000_000,
]


PATIENT = {"timeout_s": 30.0, "connect_timeout_s": 30.0}
"""For tests that are not about time, on a machine that may be busy."""

Dial = Callable[..., Transport]


@pytest.fixture(autouse=True)
def opening_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resp, "_OPENING_S", PATIENCE_S)


@pytest.fixture(params=["redis", "rest"])
async def dial(
    request: pytest.FixtureRequest, empty_redis: redis.Redis, redis_server: RedisServer, rest_shim: RestShim
) -> AsyncIterator[Dial]:
    made: list[Transport] = []

    def make(**times: float) -> Transport:
        rest = request.param == "rest"
        made.append(
            RestClient(rest_shim.url, rest_shim.token, **times)
            if rest
            else RespClient(redis_server.url, **times)
        )
        return made[-1]

    yield make
    for transport in made:
        await transport.close()


@pytest.fixture
def cache(dial: Dial) -> Cache:
    return Cache(dial(**PATIENT), lease_s=900)


@pytest.fixture
async def rest_cache(rest_shim: RestShim, empty_redis: redis.Redis) -> AsyncIterator[Cache]:
    made = Cache(RestClient(rest_shim.url, rest_shim.token, **PATIENT), lease_s=900)
    yield made
    await made.close()


async def in_the_end(ask: Callable[[], Awaitable[Any]]) -> Any:
    """What is answered, once anything is."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await ask()
            except Unavailable as error:
                await asyncio.sleep(min(error.retry_after, 0.1))


async def given_up(client: RespClient) -> None:
    end = time.monotonic() + PATIENCE_S
    while client._connection is not None and client._connection.usable:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def over_resp(url: str, *command: str) -> object:
    made = Cache(RespClient(url, **PATIENT), lease_s=900)
    try:
        return await made.call(*command)
    finally:
        await made.close()


# What comes back.


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
async def test_bytes_come_back_as_they_were(cache: Cache, value: bytes) -> None:
    assert await cache.call("SET", "k", value) == b"OK"
    assert await cache.call("GET", "k") == value
    assert (await cache.many([("GET", "k"), ("GET", "none")])) == [value, None]


async def test_numbers_and_nested_replies(cache: Cache) -> None:
    assert await cache.call("SET", "n", 2**53) == b"OK"
    assert await cache.call("INCR", "n") == 2**53 + 1
    await cache.call("HSET", "h", "f", 1.5, "g", -2)
    assert await cache.call("HGETALL", "h") == [b"f", b"1.5", b"g", b"-2"]
    assert await cache.call("HGETALL", "none") == []
    assert await cache.call("SET", "n", 1, "NX") is None
    assert await cache.call("PING") == b"PONG"


async def test_what_is_text_is_the_same_for_both(empty_redis: redis.Redis, cache: Cache) -> None:
    await cache.call("SET", "k", "7:bär".encode())
    assert empty_redis.get("k") == "7:bär".encode()
    empty_redis.set("k", BINARY)
    assert await cache.call("GET", "k") == BINARY


async def test_everybody_gets_his_own_reply(cache: Cache) -> None:
    asked = [f"{number}-{uuid.uuid4()}" for number in range(500)]
    one = asyncio.gather(*(cache.call("ECHO", text) for text in asked))
    two = asyncio.gather(*(cache.many([("ECHO", text), ("PING",)]) for text in asked))
    assert await one == [text.encode() for text in asked]
    assert await two == [[text.encode(), b"PONG"] for text in asked]
    assert cache.status()["failures"] == 0


async def test_scripts_run_also_when_redis_has_forgotten_them(cache: Cache, empty_redis: redis.Redis) -> None:
    names = names_of(uuid.uuid4())
    for _ in range(2):
        empty_redis.script_flush()
        assert await cache.run("raise_epoch", names, [1]) == 1
    calls = cache.status()["calls"]
    assert await cache.run("raise_epoch", names, [1]) == 1
    assert cache.status()["calls"] == calls + 1


# What goes wrong in a command.


async def test_a_refused_command_is_no_sign_of_illness(cache: Cache) -> None:
    await cache.call("SET", "k", "text")
    for _ in range(4):
        with pytest.raises(BadUpstream, match="not an integer"):
            await cache.call("INCR", "k")
    assert cache.healthy
    assert cache.status()["refused"] == 4


async def test_a_refused_command_leaves_its_neighbours(cache: Cache) -> None:
    commands = [("SET", "k", "text"), ("INCR", "k"), ("GET", "k")]
    assert await cache.many(commands) == [b"OK", None, b"text"]


async def test_a_caller_who_has_left_takes_no_reply_along(cache: Cache) -> None:
    gone = asyncio.ensure_future(cache.call("ECHO", "gone"))
    await asyncio.sleep(0)
    gone.cancel()
    assert await cache.call("ECHO", "here") == b"here"


# What goes wrong with Redis.


async def test_a_hanging_redis_costs_a_quarter_of_a_second_and_then_nothing(
    dial: Dial, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_client, "COOLDOWN_S", 60.0)
    transport, reached = dial(), time.monotonic()
    await in_the_end(lambda: transport.send([("PING",)]))

    async def three_asked() -> Cache:
        cache, started = Cache(transport, lease_s=900), time.monotonic()
        answers = await asyncio.gather(*(cache.call("PING") for _ in range(3)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {DeadlineExceeded}
        assert time.monotonic() - started > 0.2
        return cache

    redis_server.freeze()
    try:
        cache = await within_async(1, three_asked)
        assert not cache.healthy
        assert 0.2 < cache.away_s < time.monotonic() - reached
        calls = cache.status()["calls"]
        with pytest.raises(Unavailable, match="left alone") as refused:
            await cache.call("PING")
        assert 0 < refused.value.retry_after <= 60
        assert (cache.status()["calls"], cache.status()["breaker"]) == (calls, "open")
    finally:
        redis_server.thaw()
    cache._breaker._next_probe_at, cache._breaker._cooldown_s = 0.0, 0.1
    assert await in_the_end(lambda: cache.call("ECHO", "back")) == b"back"
    assert cache.healthy
    assert (cache.away_s, cache.status()["breaker"]) == (0, "closed")


async def test_a_late_reply_is_not_taken_for_another(dial: Dial, redis_server: RedisServer) -> None:
    transport = dial()
    await in_the_end(lambda: transport.send([("PING",)]))
    redis_server.freeze()
    with pytest.raises(DeadlineExceeded):
        await transport.send([("ECHO", "late")])
    redis_server.thaw()
    for text in ("one", "two", "three"):
        assert await in_the_end(lambda text=text: transport.send([("ECHO", text)])) == [text.encode()]


async def test_a_restarted_redis_is_found_again(cache: Cache, redis_server: RedisServer) -> None:
    await cache.call("PING")
    redis_server.kill()
    try:
        with pytest.raises(Unavailable):
            await cache.call("PING")
    finally:
        revive(redis_server)
    assert await cache.run("raise_epoch", names_of(uuid.uuid4()), [1]) == 1


async def test_nobody_there(empty_redis: redis.Redis) -> None:
    for transport in (RespClient(f"redis://{HOST}:1"), RestClient(f"http://{HOST}:1", "token")):
        nobody = Cache(transport, lease_s=900)
        with pytest.raises(Unavailable):
            await nobody.call("PING")
        await nobody.close()


# REST alone.


@pytest.mark.parametrize("status", [401, 502])
async def test_a_refused_token_and_a_page_of_html(
    rest_cache: Cache, rest_shim: RestShim, status: int
) -> None:
    rest_shim.control.set(status=status)
    for command in (rest_cache.call("GET", "k"), rest_cache.many([("GET", "k"), ("GET", "k")])):
        with pytest.raises(BadUpstream, match="TOKEN" if status == 401 else "502"):
            await command
    assert not rest_cache.healthy


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"a": 1}', b"7", b'{"result": 1.5}', b'{"result": "%%"}', b'[{"result": 1}]']
)
async def test_json_that_is_no_reply(body: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
    async with listening(saying(answer)) as port:
        strange = Cache(RestClient(f"http://{HOST}:{port}", "token"), lease_s=900)
        with pytest.raises(Unavailable):
            await strange.call("GET", "k")
        with pytest.raises(Unavailable):
            await strange.many([("GET", "k"), ("GET", "k")])
        await strange.close()


async def test_half_a_pipeline_fails(rest_cache: Cache, rest_shim: RestShim) -> None:
    rest_shim.control.set(failing_item=0, times=1)
    assert await rest_cache.many([("SET", "a", "1"), ("SET", "b", "2")]) == [None, b"OK"]
    assert await rest_cache.many([("GET", "a"), ("GET", "b")]) == [None, b"2"]


async def test_a_dropped_connection_is_not_asked_twice(rest_cache: Cache, rest_shim: RestShim) -> None:
    rest_shim.control.set(drop_after_apply=True, times=1)
    with pytest.raises(Unavailable):
        await rest_cache.call("INCR", "n")
    assert await rest_cache.call("GET", "n") == b"1"


async def test_what_is_asked_at_once_leaves_together(rest_cache: Cache, rest_shim: RestShim) -> None:
    before = rest_shim.control.requests()
    await asyncio.gather(*(rest_cache.call("PING") for _ in range(100)))
    assert rest_shim.control.requests() - before <= 2


# The plain protocol alone.


async def test_who_we_are_and_which_database_we_mean(
    redis_server: RedisServer, empty_redis: redis.Redis
) -> None:
    empty_redis.acl_setuser("someone", enabled=True, passwords=["+p:/w"], keys=["*"], commands=["+@all"])
    where = f"{HOST}:{redis_server.port}/3"
    assert b"db=3" in await over_resp(f"redis://someone:p%3A%2Fw@{where}", "CLIENT", "INFO")
    with pytest.raises(BadUpstream, match="WRONGPASS") as refused:
        await over_resp(f"redis://someone:wrong@{where}", "PING")
    assert "wrong@" not in str(refused.value)
    empty_redis.acl_deluser("someone")


async def test_through_tls_and_a_unix_socket(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, trusted = certified(tmp_path)
    async with listening(piped_to(redis_server.port), context) as port:
        with pytest.raises(Unavailable, match="certificate verify failed"):
            await over_resp(f"rediss://{HOST}:{port}", "PING")
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert await over_resp(f"rediss://{HOST}:{port}", "PING") == b"PONG"
    async with listening_at(tmp_path / "socket", piped_to(redis_server.port)):
        assert await over_resp(f"unix://{tmp_path}/socket?db=1", "PING") == b"PONG"


@pytest.mark.parametrize("text", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n+OK\r\n", b"$nonsense\r\n"])
async def test_garbage_is_not_a_reply(text: bytes) -> None:
    async with listening(saying(text)) as port:
        client = RespClient(f"redis://{HOST}:{port}", **PATIENT)
        if not text.startswith(b"+OK"):
            with pytest.raises(BadUpstream, match="something else than replies"):
                await client.send([("PING",)])
        else:  # one reply too many: whose is the next?
            assert await client.send([("PING",)]) == [b"OK"]
            assert client._connection is not None
            assert not client._connection.usable
        await client.close()


async def test_a_connection_that_answers_no_more_is_given_up(
    redis_server: RedisServer, empty_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resp, "_STALE_S", 0.05)
    client = RespClient(redis_server.url, timeout_s=0.1)
    (before,) = await in_the_end(lambda: client.send([("CLIENT", "ID")]))
    redis_server.freeze()
    with pytest.raises(DeadlineExceeded):
        await client.send([("PING",)])
    await given_up(client)
    redis_server.thaw()
    (after,) = await in_the_end(lambda: client.send([("CLIENT", "ID")]))
    assert after != before
    await client.close()


class Slow:
    """Holds the process up with everything it reads."""

    def __init__(self, nothing: object) -> None:
        self._parser = resp.hiredis_parser(nothing)

    def feed(self, data: bytes) -> None:
        time.sleep(0.12)  # as long as whatever else may run in the loop meanwhile
        self._parser.feed(data)

    def gets(self) -> Any:
        return self._parser.gets()


@pytest.mark.parametrize("parser", [resp.hiredis_parser, Slow], ids=["once", "with each read"])
async def test_being_held_up_ourselves_is_not_held_against_redis(
    redis_server: RedisServer, empty_redis: redis.Redis, parser: resp.MakeParser
) -> None:
    """The replies have come, more of them than are read at a time."""

    def answered() -> int:
        """How often, with all that was answered on its way."""
        unsent = any(int(each["omem"]) for each in empty_redis.client_list())
        return 0 if unsent else empty_redis.info("commandstats")["cmdstat_get"]["calls"]  # type: ignore[index]

    empty_redis.set("k", "x" * 10_000)
    empty_redis.get("k")
    before = answered()
    client = RespClient(redis_server.url, timeout_s=0.1, parser=parser)
    await in_the_end(lambda: client.send([("PING",)]))
    asked = [asyncio.ensure_future(client.send([("GET", "k")])) for _ in range(60)]
    for _ in range(3):
        await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251 - that is the point
    until(lambda: answered() >= before + 60)
    assert {len(value) for (value,) in await asyncio.gather(*asked)} == {10_000}
    await client.close()


async def test_a_connection_that_was_quiet_for_long_is_replaced(
    redis_server: RedisServer, empty_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = RespClient(redis_server.url, **PATIENT)
    ids = {(await client.send([("CLIENT", "ID")]))[0] for _ in range(3)}
    assert len(ids) == 1
    monkeypatch.setattr(resp, "_IDLE_S", 0.0)
    assert (await client.send([("CLIENT", "ID")]))[0] not in ids
    await client.close()


async def test_waiting_requests_are_bounded(
    redis_server: RedisServer, empty_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too much for us says nothing about Redis."""
    monkeypatch.setattr(resp, "_MOST_WAITING", 10)
    cache = Cache(RespClient(redis_server.url, **PATIENT), lease_s=900)
    await cache.call("PING")
    answers = await asyncio.gather(*(cache.call("PING") for _ in range(15)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [bytes] * 10 + [Busy] * 5
    assert await cache.call("PING") == b"PONG"
    assert cache.status()["skipped"] == 0
    await cache.close()


# Publishers.


class Stuck:
    """A client that is busy with something no time-out of its own covers, such as looking up a name."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.calls = 0

    def __call__(self, script: str, keys: list[str], args: list[str], /) -> int:
        self.calls += 1
        self.go_on.wait(PATIENCE_S)
        return 1

    def close(self) -> None:
        pass


def test_a_publisher_waits_no_longer_whatever_its_client_is_busy_with() -> None:
    stuck = Stuck()
    epochs = Epochs(stuck)
    assert not epochs.raised(uuid.uuid4(), 1)
    assert not stuck.go_on.is_set()
    assert not any(epochs.raised(uuid.uuid4(), 1) for _ in range(4))
    stuck.go_on.set()
    epochs.close()
    assert stuck.calls == 1  # what had not begun never will


# Settings.


def settings(**values: object) -> EmbedSettings:
    return EmbedSettings(database_url="postgres://", **values)


def test_no_redis_no_cache() -> None:
    assert connect(settings()) is None


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"redis_url": "redis://h", "redis_rest_url": "https://h", "redis_rest_token": "t"}, "REDIS_URL"),
        ({"redis_url": "http://h"}, "REDIS_URL"),
        ({"redis_rest_url": "https://h"}, "UPSTASH_REDIS_REST_TOKEN"),
        ({"redis_rest_url": "h", "redis_rest_token": "t"}, "UPSTASH_REDIS_REST_URL"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, str], setting: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        settings(**values)
    assert wrong.value.setting == setting
