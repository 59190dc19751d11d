"""From retrieval to the model's first word, part by part, against a bare stream to the same vLLM. Prints a table.

Starts the real engine on the CPU with a tiny random Llama. The ways take turns, each with the same prompt but
for its random code, so that none finds more of it in the engine's prefix cache than another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import signal
import statistics
import subprocess
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

import httpx

from functions.query.answering import AnswerService, Ask, Models
from functions.query.prompting import Budget, build, estimated_tokens
from functions.query.service import Found, Question
from functions.query.streaming import server_sent
from scripts.local.process import free_port
from scripts.local.stack import ROOT, VLLM_PYTHON
from scripts.local.up import tiny_model
from shared.adapters.generator import Generator, Token
from shared.core.models import Passage, Retrieved
from shared.telemetry import Timings

TOKENS = 16
_MODEL = "tiny"
_BUDGET = Budget(4096, TOKENS)
_WARM_UP = 5
_QUESTION = "When was the telescope re-coated?"
_TEXT = "The main telescope of station {0} was re-coated in March of its year {0}. " * 3
_PASSAGES = [
    Passage(
        chunk_id=number, document_id=uuid.UUID(int=number), generation=1, uri=f"s3://bench/{number}.txt",
        text=_TEXT.format(number), page=None, headings=(), start=0, score=0.5, dense=0.5, lexical=0.5,
    )
    for number in range(1, 5)
]  # fmt: skip

Messages = list[dict[str, str]]
Way = Callable[[], Awaitable[float]]
"""Gives seconds until the first token."""


@contextmanager
def vllm(key: str) -> Iterator[tuple[str, str]]:
    """(URL of the fence, URL of the engine) of a server that is ready."""
    subprocess.run(["scripts/vllm-env"], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    ports = free_port(), free_port()
    process = _start(key, *ports)
    try:
        assert process.stdout is not None
        event = json.loads(process.stdout.readline() or "{}")
        if event.get("event") != "ready":
            raise SystemExit(f"vLLM did not start: {event}")
        fence, engine = (f"http://127.0.0.1:{port}" for port in ports)
        yield fence, engine
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def _start(key: str, port: int, engine_port: int) -> subprocess.Popen[str]:
    settings = {
        "MODEL": tiny_model(),
        "SERVED_NAME": _MODEL,
        "API_KEY": key,
        "PORT": str(port),
        "ENGINE_PORT": str(engine_port),
        "DTYPE": "float32",
        "ENFORCE_EAGER": "1",
        "CPU_KV_CACHE_GB": "1",
    }
    named = {f"RAGZERO_GENERATE_{name}": value for name, value in settings.items()}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **named}
    command = [str(VLLM_PYTHON), "-m", "functions.generate"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


async def first_token(client: httpx.AsyncClient, model: str, messages: Messages) -> tuple[float, int]:
    """Of a bare stream, read to its end: seconds until the first line with content, and the prompt's tokens."""
    body = {
        "model": model,
        "messages": messages,
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started, first, prompt = time.perf_counter(), 0.0, 0
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if not first and '"content":"' in line and '"content":""' not in line:
                first = time.perf_counter() - started
            if '"usage":{' in line:
                prompt = json.loads(line.removeprefix("data: "))["usage"]["prompt_tokens"]
    return first, prompt


def prompt() -> Messages:
    return build(_QUESTION, _PASSAGES, _BUDGET, estimated_tokens, secrets.token_hex(8)).messages


def bare(client: httpx.AsyncClient) -> Way:
    async def ask() -> float:
        return (await first_token(client, _MODEL, prompt()))[0]

    return ask


def adapter(generator: Generator) -> Way:
    async def ask() -> float:
        messages = prompt()
        started, first = time.perf_counter(), 0.0
        stream = generator.stream(messages, max_tokens=TOKENS, deadline=time.monotonic() + 60)
        async with aclosing(stream) as events:
            async for event in events:
                if not first and isinstance(event, Token):
                    first = time.perf_counter() - started
        return first

    return ask


class _Retrieved:
    """Retrieval that takes no time, and a memory of wake-ups that nobody asks."""

    async def search(self, _tenant: uuid.UUID, _question: Question) -> Found:
        return Found(Retrieved(_PASSAGES, "exact", 1, {}), Timings(), True, [])

    async def woke(self, _model: str, _waited_s: float) -> None: ...

    async def eta_s(self, _model: str) -> float | None: ...


def query(generator: Generator) -> Way:
    """The query function from `sources` to the first `token`: prompt, adapter, citations, server-sent events."""
    beside: Any = _Retrieved()
    service = AnswerService(beside, Models(generator, None, _BUDGET, estimated_tokens), beside)

    async def ask() -> float:
        wanted = Ask(Question(_QUESTION, "default", 8, None), "wait", time.monotonic() + 60)
        shown = first = 0.0
        async for line in server_sent(uuid.uuid4(), service.events(uuid.uuid4(), wanted)):
            if line.startswith("event: sources"):
                shown = time.perf_counter()
            elif line.startswith("event: token") and not first:
                first = time.perf_counter() - shown
        return first

    return ask


async def compare(ways: Mapping[str, Way], rounds: int) -> dict[str, list[float]]:
    """Milliseconds per way and round. Each round draws an order, so that drift and neighbours hit all alike."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + _WARM_UP):
        for name in random.sample(list(ways), len(ways)):
            seconds = await ways[name]()
            if number >= _WARM_UP:
                taken[name].append(seconds * 1000)
    return taken


async def measure(fence: str, engine: str, key: str, rounds: int) -> dict[str, list[float]]:
    headers = {"Authorization": f"Bearer {key}"}
    direct, through = Generator(engine, None, _MODEL), Generator(fence, key, _MODEL)
    async with (
        httpx.AsyncClient(base_url=engine, timeout=60) as to_engine,
        httpx.AsyncClient(base_url=fence, timeout=60, headers=headers) as to_fence,
    ):
        ways = {
            "bare stream to the engine": bare(to_engine),
            "bare stream through the fence": bare(to_fence),
            "adapter to the engine": adapter(direct),
            "adapter through the fence": adapter(through),
            "query function through the fence": query(through),
        }
        taken = await compare(ways, rounds)
    await direct.aclose()
    await through.aclose()
    return taken


def table(taken: Mapping[str, Sequence[float]], yardstick: str) -> None:
    """The tenth percentile is what it takes while nobody else uses the machine; more: the median of the differences
    to the yardstick in the same round."""
    print(f"{'ms to the first token':36}{'p10':>8}{'p50':>8}{'p95':>8}{'more, p50':>12}")
    for name, values in taken.items():
        more = statistics.median(a - b for a, b in zip(values, taken[yardstick], strict=True))
        early, *_, late = statistics.quantiles(values, n=20)[1:]
        print(f"{name:36}{early:8.1f}{statistics.median(values):8.1f}{late:8.1f}{more:12.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    rounds, key = parser.parse_args().rounds, secrets.token_urlsafe(24)
    with vllm(key) as (fence, engine):
        taken = asyncio.run(measure(fence, engine, key, rounds))
    print(f"{rounds} rounds; the goal is 10 ms more at the most")
    table(taken, "bare stream to the engine")


if __name__ == "__main__":
    main()
