"""Running the query function: probes, numbers, logs, headers, time limits, and leaving."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from functions.query.app import create_app
from functions.query.monitoring import dependencies
from shared.core.errors import ConfigurationError
from shared.settings import QuerySettings
from tests.fakes.gpu_server import FakeGpu
from tests.support.installation import Installation
from tests.support.lambda_events import function_url
from tests.support.lambda_process import LambdaProcess
from tests.support.otlp import attributes, collecting
from tests.support.servers import running, scratch_folder
from tests.support.serving_process import ServingProcess
from tests.support.waiting import until

TEXT = "The heron colony of Wetmoor counts 412 nests."
QUESTION = "How many nests has the heron colony?"
EVIL = {"Origin": "https://evil.example"}
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch_folder() as path:
        yield path


@pytest.fixture
def filled(installation: Installation) -> Installation:
    installation.put("herons.txt", TEXT)
    installation.deliver()
    return installation


@contextmanager
def served(
    installation: Installation, folder: Path, **variables: str
) -> Iterator[tuple[ServingProcess, httpx.Client]]:
    """The function in a process of its own, and a client with an admin's key."""
    environment = installation.environment("ragzero_query") | variables
    headers = {"Authorization": f"Bearer {installation.admin_key}"}
    with (
        running(ServingProcess(folder, environment)) as process,
        httpx.Client(base_url=process.url, headers=headers, timeout=30) as client,
    ):
        yield process, client


def model(gpu: FakeGpu) -> dict[str, str]:
    return {
        "RAGZERO_GENERATOR_URL": gpu.url,
        "RAGZERO_GENERATOR_API_KEY": gpu.key,
        "RAGZERO_GENERATOR_MODEL": gpu.model,
    }


def in_process(installation: Installation, key: str | None = None, **changes: Any) -> TestClient:
    app = create_app(installation.query_settings(**changes), installation.embedder)
    headers = {"Authorization": f"Bearer {key or installation.api_key}"}
    return TestClient(app, headers=headers, raise_server_exceptions=False)


def lose_the_index(installation: Installation) -> None:
    """Something that nobody expects, and that is our fault."""
    url = installation.databases.postgres.dsn(dbname=installation.database)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("alter table chunks rename to chunks_elsewhere")


# Logs.


def test_no_log_line_holds_text_or_keys_whatever_goes_wrong(filled: Installation, folder: Path) -> None:
    with served(filled, folder) as (process, client):
        ask = {"question": QUESTION}
        assert client.post("/v1/query", json=ask).json()["supported"]
        client.post("/v1/query", json=ask | {"stream": True})
        client.post("/v1/search", json=ask | {"collection": QUESTION})
        client.post("/v1/search", json=ask, headers={"Authorization": f"Bearer {filled.admin_key}x"})
        client.post("/v1/search", json=ask, headers={"X-API-Key": filled.admin_key})
        client.get(f"/v1/{QUESTION}", params={"key": filled.admin_key})
        client.post("/v1/query", content=json.dumps(ask)[:-1])
        client.post("/v1/documents", files={"file": ("herons.txt", TEXT.encode())})
        lose_the_index(filled)
        assert client.post("/v1/query", json=ask).status_code == 500
        client.post("/v1/query", json=ask | {"stream": True})
    log = process.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert [line["route"] for line in lines if line["event"] == "request"].count("/v1/query") == 5
    assert any(line["event"] == "request_failed" for line in lines)
    secret = filled.admin_key.split("_")[3]
    for told in (QUESTION, "heron", "412 nests", filled.admin_key, secret, "Authorization", "Bearer"):
        assert told not in log


def access_lines(process: ServingProcess, request_id: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("request_id") == request_id]


def test_an_access_line_says_who_asked_for_what_and_how_it_went(filled: Installation, folder: Path) -> None:
    with served(filled, folder) as (process, client):
        found = client.get("/v1/documents", headers={"X-Request-Id": "from-the-caller"})
        assert found.headers["x-request-id"] == "from-the-caller"
    (line,) = access_lines(process, "from-the-caller")
    assert (line["event"], line["method"], line["route"]) == ("request", "GET", "/v1/documents")
    assert (line["status"], line["level"]) == (200, "info")
    assert line["ms"] > 0
    assert line["tenant"] == str(filled.tenant)
    assert line["key"] == filled.admin_key.split("_")[2]


# Probes.


