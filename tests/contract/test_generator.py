"""The generator's contract, against a real HTTP server that misbehaves as GPUs do (FAULTS F8-F10)."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing

import pytest
import pytest_asyncio

from shared.adapters.generator import (
    Finish,
    GenerationEvent,
    Generator,
    Prices,
    Token,
    Usage,
    Waking,
    client,
    waiting,
)
from shared.adapters.generator.watch import Watch
from shared.core.breaker import Breaker
from shared.core.errors import (
    BadUpstream,
    Busy,
    ConfigurationError,
    DeadlineExceeded,
    PromptTooLong,
    Unavailable,
)
from tests.fakes.gpu_server import FakeGpu
from tests.support.waiting import PATIENCE_S, within_async

QUESTION = [{"role": "user", "content": "What is the answer?"}]


@pytest.fixture(scope="module")
def server() -> Iterator[FakeGpu]:
    with FakeGpu() as fake:
        yield fake


@pytest.fixture
def gpu(server: FakeGpu) -> FakeGpu:
    server.reset()
    return server


@pytest_asyncio.fixture
async def generator(gpu: FakeGpu) -> AsyncIterator[Generator]:
    made = Generator(gpu.url, gpu.key, gpu.model, prices=Prices(prompt=1.0, completion=2.0))
    yield made
    await made.aclose()


async def ask(
    generator: Generator, *, seconds: float = PATIENCE_S, messages: list[dict[str, str]] = QUESTION
) -> list[GenerationEvent]:
    events: list[GenerationEvent] = []
    await collect(generator, events, seconds=seconds, messages=messages)
    return events


async def collect(
    generator: Generator,
    into: list[GenerationEvent],
    *,
    seconds: float = PATIENCE_S,
    messages: list[dict[str, str]] = QUESTION,
) -> None:
    async for event in generator.stream(messages, max_tokens=50, deadline=time.monotonic() + seconds):
        into.append(event)  # noqa: PERF401 - what came before an error is wanted too


def text(events: list[GenerationEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token))


@pytest.fixture
def watches(monkeypatch: pytest.MonkeyPatch) -> list[Watch]:
    """Those of this test's requests, so that it can let their time run out when it has seen what it waits for."""
    made: list[Watch] = []

    def watch(deadline: float) -> Watch:
        made.append(Watch(deadline))
        return made[-1]

    monkeypatch.setattr(client, "Watch", watch)
    return made


def leave_little(watch: Watch) -> None:
    watch._deadline = min(watch._deadline, time.monotonic() + 0.5)


def make_older(watch: Watch) -> None:
    """It has gone on for an hour already, and in all of it nothing more was heard."""
    watch._started -= 3600


def cool_down(breaker: Breaker) -> None:
    breaker._next_probe_at = 0.0


async def test_tokens_then_usage_then_finish_with_times_and_cost(gpu: FakeGpu, generator: Generator) -> None:
    gpu.reply("Forty-two\u2028is “it” [1].")
    started = time.monotonic()
    *tokens, usage, finish = await ask(generator)
    assert text(tokens) == "Forty-two\u2028is “it” [1]."
    assert usage == Usage(prompt_tokens=4, completion_tokens=4)
    assert isinstance(finish, Finish)
    assert finish.reason == "stop"
    assert finish.waited_s <= (finish.first_token_s or 0) <= finish.total_s <= time.monotonic() - started
    assert finish.cost == pytest.approx((4 * 1.0 + 4 * 2.0) / 1e6)


async def test_tokens_arrive_as_they_are_written(gpu: FakeGpu, generator: Generator) -> None:
    """The first two are here although the third never comes."""
    gpu.reply("one two three")
    gpu.stall_after(2)
    stream = generator.stream(QUESTION, max_tokens=9, deadline=time.monotonic() + PATIENCE_S)
    seen = ""
    async with aclosing(stream) as events:
        while seen != "one two":
            event = await anext(events)
            seen += event.text if isinstance(event, Token) else ""


