"""The fence's contract: real HTTP through it to a fake GPU's server, by hand and by the generator adapter."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio
import uvicorn

from functions.generate.engine import Death
from functions.generate.fence import Fence
from shared.adapters.generator import Generator, Token
from shared.core.errors import BadUpstream, ConfigurationError, PromptTooLong
from tests.fakes.gpu_server import FakeGpu
from tests.support.waiting import PATIENCE_S, within_async

KEY = "a-key-of-the-fence"
HELLO = [{"role": "user", "content": "Hi"}]
BODY = {"model": "fake-model", "messages": HELLO, "stream": True}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeGpu]:
    with FakeGpu(key="") as fake:
        yield fake


@pytest.fixture
def gpu(server: FakeGpu) -> FakeGpu:
    server.reset()
    return server


@dataclass
class Fenced:
    url: str
    port: int
    death: Death
    client: httpx.AsyncClient


@pytest_asyncio.fixture
async def fenced(gpu: FakeGpu) -> AsyncIterator[Fenced]:
    death = Death()
    fence = Fence(gpu.url, KEY, death)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(fence, lifespan="off", ws="none", log_level="error", timeout_graceful_shutdown=1)
    )
    serving = asyncio.create_task(server.serve([listener]))
    port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_S) as client:
        yield Fenced(url, port, death, client)
    server.should_exit = True
    await serving
    await fence.aclose()


async def raw(port: int, target: str, key: str = KEY) -> tuple[int, bytes]:
    """Status and body of a GET whose target no client library has tidied up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode("latin-1"))
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


async def test_the_api_and_health_pass_with_the_key(fenced: Fenced, gpu: FakeGpu) -> None:
    assert (await fenced.client.get("/health")).status_code == 200
    assert (await fenced.client.get("/v1/models")).json()["data"][0]["id"] == "fake-model"
    answer = await fenced.client.post("/v1/embeddings?a=b", json={"input": ["x"]})
    assert len(answer.json()["data"][0]["embedding"]) == 384
    assert [request.path for request in gpu.requests] == ["/health", "/v1/models", "/v1/embeddings"]


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/v1",
        "/v1/",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/sleep",
        "/wake_up?level=1",
        "/tokenize",
        "/health/",
        "/healthz",
        "/load",
        "/v1/../metrics",
        "/v1/./../metrics",
        "/v1/models/../../metrics",
        "/v1/..%2fmetrics",
        "/v1/%2e%2e/metrics",
        "/v1/%252e%252e/metrics",
        "/v1//metrics",
        "//metrics",
        "//v1/models",
        "/V1/models",
        "/%761/models",
        "/v1/models;/../metrics",
        "/v1\\..\\metrics",
        "/v1/models%00",
        "/v1/models%0d%0aX:1",
        "/v1/models\xe9",
        "/x/v1/models",
        "http://127.0.0.1/metrics",
    ],
)
async def test_everything_else_does_not_exist(fenced: Fenced, gpu: FakeGpu, target: str) -> None:
    status, _ = await raw(fenced.port, target)
    assert status in (400, 404)  # 400 is the HTTP parser's, before the fence
    assert gpu.requests == []