def test_readiness_names_what_there_is(quiet_api: TestClient) -> None:
    found = quiet_api.get("/readyz", headers={"Authorization": ""})
    assert found.status_code == 200
    assert found.json()["status"] == "ready"
    assert found.json()["dependencies"]["database"] == "ok"


def test_readiness_is_503_without_the_database_and_tells_no_addresses(installation: Installation) -> None:
    pooler = installation.databases.pgbouncer
    with in_process(installation) as api:
        assert api.get("/readyz").status_code == 200
        pooler.kill()
        try:
            found = api.get("/readyz")
        finally:
            pooler.start()
            pooler.wait_ready()
        assert api.get("/readyz").status_code == 200
    assert found.status_code == 503
    assert found.headers["retry-after"]
    assert found.json()["dependencies"]["database"] == "unavailable"
    assert str(pooler.port) not in found.text
    assert "127.0.0.1" not in found.text


class Dependency:
    def __init__(self, breaker: str) -> None:
        self._breaker = breaker

    def status(self) -> Mapping[str, Any]:
        return {"breaker": self._breaker}


def test_an_open_breaker_degrades() -> None:
    assert dependencies({"redis": Dependency("open"), "generator": Dependency("closed")}) == {
        "redis": "degraded",
        "generator": "ok",
    }


def test_the_liveness_probe_touches_nothing(installation: Installation) -> None:
    """Not even what it could not do without: the function was never told where its database is."""
    settings = installation.query_settings(database_url="postgresql://nobody@127.0.0.1:9/nowhere")
    app = create_app(settings, installation.embedder, lazy=True)
    with TestClient(app) as api:
        assert api.get("/healthz").json() == {"status": "ok"}
        assert api.get("/openapi.json").status_code == 200
        assert api.get("/v1/nowhere").status_code == 404


# Numbers.


def samples(api: httpx.Client) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(api.get("/metrics").text)
        for sample in family.samples
    }


def test_metrics_count_requests_and_time_their_stages(filled: Installation) -> None:
    asked = ("ragzero_requests_total", (("method", "POST"), ("route", "/v1/search"), ("status", "200")))
    staged = ("ragzero_stage_seconds_count", (("stage", "retrieve"),))
    with in_process(filled, filled.admin_key) as api:
        before = samples(api)
        for _ in range(3):
            assert api.post("/v1/search", json={"question": QUESTION}).status_code == 200
        after = samples(api)
        text = api.get("/metrics").text
    assert after[asked] - before.get(asked, 0) == 3
    assert after[staged] - before.get(staged, 0) == 3
    assert after["ragzero_database_pool", (("state", "pool_max"),)] > 0
    assert after["ragzero_requests_in_flight", ()] == 1, "the one that asks"
    assert str(filled.tenant) not in text
    assert filled.admin_key.split("_")[2] not in text


def test_the_pools_state_and_the_speed_of_the_last_minutes(filled: Installation) -> None:
    with in_process(filled, filled.admin_key) as api:
        api.post("/v1/search", json={"question": QUESTION})
        pools = api.get("/monitoring/pool-status").json()
        speed = api.get("/monitoring/performance-metrics").json()
    assert pools["database"]["pool_size"] >= 1
    assert (pools["requests_in_flight"], pools["open_streams"], pools["draining"]) == (1, 0, False)
    route = speed["routes"]["/v1/search"]
    assert 0 < route["p50_ms"] <= route["p95_ms"] <= route["p99_ms"]
    assert route["error_rate"] <= 1
    assert {"embed", "retrieve"} <= speed["stages"].keys()
    assert speed["uptime_s"] > 0


@pytest.mark.parametrize("path", ["/metrics", "/monitoring/pool-status", "/monitoring/performance-metrics"])
def test_34_numbers_are_for_admins(installation: Installation, quiet_api: TestClient, path: str) -> None:
    assert quiet_api.get(path, headers={"Authorization": ""}).status_code == 401
    assert quiet_api.get(path).status_code == 403


