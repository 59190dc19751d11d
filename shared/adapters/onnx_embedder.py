"""The CPU encoder of an embedding space: a folder made by scripts/build-model, run by ONNX Runtime.

The folder's manifest.json says what the space is and what its probes' vectors are. An encoder whose files or
vectors differ from it does not serve; the torch encoder of the same space compares itself with the help of
`Manifest.read(folder)`, `lowest_cosine` and `MIN_PARITY`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from shared.core.errors import BadUpstream, ConfigurationError, SpaceMismatch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnxruntime import InferenceSession
    from tokenizers import Encoding, Tokenizer

    Vectors = NDArray[np.float32]

Variant = Literal["fp32", "int8"]

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
MODEL_FILES: Mapping[Variant, str] = {"fp32": "model.onnx", "int8": "model-int8.onnx"}
MIN_PARITY = 0.999
QUICK_PROBES = 4
# Small batches stay in a core's cache: about four chunks of 240 tokens, or many short texts.
# int8 takes one text at a time, for it scales its activations by the batch: company would change the vector.
BATCH_TOKENS: Mapping[Variant, int] = {"fp32": 1024, "int8": 0}


@dataclass(frozen=True)
class Parity:
    """Cosines between a variant's vectors of the probes (`vectors`) and the original model's."""

    min: float
    mean: float
    vectors: Vectors


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says. source holds SHA-256 of the original weights and tokenizer, files of ours."""

    name: str
    model: str
    revision: str
    dimension: int
    max_tokens: int
    pooling: str
    normalisation: str
    query_prefix: str
    document_prefix: str
    source: Mapping[str, str]
    files: Mapping[str, str]
    probes: tuple[str, ...]
    probe_vectors: Vectors
    parity: Mapping[str, Parity]
    created_with: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises ConfigurationError when it cannot be used, SpaceMismatch when it contradicts itself."""
        path = folder / MANIFEST
        try:
            data = json.loads(path.read_bytes())
            manifest = cls.from_dict(data)
            claimed = data["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                "embedding model", f"{path} is not a usable manifest: {error!r}"
            ) from error
        if claimed != manifest.fingerprint:
            raise SpaceMismatch(f"{path} claims space {claimed}, but its fields make {manifest.fingerprint}")
        return manifest

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        plain = ("name", "model", "revision", "dimension", "max_tokens", "pooling", "normalisation")
        return cls(
            **{key: data[key] for key in plain},
            query_prefix=data["prefixes"]["query"],
            document_prefix=data["prefixes"]["document"],
            source=data["source"],
            files=data["files"],
            probes=tuple(probe["text"] for probe in data["probes"]),
            probe_vectors=_unpack([probe["vector"] for probe in data["probes"]]),
            parity={
                variant: Parity(found["min"], found["mean"], _unpack(found["vectors"]))
                for variant, found in data["parity"].items()
            },
            created_with=data["created_with"],
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "name": self.name,
            "model": self.model,
            "revision": self.revision,
            "dimension": self.dimension,
            "max_tokens": self.max_tokens,
            "pooling": self.pooling,
            "normalisation": self.normalisation,
            "prefixes": {"query": self.query_prefix, "document": self.document_prefix},
            "source": dict(self.source),
            "files": dict(self.files),
            "parity": {
                variant: {"min": found.min, "mean": found.mean, "vectors": _pack(found.vectors)}
                for variant, found in self.parity.items()
            },
            "probes": [
                {"text": text, "vector": vector}
                for text, vector in zip(self.probes, _pack(self.probe_vectors), strict=True)
            ],
            "created_with": dict(self.created_with),
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides a vector; without the ONNX file, for torch serves the same space."""
        decisive = {
            "weights": self.source["weights"],
            "tokenizer": self.source["tokenizer"],
            "pooling": self.pooling,
            "normalisation": self.normalisation,
            "query_prefix": self.query_prefix,
            "document_prefix": self.document_prefix,
            "dimension": self.dimension,
            "max_tokens": self.max_tokens,
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


class OnnxEmbedder:
    """An Embedder on the CPU. Safe to share between threads."""

    def __init__(
        self, manifest: Manifest, variant: Variant, session: InferenceSession, tokenizer: Path
    ) -> None:
        self.manifest = manifest
        self.variant = variant
        self._session = session
        self._tokenizer_path = tokenizer
        self._encoder = load_tokenizer(tokenizer)
        self._pad_id = int((self._encoder.padding or {}).get("pad_id", 0))
        self._encoder.no_padding()
        self._encoder.enable_truncation(manifest.max_tokens)

    @classmethod
    def load(
        cls, path: Path, *, threads: int | None = None, variant: Variant = "fp32", allow_int8: bool = False
    ) -> Self:
        """An encoder that has proved itself: its files are the manifest's, and so are its vectors.

        int8 weights below MIN_PARITY are a space of their own (see `fingerprint`) and need allow_int8.
        Raises SpaceMismatch, or ConfigurationError when a file is missing or unusable.
        """
        manifest = Manifest.read(path)
        _require_variant(manifest, variant, allow_int8)
        with ThreadPoolExecutor(2) as pool:  # hashing takes as long as loading, and neither holds the GIL
            verified = pool.submit(_verify, path, manifest, (MODEL_FILES[variant], TOKENIZER))
            opened = pool.submit(cls.open, path, manifest, variant=variant, threads=threads)
            verified.result()
            embedder = opened.result()
        embedder.prove()
        return embedder

    @classmethod
    def open(cls, path: Path, manifest: Manifest, *, variant: Variant, threads: int | None = None) -> Self:
        """An encoder that has proved nothing yet."""
        session = open_session(path / MODEL_FILES[variant], threads or cores())
        return cls(manifest, variant, session, path / TOKENIZER)

    def prove(self, probes: int = QUICK_PROBES) -> None:
        """Encodes the first probes and raises SpaceMismatch when they are not where the manifest says."""
        expected = self.manifest.parity[self.variant].vectors[:probes]
        found = lowest_cosine(self.encode(self.manifest.probes[:probes]), expected)
        if not found >= MIN_PARITY:
            raise SpaceMismatch(
                f"{self.manifest.name} ({self.variant}) reproduces its probes with cosine {found:.5f}, "
                f"at least {MIN_PARITY} is needed"
            )

    @property
    def fingerprint(self) -> str:
        """The space's fingerprint; of a space of its own where this variant's parity is below MIN_PARITY."""
        if self.manifest.parity[self.variant].min >= MIN_PARITY:
            return self.manifest.fingerprint
        own = f"{self.manifest.fingerprint}:{self.variant}:{self.manifest.files[MODEL_FILES[self.variant]]}"
        return hashlib.sha256(own.encode()).hexdigest()

    @property
    def max_tokens(self) -> int:
        return self.manifest.max_tokens

    @property
    def dimension(self) -> int:
        return self.manifest.dimension

    def offsets(self, text: str) -> Sequence[tuple[int, int]]:
        encoding: Encoding = self._whole.encode(clean(text), add_special_tokens=False)
        return encoding.offsets

    def encode(self, texts: Sequence[str]) -> Vectors:
        return self._encode([self.manifest.document_prefix + text for text in texts])

    def encode_query(self, question: str) -> Vectors:
        vector: Vectors = self._encode([self.manifest.query_prefix + question])[0]
        return vector

    @cached_property
    def _whole(self) -> Tokenizer:
        """The tokenizer without truncation, for chunking; a query never needs it."""
        tokenizer = load_tokenizer(self._tokenizer_path)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def _encode(self, texts: list[str]) -> Vectors:
        import numpy as np  # imported when first used: a cold start that needs no vector does not pay for it

        vectors: Vectors = np.empty((len(texts), self.dimension), np.float32)
        encodings = self._encoder.encode_batch_fast([clean(text) for text in texts])
        tokens = [encoding.ids for encoding in encodings]
        for batch in batches([len(ids) for ids in tokens], BATCH_TOKENS[self.variant]):
            vectors[batch] = self._run([tokens[index] for index in batch])
        if not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3):  # false for NaN, too
            raise SpaceMismatch(f"{self.manifest.name} ({self.variant}) made a vector that has not length 1")
        return vectors

    def _run(self, batch: list[list[int]]) -> Vectors:
        import numpy as np  # imported when first used, as above

        longest = max(map(len, batch))
        ids = np.full((len(batch), longest), self._pad_id, np.int64)
        mask = np.zeros((len(batch), longest), np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        try:
            vectors: Vectors = self._session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0]
        except Exception as error:
            raise BadUpstream("encoder", f"ONNX Runtime failed on {ids.shape} tokens: {error}") from error
        return vectors


