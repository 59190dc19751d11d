"""The real engine behind the fence, driven through the adapter. The last test kills it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing

import httpx
import pytest
import pytest_asyncio

from shared.adapters.generator import Finish, GenerationEvent, Generator, Token, Usage
from shared.core.errors import BadUpstream, ConfigurationError, PromptTooLong
from tests.support.waiting import until
from tests.vllm.conftest import MODEL_LENGTH, Server

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

RUNNING = "vllm:num_requests_running"
GENERATED = "vllm:generation_tokens_total"
FINISHED = "vllm:request_success_total"
LONG = MODEL_LENGTH - 100


@pytest_asyncio.fixture
async def generator(server: Server) -> AsyncIterator[Generator]:
    made = Generator(server.url, server.key, server.model)
    yield made
    await made.aclose()


class Endless(Generator):
    """Has every answer go on to max_tokens: left alone, the tiny model may stop at its second word."""

    def _request(
        self, messages: Sequence[Mapping[str, str]], max_tokens: int, temperature: float
    ) -> httpx.Request:
        usual = super()._request(messages, max_tokens, temperature)
        body = json.loads(usual.content) | {"ignore_eos": True}
        return self._client.build_request("POST", usual.url, json=body)


@pytest_asyncio.fixture
async def endless(server: Server) -> AsyncIterator[Generator]:
    made = Endless(server.url, server.key, server.model)
    yield made
    await made.aclose()


async def ask(generator: Generator, question: str, *, max_tokens: int = 20) -> list[GenerationEvent]:
    messages = [{"role": "user", "content": question}]
    deadline = time.monotonic() + 60
    stream = generator.stream(messages, max_tokens=max_tokens, temperature=0.0, deadline=deadline)
    return [event async for event in stream]


async def test_a_real_completion_streams_and_is_accounted_for(generator: Generator) -> None:
    """An engine that falls behind says many tokens in one: how many come is the most of five tries."""
    await generator.check()
    answers = [await ask(generator, "bar dor [1]") for _ in range(5)]
    assert max(len(answer) - 2 for answer in answers) > 5
    for *tokens, usage, finish in answers:
        assert "".join(token.text for token in tokens if isinstance(token, Token))
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


async def test_leaving_frees_the_sequences_in_the_engine(endless: Generator, server: Server) -> None:
    """The engine's own account: none finishes, none runs any more, and hardly a word was written.

    What is written until the engine hears of it depends on what else the machine does, so the best of three counts.
    """
    wrote = [await _written_for_who_left(endless, server) for _ in range(3)]
    assert 4 <= min(wrote) < LONG / 4, wrote


async def _written_for_who_left(endless: Generator, server: Server) -> float:
    """Tokens, for four streams that were left at their first."""
    written, finished = server.metric(GENERATED), server.metric(FINISHED)
    await asyncio.gather(*(_first_token(endless) for _ in range(4)))
    await asyncio.to_thread(until, lambda: server.metric(RUNNING) == 0)
    assert server.metric(FINISHED) == finished
    return server.metric(GENERATED) - written


async def _first_token(generator: Generator) -> None:
    """Reads a stream up to there, and leaves it."""
    messages = [{"role": "user", "content": "bar"}]
    stream = generator.stream(messages, max_tokens=LONG, deadline=time.monotonic() + 60)
    async with aclosing(stream) as events:
        async for event in events:
            if isinstance(event, Token):
                return


async def test_twenty_streams_side_by_side(endless: Generator, server: Server) -> None:
    questions = [f"bar {number} dor" for number in range(20)]
    asked = asyncio.gather(*(ask(endless, question, max_tokens=1000) for question in questions))
    await asyncio.to_thread(until, lambda: server.metric(RUNNING) >= 10, 60.0)
    for events in await asked:
        *before, usage, finish = events
        assert isinstance(usage, Usage)
        assert isinstance(finish, Finish)
        assert finish.reason == "length"
        assert usage.completion_tokens == 1000
        assert 0 < sum(isinstance(event, Token) for event in before) <= 1000


async def test_a_prompt_over_the_models_length_is_a_clear_error(generator: Generator) -> None:
    with pytest.raises(PromptTooLong, match=f"maximum context length is {MODEL_LENGTH} tokens"):
        await ask(generator, "bar dor " * MODEL_LENGTH)


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
    endless: Generator, server: Server
) -> None:
    """Last in this file: nothing works after it. kill -9 of the process that computes, in mid-stream."""
    begun: set[int] = set()
    computing, written = server.core_pid(), server.metric(GENERATED)
    streams = [asyncio.create_task(_read_to_the_error(endless, number, begun)) for number in range(16)]

    def all_run() -> bool:
        """What a stream has written need not be text yet: that is held back until its bytes are whole."""
        running = server.metric(RUNNING) == 16 and server.metric(GENERATED) > written + 16 * 20
        return running and len(begun) >= 8

    await asyncio.to_thread(until, all_run)
    assert not any(stream.done() for stream in streams)
    os.kill(computing, signal.SIGKILL)
    killed = time.monotonic()
    for error, at in await asyncio.gather(*streams):
        assert str(error).startswith("generator broke off: "), "an event of the stream, and no cut connection"
        assert at - killed < 2.0
    assert (await asyncio.to_thread(server.next_event))["event"] == "engine_died"
    assert time.monotonic() - killed < 2.0
    answer = await asyncio.to_thread(
        httpx.get, f"{server.url}/v1/models", headers={"Authorization": f"Bearer {server.key}"}
    )
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert await asyncio.to_thread(server.process.wait, 30) == 70


async def _read_to_the_error(generator: Generator, number: int, begun: set[int]) -> tuple[BadUpstream, float]:
    """The error that ends the stream, and when it came. An answer that is over before all have begun is asked for anew."""
    messages = [{"role": "user", "content": f"bar {number}"}]
    with pytest.raises(BadUpstream) as caught:
        while True:
            async for event in generator.stream(messages, max_tokens=LONG, deadline=time.monotonic() + 60):
                if isinstance(event, Token):
                    begun.add(number)
    return caught.value, time.monotonic()
