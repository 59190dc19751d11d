"""The REST shim answers the Upstash client as the real service does, and misbehaves when asked to."""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from upstash_redis import Redis
from upstash_redis.errors import UpstashError

from scripts.local.redis_server import RedisServer
from scripts.local.rest_parser import Parser, Status
from scripts.local.rest_shim import RestShim
from shared.adapters.cache.wire import Reply, ReplyError
from shared.core.errors import BadUpstream
from tests.support.servers import revive
from tests.support.waiting import PATIENCE_S


@pytest.fixture
def client(rest_shim: RestShim, empty_redis: redis.Redis) -> Iterator[Redis]:
    with Redis(rest_shim.url, rest_shim.token, rest_retries=0, allow_telemetry=False) as made:
        yield made


@pytest.fixture
def http(rest_shim: RestShim, empty_redis: redis.Redis) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {rest_shim.token}"}
    with httpx.Client(base_url=rest_shim.url, headers=headers, timeout=PATIENCE_S) as made:
        yield made


# What the client needs.


def test_values_come_back_as_they_were(client: Redis) -> None:
    client.set("k", "bär 🐻\n")
    assert client.get("k") == "bär 🐻\n"
    assert client.get("missing") is None
    assert client.incr("n") == 1
    assert client.ping() == "PONG"


def test_a_stored_ok_is_not_taken_for_a_status(client: Redis) -> None:
    client.set("k", "OK")
    assert client.get("k") == "OK"
    assert client.mget("k", "none") == ["OK", None]


def test_scripts_return_nested_values(client: Redis) -> None:
    script = "redis.call('SET', KEYS[1], ARGV[1]) return {1, 'a', {2, redis.call('GET', KEYS[1])}, false, {}}"
    assert client.eval(script, keys=["k"], args=["v"]) == [1, "a", [2, "v"], None, []]


def test_scripts_by_hash(client: Redis) -> None:
    digest = client.script_load("return {KEYS[1], ARGV[1]}")
    assert client.evalsha(digest, keys=["k"], args=["v"]) == ["k", "v"]
    with pytest.raises(UpstashError, match="NOSCRIPT"):
        client.evalsha("0" * 40, keys=[], args=[])


def test_a_pipeline_answers_in_order(client: Redis) -> None:
    pipeline = client.pipeline()
    pipeline.set("a", "1").incr("a").hset("h", "f", "v").hgetall("h").get("none")
    assert pipeline.exec() == [True, 2, 1, {"f": "v"}, None]


def test_a_transaction_runs_as_one(client: Redis) -> None:
    transaction = client.multi()
    transaction.set("a", "1").incr("a").get("a")
    assert transaction.exec() == [True, 2, "2"]


def test_floats_and_large_integers_keep_their_value(client: Redis, empty_redis: redis.Redis) -> None:
    client.zadd("z", {"m": 0.1})
    client.set("n", 2**62)
    assert client.zscore("z", "m") == 0.1
    assert client.incr("n") == 2**62 + 1


# The protocol below the client.


def test_only_the_status_ok_is_left_unencoded(http: httpx.Client) -> None:
    encoded = {"Upstash-Encoding": "base64"}
    assert http.post("/", json=["SET", "k", "OK"], headers=encoded).json() == {"result": "OK"}
    assert http.post("/", json=["GET", "k"], headers=encoded).json() == {"result": "T0s="}
    assert http.post("/", json=["PING"], headers=encoded).json() == {"result": "UE9ORw=="}
    assert http.post("/", json=["PING"]).json() == {"result": "PONG"}


def test_bytes_survive_base64(http: httpx.Client, empty_redis: redis.Redis) -> None:
    value = bytes(range(256)) + b"\r\n$-1\r\n"
    empty_redis.set("k", value)
    answer = http.post("/", json=["GET", "k"], headers={"Upstash-Encoding": "base64"}).json()
    assert b64decode(answer["result"]) == value


def test_a_failing_command_is_a_400_with_the_reason(http: httpx.Client) -> None:
    http.post("/", json=["SET", "k", "text"])
    answer = http.post("/", json=["INCR", "k"])
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "ERR value is not an integer or out of range"},
    )


def test_a_failing_item_leaves_its_neighbours(http: httpx.Client) -> None:
    answer = http.post("/pipeline", json=[["SET", "k", "text"], ["INCR", "k"], ["GET", "k"]])
    assert answer.status_code == 200
    assert answer.json() == [
        {"result": "OK"},
        {"error": "ERR value is not an integer or out of range"},
        {"result": "text"},
    ]


def test_a_transaction_with_an_impossible_command_is_discarded(http: httpx.Client) -> None:
    answer = http.post("/multi-exec", json=[["SET", "k", "v"], ["NOSUCH"]])
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("EXECABORT")
    assert http.post("/", json=["EXISTS", "k"]).json() == {"result": 0}