def lowest_cosine(found: Vectors, expected: Vectors) -> float:
    """The smallest cosine between rows of two arrays of unit vectors; NaN where a vector is."""
    if found.shape != expected.shape:
        raise SpaceMismatch(f"the encoder's vectors have shape {found.shape}, the space's {expected.shape}")
    return float((found * expected).sum(axis=1).min())


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_variant(manifest: Manifest, variant: Variant, allow_int8: bool) -> None:
    if variant not in manifest.parity:
        built = ", ".join(sorted(manifest.parity))
        raise ConfigurationError(
            "embedding model", f"{manifest.name} was built without {variant}, has {built}"
        )
    parity = manifest.parity[variant]
    if parity.min < MIN_PARITY and not allow_int8:
        raise SpaceMismatch(
            f"{manifest.name} ({variant}) agrees with the model to cosine {parity.min:.4f} "
            f"(mean {parity.mean:.4f}), at least {MIN_PARITY} is needed; "
            f"it can only serve a space of its own, with allow_int8"
        )


def _verify(path: Path, manifest: Manifest, names: Sequence[str]) -> None:
    for name in names:
        try:
            found = file_sha256(path / name)
        except OSError as error:
            raise ConfigurationError("embedding model", f"cannot read {path / name}: {error}") from error
        if found != manifest.files.get(name):
            raise SpaceMismatch(
                f"{path / name} has SHA-256 {found}, {MANIFEST} says {manifest.files.get(name)}"
            )


def open_session(path: Path, threads: int) -> InferenceSession:
    import onnxruntime  # imported when first used: a cold start that needs no vector does not pay for it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry(
        "session.force_spinning_stop", "1"
    )  # idle threads leave the cores to others
    options.log_severity_level = 3
    onnxruntime.disable_telemetry_events()
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConfigurationError("embedding model", f"ONNX Runtime cannot load {path}: {error}") from error


def load_tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer  # imported when first used, as above

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise ConfigurationError("embedding model", f"cannot load {path}: {error}") from error


def cores() -> int:
    """Cores this process may use: ONNX Runtime itself counts those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def batches(lengths: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Indices, longest first, in batches of one text or at most `limit` tokens with their padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > limit:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def clean(text: str) -> str:
    """Lone surrogates replaced one for one: the tokenizer takes none, JSON may carry some."""
    return text.encode("utf-8", "replace").decode()


def _pack(vectors: Vectors) -> list[str]:
    return [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]


def _unpack(rows: Sequence[str]) -> Vectors:
    import numpy as np  # imported when first used, as above

    return np.stack([np.frombuffer(base64.b64decode(row), "<f4") for row in rows]).astype(np.float32)