async def test_a_second_request_uses_the_same_connection(generator: Generator) -> None:
    await ask(generator)
    await ask(generator)
    pool = generator._client._transport._pool  # type: ignore[attr-defined]
    assert len(pool.connections) == 1


async def test_a_cold_gpu_is_waited_for_and_the_caller_hears(
    gpu: FakeGpu, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and not after the time in which one that says nothing is taken to sleep."""
    monkeypatch.setattr(waiting, "_WAKING_EVERY_S", 3600.0)
    gpu.cold_for(3600, retry_after=None)
    events: list[GenerationEvent] = []
    async for event in generator.stream(QUESTION, max_tokens=9, deadline=time.monotonic() + PATIENCE_S):
        events.append(event)
        gpu.heal()
    waking, *_, finish = events
    assert isinstance(waking, Waking)
    assert text(events)
    assert isinstance(finish, Finish)
    assert waking.waited_s <= finish.waited_s < 20


async def test_retry_after_is_heeded_unless_it_is_an_hour(
    gpu: FakeGpu, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def pause(_watch: Watch, seconds: float, problem: str) -> None:
        pauses.append(seconds)
        assert problem == "status 503"
        gpu.heal()

    monkeypatch.setattr(Watch, "pause", pause)
    for wish in ("3600", "1", "2"):
        gpu.cold_for(3600, retry_after=wish)
        assert text(await ask(generator))
    assert all(abs(seconds / meant - 1) < 0.21 for seconds, meant in zip(pauses, (4, 1, 2), strict=True))


async def test_a_gpu_that_stays_cold_ends_at_the_deadline(
    gpu: FakeGpu, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the pause is that it asked for."""
    monkeypatch.setattr(waiting, "_LONGEST_PAUSE_S", 3600.0)
    gpu.cold_for(3600, retry_after="3600")

    async def refused() -> None:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="did not begin"):
            await ask(generator, seconds=0.7)
        assert time.monotonic() - started > 0.6

    await within_async(1.0, refused)


@pytest.mark.parametrize("problem", ["ConnectError", "503"])
async def test_a_server_that_is_not_there_yet_is_waited_for(
    gpu: FakeGpu, watches: list[Watch], problem: str
) -> None:
    gpu.cold_for(3600, retry_after=None)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    generator = Generator(f"http://127.0.0.1:{port}" if problem == "ConnectError" else gpu.url, None, "any")
    with pytest.raises(DeadlineExceeded, match=f"last: .*{problem}"):
        async for _waking in generator.stream(QUESTION, max_tokens=9, deadline=time.monotonic() + PATIENCE_S):
            if watches[0].problem:
                leave_little(watches[0])
    await generator.aclose()


async def test_303s_are_followed_to_the_result(gpu: FakeGpu, generator: Generator) -> None:
    gpu.reply("late but here")
    gpu.redirect_for(3600)
    asking = asyncio.create_task(ask(generator))
    await _until(lambda: len(gpu.requests) >= 2)
    gpu.heal()
    assert text(await asking) == "late but here"
    assert [request.method for request in gpu.requests][:2] == ["POST", "GET"]


async def test_a_redirect_elsewhere_never_carries_the_key(gpu: FakeGpu, generator: Generator) -> None:
    with FakeGpu() as elsewhere:
        gpu.redirect_for(60, to=elsewhere.url)
        with pytest.raises(BadUpstream, match="redirected"):
            await ask(generator)
        assert elsewhere.requests == []


async def test_accept_then_silence_ends_at_the_deadline(gpu: FakeGpu, generator: Generator) -> None:
    gpu.silent()

    async def refused() -> None:
        events: list[GenerationEvent] = []
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await collect(generator, events, seconds=1.4)
        elapsed = time.monotonic() - started
        assert elapsed > 1.3
        assert all(isinstance(event, Waking) for event in events)
        assert len(events) <= elapsed, "it is told once a second"

    await within_async(1.8, refused)


async def test_silence_in_mid_stream_ends_at_the_deadline(
    gpu: FakeGpu, generator: Generator, watches: list[Watch]
) -> None:
    gpu.stall_after(1)
    with pytest.raises(DeadlineExceeded, match="did not finish"):
        await read_until_late(generator, watches)


