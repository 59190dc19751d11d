"""What fence and adapter add to the time to the first token, against the same vLLM. Prints JSON.

    python scripts.benchmarks.generate.py --requests 60

Starts the real engine on the CPU with a tiny random Llama (scripts/vllm-env, scripts/vllm_model.py).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import httpx

from shared.adapters.generator import Generator, Token

ROOT = Path(__file__).parents[1]
Ask = Callable[[str], Awaitable[float]]


@contextmanager
def vllm(key: str) -> Iterator[tuple[str, str]]:
    """(URL of the fence, URL of the engine) of a server that is ready."""
    made = subprocess.run(["scripts/vllm-env"], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    python = ROOT / made.stdout.split()[-1]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "scripts/vllm_model.py", folder], check=True, cwd=ROOT)
        ports = free_port(), free_port()
        process = start(python, folder, key, *ports)
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


def start(python: Path, model: str, key: str, port: int, engine_port: int) -> subprocess.Popen[str]:
    settings = {
        "MODEL": model,
        "SERVED_NAME": "tiny",
        "API_KEY": key,
        "PORT": str(port),
        "ENGINE_PORT": str(engine_port),
        "DTYPE": "float32",
        "ENFORCE_EAGER": "1",
        "CPU_KV_CACHE_GB": "1",
    }
    named = {f"RAGZERO_GENERATE_{name}": value for name, value in settings.items()}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **named}
    command = [str(python), "-m", "functions.generate"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return int(unused.getsockname()[1])


def messages(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


async def first_token_bare(client: httpx.AsyncClient, question: str) -> float:
    """Seconds until the first line with content."""
    body = {
        "model": "tiny",
        "messages": messages(question),
        "max_tokens": 8,
        "temperature": 0,
        "stream": True,
    }
    started, first = time.perf_counter(), 0.0
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if not first and '"content":"' in line and '"content":""' not in line:
                first = time.perf_counter() - started
    return first


async def first_token_ours(generator: Generator, question: str) -> float:
    started, first = time.perf_counter(), 0.0
    deadline = time.monotonic() + 60
    stream = generator.stream(messages(question), max_tokens=8, deadline=deadline)
    async with aclosing(stream) as events:
        async for event in events:
            if not first and isinstance(event, Token):
                first = time.perf_counter() - started
    return first


async def compare(ways: dict[str, Ask], requests: int) -> dict[str, list[float]]:
    """Milliseconds per way; the ways take turns, so that drift hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(requests + 5):
        for name, ask in ways.items():
            taken = await ask(f"bar {number} dor {name}")
            if number >= 5:  # the first ones warm up
                seconds[name].append(taken * 1000)
    return seconds


async def bench(fence: str, engine: str, key: str, requests: int) -> dict[str, list[float]]:
    bearer = {"Authorization": f"Bearer {key}"}
    direct = Generator(engine, None, "tiny")
    through = Generator(fence, key, "tiny")
    async with (
        httpx.AsyncClient(base_url=engine, timeout=60) as bare,
        httpx.AsyncClient(base_url=fence, timeout=60, headers=bearer) as fenced,
    ):
        ways: dict[str, Ask] = {
            "bare": lambda question: first_token_bare(bare, question),
            "fence": lambda question: first_token_bare(fenced, question),
            "adapter": lambda question: first_token_ours(direct, question),
            "fence_and_adapter": lambda question: first_token_ours(through, question),
        }
        measured = await compare(ways, requests)
    await direct.aclose()
    await through.aclose()
    return measured


def report(measured: dict[str, list[float]]) -> dict[str, object]:
    p50 = {name: statistics.median(values) for name, values in measured.items()}
    p95 = {name: statistics.quantiles(values, n=20)[-1] for name, values in measured.items()}
    return {
        "requests": len(measured["bare"]),
        "first_token_ms_p50": {name: round(value, 2) for name, value in p50.items()},
        "first_token_ms_p95": {name: round(value, 2) for name, value in p95.items()},
        "added_ms_p50": round(p50["fence_and_adapter"] - p50["bare"], 2),
        "goal_ms": 10,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=60)
    requests = parser.parse_args().requests
    key = secrets.token_urlsafe(24)
    with vllm(key) as (fence, engine):
        print(json.dumps(report(asyncio.run(bench(fence, engine, key, requests))), indent=2))


if __name__ == "__main__":
    main()
