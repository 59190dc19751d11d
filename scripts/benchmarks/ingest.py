"""Upload to searchable on the CPU lane, and many documents at once as a share of what the bare encoder does."""

from __future__ import annotations

import argparse
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from functions.ingest.parsing import parse
from scripts.benchmarks.throwaway import (
    MODEL,
    client,
    documents,
    percentile,
    report,
    stack,
    wait_until_searchable,
)
from scripts.local.stack import BUCKET, Stack
from shared.adapters.onnx_embedder import OnnxEmbedder
from shared.core.chunking import chunk

_OPENERS = (
    "The inspector noted that",
    "During the second week",
    "According to the ledger,",
    "On the north side",
)
_NOUNS = [
    "bridge",
    "harbour",
    "engine",
    "ledger",
    "valley",
    "turbine",
    "archive",
    "orchard",
    "signal",
    "furnace",
    "garden",
    "quarry",
    "tunnel",
    "beacon",
]
_VERBS = [
    "carried",
    "replaced",
    "measured",
    "crossed",
    "repaired",
    "surveyed",
    "supplied",
    "recorded",
    "sheltered",
    "divided",
]


def page(number: int, words: int) -> str:
    """A page of invented prose, different for each number."""
    rng = random.Random(number)  # noqa: S311 - invented text
    sentences: list[str] = []
    while sum(len(sentence.split()) for sentence in sentences) < words:
        noun, other, verb = rng.choice(_NOUNS), rng.choice(_NOUNS), rng.choice(_VERBS)
        sentences.append(
            f"{rng.choice(_OPENERS)} the {noun} {verb} the {other} of district {rng.randrange(10_000)} "
            f"at a cost of {rng.randrange(100, 99_999)} crowns."
        )
    return " ".join(sentences)


def one_at_a_time(running: Stack, api: httpx.Client, count: int) -> list[float]:
    """Seconds from the start of an upload to `searchable`, each alone."""
    times = []
    for number in range(count):
        started = time.monotonic()
        body = page(10_000 + number, 450).encode()
        running.aws.client("s3").put_object(Bucket=BUCKET, Key=f"one/{number}.txt", Body=body)
        wait_until_searchable(api, number + 1, 30)
        times.append(time.monotonic() - started)
    return times


def many_at_once(running: Stack, api: httpx.Client, texts: list[str]) -> float:
    """Seconds until all are searchable. Whoever uploads has a computer of their own elsewhere: here, signing is done before."""
    before = len(documents(api, "searchable"))
    signed = [_signed(running, f"many/{number}.txt") for number in range(len(texts))]
    started = time.monotonic()
    with httpx.Client() as bucket, ThreadPoolExecutor(4) as pool:
        for put in pool.map(
            lambda one: bucket.put(one[0], content=one[1].encode()), zip(signed, texts, strict=True)
        ):
            put.raise_for_status()
    wait_until_searchable(api, before + len(texts), 600)
    return time.monotonic() - started


def _signed(running: Stack, key: str) -> str:
    address: str = running.aws.client("s3").generate_presigned_url(
        "put_object", Params={"Bucket": BUCKET, "Key": key}, ExpiresIn=600
    )
    return address


def bare_encoder(texts: list[str]) -> tuple[int, float]:
    """Chunks, and seconds the encoder alone takes for them, in one call."""
    embedder = OnnxEmbedder.load(MODEL)
    chunks = [c.embedding_text for text in texts for c in chunk(parse(text.encode(), name="a.txt"), embedder)]
    embedder.encode(chunks[:32])
    started = time.monotonic()
    embedder.encode(chunks)
    return len(chunks), time.monotonic() - started


def measure(count: int, words: int, singles: int) -> dict[str, Any]:
    texts = [page(number, words) for number in range(count)]
    with stack() as running, client(running) as api:
        times = one_at_a_time(running, api, singles)
        elapsed = many_at_once(running, api, texts)
    chunks, encoding = bare_encoder(texts)
    return {
        "one_page_to_searchable_s_p50": percentile(times, 0.5),
        "one_page_to_searchable_s_p95": percentile(times, 0.95),
        "documents": count,
        "chunks": chunks,
        "seconds": round(elapsed, 2),
        "chunks_per_s": round(chunks / elapsed, 1),
        "bare_encoder_chunks_per_s": round(chunks / encoding, 1),
        "share_of_bare_encoder": round(encoding / elapsed, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--words", type=int, default=450, help="per document; a page")
    parser.add_argument("--singles", type=int, default=40)
    arguments = parser.parse_args()
    report(**measure(arguments.documents, arguments.words, arguments.singles))


if __name__ == "__main__":
    main()