async def read_until_late(generator: Generator, watches: list[Watch], *, tokens: int = 1) -> None:
    """After the first token the request is an hour old; half a second after the last of `tokens` it has no more time."""
    seen = 0
    async for event in generator.stream(QUESTION, max_tokens=500, deadline=time.monotonic() + PATIENCE_S):
        seen += isinstance(event, Token)
        if seen == tokens:
            leave_little(watches[-1])
        elif seen == 1:
            make_older(watches[-1])


@pytest.mark.parametrize(
    "misbehave",
    [FakeGpu.unfinished, lambda g: g.cut_after(2), lambda g: g.garbage(after=2), lambda g: g.error_after(2)],
    ids=["unfinished", "cut", "garbage", "error"],
)
async def test_a_broken_stream_fails_and_is_not_repeated(
    gpu: FakeGpu, generator: Generator, misbehave: Callable[[FakeGpu], None]
) -> None:
    """The caller has seen tokens: a second attempt would contradict them."""
    misbehave(gpu)
    events: list[GenerationEvent] = []
    with pytest.raises(BadUpstream):
        await collect(generator, events)
    assert len([event for event in events if isinstance(event, Token)]) >= 2
    assert not any(isinstance(event, Finish) for event in events)
    assert len(gpu.requests) == 1


@pytest.mark.parametrize(
    "sent",
    [
        "data: [1, 2]\n\n",
        'data: {"choices": 7}\n\n',
        'data: {"choices": [7]}\n\n',
        'data: {"choices": [{"delta": {"content": 7}}]}\n\n',
        "data: \x00\x01\n\n",
        "data: " + "x" * 1_200_000,
        "<html>surprise</html>\n\n",
    ],
)
async def test_garbage_is_named_as_such(gpu: FakeGpu, generator: Generator, sent: str) -> None:
    gpu.garbage(sent)
    with pytest.raises(BadUpstream) as caught:
        await ask(generator)
    assert len(str(caught.value)) < 300


async def test_html_is_bad_upstream_whatever_its_status(gpu: FakeGpu, generator: Generator) -> None:
    for status in (200, 500, 502, 504):
        gpu.html(status)
        with pytest.raises(BadUpstream):
            await ask(generator)


async def test_refusals_name_the_setting_or_the_field(gpu: FakeGpu) -> None:
    wrong_key = Generator(gpu.url, "wrong", gpu.model)
    with pytest.raises(ConfigurationError) as caught:
        await ask(wrong_key)
    assert caught.value.setting == "RAGZERO_GENERATOR_API_KEY"
    assert "wrong" not in str(caught.value)
    wrong_model = Generator(gpu.url, gpu.key, "other", setting="RAGZERO_FALLBACK")
    with pytest.raises(ConfigurationError) as caught:
        await ask(wrong_model)
    assert caught.value.setting == "RAGZERO_FALLBACK_MODEL"
    for made in (wrong_key, wrong_model):
        await made.aclose()


async def test_a_prompt_over_the_models_length_is_refused(gpu: FakeGpu, generator: Generator) -> None:
    gpu.context = 10
    with pytest.raises(PromptTooLong, match="maximum context length"):
        await ask(generator, messages=[{"role": "user", "content": "word " * 50}])


async def test_429_is_busy_and_a_missing_chat_template_is_the_models_fault(
    gpu: FakeGpu, generator: Generator
) -> None:
    gpu.status(429, "slow down")
    with pytest.raises(Busy, match="slow down"):
        await ask(generator)
    gpu.status(400, "default chat template is no longer allowed, so you must provide a chat template")
    with pytest.raises(ConfigurationError, match="RAGZERO_GENERATOR_MODEL"):
        await ask(generator)


async def test_leaving_early_closes_the_stream_upstream(gpu: FakeGpu, generator: Generator) -> None:
    gpu.reply("word " * 200)
    gpu.slow(0.05)
    async with aclosing(generator.stream(QUESTION, max_tokens=200, deadline=time.monotonic() + 20)) as events:
        async for event in events:
            if isinstance(event, Token):
                break
    await _until(lambda: gpu.disconnects == 1)


