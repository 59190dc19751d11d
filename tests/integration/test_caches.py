"""Answers given again: what a hit costs, when there is none, and that nobody is ever told what no longer holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import redis

from functions.ingest.wiring import build
from functions.query.app import create_app
from scripts.local.process import HOST
from scripts.local.redis_server import RedisServer
from scripts.local.rest_shim import RestShim
from shared.adapters.cache.epochs import names_of
from shared.adapters.onnx_embedder import OnnxEmbedder
from tests.fakes.gpu_server import FakeGpu
from tests.support.access import bearer
from tests.support.api import serving
from tests.support.installation import Installation
from tests.support.servers import revive
from tests.support.waiting import PATIENCE_S, PATIENT, until

QUESTION = "Who painted the blue crane?"
BLUE = "The blue crane was painted by Ada Lindqvist in the spring of 1931."
GREEN = "The blue crane was painted by Bertil Olsson in the autumn of 1987."

Api = Callable[..., httpx.Client]


@pytest.fixture(scope="module")
def gpu() -> Iterator[FakeGpu]:
    with FakeGpu() as server:
        yield server


@pytest.fixture(params=["redis", "rest"])
def cached(
    request: pytest.FixtureRequest, installation: Installation, redis_server: RedisServer, rest_shim: RestShim
) -> Installation:
    """With a Redis, over its own protocol and over REST; one document."""
    rest = {"redis_rest_url": rest_shim.url, "redis_rest_token": rest_shim.token}
    own = {"redis_url": f"redis://{HOST}:{redis_server.port}"}
    installation.cache = (own if request.param == "redis" else rest) | PATIENT
    installation.put("crane.txt", BLUE)
    installation.deliver()
    return installation


@pytest.fixture
def make_api(cached: Installation) -> Iterator[Api]:
    """The API in a real server."""
    with ExitStack() as stack:

        def make(key: str | None = None, **settings: Any) -> httpx.Client:
            app = create_app(cached.query_settings(**settings), cached.embedder)
            url = stack.enter_context(serving(app))
            headers = bearer(key or cached.api_key)
            return stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=60))

        yield make


class Deaf:
    """An encoder that encodes no question."""

    def __init__(self, encoder: OnnxEmbedder) -> None:
        self._encoder = encoder

    def __getattr__(self, name: str) -> Any:
        assert name != "encode_query"
        return getattr(self._encoder, name)


@pytest.fixture
def api(make_api: Api) -> httpx.Client:
    return make_api()


def ask(api: httpx.Client, question: str = QUESTION, **more: Any) -> dict[str, Any]:
    answer = api.post("/v1/query", json={"question": question, **more})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def warm(api: httpx.Client, question: str = QUESTION, says: str = "", **more: Any) -> dict[str, Any]:
    """Asks until the answer comes from the cache: the first questions restore the epoch, which Redis lacks.

    says: what stands in every answer until then, too.
    """
    limit = time.monotonic() + PATIENCE_S
    while (answer := ask(api, question, **more))["cached"] != "exact":
        assert says in answer["answer"]
        assert time.monotonic() < limit, "the answer never came from the cache"
        time.sleep(0.02)
    assert says in answer["answer"]
    return answer


def model(gpu: FakeGpu, **more: Any) -> dict[str, Any]:
    return {"generator_url": gpu.url, "generator_api_key": gpu.key, "generator_model": gpu.model, **more}


# What a hit is.


def test_a_question_is_the_same_vector_wherever_it_is_asked(cached: Installation, api: httpx.Client) -> None:
    """Another process takes it from Redis; its answer, made anew, is the same to the last digit of its scores."""
    warm(api, "What is the crane's colour?")  # Redis knows the epoch
    first = ask(api)
    app = create_app(cached.query_settings(), Deaf(cached.embedder))  # type: ignore[arg-type] - stands in for it
    body = {"question": QUESTION, "cache": "refresh"}
    with serving(app) as url, httpx.Client(base_url=url, headers=bearer(cached.api_key), timeout=60) as other:
        until(
            lambda: other.post("/v1/query", json=body).is_success
        )  # the vector comes to Redis beside the answer
        again = ask(other, cache="refresh")
    assert (first["cached"], again["cached"]) == ("no", "no")
    assert first["citations"]
    for name in ("answer", "citations", "sources"):
        assert again[name] == first[name]


def test_a_hit_is_the_same_answer_for_nothing(api: httpx.Client) -> None:
    warm(api, "What is the crane's colour?")  # Redis knows the epoch
    first = ask(api)
    assert first["cached"] == "no"
    again = ask(api)
    assert again["cached"] == "exact"
    same = {"answer", "citations", "sources", "supported", "mode", "retrieval", "id"}
    assert {name: again[name] for name in same} == {name: first[name] for name in same}
    assert again["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "gpu_seconds": 0, "cost_usd": 0}
    assert again["age_s"] <= 30
    assert set(again) == set(first)


def test_a_hit_asks_no_database(cached: Installation, api: httpx.Client) -> None:
    """A popular question never wakes a sleeping database: here it does not even answer."""
    warm(api)
    cached.databases.postgres.freeze()
    try:
        assert ask(api)["cached"] == "exact"
    finally:
        cached.databases.postgres.thaw()


def test_a_new_process_needs_no_database_for_a_hit_either(cached: Installation, make_api: Api) -> None:
    warm(make_api())
    fresh = make_api()
    cached.databases.postgres.freeze()
    try:
        assert ask(fresh)["cached"] == "exact"
    finally:
        cached.databases.postgres.thaw()


def test_spacing_makes_no_difference_and_everything_else_does(api: httpx.Client) -> None:
    warm(api)
    assert ask(api, "  Who   painted the\nblue crane? ")["cached"] == "exact"
    assert ask(api, top_k=3)["cached"] == "no"
    assert ask(api, filter={"year": 1931})["cached"] == "no"
    assert ask(api, "who painted the blue crane?")["cached"] == "no"


def test_bypass_and_refresh(api: httpx.Client) -> None:
    first = warm(api)
    assert ask(api, cache="bypass")["cached"] == "no"
    assert ask(api)["id"] == first["id"]
    renewed = ask(api, cache="refresh")
    assert renewed["cached"] == "no"
    assert ask(api)["id"] == renewed["id"]


def test_a_stream_gets_the_kept_answer_too(api: httpx.Client) -> None:
    known = warm(api)
    with api.stream("POST", "/v1/query", json={"question": QUESTION, "stream": True}) as response:
        text = response.read().decode()
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names == ["sources", "token", "citations", "done"]
    assert known["id"] in text
    assert '"cached": "exact"' in text


# When there is none (I3).


def test_a_publish_ends_it(cached: Installation, api: httpx.Client) -> None:
    assert "Lindqvist" in warm(api)["answer"]
    cached.put("crane.txt", GREEN)
    cached.deliver()
    changed = ask(api)
    assert changed["cached"] == "no"
    assert "Olsson" in changed["answer"]
    assert "Olsson" in warm(api)["answer"]


def test_a_delete_ends_it(api: httpx.Client) -> None:
    document = warm(api)["sources"][0]["document_id"]
    receipt = api.delete(f"/v1/documents/{document}").json()
    assert receipt["coherent"] is True
    gone = ask(api)
    assert (gone["cached"], gone["supported"]) == ("no", False)


def test_a_revoked_key_is_refused_with_the_next_request(cached: Installation, make_api: Api) -> None:
    key = cached.add_key(cached.tenant, ["query"])
    reader, operator = make_api(key), make_api(cached.admin_key)
    warm(reader)
    assert operator.delete(f"/v1/admin/keys/{key.split('_')[2]}").status_code == 200
    assert reader.post("/v1/query", json={"question": QUESTION}).status_code == 401


def test_two_tenants_with_the_same_question_and_file(cached: Installation, make_api: Api) -> None:
    """39: the entries of one tenant are never another's."""
    other = Installation.add_key(cached, (tenant := __import__("uuid").uuid4()), ["query", "ingest"])
    cached.put(f"tenants/{tenant}/crane.txt", GREEN)
    cached.deliver()
    ours, theirs = make_api(), make_api(other)
    assert "Lindqvist" in warm(ours)["answer"]
    assert "Olsson" in warm(theirs)["answer"]
    assert "Lindqvist" in warm(ours)["answer"]


