"""What a key, a tenant and a month may take; with Redis counting for all processes, and each for itself without."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from functions.query.app import create_app
from scripts.local.process import HOST
from scripts.local.redis_server import RedisServer
from tests.fakes.gpu_server import FakeGpu
from tests.support.access import bearer, new_key
from tests.support.api import serving
from tests.support.installation import Installation
from tests.support.waiting import PATIENCE_S, PATIENT, until

QUESTION = "Who painted the blue crane?"
Api = Callable[..., httpx.Client]


@pytest.fixture(scope="module")
def gpu() -> Iterator[FakeGpu]:
    with FakeGpu() as server:
        server.reply("It was Ada Lindqvist [1].")
        yield server


@pytest.fixture(params=["with redis", "without"])
def installed(
    request: pytest.FixtureRequest, installation: Installation, redis_server: RedisServer
) -> Installation:
    if request.param == "with redis":
        installation.cache = {"redis_url": f"redis://{HOST}:{redis_server.port}", **PATIENT}
    installation.put("crane.txt", "The blue crane was painted by Ada Lindqvist in the spring of 1931.")
    installation.deliver()
    return installation


@pytest.fixture
def make_api(installed: Installation) -> Iterator[Api]:
    with ExitStack() as stack:

        def make(key: str | None = None, **settings: Any) -> httpx.Client:
            app = create_app(installed.query_settings(**settings), installed.embedder)
            url = stack.enter_context(serving(app))
            headers = bearer(key or installed.api_key)
            return stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=60))

        yield make


def model(gpu: FakeGpu, **more: Any) -> dict[str, Any]:
    known = {"generator_url": gpu.url, "generator_api_key": gpu.key, "generator_model": gpu.model}
    return known | {"semantic_similarity": 1.01} | more


def post(api: httpx.Client, **more: Any) -> httpx.Response:
    return api.post("/v1/query", json={"question": QUESTION, "cache": "bypass", **more})


def test_beyond_a_keys_rate_there_is_429_and_when_to_come_back(make_api: Api) -> None:
    api = make_api(key_rate=0.01, key_burst=3)
    codes = [api.get("/v1/documents").status_code for _ in range(3)]
    refused = api.get("/v1/documents")
    assert codes == [200, 200, 200]
    assert refused.status_code == 429
    assert refused.json()["type"].endswith("/too-many-requests")
    assert 50 <= int(refused.headers["Retry-After"]) <= 100


def test_a_refused_request_costs_nothing(make_api: Api) -> None:
    """Whoever hammers at a closed door does not keep it closed."""
    api = make_api(key_rate=4, key_burst=2)
    while api.get("/v1/documents").status_code == 200:
        pass
    for _ in range(20):
        api.get("/v1/documents")
    time.sleep(0.6)
    assert api.get("/v1/documents").status_code == 200


def test_the_keys_of_a_tenant_share_its_rate(installed: Installation, make_api: Api) -> None:
    other = installed.add_key(installed.tenant, ["query"])
    api = make_api(tenant_rate=0.01, tenant_burst=4)
    codes = [
        api.get("/v1/documents", headers=bearer(key)).status_code for key in (installed.api_key, other) * 3
    ]
    assert sorted(codes) == [200] * 4 + [429] * 2


def test_one_tenants_rate_is_not_anothers(installed: Installation, make_api: Api) -> None:
    stranger = installed.add_key(__import__("uuid").uuid4(), ["query"])
    api = make_api(tenant_rate=0.2, tenant_burst=2)
    while api.get("/v1/documents").status_code == 200:
        pass
    assert api.get("/v1/documents", headers=bearer(stranger)).status_code == 200


def test_a_key_may_have_limits_of_its_own(installed: Installation, make_api: Api) -> None:
    operator = make_api(installed.admin_key)
    made = new_key(operator, installed.tenant, name="slow", limits={"rate": 0.01, "burst": 1})  # type: ignore[arg-type]
    codes = [operator.get("/v1/documents", headers=bearer(made["key"])).status_code for _ in range(2)]
    assert codes == [200, 429]


def test_38_only_so_many_streams_at_a_time(make_api: Api, gpu: FakeGpu) -> None:
    """The others are told to come back; a slot is free again when its stream is over or its reader gone."""
    gpu.slow(600)
    api = make_api(**model(gpu, tenant_streams=2))
    body = {"question": QUESTION, "stream": True, "cache": "bypass"}
    open = []  # a generator that is let go of closes its stream
    with ExitStack() as stack:
        for _ in range(2):
            stream = stack.enter_context(api.stream("POST", "/v1/query", json=body))
            assert stream.status_code == 200
            open.append(stream.iter_lines())
            next(open[-1])
        refused = api.post("/v1/query", json=body)
        assert refused.status_code == 429
        assert "2 answers" in refused.json()["detail"]
    gpu.slow(0)
    until(lambda: api.post("/v1/query", json=body).status_code == 200)


def test_33_wrong_secrets_are_slowed_down_and_their_owner_is_not(
    installed: Installation, make_api: Api
) -> None:
    from shared.core.credentials import _checksum

    parts = installed.api_key.split("_")
    body = "_".join([*parts[:3], "0" * 48])
    forged = bearer(f"{body}_{_checksum(body)}")
    api = make_api(key_rate=1, key_burst=5)
    assert api.get("/v1/documents").status_code == 200
    codes = [api.get("/v1/documents", headers=forged).status_code for _ in range(200)]
    assert set(codes) == {401, 429}
    assert codes[:50] == [401] * 50
    assert api.get("/v1/documents").status_code == 200, "the key's own rate was used up by strangers"


def test_beyond_the_budget_there_are_quotes_and_then_nothing(
    installed: Installation, make_api: Api, gpu: FakeGpu
) -> None:
    """model -> quotes -> 429 with the seconds until the month is over."""
    operator = make_api(installed.admin_key)
    limits = {"budget_usd": 1.0}
    assert operator.patch(f"/v1/admin/tenants/{installed.tenant}", json={"limits": limits}).status_code == 200
    api = make_api(**model(gpu, price_completion=1e5, price_question=0.02))
    first = post(api)
    assert first.json()["mode"] == "model"
    assert first.json()["usage"]["cost_usd"] > 0
    while (answer := post(api)).status_code == 200 and answer.json()["mode"] == "model":
        pass
    assert answer.status_code in (200, 429)
    while answer.status_code == 200:
        assert answer.json()["mode"] == "extractive"
        assert any("budget" in warning for warning in answer.json()["warnings"])
        answer = post(api)
    assert answer.status_code == 429
    assert "of $1.00" in answer.json()["detail"]
    assert 0 < int(answer.headers["Retry-After"]) <= 31 * 86_400


def test_usage_is_told_by_day(installed: Installation, make_api: Api, gpu: FakeGpu) -> None:
    api = make_api(**model(gpu, price_completion=10.0))
    for _ in range(3):
        post(api, cache="read")
    days = api.get("/v1/usage").json()["days"]
    assert len(days) in (1, 2)  # midnight may have come between
    counted = bool(installed.cache)
    used = {name: sum(day[name] for day in days) for name in days[0].keys() - {"day"}}
    assert used["completion_tokens"] > 0
    assert used["cost_usd"] > 0
    assert 1 <= used["questions"] <= 3
    assert not counted or used["questions"] == 3
    assert used["hits"] <= 2
    assert api.get("/v1/usage", params={"from": "2020-01-01", "to": "2026-01-01"}).status_code == 422


def test_38_many_streams_and_readers_who_leave(make_api: Api, gpu: FakeGpu) -> None:
    """40 at once, a cap of 8: everybody gets an answer or a 429, and no generation outlives its readers."""
    gpu.slow(0.05)
    api = make_api(**model(gpu, tenant_streams=8))
    start = threading.Barrier(40)

    def one(number: int) -> int:
        start.wait(PATIENCE_S)
        body = {"question": f"{QUESTION} {number}", "stream": True, "cache": "bypass"}
        with api.stream("POST", "/v1/query", json=body) as response:
            if response.status_code == 200 and number % 2:
                next(response.iter_lines())  # and away
            elif response.status_code == 200:
                assert "event: done" in response.read().decode()
            return response.status_code

    with ThreadPoolExecutor(40) as pool:
        codes = list(pool.map(one, range(40)))
    gpu.slow(0)
    assert set(codes) <= {200, 429}
    assert codes.count(200) >= 8
    assert post(api).status_code == 200