async def test_leaving_while_it_wakes_drops_the_request(gpu: FakeGpu, generator: Generator) -> None:
    gpu.silent()
    async with aclosing(generator.stream(QUESTION, max_tokens=9, deadline=time.monotonic() + 20)) as events:
        assert isinstance(await anext(events), Waking)
    assert generator._client._transport._pool.connections == []  # type: ignore[attr-defined]


async def test_garbage_opens_the_breaker_and_a_good_probe_closes_it(gpu: FakeGpu) -> None:
    breaker = Breaker(threshold=2, cooldown_s=60)
    generator = Generator(gpu.url, gpu.key, gpu.model, breaker=breaker)
    gpu.html(502)
    for _ in range(2):
        with pytest.raises(BadUpstream):
            await ask(generator)
    with pytest.raises(Unavailable, match="2 times in a row"):
        await ask(generator)
    assert len(gpu.requests) == 2
    gpu.heal()
    cool_down(breaker)
    assert text(await ask(generator))
    assert text(await ask(generator))
    await generator.aclose()


async def test_waking_does_not_open_the_breaker(gpu: FakeGpu) -> None:
    generator = Generator(gpu.url, gpu.key, gpu.model, breaker=Breaker(threshold=1))
    gpu.cold_for(60)
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            await ask(generator, seconds=0.2)
    gpu.heal()
    assert text(await ask(generator))
    await generator.aclose()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of silence is too long for a server that is awake."""
    monkeypatch.setattr(client, "_SILENT_S", 0.5)


async def test_silence_of_a_server_that_was_awake_opens_the_breaker(gpu: FakeGpu, impatient: None) -> None:
    breaker = Breaker(threshold=2, cooldown_s=60)
    generator = Generator(gpu.url, gpu.key, gpu.model, breaker=breaker)
    assert text(await ask(generator))
    gpu.silent()
    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            await ask(generator, seconds=0.6)
    with pytest.raises(Unavailable, match="2 times in a row"):
        await ask(generator)
    gpu.heal()
    cool_down(breaker)
    assert text(await ask(generator))
    await generator.aclose()


async def test_the_knocks_answer_is_proof_enough_that_a_server_is_awake(
    gpu: FakeGpu, impatient: None
) -> None:
    generator = Generator(gpu.url, gpu.key, gpu.model, breaker=Breaker(threshold=1))
    await generator.knock()
    await _until(lambda: generator._knocking is not None and generator._knocking.done())
    gpu.silent()
    with pytest.raises(DeadlineExceeded):
        await ask(generator, seconds=0.6)
    with pytest.raises(Unavailable, match="1 times in a row"):
        await ask(generator)
    await generator.aclose()


async def test_silence_in_mid_stream_opens_the_breaker_and_slow_words_do_not(
    gpu: FakeGpu, watches: list[Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator(gpu.url, gpu.key, gpu.model, breaker=Breaker(threshold=1))
    monkeypatch.setattr(client, "_SILENT_S", 60.0)
    gpu.reply("word " * 500)
    gpu.slow(0.05)
    with pytest.raises(DeadlineExceeded, match="did not finish"):
        await read_until_late(generator, watches, tokens=3)
    monkeypatch.setattr(client, "_SILENT_S", 0.4)
    gpu.stall_after(1)
    with pytest.raises(DeadlineExceeded, match="did not finish"):
        await read_until_late(generator, watches)
    with pytest.raises(Unavailable, match="1 times in a row"):
        await ask(generator)
    await generator.aclose()


@pytest.mark.parametrize("slept", ["since ever", "again"])
async def test_silence_of_a_server_that_may_be_waking_opens_nothing(
    gpu: FakeGpu, impatient: None, monkeypatch: pytest.MonkeyPatch, slept: str
) -> None:
    """Modal says nothing while a container starts. Only what no start takes is held against the server."""
    generator = Generator(gpu.url, gpu.key, gpu.model, breaker=Breaker(threshold=1))
    if slept == "again":
        assert text(await ask(generator))
        monkeypatch.setattr(client, "_AWAKE_S", 0.0)
    gpu.silent()
    monkeypatch.setattr(client, "_HELD_S", 60.0)
    with pytest.raises(DeadlineExceeded):
        await ask(generator, seconds=1.0)
    monkeypatch.setattr(client, "_HELD_S", 0.8)
    with pytest.raises(DeadlineExceeded):
        await ask(generator, seconds=1.0)
    with pytest.raises(Unavailable, match="1 times in a row"):
        await ask(generator)
    await generator.aclose()


@pytest.mark.parametrize("how", ["503", "303"])
async def test_a_server_that_says_it_wakes_fails_nobody(
    gpu: FakeGpu, watches: list[Watch], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Neither who leaves before it has said so nor who waits for long afterwards."""
    for limit in ("_SILENT_S", "_HELD_S"):
        monkeypatch.setattr(client, limit, 60.0)
    generator = Generator(gpu.url, gpu.key, gpu.model, breaker=Breaker(threshold=1))
    assert text(await ask(generator))
    gpu.cold_for(3600, retry_after=None) if how == "503" else gpu.redirect_for(3600)
    with pytest.raises(DeadlineExceeded):
        await ask(generator, seconds=0.2)
    with pytest.raises(DeadlineExceeded):
        async for _waking in generator.stream(QUESTION, max_tokens=9, deadline=time.monotonic() + PATIENCE_S):
            if watches[-1].problem:
                make_older(watches[-1])
                leave_little(watches[-1])
    gpu.heal()
    assert text(await ask(generator))
    await generator.aclose()