def test_39_a_poisoned_value_is_no_value(
    cached: Installation, api: httpx.Client, redis_server: RedisServer
) -> None:
    warm(api)
    with redis.Redis(port=redis_server.port) as client:
        (name,) = client.keys(f"rz:a:{cached.tenant}:*")
        epoch, _, sealed = client.get(name).partition(b":")
        for poison in (
            sealed.replace(b"Lindqvist", b"Malicious"),
            b"1" + b"A" * 24 + b'1:{"answer":"Malicious"}',
            b"",
            b"\xff\xfe",
        ):
            client.set(name, epoch + b":" + poison)
            assert "Lindqvist" in ask(api, cache="read")["answer"]
        moved = f"rz:a:{cached.tenant}:" + "0" * 40
        client.set(moved, epoch + b":" + sealed)
    assert ask(api)["answer"].count("Malicious") == 0


def test_a_guessed_epoch_helps_nobody(
    cached: Installation, api: httpx.Client, redis_server: RedisServer
) -> None:
    """39: an answer of an older epoch that is relabelled as one of the new epoch does not open."""
    warm(api)
    with redis.Redis(port=redis_server.port) as client:
        (name,) = client.keys(f"rz:a:{cached.tenant}:*")
        _, _, sealed = client.get(name).partition(b":")
        cached.put("crane.txt", GREEN)
        cached.deliver()
        client.set(name, b"%d:" % cached.epoch() + sealed)
    assert "Olsson" in ask(api)["answer"]


