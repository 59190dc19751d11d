"""The real engine behind the fence, driven through the adapter. The last test kills it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import httpx
import pytest
import pytest_asyncio

from shared.adapters.generator import Finish, GenerationEvent, Generator, Token, Usage
from shared.core.errors import BadUpstream, ConfigurationError, PromptTooLong
from tests.vllm.conftest import MODEL_LENGTH, Server, until

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

RUNNING = "vllm:num_requests_running"
GENERATED = "vllm:generation_tokens_total"
LONG = MODEL_LENGTH - 100


@pytest_asyncio.fixture
async def generator(server: Server) -> AsyncIterator[Generator]:
    made = Generator(server.url, server.key, server.model)
    yield made
    await made.aclose()


async def ask(generator: Generator, question: str, *, max_tokens: int = 20) -> list[GenerationEvent]:
    messages = [{"role": "user", "content": question}]
    deadline = time.monotonic() + 60
    stream = generator.stream(messages, max_tokens=max_tokens, temperature=0.0, deadline=deadline)
    return [event async for event in stream]


async def test_a_real_completion_streams_and_is_accounted_for(generator: Generator) -> None:
    await generator.check()
    *tokens, usage, finish = await ask(generator, "bar dor [1]")
    assert "".join(token.text for token in tokens if isinstance(token, Token))
    assert len(tokens) > 5
    assert isinstance(usage, Usage)
    assert usage.completion_tokens == 20
    assert usage.prompt_tokens > 5
    assert isinstance(finish, Finish)
    assert finish.reason == "length"
    assert finish.first_token_s is not None
    assert finish.first_token_s < finish.total_s


async def test_temperature_zero_says_the_same_twice(generator: Generator) -> None:
    first, second = [
        [event for event in await ask(generator, "bar dor") if isinstance(event, Token)] for _ in range(2)
    ]
    assert "".join(t.text for t in first) == "".join(t.text for t in second)


async def test_leaving_early_frees_the_sequence_in_the_engine(generator: Generator, server: Server) -> None:
    """Counted by the engine: it stops long before the end that it would have gone on to.

    A model this small writes its 4000 tokens in a second or two, and may be done before it hears; so the best of a few
    tries counts. An engine that is never told would write all of them each time.
    """
    assert min([await _written_after_leaving(generator, server) for _ in range(4)]) < LONG / 2


async def _written_after_leaving(generator: Generator, server: Server) -> float:
    """Tokens the engine wrote for a stream that was left at its first one."""
    before = server.metric(GENERATED)
    messages = [{"role": "user", "content": "bar"}]
    stream = generator.stream(messages, max_tokens=LONG, deadline=time.monotonic() + 60)
    async with aclosing(stream) as events:
        async for event in events:
            if isinstance(event, Token):
                break
    await asyncio.to_thread(until, lambda: server.metric(RUNNING) == 0, 2.0)
    await asyncio.sleep(0.5)
    written = server.metric(GENERATED) - before
    await asyncio.sleep(0.5)
    assert server.metric(GENERATED) - before == written > 0
    return written


async def test_twenty_streams_side_by_side(generator: Generator, server: Server) -> None:
    questions = [f"bar {number} dor" for number in range(20)]
    asked = asyncio.gather(*(ask(generator, question, max_tokens=1000) for question in questions))
    await asyncio.to_thread(until, lambda: server.metric(RUNNING) >= 10)
    for events in await asked:
        *before, usage, finish = events
        assert isinstance(usage, Usage)
        assert isinstance(finish, Finish)
        assert finish.reason in ("length", "stop")
        tokens = sum(isinstance(event, Token) for event in before)
        assert 0 < tokens <= usage.completion_tokens <= 1000


async def test_a_prompt_over_the_models_length_is_a_clear_error(generator: Generator) -> None:
    with pytest.raises(PromptTooLong, match=f"maximum context length is {MODEL_LENGTH} tokens"):
        await ask(generator, "bar dor " * 4000)


async def test_a_model_that_is_not_served_is_a_wrong_setting(server: Server) -> None:
    other = Generator(server.url, server.key, "other")
    with pytest.raises(ConfigurationError, match="RAGZERO_GENERATOR_MODEL"):
        await ask(other, "bar")
    await other.aclose()


@pytest.mark.parametrize("path", ["/metrics", "/tokenize", "/openapi.json", "/load", "/version", "/ping"])
def test_the_engines_other_doors_are_shut(server: Server, path: str) -> None:
    assert server.engine.get(path).status_code in (200, 405)
    answer = httpx.get(f"{server.url}{path}", headers={"Authorization": f"Bearer {server.key}"})
    assert answer.status_code == 404


def test_the_engine_listens_on_loopback_and_the_fence_wants_the_key(server: Server) -> None:
    assert httpx.get(f"{server.url}/v1/models").status_code == 401
    assert httpx.get(f"{server.url}/health").status_code == 401


async def test_a_killed_engine_is_noticed_reported_and_ends_streams(
    generator: Generator, server: Server
) -> None:
    """Last in this file: nothing works after it. kill -9 of the process that computes, in mid-stream."""
    # so many that a model this small is still writing when it is killed
    streaming = asyncio.gather(
        *(ask(generator, f"bar {number}", max_tokens=LONG) for number in range(16)), return_exceptions=True
    )
    await asyncio.to_thread(until, lambda: server.metric(RUNNING) == 16)
    os.kill(server.core_pid(), signal.SIGKILL)
    killed = time.monotonic()
    assert any(isinstance(ended, BadUpstream) for ended in await streaming)
    assert time.monotonic() - killed < 2.0
    assert (await asyncio.to_thread(server.next_event))["event"] == "engine_died"
    assert time.monotonic() - killed < 2.0
    answer = await asyncio.to_thread(
        httpx.get, f"{server.url}/v1/models", headers={"Authorization": f"Bearer {server.key}"}
    )
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert await asyncio.to_thread(server.process.wait, 30) == 70
