"""One application, four ways in: a server, and Lambda events of HTTP APIs, REST APIs and function URLs.

Every route is asked through each of them, and the answers must be the same.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from functions.query.app import create_app
from functions.query.exchanges import Load
from functions.query.observing import Observing
from scripts.local.aws import LocalAws
from scripts.local.lambda_runtime import LambdaContext
from shared.adapters.onnx_embedder import OnnxEmbedder
from tests.fakes.gpu_server import FakeGpu
from tests.support.installation import Databases, Installation
from tests.support.lambda_events import KINDS, answer
from tests.support.lambda_process import LambdaProcess
from tests.support.servers import new_intake, running, scratch_folder
from tests.support.serving_process import ServingProcess
from tests.support.waiting import PATIENCE_S

HANDLER = "functions.query.handler:handler"
TEXT = "The harbour crane lifts forty tonnes. It was built in 1958 by the Nordhaven works."
QUESTION = "How much does the harbour crane lift?"
ID = "00000000-0000-4000-8000-000000000000"
BASE = "https://ragzero.test"

Ask = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(scope="module")
def filled(
    databases: Databases, aws: LocalAws, embedder: OnnxEmbedder, model_dir: Path
) -> Iterator[Installation]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws.variables.items():
            patch.setenv(name, value)
        installation = Installation.fresh(databases, aws, new_intake(aws), embedder, model_dir)
        installation.put("crane.txt", TEXT)
        installation.deliver()
        yield installation
        installation.close()


@pytest.fixture(scope="module")
def variables(filled: Installation) -> dict[str, str]:
    return filled.environment("ragzero_query") | {"RAGZERO_BASE_PATH": "/prod"}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with scratch_folder() as path:
        yield path


@pytest.fixture(scope="module")
def server(folder: Path, variables: dict[str, str]) -> Iterator[Ask]:
    with running(ServingProcess(folder, variables)) as process, httpx.Client(timeout=30) as client:

        def ask(request: httpx.Request) -> httpx.Response:
            url = process.url + request.url.raw_path.decode()
            return client.request(request.method, url, headers=_sent(request), content=request.read())

        yield ask


@pytest.fixture(scope="module")
def function(folder: Path, variables: dict[str, str]) -> Iterator[LambdaProcess]:
    with LambdaProcess(HANDLER, variables, folder) as process:
        yield process


def _sent(request: httpx.Request) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}


@pytest.fixture(scope="module", params=KINDS)
def lambda_ask(request: pytest.FixtureRequest, function: LambdaProcess) -> Ask:
    event_of = KINDS[request.param]
    return lambda one: answer(function.invoke(event_of(one)), one.method)


# What has to be the same.

_NAMED = ("content-type", "cache-control", "location", "retry-after", "www-authenticate", "allow")
_SECURITY = (
    "content-security-policy",
    "x-content-type-options",
    "referrer-policy",
    "strict-transport-security",
)
_MASKS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), "<time>"),
    (re.compile(r"\b\d+\.\d+\b"), "<number>"),
    (re.compile(r'"next_cursor": ?"[^"]+"'), '"next_cursor":"<cursor>"'),
)


def essence(response: httpx.Response) -> dict[str, Any]:
    headers = {name: response.headers.get(name) for name in (*_NAMED, *_SECURITY)}
    assert re.fullmatch("[0-9a-f]{24}", response.headers["x-request-id"])
    assert re.search(r"total;dur=[\d.]+$", response.headers["server-timing"])
    return {"status": response.status_code, "headers": masked(headers), "body": masked(body(response))}


def body(response: httpx.Response) -> Any:
    if response.content and "json" in response.headers.get("content-type", ""):
        return response.json()
    return response.text


def masked(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    return text


def same(server: Ask, lambda_ask: Ask, make: Callable[[], httpx.Request]) -> httpx.Response:
    expected, got = server(make()), lambda_ask(make())
    assert essence(got) == essence(expected)
    return got


def request(method: str, path: str, key: str | None = None, **more: Any) -> httpx.Request:
    headers = ({"Authorization": f"Bearer {key}"} if key else {}) | more.pop("headers", {})
    return httpx.Request(method, BASE + path, headers=headers, **more)


# What each process has for itself: numbers and settings.
OWN = ["/metrics", "/monitoring/pool-status", "/monitoring/performance-metrics", "/v1/index/settings"]


def test_every_route_answers_alike(server: Ask, lambda_ask: Ask, filled: Installation) -> None:
    """Without a key, and with one that may do everything but asks for nothing that exists."""
    paths = server(request("GET", "/openapi.json")).json()["paths"]
    asked = 0
    for template, operations in paths.items():
        path = re.sub(r"\{[^}]+\}", ID, template)
        if template in OWN:
            continue
        for method in operations:
            more = {"json": {}} if method in ("post", "put", "patch") else {}
            for key in (None, filled.admin_key):
                same(server, lambda_ask, lambda: request(method.upper(), path, key, **more))  # noqa: B023
                asked += 1
    assert asked > 15


@pytest.mark.parametrize("path", OWN)
def test_the_operators_routes_are_there_for_them_alone(
    server: Ask, lambda_ask: Ask, filled: Installation, path: str
) -> None:
    for key in (None, filled.api_key):
        same(server, lambda_ask, lambda: request("GET", path, key))  # noqa: B023
    for ask in (server, lambda_ask):
        assert ask(request("GET", path, filled.admin_key)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("POST", "/v1/query", {"json": {"question": QUESTION}}),
        ("POST", "/v1/search", {"json": {"question": "Köln? 🦩", "top_k": 3}}),
        ("POST", "/v1/query", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        ("POST", "/v1/query", {"content": b"\xff\xfe", "headers": {"Content-Type": "application/json"}}),
        ("POST", "/v1/query", {"json": {"question": "x" * 100_000}}),
        ("POST", "/v1/query", {"data": {"question": "as a form"}}),
        ("GET", "/v1/documents?limit=1", {}),
        ("GET", "/v1/documents?limit=1&limit=2&collection=a%20b", {}),
        ("GET", "/v1/documents?status=searchable&status=failed&collection=default", {}),
        ("GET", "/v1/documents?limit=&cursor=%00", {}),
        ("GET", "/v1/documents/1%3Bdrop%20table", {}),
        ("GET", "/v1/documents/%C3%A4%F0%9F%A6%A9", {}),
        ("GET", "/v1/documents/..%2F..%2Fhealthz", {}),
        ("GET", "/healthz/", {}),
        ("GET", "/v1/nowhere", {}),
        ("PUT", "/v1/query", {"json": {"question": QUESTION}}),
        ("OPTIONS", "/v1/query", {"headers": {"Origin": "https://evil.example"}}),
        ("HEAD", "/healthz", {}),
        ("GET", "/docs", {}),
        ("GET", "/openapi.json", {}),
    ],
)
def test_a_request_is_answered_alike(
    server: Ask, lambda_ask: Ask, filled: Installation, method: str, path: str, more: dict[str, Any]
) -> None:
    same(server, lambda_ask, lambda: request(method, path, filled.api_key, **more))


def test_a_binary_file_arrives_unharmed(server: Ask, lambda_ask: Ask, filled: Installation) -> None:
    data = bytes(range(256)) * 8

    def upload() -> httpx.Request:
        form = {"metadata": '{"site": "north"}', "collection": "default"}
        return request("POST", "/v1/documents", filled.api_key, files={"file": ("a b.bin", data)}, data=form)

    accepted = same(server, lambda_ask, upload)
    assert accepted.status_code == 202
    key = accepted.json()["uri"].partition(f"{filled.intake.bucket}/")[2]
    stored = filled.aws.client("s3").get_object(Bucket=filled.intake.bucket, Key=key)
    assert stored["Body"].read() == data
    assert stored["Metadata"]["site"] == "north"


def test_35_what_proxies_and_cookies_claim_changes_nothing(
    server: Ask, lambda_ask: Ask, filled: Installation
) -> None:
    claims = {
        "X-Forwarded-For": "10.0.0.1",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Prefix": "/evil",
        "X-Tenant": ID,
        "Cookie": f"session=1; Authorization={filled.admin_key}",
    }
    for key in (None, filled.api_key):
        found = same(server, lambda_ask, lambda: request("GET", "/v1/documents/", key, headers=claims))  # noqa: B023
        assert found.status_code == 404
        listed = same(server, lambda_ask, lambda: request("GET", "/v1/documents", key, headers=claims))  # noqa: B023
        assert listed.status_code == (200 if key else 401)
        assert "evil" not in str(listed.headers) + listed.text


def test_a_stream_through_a_gateway_that_cannot_stream_is_all_there(
    server: Ask, lambda_ask: Ask, filled: Installation
) -> None:
    def ask() -> httpx.Request:
        return request("POST", "/v1/query", filled.api_key, json={"question": QUESTION, "stream": True})

    told = same(server, lambda_ask, ask).text
    assert re.findall("^event: (.*)$", told, re.MULTILINE)[-1] == "done"


def test_f19_frozen_with_dead_connections_the_function_answers_again(
    lambda_process: Callable[..., LambdaProcess], variables: dict[str, str], filled: Installation
) -> None:
    """The process was stopped for long: the pooler is another one, and every connection is gone."""
    function = lambda_process(HANDLER, variables)
    ask = KINDS["http_api"](request("POST", "/v1/search", filled.api_key, json={"question": QUESTION}))
    assert function.invoke(ask)["statusCode"] == 200
    pid = function.pid
    pooler = filled.databases.pgbouncer
    pooler.kill()
    pooler.start()
    pooler.wait_ready()
    time.sleep(1.1)  # connections used within the last second are trusted
    again = answer(function.invoke(ask))
    assert again.status_code == 200, again.text
    assert function.pid == pid


def test_on_lambda_the_answer_comes_before_the_function_is_killed(
    lambda_process: Callable[..., LambdaProcess], variables: dict[str, str], filled: Installation
) -> None:
    """The database does not answer; the call has three seconds, by far less than a request has elsewhere.

    Whoever is late on a busy machine is not killed here. What it took is looked at.
    """
    function = lambda_process(HANDLER, variables)
    ask = KINDS["http_api"](request("POST", "/v1/search", filled.api_key, json={"question": QUESTION}))
    assert function.invoke(ask)["statusCode"] == 200
    filled.databases.pgbouncer.freeze()
    started = time.monotonic()
    try:
        call = function.begin(ask, timeout=3)
        call._deadline += PATIENCE_S
        late = answer(call.result())
        assert time.monotonic() - started < 15
    finally:
        filled.databases.pgbouncer.thaw()
    assert late.status_code == 503
    assert late.json()["type"].endswith("deadline-exceeded")
    assert late.headers["retry-after"]
    assert function.invoke(ask)["statusCode"] == 200


def test_on_lambda_the_last_half_second_is_for_leaving(filled: Installation) -> None:
    observing = Observing(create_app(filled.query_settings(), filled.embedder, lazy=True), Load(), 1000)
    context = LambdaContext("query", time.monotonic() + 300)
    before = context.get_remaining_time_in_millis() / 1000
    assert 200 < observing._limit({"aws.context": context}) <= before - 0.5


def test_on_lambda_numbers_leave_with_every_request(function: LambdaProcess, filled: Installation) -> None:
    function.invoke(KINDS["rest_api"](request("GET", "/v1/documents", filled.api_key)))
    lines = [json.loads(line) for line in function.log_tail().splitlines() if '"_aws"' in line]
    assert any(line.get("route") == "/v1/documents" and line.get("requests") for line in lines)


def test_behind_the_web_adapter_an_answer_streams(
    folder: Path, filled: Installation, variables: dict[str, str]
) -> None:
    """A stand-in for the adapter: it waits until the server is there, then hands requests on over plain HTTP."""
    with FakeGpu() as gpu:
        gpu.reply("The harbour crane lifts forty tonnes [1]. " * 20)
        gpu.slow(0.1)
        model = {
            "RAGZERO_GENERATOR_URL": gpu.url,
            "RAGZERO_GENERATOR_API_KEY": gpu.key,
            "RAGZERO_GENERATOR_MODEL": gpu.model,
            "AWS_LAMBDA_FUNCTION_NAME": "query-stream",
            "AWS_LWA_INVOKE_MODE": "response_stream",
        }
        with running(ServingProcess(folder, variables | model)) as adapter:
            names, arrivals = [], set()
            for name, piece in _streamed(adapter.url, filled.api_key):
                names.append(name)
                arrivals |= {piece} if name == "token" else set()
                if len(arrivals) > 2:
                    gpu.slow(0.0)  # seen enough
    assert names[0] == "status"
    assert names[-1] == "done"
    assert len(arrivals) > 2, "tokens came in one piece"


def _streamed(url: str, key: str) -> Iterator[tuple[str, int]]:
    """Each event with the number of the piece it arrived in."""
    context = {"x-amzn-request-context": "{}", "x-amzn-lambda-context": '{"request_id": "1"}'}
    headers = {"Authorization": f"Bearer {key}", **context}
    question = {"question": QUESTION, "stream": True}
    with httpx.stream("POST", f"{url}/v1/query", json=question, headers=headers, timeout=30) as answer:
        assert answer.status_code == 200
        for number, piece in enumerate(answer.iter_text()):
            for name in re.findall("^event: (.*)$", piece, re.MULTILINE):
                yield name, number