def test_a_transaction_keeps_what_ran_beside_a_failure(http: httpx.Client) -> None:
    answer = http.post("/multi-exec", json=[["SET", "k", "v"], ["INCR", "k"]])
    assert answer.status_code == 200
    assert answer.json()[0] == {"result": "OK"}
    assert "error" in answer.json()[1]


def test_transactions_do_not_mix_with_other_requests(rest_shim: RestShim, http: httpx.Client) -> None:
    """All requests share one connection; nobody else's command may land between MULTI and EXEC."""

    def transact(_: int) -> bool:
        found = http.post("/multi-exec", json=[["INCR", "n"], ["GET", "n"]]).json()
        return bool(str(found[0]["result"]) == found[1]["result"])

    def increment(_: int) -> bool:
        return "result" in http.post("/", json=["INCR", "n"]).json()

    with ThreadPoolExecutor(8) as pool:
        assert all([*pool.map(transact, range(100)), *pool.map(increment, range(100))])


def test_a_command_as_a_path(http: httpx.Client) -> None:
    assert http.get("/set/foo/bar?EX=100").json() == {"result": "OK"}
    assert 0 < http.get("/ttl/foo").json()["result"] <= 100
    assert http.post("/set/foo?EX=100", content=b"body/with?all&of=it").json() == {"result": "OK"}
    assert http.get("/get/foo").json() == {"result": "body/with?all&of=it"}
    assert http.get("/set/a%2Fb/%C3%A9?NX").json() == {"result": "OK"}
    assert http.get("/get/a%2Fb").json() == {"result": "é"}


def test_the_token_may_come_as_a_parameter(rest_shim: RestShim) -> None:
    answer = httpx.get(f"{rest_shim.url}/ping", params={"_token": rest_shim.token})
    assert answer.json() == {"result": "PONG"}


@pytest.mark.parametrize("path", ["/", "/pipeline", "/multi-exec", "/get/k"])
@pytest.mark.parametrize("authorization", ["Bearer wrong", "Bearer", "Basic abc"])
def test_a_wrong_token_is_a_401(rest_shim: RestShim, path: str, authorization: str) -> None:
    answer = httpx.post(rest_shim.url + path, json=[["PING"]], headers={"Authorization": authorization})
    assert answer.status_code == 401
    assert answer.json() == {"error": "WRONGPASS invalid or missing auth token"}


def test_the_read_only_token_reads_and_does_not_write(rest_shim: RestShim, empty_redis: redis.Redis) -> None:
    empty_redis.set("k", "v")
    headers = {"Authorization": f"Bearer {rest_shim.read_only_token}"}

    def ask(*command: str) -> httpx.Response:
        return httpx.post(rest_shim.url, json=command, headers=headers)

    assert ask("GET", "k").json() == {"result": "v"}
    assert ask("PING").status_code == 200
    for command in (("SET", "k", "w"), ("set", "k", "w"), ("EVAL", "return 1", "0"), ("FLUSHALL",)):
        assert ask(*command).status_code == 400
        assert ask(*command).json()["error"].startswith("NOPERM this user has no permissions")
    assert empty_redis.get("k") == b"v"


@pytest.mark.parametrize(
    "command",
    [
        ["BLPOP", "k", "0"],
        ["subscribe", "c"],
        ["MULTI"],
        ["SELECT", "1"],
        ["XREAD", "BLOCK", "0", "STREAMS", "s", "$"],
    ],
)
def test_commands_that_would_seize_the_connection_are_refused(http: httpx.Client, command: list[str]) -> None:
    answer = http.post("/", json=command)
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        f"ERR Command is not available: '{command[0]}'",
    )
    assert http.post("/pipeline", json=[["PING"], command]).status_code == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", b"no json"),
        ("/", b"{}"),
        ("/", b"[]"),
        ("/", b'["SET","k",null]'),
        ("/", b'["SET","k",{"a":1}]'),
        ("/pipeline", b'{"a":1}'),
        ("/pipeline", b'["GET","k"]'),
    ],
)
def test_what_is_not_a_command_is_a_400(http: httpx.Client, path: str, body: bytes) -> None:
    answer = http.post(path, content=body)
    assert answer.status_code == 400
    assert "ERR" in answer.json()["error"]


def test_ten_megabytes_are_the_limit(http: httpx.Client) -> None:
    fits = "x" * (10 * 1024 * 1024 - 100)
    assert http.post("/", json=["SET", "k", fits]).json() == {"result": "OK"}
    assert len(http.post("/", json=["GET", "k"]).json()["result"]) == len(fits)
    answer = http.post("/", json=["SET", "k", fits + "x" * 100])
    assert answer.status_code == 413
    assert "max request size exceeded. Limit: 10485760 bytes" in answer.json()["error"]