# Redis away (F7).


def test_f7_redis_hanging_is_a_miss_and_nothing_worse(
    cached: Installation, make_api: Api, redis_server: RedisServer
) -> None:
    api = make_api(redis_timeout_ms=250)
    cached.ingest.close()
    cached.ingest = build(cached.ingest_settings(redis_timeout_ms=1_000), cached.embedder)
    warm(api)
    redis_server.freeze()
    try:
        assert [ask(api)["cached"] for _ in range(5)] == ["no"] * 5
        cached.put("crane.txt", GREEN)
        cached.deliver()
        assert "Olsson" in ask(api)["answer"]
    finally:
        redis_server.thaw()
    with redis.Redis(port=redis_server.port) as client:  # what was said to it meanwhile, it hears now
        until(lambda: int(client.get(names_of(cached.tenant)[0]) or 0) == cached.epoch())
    warm(api, says="Olsson")  # once the breaker's cool-down is over


def test_f7_redis_restarted_without_its_data(api: httpx.Client, redis_server: RedisServer) -> None:
    warm(api)
    redis_server.kill()
    assert ask(api)["cached"] == "no"
    revive(redis_server)
    warm(api)


# One computation for identical questions (F25).


def test_f25_identical_questions_at_once_are_answered_once(make_api: Api, gpu: FakeGpu) -> None:
    """In two processes' worth of servers: one generation for all of them."""
    gpu.reset()
    gpu.reply("It was Ada Lindqvist [1].")
    gpu.slow(0.1)
    apis = [make_api(**model(gpu, semantic_similarity=1.01)) for _ in range(2)]
    for api in apis:  # keys and epochs are known, this question is not
        warm(api, "What is the crane's colour?", generate=False)
    gpu.requests.clear()
    gate = threading.Barrier(60)

    def one(number: int) -> str:
        gate.wait(PATIENCE_S)
        return str(ask(apis[number % 2])["answer"])

    with ThreadPoolExecutor(60) as pool:
        answers = set(pool.map(one, range(60)))
    assert len(answers) == 1
    assert len([seen for seen in gpu.requests if seen.path.endswith("/chat/completions")]) == 1


# Similar questions.


def test_a_question_that_means_the_same_wakes_no_model(make_api: Api, gpu: FakeGpu) -> None:
    gpu.reset()
    gpu.reply("It was Ada Lindqvist [1].")
    api = make_api(**model(gpu))
    first = ask(api)
    gpu.requests.clear()
    again = ask(api, "Please tell me: who painted the blue crane?")
    assert (again["cached"], again["answer"], gpu.requests) == ("semantic", first["answer"], [])
    assert ask(api, "When was the blue crane painted?")["cached"] == "no"
    assert ask(api, "Please tell me: who painted the blue crane?", top_k=2)["cached"] == "no"


def test_a_publish_ends_that_as_well(cached: Installation, make_api: Api, gpu: FakeGpu) -> None:
    gpu.reset()
    gpu.reply("It was Ada Lindqvist [1].")
    api = make_api(**model(gpu))
    ask(api)
    cached.put("crane.txt", GREEN)
    cached.deliver()
    assert ask(api, "Please tell me: who painted the blue crane?")["cached"] == "no"