def test_what_a_model_did_is_counted_and_traced(filled: Installation, folder: Path) -> None:
    with (
        FakeGpu() as gpu,
        collecting() as collector,
        served(filled, folder, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **model(gpu)) as (_process, client),
    ):
        gpu.reply("The heron colony counts 412 nests [1].")
        client.headers["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        assert client.post("/v1/query", json={"question": QUESTION}).json()["mode"] == "model"
        known = {name: value for (name, _), value in samples(client).items()}
        pools = client.get("/monitoring/pool-status").json()
        sent = next(request for request in gpu.requests if "completions" in request.path)
    assert known["ragzero_generator_calls_total"] >= 1
    assert known["ragzero_generator_tokens_total"] > 0
    assert known["ragzero_cache_lookups_total"] == 1
    assert pools["dependencies"]["generator"]["breaker"] == "closed"
    assert sent.headers["traceparent"].split("-")[1] == "0af7651916cd43dd8448eb211c80319c"


# Spans.


def test_a_requests_spans_tell_its_way_and_never_its_text(filled: Installation, folder: Path) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    with collecting() as collector:
        with served(filled, folder, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as (_process, client):
            caller = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
            assert client.post("/v1/search", json={"question": QUESTION}, headers=caller).status_code == 200
        spans = collector.spans  # the rest left when the server did
    request = spans["POST /v1/search"]
    assert request.trace_id.hex() == trace
    assert attributes(request)["tenant"] == str(filled.tenant)
    assert spans["embed"].parent_span_id == spans["retrieve"].parent_span_id == request.span_id
    for told in (QUESTION, "heron", filled.admin_key):
        assert told not in str(collector.received)


def test_on_lambda_spans_leave_before_the_process_is_frozen(
    installation: Installation, lambda_process: Callable[..., LambdaProcess]
) -> None:
    with collecting() as collector:
        variables = installation.environment("ragzero_query") | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        function = lambda_process("functions.query.handler:handler", variables)
        function.invoke(function_url(httpx.Request("GET", "https://ragzero.test/v1/documents")))
        assert attributes(collector.spans["GET /v1/documents"])["http.response.status_code"] == 401


# Headers.


def test_every_kind_of_answer_has_the_headers(filled: Installation) -> None:
    with in_process(filled) as api:
        answers = [
            api.get("/healthz"),
            api.get("/v1/documents", headers={"Authorization": ""}),
            api.get("/v1/nowhere"),
            api.put("/v1/query"),
            api.post("/v1/query", json={"question": "x" * 100_000}),
            api.post("/v1/query", json={}),
            api.post("/v1/query", json={"question": QUESTION}),
            api.post("/v1/query", json={"question": QUESTION, "stream": True}),
        ]
        lose_the_index(filled)
        answers.append(api.post("/v1/query", json={"question": QUESTION}))
    assert [answer.status_code for answer in answers] == [200, 401, 404, 405, 413, 422, 200, 200, 500]
    for answer in answers:
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-request-id"]
        assert "server" not in answer.headers


def test_the_timing_header_tells_the_stages(filled: Installation) -> None:
    with in_process(filled) as api:
        found = api.post("/v1/search", json={"question": QUESTION}).headers["server-timing"]
    assert re.fullmatch(r"(\w+;dur=[\d.]+, )+total;dur=[\d.]+", found)
    assert "embed;" in found
    assert "retrieve;" in found


def test_the_reference_runs_its_own_script_and_nobody_elses(quiet_api: TestClient) -> None:
    page = quiet_api.get("/docs")
    (script,) = re.findall("<script>(.*?)</script>", page.text, re.DOTALL)
    policy = page.headers["content-security-policy"]
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert "script-src https://cdn.jsdelivr.net 'sha256-" in policy
    assert "'unsafe-eval'" not in policy


# Browsers.


def test_without_origins_no_page_may_use_the_api(quiet_api: TestClient) -> None:
    for answer in (
        quiet_api.get("/healthz", headers=EVIL),
        quiet_api.options("/v1/query", headers=EVIL | PREFLIGHT),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_pages_of_listed_origins_may_with_a_key_of_their_own(installation: Installation) -> None:
    friend = {"Origin": "https://app.example"}
    with in_process(installation, cors_origins="https://app.example, https://other.example") as api:
        preflight = api.options("/v1/query", headers=friend | PREFLIGHT)
        answered = api.get("/v1/documents", headers=friend)
        failed = api.get("/v1/nowhere", headers=friend)
        stranger = api.get("/v1/documents", headers=EVIL)
        refused = api.options("/v1/query", headers=EVIL | PREFLIGHT)
    assert preflight.status_code == 200
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    for answer in (preflight, answered, failed):
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "access-control-allow-credentials" not in answer.headers
    assert "X-Request-Id" in answered.headers["access-control-expose-headers"]
    assert refused.status_code == 400
    for answer in (stranger, refused):
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("wrong", ["app.example", "https://app.example/path", "ftp://app.example", "null"])
def test_what_is_no_origin_is_refused_at_start(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    for name, value in installation.environment("ragzero_query").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAGZERO_CORS_ORIGINS", wrong)
    with pytest.raises(ConfigurationError, match="RAGZERO_CORS_ORIGINS"):
        QuerySettings.load()


# Time limits.


def test_a_database_that_stops_answering_is_a_503_in_time(filled: Installation, folder: Path) -> None:
    """Connections are up and nothing comes back: no connect time-out helps there."""
    ask = {"question": QUESTION}
    with served(filled, folder, RAGZERO_REQUEST_SECONDS="5") as (_process, client):
        assert client.post("/v1/search", json=ask).status_code == 200
        filled.databases.pgbouncer.freeze()
        try:
            late = client.post("/v1/search", json=ask)
            alive = client.get("/healthz")
        finally:
            filled.databases.pgbouncer.thaw()
        assert late.status_code == 503
        assert late.headers["retry-after"]
        assert late.json()["type"].endswith("deadline-exceeded")
        assert alive.status_code == 200
        assert client.post("/v1/search", json=ask).status_code == 200


# Leaving.


def test_on_sigterm_new_requests_are_turned_away_and_running_ones_finish(
    filled: Installation, folder: Path
) -> None:
    with (
        FakeGpu() as gpu,
        served(filled, folder, RAGZERO_DRAIN_SECONDS="60", **model(gpu)) as (process, client),
    ):
        gpu.slow(1.0)  # a word, until somebody else was turned away
        gpu.reply("The heron colony counts 412 nests [1], all of them in the old oaks by the mere.")
        ended: list[httpx.Response] = []
        told: list[httpx.Response] = []

        def turned_away() -> bool:
            told.append(httpx.get(f"{process.url}/healthz"))
            return told[-1].status_code == 503

        slow = threading.Thread(
            target=lambda: ended.append(client.post("/v1/query", json={"question": QUESTION}))
        )
        slow.start()
        until(lambda: any("completions" in request.path for request in gpu.requests))
        assert process.pid is not None
        _signal(process)
        until(turned_away)
        gpu.slow(0.0)
        slow.join(60)
        until(lambda: not process.running())
        log = process.log.read_text()
    assert told[-1].headers["retry-after"]
    assert told[-1].headers["connection"] == "close"
    assert ended[0].status_code == 200
    assert ended[0].json()["mode"] == "model"
    assert "Traceback" not in log


def test_when_time_is_up_streams_end_and_their_answers_are_let_go_of(
    filled: Installation, folder: Path
) -> None:
    """Whoever asks for the answer afterwards, from another process, has it go on at once."""
    with (
        FakeGpu() as gpu,
        served(filled, folder, RAGZERO_DRAIN_SECONDS="0.2", **model(gpu)) as (process, client),
    ):
        gpu.silent()
        pending = client.post("/v1/query", json={"question": QUESTION, "deadline_ms": 100})
        assert pending.status_code == 202
        streaming = threading.Thread(target=_read_all, args=(client,))
        streaming.start()
        until(lambda: len(filled.rows("select * from answers where lease_until > now()")) == 2)
        _signal(process)
        streaming.join(60)
        until(lambda: not process.running())
    assert filled.rows("select * from answers where lease_until > now()") == []
    busy = "select pid from pg_stat_activity where usename = 'ragzero_query' and state <> 'idle'"
    until(lambda: filled.rows(busy) == [])


def test_idle_it_leaves_at_once(installation: Installation, folder: Path) -> None:
    with served(installation, folder, RAGZERO_DRAIN_SECONDS="600") as (process, _client):
        _signal(process)
        until(lambda: not process.running())


def _read_all(client: httpx.Client) -> None:
    question = {"question": "Where does the heron colony nest?", "stream": True}
    try:
        with client.stream("POST", "/v1/query", json=question) as answer:
            for _ in answer.iter_bytes():
                pass
    except httpx.TransportError:
        pass  # broken off by the server


def _signal(process: ServingProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)


async def test_the_graph_is_made_anew_on_another_event_loop(installation: Installation) -> None:
    """Connections belong to the loop they were made on; ten requests at once make one graph."""
    app = create_app(installation.query_settings(), installation.embedder, lazy=True)

    async def ask() -> tuple[list[int], object]:
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": f"Bearer {installation.api_key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            found = await asyncio.gather(*(client.get("/v1/documents") for _ in range(10)))
        graph = app.state.graph
        await graph.close()
        return [answer.status_code for answer in found], graph

    first = await asyncio.to_thread(asyncio.run, ask())
    second = await asyncio.to_thread(asyncio.run, ask())
    assert first[0] == second[0] == [200] * 10
    assert first[1] is not second[1]