def test_every_answer_carries_a_sync_token(http: httpx.Client) -> None:
    assert http.post("/", json=["PING"]).headers["Upstash-Sync-Token"]


def test_redis_may_die_and_come_back(http: httpx.Client, redis_server: RedisServer) -> None:
    redis_server.kill()
    try:
        answer = http.post("/", json=["PING"])
        assert answer.status_code == 503
        assert "cannot connect" in answer.json()["error"] or "connection lost" in answer.json()["error"]
    finally:
        revive(redis_server)
    assert http.post("/", json=["PING"]).json() == {"result": "PONG"}


# Faults.


def test_a_delay_is_added(rest_shim: RestShim, http: httpx.Client) -> None:
    rest_shim.control.set(delay=0.2)
    started = time.perf_counter()
    assert http.post("/", json=["PING"]).json() == {"result": "PONG"}
    assert time.perf_counter() - started > 0.2


def test_a_hang_never_answers(rest_shim: RestShim, http: httpx.Client) -> None:
    rest_shim.control.set(hang=True)
    with pytest.raises(httpx.ReadTimeout):
        http.post("/", json=["PING"], timeout=httpx.Timeout(PATIENCE_S, read=0.2))


def test_a_401_and_a_502_page_run_nothing(
    rest_shim: RestShim, http: httpx.Client, empty_redis: redis.Redis
) -> None:
    rest_shim.control.set(status=401)
    assert http.post("/", json=["SET", "k", "v"]).status_code == 401
    rest_shim.control.set(status=502)
    answer = http.post("/", json=["SET", "k", "v"])
    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html")
    assert empty_redis.exists("k") == 0


def test_a_drop_happens_after_the_command_ran(
    rest_shim: RestShim, http: httpx.Client, empty_redis: redis.Redis
) -> None:
    rest_shim.control.set(drop_after_apply=True)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        http.post("/", json=["INCR", "n"])
    assert empty_redis.get("n") == b"1"


def test_one_item_fails_and_is_not_run(
    rest_shim: RestShim, http: httpx.Client, empty_redis: redis.Redis
) -> None:
    rest_shim.control.set(failing_item=1)
    commands = [["SET", "a", "1"], ["SET", "b", "1"], ["SET", "c", "1"]]
    answer = http.post("/pipeline", json=commands).json()
    assert answer == [{"result": "OK"}, {"error": "ERR injected fault"}, {"result": "OK"}]
    assert empty_redis.exists("a", "b", "c") == 2
    assert http.post("/multi-exec", json=commands).status_code == 400


def test_a_fault_may_be_limited_to_some_requests(rest_shim: RestShim, http: httpx.Client) -> None:
    rest_shim.control.set(status=401, times=2)
    assert [http.post("/", json=["PING"]).status_code for _ in range(3)] == [401, 401, 200]


def test_requests_are_counted(rest_shim: RestShim, http: httpx.Client) -> None:
    before = rest_shim.control.requests()
    http.post("/pipeline", json=[["PING"], ["PING"]])
    assert rest_shim.control.requests() - before == 1


def test_faults_need_the_admin_token(rest_shim: RestShim, http: httpx.Client) -> None:
    assert http.put("/-/faults", json={"hang": True}).status_code == 401
    with pytest.raises(BadUpstream, match="unexpected keyword argument 'hangs'"):
        rest_shim.control.set(hangs=True)


# The parser.

REPLIES: dict[bytes, Reply] = {
    b"+OK\r\n": Status(b"OK"),
    b":-7\r\n": -7,
    b"$-1\r\n": None,
    b"*-1\r\n": None,
    b"$0\r\n\r\n": b"",
    b"*0\r\n": [],
    b"$4\r\n\r\n\r\n\r\n": b"\r\n\r\n",
    b"*3\r\n:1\r\n*2\r\n$1\r\na\r\n*0\r\n$-1\r\n": [1, [b"a", []], None],
}


NOTHING = object()


def replies(pieces: Sequence[bytes]) -> list[Reply]:
    parser, found = Parser(NOTHING), []
    for piece in pieces:
        parser.feed(piece)
        while (reply := parser.gets()) is not NOTHING:
            found.append(reply)
    return found


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(REPLIES)), max_size=6), st.integers(1, 9))
def test_replies_do_not_depend_on_how_the_bytes_are_cut(wire: list[bytes], size: int) -> None:
    data = b"".join(wire)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert replies(pieces) == [REPLIES[each] for each in wire]


def test_an_error_inside_an_array_is_a_value() -> None:
    (reply,) = replies([b"*2\r\n-ERR no\r\n:1\r\n"])
    assert isinstance(reply, list)
    assert isinstance(reply[0], ReplyError)
    assert (str(reply[0]), reply[1]) == ("ERR no", 1)
