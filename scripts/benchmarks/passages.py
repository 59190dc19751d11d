"""Vectors of real text: what the docstrings under a folder say, cut into passages and encoded by the original model,
or sooner by its int8 export, whose neighbourhoods are as real.

.venv/bin/python -m scripts.benchmarks.passages FILE.npy [--int8] [--count N] [--seconds S]; goes on with a FILE that is there
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from functions.embed.encoder import TorchEncoder
from scripts.benchmarks.throwaway import MODEL
from scripts.local.stack import ROOT
from scripts.model_build import DEFAULT_MODEL, find_model
from shared.adapters.onnx_embedder import Manifest, OnnxEmbedder

_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
_WORDS = 16
_LEAST_WORDS = 10
_AT_ONCE = 4_096
Vectors = NDArray[np.float32]


def passages(folder: Path) -> Iterator[str]:
    """Each once, in the order of the files' names; about a sentence each."""
    seen: set[str] = set()
    for file in sorted(folder.rglob("*.py")):
        for docstring in _DOCSTRING.findall(file.read_text(errors="ignore")):
            words = docstring.split()
            for first in range(0, len(words), _WORDS):
                text = " ".join(words[first : first + _WORDS])
                if text not in seen and _is_prose(words[first : first + _WORDS]):
                    seen.add(text)
                    yield text


def encoded(
    encode: Callable[[Sequence[str]], Vectors], texts: Sequence[str], known: Vectors, seconds: float
) -> Vectors:
    """known, and unit vectors of the texts that follow, until the time is over. Shape (n, dimension)."""
    parts, ends = [known], time.monotonic() + seconds
    for first in range(len(known), len(texts), _AT_ONCE):
        if time.monotonic() > ends:
            break
        parts.append(encode(texts[first : first + _AT_ONCE]))
    return np.concatenate(parts)


def drawn(folder: Path, count: int) -> list[str]:
    """So many passages, the same ones in the same order each time."""
    texts = list(passages(folder))
    return [texts[n] for n in np.random.default_rng(0).permutation(len(texts))[:count]]


def encoder(*, int8: bool) -> Callable[[Sequence[str]], Vectors]:
    if int8:
        return OnnxEmbedder.load(MODEL, variant="int8", allow_int8=True).encode
    original = TorchEncoder.load(Manifest.read(MODEL), str(find_model(DEFAULT_MODEL)))
    original.place("cpu")
    return original.encode


def _is_prose(words: list[str]) -> bool:
    return (
        len(words) >= _LEAST_WORDS and sum(word.strip(".,;:()").isalpha() for word in words) > len(words) / 2
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--folder", type=Path, default=ROOT / ".venv" / "lib")
    parser.add_argument("--count", type=int, default=100_300)
    parser.add_argument("--seconds", type=float, default=480)
    given = parser.parse_args()
    texts, empty = drawn(given.folder, given.count), np.empty((0, Manifest.read(MODEL).dimension), np.float32)
    known = np.load(given.file) if given.file.exists() else empty
    vectors = encoded(encoder(int8=given.int8), texts, known, given.seconds)
    np.save(given.file, vectors)
    print(f"{len(vectors)} of {len(texts)} passages are encoded")


if __name__ == "__main__":
    main()
