"""functions/embed against a bare, length-sorted `model.encode` loop on the same chunks, and the CPU lane with it.

scripts/bench embed [--chunks 512] [--rounds 3] [--memory 100000] [--model .local/models/all-MiniLM-L6-v2]

The job's figure includes reading from and writing to Postgres, with the HNSW index in place.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from functions.embed.encoder import CPU_BATCH_TOKENS, TorchEncoder
from functions.embed.service import Report
from functions.embed.wiring import build
from scripts.benchmarks.embedder import prose
from scripts.benchmarks.throwaway import MODEL, report
from scripts.local.postgres import Postgres
from scripts.local.process import free_port
from scripts.migrate import space_of
from scripts.model_build import find_model
from shared.adapters.onnx_embedder import Manifest, OnnxEmbedder
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.documents import DocumentStore
from shared.adapters.postgres.migrate import ROLES, migrate
from shared.adapters.postgres.space_tables import ensure_space
from shared.adapters.postgres.tenants import TenantStore
from shared.core.chunking import chunk, embedding_text, text_hash
from shared.core.models import Chunk, Draft, Publication, Version
from shared.settings import EmbedSettings
from shared.telemetry import configure

PASSWORD = "only-for-a-measurement"  # noqa: S105 - of a database that lives for a minute
_PER_DOCUMENT = 512


class Index:
    """A database with a tenant, into which chunks are handed over as ingest does it."""

    def __init__(self, postgres: Postgres, manifest: Manifest) -> None:
        admin = postgres.dsn()
        migrate(admin, dict.fromkeys(ROLES, PASSWORD))
        ensure_space(admin, space_of(manifest))
        self._postgres = postgres
        self._tenant = uuid.uuid4()
        owner = Database(self.url("ragzero_owner"))
        TenantStore(owner).ensure_tenant(self._tenant, "bench")
        owner.close()
        self._store = DocumentStore(Database(self.url("ragzero_ingest")))
        self._store.space()

    def url(self, role: str) -> str:
        return self._postgres.dsn(role, PASSWORD)

    def hand_over(self, chunks: Sequence[Chunk]) -> None:
        for first in range(0, len(chunks), _PER_DOCUMENT):
            self._document(chunks[first : first + _PER_DOCUMENT])

    def _document(self, chunks: Sequence[Chunk]) -> None:
        tenant, store = self._tenant, self._store
        claim = store.observe(tenant, "bench", [(str(uuid.uuid4()), "1")], 600)[0].claim
        assert claim is not None
        collection = store.collection(tenant, "default")
        (stage,) = store.stage([Draft(claim, collection, chunks)])
        version = Version("etag", None, 0, {}, "bench", "1")
        publication = Publication(version, stage.generation, collection.id, len(chunks), None, ())
        store.hand_over(claim, publication, len(stage.missing))

    def embed(self, encoder: TorchEncoder) -> Report:
        settings = EmbedSettings(database_url=self.url("ragzero_embed"), patience_seconds=0)
        job = build(settings, lambda: encoder)
        try:
            return job.run(time.monotonic() + 24 * 3600)
        finally:
            job.close()

    def close(self) -> None:
        self._store.close()


@contextmanager
def index(manifest: Manifest) -> Iterator[Index]:
    with tempfile.TemporaryDirectory(prefix="ragzero-bench-") as folder:
        Path(folder).chmod(0o711)
        with Postgres(Path(folder) / "postgres", port=free_port(), tethered=True) as postgres:
            assert isinstance(postgres, Postgres)
            made = Index(postgres, manifest)
            try:
                yield made
            finally:
                made.close()


def numbered(chunks: Sequence[Chunk], round: int) -> list[Chunk]:
    """The same lengths, other hashes: nothing embedded in one round is reused in the next."""
    found = []
    for ordinal, each in enumerate(chunks):
        text = f"{round} {each.text}"
        seen = embedding_text(each.headings, text)
        found.append(
            replace(each, ordinal=ordinal, text=text, embedding_text=seen, text_hash=text_hash(seen))
        )
    return found


def bare(encoder: TorchEncoder, texts: Sequence[str]) -> float:
    """Chunks per second of the library's own loop: sorted by length, the same model, precision and batch size."""
    batch = max(1, CPU_BATCH_TOKENS // encoder.manifest.max_tokens) if encoder.device == "cpu" else 512
    started = time.perf_counter()
    encoder._model.encode(
        sorted(texts, key=len), batch_size=batch, normalize_embeddings=True, show_progress_bar=False
    )
    return len(texts) / (time.perf_counter() - started)


def cpu_lane(embedder: OnnxEmbedder, texts: Sequence[str]) -> float:
    started = time.perf_counter()
    for first in range(0, len(texts), 64):
        embedder.encode(texts[first : first + 64])
    return len(texts) / (time.perf_counter() - started)


def speed(folder: Path, count: int, rounds: int, encoder: TorchEncoder) -> dict[str, Any]:
    """Best of the rounds, all three in turn: neighbours on the machine only ever slow it down."""
    embedder = OnnxEmbedder.load(folder)
    chunks = chunk(prose(folder, 1_400 * count), embedder)[:count]
    texts = [each.embedding_text for each in chunks]
    found: dict[str, list[float]] = {"job": [], "bare_encode": [], "cpu_lane": []}
    with index(encoder.manifest) as made:
        for round in range(rounds):
            made.hand_over(numbered(chunks, round))
            done = made.embed(encoder)
            assert done.chunks == len(chunks), done
            found["job"].append(done.chunks_per_second)
            found["bare_encode"].append(bare(encoder, texts))
            found["cpu_lane"].append(cpu_lane(embedder, texts))
    best = {name: round_(max(values)) for name, values in found.items()}
    return {
        "cores": len(os.sched_getaffinity(0)),
        "device": encoder.device,
        "dtype": encoder.dtype,
        "chunks": len(chunks),
        "chunks_per_second": best,
        "job_share_of_bare_encode": round_(best["job"] / best["bare_encode"], 3),
        "padding_waste": done.padding_waste,
        "cosine_to_cpu_lane_min": round_(
            float((encoder.encode(texts[:64]) * embedder.encode(texts[:64])).sum(axis=1).min()), 5
        ),
    }


def memory(count: int, encoder: TorchEncoder) -> dict[str, Any]:
    """How much the process grows, at most, while it embeds that many short chunks; vectors and all."""
    chunks = [_short(number) for number in range(count)]
    with index(encoder.manifest) as made:
        for first in range(0, count, _PER_DOCUMENT):
            made.hand_over(_renumbered(chunks[first : first + _PER_DOCUMENT]))
        del chunks
        encoder.encode(["warm up"])
        with _watched() as peak:
            done = made.embed(encoder)
    return {
        "chunks": done.chunks,
        "chunks_per_second": done.chunks_per_second,
        "mb_above_the_model": round_((peak[0] - peak[1]) / 1e6, 1),
        "process_peak_mb": round_(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, 1),
    }


@contextmanager
def _watched() -> Iterator[list[int]]:
    """[peak, start] of this process's resident bytes."""
    process, over = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss] * 2

    def watch() -> None:
        while not over.wait(0.02):
            seen[0] = max(seen[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def _short(number: int) -> Chunk:
    text = f"Berth {number}: free."
    return Chunk(number, text, None, (), 0, len(text), text, text_hash(text))


def _renumbered(chunks: Sequence[Chunk]) -> list[Chunk]:
    return [replace(each, ordinal=ordinal) for ordinal, each in enumerate(chunks)]


def round_(value: float, digits: int = 1) -> float:
    return float(np.round(value, digits))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--torch-model", help="the original: a folder (default: the packaged MiniLM)")
    parser.add_argument("--chunks", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, metavar="CHUNKS", help="measure the peak memory instead")
    given = parser.parse_args()
    configure("WARNING")
    encoder = TorchEncoder.load(
        Manifest.read(given.model), given.torch_model or str(find_model("all-MiniLM-L6-v2"))
    )
    encoder.place()
    if given.memory:
        report(**memory(given.memory, encoder))
    else:
        report(**speed(given.model, given.chunks, given.rounds, encoder))


if __name__ == "__main__":
    main()
