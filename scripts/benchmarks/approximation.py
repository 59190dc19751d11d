"""What the approximate way of the hybrid search loses against the exact one, on real text, by how much each side brings.

scripts/bench approximation FILE.npy [--int8] [--questions 100] [--words 7] [--candidates 40 80 160] [--rare 500]

FILE is of scripts.benchmarks.passages, encoded likewise; its passages are the chunks, four to a document. A question is a
run of words of a passage, which is the right one. top_K: how many of the first K passages of the exact way are
among those of the approximate one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.benchmarks.corpus import DIMENSION, Drawn, store
from scripts.benchmarks.passages import drawn, encoder
from scripts.benchmarks.throwaway import percentile, report
from scripts.local.postgres import Postgres
from scripts.local.stack import ROOT
from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.migrate import ROLES, migrate
from shared.adapters.postgres.search import Searcher, SearchOptions
from shared.adapters.postgres.space_tables import ensure_space
from shared.core.models import Passage, Space

_PASSWORD = "bench"  # noqa: S105 - of a server that lives for this run, on loopback
_TENANT = uuid.UUID(int=1)
_SPACE = Space(1, "bench", "bench", "1", DIMENSION, "bench")
_DEPTHS = (1, 5, 10)
_ALL = 10**9


@dataclass(frozen=True)
class Question:
    """right: the passage that its words were taken from."""

    text: str
    vector: Any
    right: str


@dataclass(frozen=True)
class Found:
    passages: Sequence[Passage]
    ms: float


def cut(passage: str, words: int, rng: np.random.Generator) -> str:
    """A run of so many words."""
    all = passage.split()
    first = int(rng.integers(max(1, len(all) - words + 1)))
    return " ".join(all[first : first + words])


@contextlib.contextmanager
def filled(texts: Sequence[str], vectors: Any, keep: Path | None) -> Iterator[Postgres]:
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ragzero-bench-")))
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
        empty = not (folder / "data").exists()
        postgres = Postgres(folder, durable=False)
        stack.enter_context(postgres)
        if empty:
            migrate(postgres.dsn(), dict.fromkeys(ROLES, _PASSWORD))
            ensure_space(postgres.dsn(), _SPACE)
            drawing: Iterator[Drawn] = zip(texts, vectors, strict=True)
            store(postgres.dsn(), lambda: next(drawing), len(texts), _TENANT)
        yield postgres


async def ranked(postgres: Postgres, asked: Sequence[Question], options: SearchOptions) -> list[Found]:
    """Ten of each question; asked twice where an index is used, so that the second time counts."""
    database = AsyncDatabase(postgres.dsn("ragzero_query", _PASSWORD), max_connections=1)
    searcher, found = Searcher(database, options), list[Found]()
    for _ in range(1 if options.exact_below else 2):
        found.clear()
        for one in asked:
            started = time.perf_counter()
            there = await searcher.search(_TENANT, "default", one.text, one.vector, _SPACE, limit=10)
            found.append(Found(there.passages, (time.perf_counter() - started) * 1000))
    await database.close()
    return found


def compared(exact: Sequence[Found], other: Sequence[Found], asked: Sequence[Question]) -> dict[str, Any]:
    return {f"top_{depth}": _shared(exact, other, depth) for depth in _DEPTHS} | figures(other, asked)


def figures(found: Sequence[Found], asked: Sequence[Question]) -> dict[str, Any]:
    """right_first: the share of questions whose passage comes first."""
    times = [one.ms for one in found]
    right = [
        one.right in {passage.text for passage in there.passages[:1]}
        for one, there in zip(asked, found, strict=True)
    ]
    return {
        "right_first": round(sum(right) / len(right), 4),
        "p50_ms": percentile(times, 0.5),
        "p95_ms": percentile(times, 0.95),
    }


def _shared(exact: Sequence[Found], other: Sequence[Found], depth: int) -> float:
    pairs = [
        [{passage.chunk_id for passage in found.passages[:depth]} for found in pair]
        for pair in zip(exact, other, strict=True)
    ]
    return round(sum(len(one & two) for one, two in pairs) / sum(len(one) for one, _ in pairs), 4)


def main() -> None:
    formatted = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatted)
    parser.add_argument("file", type=Path)
    parser.add_argument("--int8", action="store_true", help="as FILE was made")
    parser.add_argument("--count", type=int, default=100_300, help="as FILE was made")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--words", type=int, default=7, help="of a question")
    parser.add_argument("--candidates", type=int, nargs="+", default=[40, 80, 160])
    parser.add_argument("--rare", type=int, nargs="+", default=[500])
    parser.add_argument("--keep", type=Path, help="use, or make, a database in this folder and keep it")
    given = parser.parse_args()
    vectors, rng = np.load(given.file).astype(np.float32), np.random.default_rng(3)
    texts = drawn(ROOT / ".venv" / "lib", given.count)[: len(vectors)]
    right = [texts[number] for number in rng.choice(len(texts), given.questions, replace=False)]
    words = [cut(text, given.words, rng) for text in right]
    asked = [Question(*one) for one in zip(words, encoder(int8=given.int8)(words), right, strict=True)]
    with filled(texts, vectors, given.keep) as postgres:
        exact = asyncio.run(ranked(postgres, asked, SearchOptions(exact_below=_ALL)))
        ways = [
            SearchOptions(exact_below=0, candidates=candidates, rare=rare)
            for rare in given.rare
            for candidates in given.candidates
        ]
        found = [
            {"candidates": way.candidates, "rare": way.rare}
            | compared(exact, asyncio.run(ranked(postgres, asked, way)), asked)
            for way in ways
        ]
    report(chunks=len(texts), questions=len(asked), exact=figures(exact, asked), approximate=found)


if __name__ == "__main__":
    main()
