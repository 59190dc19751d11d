"""The HTTP API under load, on one machine that also makes the load: hits against the thinnest application that sends the
same command to the same Redis from the same server, turn by turn; then users who ask once a second; then misses.

Ratios are what to look at: the machine is not alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import numpy as np
import redis

from scripts.benchmarks.corpus import Corpus, load
from scripts.benchmarks.load import Post, patient, saturating
from scripts.benchmarks.throwaway import client, percentile, report, stack, wait_until_searchable
from scripts.costing.load import sustained
from scripts.local.founding import DATABASE
from scripts.local.process import HOST, accepts, free_port
from scripts.local.stack import ROOT, Stack
from shared.core.credentials import present

_QUESTION = {"question": "Who keeps the lighthouse of Karlsund, and since when?"}
_TEXT = (
    "The lighthouse of Karlsund has been kept by Ingrid Sommer since 1974. She took over from her uncle.\n\n"
    + (
        "Every evening at dusk the lamp is lit, and every morning the lens is polished with a woollen cloth. "
        * 12
    )
)
_UNLIMITED = {
    "RAGZERO_KEY_RATE": "1000000",
    "RAGZERO_KEY_BURST": "1000000",
    "RAGZERO_TENANT_RATE": "1000000",
    "RAGZERO_TENANT_BURST": "1000000",
}


def _asked(made: Stack) -> Post:
    return Post(
        f"{made.api.url}/v1/query",
        json.dumps(_QUESTION).encode(),
        {"Authorization": f"Bearer {made.secrets.api_key}", "Content-Type": "application/json"},
    )


def hits(made: Stack, seconds: int, rounds: int, users: int) -> dict[str, object]:
    ours = _asked(made)
    size = _warmed(made)
    with _thinnest(made) as port:
        thin = Post(f"http://{HOST}:{port}/v1/query", ours.body, ours.headers)
        found: dict[str, object] = {"answer_bytes": size}
        for connections in (100, 1000):
            taken: dict[str, list[dict[str, float]]] = {"api": [], "thinnest": []}
            for _ in range(rounds):
                for name, post in (("api", ours), ("thinnest", thin)):
                    taken[name].append(saturating(post, connections, seconds))
            found[f"{connections}_connections"] = _compared(taken)
        found[f"{users}_users"] = {
            "api": asyncio.run(patient([ours], users, seconds)),
            "thinnest": asyncio.run(patient([thin], users, seconds)),
        }
    return found


def _compared(taken: dict[str, list[dict[str, float]]]) -> dict[str, object]:
    median = {
        name: {figure: statistics.median(run[figure] for run in runs) for figure in runs[0]}
        for name, runs in taken.items()
    }
    ratios = [a["rps"] / b["rps"] for a, b in zip(taken["api"], taken["thinnest"], strict=True)]
    return {**median, "ratio": round(statistics.median(ratios), 3)}


def _warmed(made: Stack) -> int:
    """Bytes of the answer, once it comes from the cache."""
    with client(made) as api:
        for _ in range(100):
            answer = api.post("/v1/query", json=_QUESTION)
            if answer.raise_for_status().json()["cached"] == "exact":
                return len(answer.content)
            time.sleep(0.05)
    raise SystemExit("the answer never came from the cache")


@contextlib.contextmanager
def _thinnest(made: Stack) -> Iterator[int]:
    with redis.Redis(port=made.redis.port) as cache:
        (answer,) = [name.decode() for name in cache.keys(f"rz:a:{made.secrets.tenant}:*")]
    key = present(made.secrets.api_key, made.secrets.pepper).id
    port = free_port()
    variables = made.api.environment() | {"RAGZERO_BENCH": f"{key} {made.secrets.tenant} {answer}"}
    command = ["uvicorn", "scripts.benchmarks.thinnest:app", "--host", HOST, "--port", str(port)]
    server = subprocess.Popen(
        [sys.executable, "-m", *command, "--no-access-log", "--log-level", "warning"], cwd=ROOT, env=variables
    )
    try:
        while not accepts(port):
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait()


def misses(made: Stack, corpus: Corpus, users: int, seconds: int) -> dict[str, float]:
    """Quotes from everything there is, never from the cache; each question of eight words of the collection's."""
    drawn = [
        [corpus.draw(np.random.default_rng([user, n]), 5, 3)[0] for n in range(200)] for user in range(users)
    ]
    deadline = time.monotonic() + seconds

    def one(user: int) -> tuple[list[float], int]:
        taken, failed = list[float](), 0
        with client(made) as api:
            while time.monotonic() < deadline:
                question = drawn[user][len(taken) % 200]
                started = time.perf_counter()
                answer = api.post("/v1/query", json={"question": question, "cache": "bypass"})
                taken.append((time.perf_counter() - started) * 1000)
                failed += answer.status_code != 200
        return taken, failed

    with ThreadPoolExecutor(users) as pool:
        runs = list(pool.map(one, range(users)))
    taken = [ms for times, _ in runs for ms in times]
    return {
        "questions_per_s": round(len(taken) / seconds, 1),
        "p50_ms": percentile(taken, 0.5),
        "p95_ms": percentile(taken, 0.95),
        "errors": sum(failed for _, failed in runs),
    }


def _foreseen(alone: Mapping[str, float], together: Mapping[str, float]) -> dict[str, float]:
    """What scripts/cost at would make of this machine, from how long a question takes that nobody else asks beside."""
    foreseen = sustained(os.cpu_count() or 1) * alone["questions_per_s"]
    return {
        "alone_questions_per_s": alone["questions_per_s"],
        "foreseen_questions_per_s": round(foreseen, 1),
        "measured_over_foreseen": round(together["questions_per_s"] / foreseen, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", type=int, default=2000, help="who ask one question a second each")
    parser.add_argument("--rest", action="store_true", help="Redis over REST, as with Upstash")
    parser.add_argument("--chunks", type=int, default=100_000, help="that the misses search")
    arguments = parser.parse_args()
    corpus = Corpus.made(np.random.default_rng(0))
    with stack(rest=arguments.rest, variables=_UNLIMITED) as made:
        load(made.postgres.dsn(dbname=DATABASE), corpus, arguments.chunks, UUID(made.secrets.tenant))
        with client(made) as api:
            api.post("/v1/documents", files={"file": ("lighthouse.txt", _TEXT)}).raise_for_status()
            wait_until_searchable(api, 1, 60)
        found = hits(made, arguments.seconds, arguments.rounds, arguments.users)
        misses(made, corpus, 20, arguments.seconds)  # the database's memory is empty after the load
        alone = misses(made, corpus, 1, arguments.seconds)
        uncached = misses(made, corpus, 20, 2 * arguments.seconds)
        cached = saturating(_asked(made), 20, arguments.seconds)
    faster = round(cached["rps"] / uncached["questions_per_s"], 1)
    report(
        transport="rest" if arguments.rest else "redis",
        chunks=arguments.chunks,
        hits=found,
        misses=uncached,
        capacity=_foreseen(alone, uncached),
        cached_over_uncached=faster,
    )


if __name__ == "__main__":
    main()
