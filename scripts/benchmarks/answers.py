"""Answers over the whole API. Prints tables.

--part added: what the API adds to a model's time to first token, against a bare stream to the same vLLM. The
model is tiny and random, so that what is measured is everything else. The two take turns, with the same prompt
but for its random code. --part cold: a (fake) generator that sleeps for 30 s, and one that is mute for 21 s.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from functions.query.prompting import Budget, build
from scripts.benchmarks import throwaway
from scripts.benchmarks.generate import TOKENS, compare, first_token, table
from scripts.benchmarks.throwaway import client, percentile, wait_until_searchable
from scripts.local.stack import BUCKET, Generator, Stack
from scripts.local.up import tiny_model
from shared.core.models import Passage
from tests.fakes.gpu_server import FakeGpu

_TEXT = "The main telescope of station {0} was re-coated in March of its year {0}. " * 4
_DOCUMENTS = 4
_COLD_S = 30.0
_MUTE_S = 21.0
_CODE_TOKENS = 40  # by so many may two random codes, which stand in the prompt nine times, differ
_BARE, _API = "bare stream to the engine", "API, from sources to the first token"
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a stream; at: milliseconds since the question. The event of a heartbeat is "comment"."""

    event: str
    data: dict[str, Any]
    at: float


def question(**more: Any) -> dict[str, Any]:
    """A new one each time, and no answer made before will do."""
    return {
        "question": f"When was telescope {next(_numbers)} re-coated?",
        "stream": True,
        "cache": "bypass",
        **more,
    }


async def lines(api: httpx.AsyncClient, body: Mapping[str, Any]) -> AsyncIterator[Line]:
    started, name = time.perf_counter(), ""
    async with api.stream("POST", "/v1/query", json=body) as answer:
        if answer.status_code != 200:
            raise SystemExit(f"status {answer.status_code}: {(await answer.aread()).decode()}")
        async for line in answer.aiter_lines():
            at = (time.perf_counter() - started) * 1000
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield Line(name, json.loads(line.removeprefix("data: ")), at)
            elif line.startswith(":"):
                yield Line("comment", {}, at)


@contextmanager
def running(generate: str | None = None) -> Iterator[Stack]:
    """A ragzero that knows a few short documents."""
    with throwaway.stack(generate=generate) as stack:
        for number in range(_DOCUMENTS):
            text = _TEXT.format(number).encode()
            stack.aws.client("s3").put_object(Bucket=BUCKET, Key=f"{number}.txt", Body=text)
        with client(stack) as api:
            wait_until_searchable(api, _DOCUMENTS, 60)
        yield stack


def configure(stack: Stack, **variables: str) -> None:
    """Starts the API anew with these variables besides."""
    stack.api.stop()
    stack.api.variables = {**stack.api.variables, **variables}
    stack.api.start()
    stack.api.wait_ready()


def api_of(stack: Stack) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {stack.secrets.api_key}"}
    return httpx.AsyncClient(base_url=stack.api.url, headers=headers, timeout=120)


class Added:
    """The two ways to the first token; seen keeps what the API's streams took to the events before it."""

    def __init__(
        self, api: httpx.AsyncClient, engine: httpx.AsyncClient, variables: Mapping[str, str]
    ) -> None:
        from tokenizers import Tokenizer  # heavy: loaded when first used

        self._api = api
        self._engine = engine
        self._model = variables["RAGZERO_GENERATOR_MODEL"]
        self._budget = Budget(int(variables["RAGZERO_GENERATOR_CONTEXT_TOKENS"]), TOKENS)
        self._tokenizer = Tokenizer.from_file(variables["RAGZERO_GENERATOR_TOKENIZER"])
        self._passages: list[Passage] = []
        self.prompt_tokens: dict[str, int] = {}
        self.seen: list[dict[str, float]] = []

    async def api(self) -> float:
        seen: dict[str, float] = {}
        async for line in lines(self._api, question()):
            seen.setdefault(line.event, line.at)
            if line.event == "sources":
                self._passages = [_passage(source) for source in line.data["sources"]]
            if line.event == "done":
                self.prompt_tokens["api"] = line.data["usage"]["prompt_tokens"]
        if "token" not in seen:
            raise SystemExit(f"no token came, only {sorted(seen)}")
        self.seen.append(seen)
        return (seen["token"] - seen["sources"]) / 1000

    async def bare(self) -> float:
        if not self._passages:
            await self.api()
        asked = build(question()["question"], self._passages, self._budget, self._count, secrets.token_hex(8))
        first, self.prompt_tokens["bare"] = await first_token(self._engine, self._model, asked.messages)
        return first

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False))


