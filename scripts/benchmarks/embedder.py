"""How fast this machine chunks and encodes, as JSON; compare the ratios, absolute numbers are the machine's.

python -m scripts.bench_embedder [--model .local/models/all-MiniLM-L6-v2] [--chunks 128] [--no-torch]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from scripts.model_build import DEFAULT_MODEL, MODELS, find_model
from shared.adapters.onnx_embedder import TOKENIZER, OnnxEmbedder
from shared.core.chunking import chunk, document_text
from shared.core.models import Block, ParsedDocument

if TYPE_CHECKING:
    from shared.adapters.onnx_embedder import Vectors

    Encode = Callable[[Sequence[str]], Vectors]

T = TypeVar("T")
QUESTION = "How long before the end of the lease must the tenant give notice?"
CORPUS_CHARS = 2_000_000
ROUNDS = 4


def bench(folder: Path, chunks: int, with_torch: bool) -> dict[str, Any]:
    load_seconds, embedder = timed(lambda: OnnxEmbedder.load(folder))
    document = prose(folder, CORPUS_CHARS)
    chunk_seconds, made = timed(lambda: chunk(document, embedder))
    texts = [piece.embedding_text for piece in made[:chunks]]
    tokens = [len(embedder.offsets(text)) for text in texts]
    encoders: dict[str, Encode] = {"onnx_fp32": embedder.encode}
    if "int8" in embedder.manifest.parity:
        encoders["onnx_int8"] = OnnxEmbedder.load(folder, variant="int8", allow_int8=True).encode
    if with_torch:
        encoders["torch_fp32"] = torch_encoder("float32")
        encoders["torch_bf16"] = torch_encoder("bfloat16")
    results = measure(encoders, texts)
    base = results["onnx_fp32"]["chunks_per_second"]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load_seconds": round(load_seconds, 3),
        "chunker_mb_per_second": round(len(document_text(document).encode()) / 1e6 / chunk_seconds, 2),
        "chunks": len(texts),
        "tokens_per_chunk": round(statistics.mean(tokens), 1),
        "encoders": results,
        "speed_relative_to_onnx_fp32": {
            name: round(result["chunks_per_second"] / base, 2) for name, result in results.items()
        },
    }


def measure(encoders: Mapping[str, Encode], texts: list[str]) -> dict[str, dict[str, float]]:
    """The best of a few rounds, all encoders in turn: neighbours on the machine only ever slow it down."""
    vectors = {name: unit(encode(texts)) for name, encode in encoders.items()}
    batches: dict[str, list[float]] = {name: [] for name in encoders}
    questions: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(ROUNDS):
        for name, encode in encoders.items():
            batches[name].append(timed(partial(encode, texts))[0])
            questions[name].append(
                statistics.median(timed(partial(encode, [QUESTION]))[0] for _ in range(15))
            )
    cosines = {name: (found * vectors["onnx_fp32"]).sum(axis=1) for name, found in vectors.items()}
    return {
        name: {
            "chunks_per_second": round(len(texts) / min(batches[name]), 1),
            "question_ms": round(min(questions[name]) * 1e3, 2),
            "cosine_to_onnx_fp32_min": round(float(cosines[name].min()), 5),
            "cosine_to_onnx_fp32_mean": round(float(cosines[name].mean()), 5),
        }
        for name in encoders
    }


def unit(vectors: Vectors) -> Vectors:
    """bf16 rounds the length, too."""
    scaled: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def torch_encoder(precision: str) -> Encode:
    os.environ.setdefault("TQDM_DISABLE", "1")
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(find_model(DEFAULT_MODEL)), device="cpu", local_files_only=True, model_kwargs={"dtype": precision}
    )

    def encode(texts: Sequence[str]) -> Vectors:
        vectors = model.encode(list(texts), batch_size=8, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, np.float32)

    return encode


def prose(folder: Path, chars: int) -> ParsedDocument:
    """Paragraphs of random words from the tokenizer's own vocabulary, the same every time."""
    vocabulary = json.loads((folder / TOKENIZER).read_bytes())["model"]["vocab"]
    words = sorted(word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2)
    dice = random.Random(7)  # noqa: S311 - not for secrets
    paragraphs: list[str] = []
    while sum(map(len, paragraphs)) < chars:
        paragraphs += [" ".join(_sentence(dice, words) for _ in range(10)) for _ in range(100)]
    blocks = tuple(Block(text, page=1 + number // 6) for number, text in enumerate(paragraphs))
    return ParsedDocument("text/plain", blocks)


def _sentence(dice: random.Random, words: list[str]) -> str:
    return " ".join(dice.choices(words, k=dice.randint(6, 24))).capitalize() + "."


def timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODELS / DEFAULT_MODEL)
    parser.add_argument("--chunks", type=int, default=128)
    parser.add_argument("--no-torch", action="store_true")
    given = parser.parse_args(arguments)
    print(json.dumps(bench(given.model, given.chunks, not given.no_torch), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