async def test_a_knock_returns_at_once_and_never_fails(gpu: FakeGpu, generator: Generator) -> None:
    gpu.silent()
    await generator.knock()
    await generator.knock()
    assert generator._knocking is not None
    assert not generator._knocking.done(), "it was waited for"
    await _until(lambda: [request.path for request in gpu.requests] == ["/health"])
    nowhere = Generator("http://127.0.0.1:9", None, "any")
    await nowhere.knock()
    await asyncio.sleep(0.05)
    await nowhere.aclose()


async def test_a_server_that_spoke_lately_is_not_knocked(
    gpu: FakeGpu, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The knock costs the engine and the network time that the question itself needs."""
    await ask(generator)
    await generator.knock()
    await asyncio.sleep(0.05)
    assert "/health" not in [request.path for request in gpu.requests]
    monkeypatch.setattr(client, "_AWAKE_S", 0.0)
    await generator.knock()
    await _until(lambda: gpu.requests[-1].path == "/health")


async def test_check_refuses_a_wrong_url_key_or_model(gpu: FakeGpu, generator: Generator) -> None:
    await generator.check()
    wrong = {
        "RAGZERO_GENERATOR_URL": Generator("http://127.0.0.1:9", gpu.key, gpu.model),
        "RAGZERO_GENERATOR_API_KEY": Generator(gpu.url, "wrong", gpu.model),
        "RAGZERO_GENERATOR_MODEL": Generator(gpu.url, gpu.key, "other"),
    }
    for setting, made in wrong.items():
        with pytest.raises(ConfigurationError) as caught:
            await made.check()
        assert caught.value.setting == setting
        await made.aclose()
    not_an_api = Generator(f"{gpu.url}/nothing", gpu.key, gpu.model)
    with pytest.raises(ConfigurationError, match="RAGZERO_GENERATOR_URL"):
        await not_an_api.check()
    await not_an_api.aclose()


async def test_check_accepts_a_server_that_sleeps(gpu: FakeGpu, generator: Generator) -> None:
    gpu.cold_for(60)
    await generator.check()


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://", "https://[::1"])
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError, match="RAGZERO_GENERATOR_URL"):
        Generator(url, None, "any")


@pytest.mark.parametrize("key", ["secret\n", "two words", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused_unprinted(key: str) -> None:
    with pytest.raises(ConfigurationError, match="RAGZERO_GENERATOR_API_KEY") as caught:
        Generator("http://127.0.0.1:9", key, "any")
    assert key.strip() not in str(caught.value)


async def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