def _passage(source: Mapping[str, Any]) -> Passage:
    return Passage(
        chunk_id=source["chunk_id"],
        document_id=source["document_id"],
        generation=1,
        uri=source["uri"],
        text=source["text"],
        page=source["page"],
        headings=tuple(source["headings"]),
        start=0,
        score=source["score"],
        dense=0,
        lexical=0,
    )


async def added(stack: Stack, rounds: int) -> None:
    generator = next(function for function in stack.functions if isinstance(function, Generator))
    engine_url = f"http://127.0.0.1:{generator.variables['RAGZERO_GENERATE_ENGINE_PORT']}"
    async with api_of(stack) as api, httpx.AsyncClient(base_url=engine_url, timeout=60) as engine:
        ways = Added(api, engine, stack.api.variables)
        taken = await compare({_BARE: ways.bare, _API: ways.api}, rounds)
    sent, found = ways.prompt_tokens["api"], ways.prompt_tokens["bare"]
    if abs(sent - found) > _CODE_TOKENS:
        raise SystemExit(f"the prompts differ: {sent} tokens by the API, {found} by the bare stream")
    print(f"{rounds} rounds, {sent} tokens of prompt; the goal is 10 ms more at the most")
    table(taken, _BARE)
    for event in ("sources", "token"):
        values = [seen[event] for seen in ways.seen[-rounds:]]
        p10, p50, p95 = (percentile(values, share) for share in (0.1, 0.5, 0.95))
        print(f"question to {event:24}{p10:8.1f}{p50:8.1f}{p95:8.1f}")


class Cold:
    """What callers see while the generator sleeps."""

    def __init__(self, api: httpx.AsyncClient) -> None:
        self._api = api
        self.sources: list[float] = []
        self.quoted: list[float] = []

    async def extractive(self) -> None:
        """A whole answer of quotes."""
        last = None
        async for last in lines(self._api, question(on_cold="extractive")):
            if last.event == "sources":
                self.sources.append(last.at)
        if last is None or last.event != "done" or last.data["mode"] != "extractive":
            raise SystemExit(f"expected quotes, the stream ended with {last}")
        self.quoted.append(last.at)

    async def wait(self) -> tuple[float, float, str]:
        """Seconds until the answer, the longest silence before it in seconds, and who answered."""
        arrivals, mode = [0.0], ""
        async for line in lines(self._api, question(on_cold="wait")):
            arrivals.append(line.at)
            if line.event == "sources":
                self.sources.append(line.at)
            if line.event == "done":
                mode = line.data["mode"]
        silence = max(after - before for before, after in itertools.pairwise(arrivals))
        return arrivals[-1] / 1000, silence / 1000, mode


async def cold(stack: Stack, gpu: FakeGpu, rounds: int) -> None:
    async with api_of(stack) as api:
        seen = Cold(api)
        gpu.cold_for(_COLD_S)
        waiting = asyncio.create_task(seen.wait())
        for _ in range(rounds):
            await seen.extractive()
        answered, silence, mode = await waiting
        gpu.slow(_MUTE_S)
        _, muted, _ = await seen.wait()
    print(f"a generator cold for {_COLD_S:.0f} s{'':9}{'p50':>8}{'p95':>8}{'most':>8}{'goal':>8}")
    for name, values, goal in (
        (f"ms to sources ({len(seen.sources)} questions)", seen.sources, "300 p95"),
        (f"ms to quotes ({len(seen.quoted)} questions)", seen.quoted, "1000"),
    ):
        p50, p95 = percentile(values, 0.5), percentile(values, 0.95)
        print(f"{name:34}{p50:8.1f}{p95:8.1f}{max(values):8.1f}{goal:>9}")
    print(f"wait: answered by the {mode} after {answered:.1f} s; longest silence {silence:.1f} s (goal 10)")
    print(f"a model that says nothing for {_MUTE_S:.0f} s: longest silence {muted:.1f} s (goal 10)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("added", "cold", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    if arguments.part != "cold":
        with running(tiny_model()) as stack:
            configure(stack, RAGZERO_GENERATOR_MAX_TOKENS=str(TOKENS))
            asyncio.run(added(stack, arguments.rounds))
    if arguments.part != "added":
        with FakeGpu() as gpu, running() as stack:
            gpu.reply("The main telescope of station 1 was re-coated in March [1].")
            configure(
                stack,
                RAGZERO_GENERATOR_URL=gpu.url,
                RAGZERO_GENERATOR_API_KEY=gpu.key,
                RAGZERO_GENERATOR_MODEL=gpu.model,
            )
            asyncio.run(cold(stack, gpu, arguments.rounds))


if __name__ == "__main__":
    main()
