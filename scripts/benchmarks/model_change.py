"""Questions while the embedding model changes: how long they take, whether one fails or is answered out of two spaces;
and what embedding costs when nine texts of ten are what they were.

scripts/bench model-change [--documents 300] [--users 4] [--rest 15] [--rate 40] [--chunks 512]

The new space is filled by `scripts/rag index apply`, at the lowest priority because elsewhere its encoder has a machine of
its own, while people ask and upload; then it is promoted, rolled back, and promoted.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from functions.embed.filling import Filler
from scripts.benchmarks.embed import Index, index
from scripts.benchmarks.embedder import prose
from scripts.benchmarks.ingest import page
from scripts.benchmarks.throwaway import MODEL, client, percentile, report, stack, wait_until_searchable
from scripts.local.stack import BUCKET, ROOT, Stack
from shared.adapters.onnx_embedder import Manifest, OnnxEmbedder
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.filling import FillStore
from shared.adapters.postgres.space_tables import ensure_space
from shared.core.chunking import chunk, embedding_text, text_hash
from shared.core.models import Chunk, Space
from shared.telemetry import configure
from tests.support.second_model import turned

_WITNESSES = 8
_PAUSE_S = 0.2
_PROMOTE = ["promote", "2", "--force", "a measurement"]
_ROLLBACK = ["rollback", "--reason", "a measurement"]

Scores = tuple[tuple[str, float], ...]


@dataclass
class Seen:
    """What the users saw. times: milliseconds by phase; witnessed: the scores of what stays as it is."""

    phase: str = "before"
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    witnessed: list[Scores] = field(default_factory=list)


class User(threading.Thread):
    """Asks, thinks, asks; every fourth time something whose scores are known in each space."""

    def __init__(self, running: Stack, seen: Seen, number: int, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._running = running
        self._seen = seen
        self._dice = random.Random(number)  # noqa: S311 - invented questions
        self._over = over

    def run(self) -> None:
        with client(self._running) as api:
            for turn in itertools.count():
                if self._over.wait(_PAUSE_S):
                    return
                self._ask(api, witness=turn % 4 == 0)

    def _ask(self, api: httpx.Client, *, witness: bool) -> None:
        words = page(self._dice.randrange(10**6), 12)
        asked = {"question": words, "cache": "bypass"}
        phase, started = self._seen.phase, time.perf_counter()
        try:
            if witness:
                self._seen.witnessed.append(scores(api))
            else:
                answer = api.post("/v1/query", json=asked).raise_for_status().json()
                self._seen.errors += answer["warnings"]
        except httpx.HTTPError as error:
            self._seen.errors.append(repr(error))
        if not witness:
            self._seen.times[phase].append((time.perf_counter() - started) * 1000)


def scores(api: httpx.Client) -> Scores:
    asked = {"question": "What did the inspector note?", "filter": {"witness": True}, "mode": "fast"}
    answer = api.post("/v1/search", json=asked | {"top_k": 2 * _WITNESSES}).raise_for_status().json()
    return tuple((one["uri"], round(one["score"], 5)) for one in answer["results"])


@contextmanager
def life(running: Stack, seen: Seen, users: int) -> Iterator[None]:
    """People ask and upload until the block ends."""
    over = threading.Event()
    threads = [User(running, seen, number, over) for number in range(users)]
    uploads = threading.Thread(target=_upload, args=(running, over), daemon=True)
    for thread in (*threads, uploads):
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in (*threads, uploads):
            thread.join()


def _upload(running: Stack, over: threading.Event) -> None:
    for number in itertools.count():
        body = page(500_000 + number, 200).encode()
        running.aws.client("s3").put_object(Bucket=BUCKET, Key=f"later/{number}.txt", Body=body)
        if over.wait(1):
            return


def changed(documents: int, users: int, rest: float, rate: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ragzero-model-") as folder:
        following = turned(MODEL, Path(folder) / "following", dimension=384)
        with (
            stack(variables={"RAGZERO_NEXT_MODEL_DIR": str(following)}) as running,
            client(running) as api,
        ):
            _fill(running, api, documents)
            seen, first = Seen(), scores(api)
            with life(running, seen, users):
                time.sleep(rest)
                seconds = _change(running, seen, following, rest, rate)
            last = scores(api)
    return _found(seen, first, last) | {"documents": documents, "fill_seconds": round(seconds, 1)}


def _fill(running: Stack, api: httpx.Client, documents: int) -> None:
    s3 = running.aws.client("s3")
    for number in range(documents):
        described = {"witness": "true"} if number < _WITNESSES else {}
        body = page(number, 60 if described else 450).encode()
        s3.put_object(Bucket=BUCKET, Key=f"first/{number}.txt", Body=body, Metadata=described)
    wait_until_searchable(api, documents, 400)


def _change(running: Stack, seen: Seen, following: Path, rest: float, rate: float) -> float:
    """Seconds that filling the new space took."""
    seen.phase, started = "filling", time.monotonic()
    _rag(running, "apply", "--model", str(following), "--rate", str(rate))
    taken = time.monotonic() - started
    seen.phase = "changing"
    for step in (_PROMOTE, _ROLLBACK, _PROMOTE):
        _until_complete(running, following, step)
        time.sleep(rest / 3)
    seen.phase = "after"
    return taken


def _until_complete(running: Stack, following: Path, step: list[str]) -> None:
    """What was uploaded in between is made first; what the old space lacks, too."""
    for _ in range(20):
        if _rag(running, *step, check=False) == 0:
            return
        for model in (following, MODEL):
            _rag(running, "apply", "--model", str(model))
    raise SystemExit(f"{step[0]} was refused again and again")


def _rag(running: Stack, *arguments: str, check: bool = True) -> int:
    """scripts/rag index, when there is nothing better to do."""
    command = ["nice", "-n", "19", sys.executable, "-m", "scripts.rag", "index", *arguments]
    variables = os.environ | {"RAGZERO_LOCAL_DIR": str(running.folder)}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.returncode


def _found(seen: Seen, first: Scores, last: Scores) -> dict[str, Any]:
    phases = {
        name: {"questions": len(times), "p50_ms": percentile(times, 0.5), "p95_ms": percentile(times, 0.95)}
        for name, times in seen.times.items()
    }
    worst = max(phases[name]["p95_ms"] for name in ("filling", "changing"))
    return {
        "phases": phases,
        "p95_over_before": round(worst / phases["before"]["p95_ms"], 2),
        "errors": seen.errors[:10],
        "witnessed": len(seen.witnessed),
        "in_the_old_space": seen.witnessed.count(first),
        "in_the_new_space": seen.witnessed.count(last),
        "in_none": sum(one not in (first, last) for one in seen.witnessed),
    }


def unchanged(count: int) -> dict[str, Any]:
    """A space filled with so many chunks, and then with as many of which a tenth is new."""
    embedder = OnnxEmbedder.load(MODEL)
    chunks = chunk(prose(MODEL, 1_400 * count), embedder)[:count]
    with index(Manifest.read(MODEL)) as made:
        space = ensure_space(made._postgres.dsn(), Space(0, "next", "next", "1", 384, "next"))
        figures = {"chunks": len(chunks)}
        made.hand_over(chunks)
        figures |= {f"full_{name}": value for name, value in _filled(made, space, embedder).items()}
        made.hand_over([_other(one) if number % 10 == 0 else one for number, one in enumerate(chunks)])
        figures |= {f"tenth_{name}": value for name, value in _filled(made, space, embedder).items()}
    return figures | {"share": round(figures["tenth_seconds"] / figures["full_seconds"], 3)}


def _other(one: Chunk) -> Chunk:
    text = f"Revised. {one.text}"
    seen = embedding_text(one.headings, text)
    return replace(one, text=text, embedding_text=seen, text_hash=text_hash(seen))


def _filled(made: Index, space: int, embedder: OnnxEmbedder) -> dict[str, Any]:
    started, cpu = time.perf_counter(), time.process_time()
    with closing(FillStore(Database(made.url("ragzero_embed")), space)) as store:
        filled = Filler(store, embedder.encode).run(time.monotonic() + 3600)
    assert filled.complete, filled
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "embedded": filled.embedded,
        "reused": filled.reused,
    }


def main() -> None:
    formatted = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatted)
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument(
        "--rest", type=float, default=15, help="seconds before the change, and around each switch"
    )
    parser.add_argument("--rate", type=float, default=40, help="texts a second that the fill may take")
    parser.add_argument("--chunks", type=int, default=512, help="of the second part")
    given = parser.parse_args()
    configure("WARNING")
    report(
        change=changed(given.documents, given.users, given.rest, given.rate),
        reembedding=unchanged(given.chunks),
    )


if __name__ == "__main__":
    main()