async def test_without_the_key_nothing_passes(fenced: Fenced, gpu: FakeGpu) -> None:
    async with httpx.AsyncClient(base_url=fenced.url) as stranger:
        for header in (None, "", "Bearer", "Bearer wrong", f"Basic {KEY}", KEY, f"Bearer {KEY}x"):
            headers = {} if header is None else {"Authorization": header}
            answer = await stranger.get("/v1/models", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["content-type"] == "application/problem+json"
        assert (await stranger.get("/metrics")).status_code == 404
    assert gpu.requests == []


async def test_the_key_and_stray_headers_stay_outside(fenced: Fenced, gpu: FakeGpu) -> None:
    await fenced.client.get("/v1/models", headers={"Cookie": "a=b", "X-Forwarded-For": "1.2.3.4"})
    seen = gpu.requests[0].headers
    assert not {"authorization", "cookie", "x-forwarded-for"} & set(seen)


async def test_other_methods_and_huge_bodies_are_refused(fenced: Fenced, gpu: FakeGpu) -> None:
    assert (await fenced.client.delete("/v1/models")).status_code == 405
    answer = await fenced.client.post("/v1/embeddings", content=b"x" * (4 * 2**20 + 1))
    assert answer.status_code == 413
    assert gpu.requests == []


async def test_a_stream_is_not_held_back(fenced: Fenced, gpu: FakeGpu) -> None:
    """The first word is here although the second never comes."""
    gpu.reply("one two three")
    gpu.stall_after(1)
    async with fenced.client.stream("POST", "/v1/chat/completions", json=BODY) as answer:
        assert b'"one"' in await anext(answer.aiter_raw())


async def test_a_client_that_leaves_ends_the_request_upstream(fenced: Fenced, gpu: FakeGpu) -> None:
    gpu.reply("word " * 300)
    gpu.slow(0.05)
    async with fenced.client.stream("POST", "/v1/chat/completions", json=BODY) as answer:
        await anext(answer.aiter_raw())
    await _until(lambda: gpu.disconnects == 1)


async def test_a_client_that_leaves_before_the_answer_ends_the_request_too(
    fenced: Fenced, gpu: FakeGpu
) -> None:
    gpu.silent()
    with pytest.raises(httpx.ReadTimeout):
        patience = httpx.Timeout(PATIENCE_S, read=0.3)
        await fenced.client.post("/v1/chat/completions", json=BODY, timeout=patience)
    gpu.heal()
    assert (await fenced.client.get("/health")).status_code == 200


async def test_a_dead_engine_is_an_immediate_503(fenced: Fenced, gpu: FakeGpu) -> None:
    gpu.silent()
    fenced.death.report("exited with code -9")
    answer = await within_async(0.3, lambda: fenced.client.post("/v1/chat/completions", json=BODY))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["type"] == "urn:ragzero:problem:engine-dead"
    assert "code -9" in answer.json()["title"]


async def test_an_engine_that_dies_ends_open_streams_with_an_error(fenced: Fenced, gpu: FakeGpu) -> None:
    """Also one that waits for a word which never comes."""
    gpu.stall_after(3)
    generator = Generator(fenced.url, KEY, "fake-model")
    reported: list[float] = []
    with pytest.raises(BadUpstream, match="code -9"):
        await _stream_and_report(generator, fenced.death, reported)
    assert time.monotonic() - reported[0] < 20
    await generator.aclose()


async def _stream_and_report(generator: Generator, death: Death, reported: list[float]) -> None:
    seen = 0
    async for event in generator.stream(HELLO, max_tokens=300, deadline=time.monotonic() + PATIENCE_S):
        seen += isinstance(event, Token)
        if seen == 3:
            reported.append(time.monotonic())
            death.report("exited with code -9")


async def test_an_engine_that_dies_before_answering_is_a_503(fenced: Fenced, gpu: FakeGpu) -> None:
    gpu.silent()
    asking = asyncio.create_task(fenced.client.post("/v1/chat/completions", json=BODY))
    await _until(lambda: len(gpu.requests) == 1)
    fenced.death.report("exited with code -9")
    assert (await asking).status_code == 503


async def test_a_connection_that_breaks_in_mid_stream_is_an_error_event(fenced: Fenced, gpu: FakeGpu) -> None:
    gpu.cut_after(1)
    answer = await fenced.client.post("/v1/chat/completions", json=BODY)
    assert '"engine_dead"' in answer.text
    assert "[DONE]" not in answer.text


async def test_the_adapter_understands_refusals_through_the_fence(fenced: Fenced, gpu: FakeGpu) -> None:
    gpu.context = 3
    generator = Generator(fenced.url, KEY, "fake-model")
    await generator.check()
    with pytest.raises(PromptTooLong):
        await anext(_ask(generator, "too many words for this"))
    stranger = Generator(fenced.url, "wrong", "fake-model")
    with pytest.raises(ConfigurationError, match="_API_KEY"):
        await stranger.check()
    for made in (generator, stranger):
        await made.aclose()


def _ask(generator: Generator, question: str) -> AsyncIterator[object]:
    messages = [{"role": "user", "content": question}]
    return generator.stream(messages, max_tokens=5, deadline=time.monotonic() + PATIENCE_S)


async def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
