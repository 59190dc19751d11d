"""A cross-encoder on the CPU: a folder made by scripts/build-model --cross-encoder, run by ONNX Runtime."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from shared.adapters.onnx_embedder import (
    MANIFEST,
    QUICK_PROBES,
    TOKENIZER,
    batches,
    clean,
    cores,
    file_sha256,
    load_tokenizer,
    open_session,
)
from shared.core.errors import BadUpstream, ConfigurationError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Encoding, Tokenizer

MODEL = "model.onnx"
_SETTING = "RAGZERO_RERANK_DIR"
_BATCH_TOKENS = 2_048
_TOLERANCE = 0.02


@dataclass(frozen=True)
class CrossManifest:
    """typed: the model is told which tokens are the question's and which the text's. files: SHA-256 of each. probes:
    (question, text, the original's score)."""

    name: str
    revision: str
    max_tokens: int
    typed: bool
    files: Mapping[str, str]
    probes: Sequence[tuple[str, str, float]]
    created_with: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises ConfigurationError."""
        try:
            return cls(**json.loads((folder / MANIFEST).read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigurationError(
                _SETTING, f"{folder / MANIFEST} is not a usable manifest: {error!r}"
            ) from error

    def write(self, folder: Path) -> None:
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        (folder / MANIFEST).write_text(text, encoding="utf-8")


class OnnxReranker:
    """Safe to share between threads."""

    def __init__(self, manifest: CrossManifest, session: InferenceSession, tokenizer: Tokenizer) -> None:
        self.manifest = manifest
        self.model = f"{manifest.name}@{manifest.revision}"
        self._session = session
        self._inputs = {one.name for one in session.get_inputs()}
        self._tokenizer = tokenizer
        self._pad_id = int((tokenizer.padding or {}).get("pad_id", 0))
        tokenizer.no_padding()
        tokenizer.enable_truncation(manifest.max_tokens)

    @classmethod
    def load(cls, folder: Path, threads: int | None = None) -> Self:
        """One that has proved itself. Raises ConfigurationError when files are not, or score not, as they were built."""
        manifest = CrossManifest.read(folder)
        for name, expected in manifest.files.items():
            if not (folder / name).exists() or file_sha256(folder / name) != expected:
                raise ConfigurationError(_SETTING, f"{folder / name} is not the file that {MANIFEST} names")
        session = open_session(folder / MODEL, threads or cores())
        reranker = cls(manifest, session, load_tokenizer(folder / TOKENIZER))
        reranker.prove()
        return reranker

    def prove(self, probes: int = QUICK_PROBES) -> None:
        """Raises ConfigurationError unless the first probes are scored as the original scores them."""
        for question, text, expected in self.manifest.probes[:probes]:
            (found,) = self.score(question, [text])
            if not math.isclose(found, expected, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
                problem = f"{self.model} scores a probe {found:.4f}, and the original {expected:.4f}"
                raise ConfigurationError(_SETTING, problem)

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text speaks to the question, from 0 to 1, in the order given. Raises BadUpstream."""
        return [_sigmoid(one) for one in await asyncio.to_thread(self.score, question, texts)]

    def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """As the model itself gives them, of any size."""
        pairs = [(clean(question), clean(text)) for text in texts]
        encodings: list[Encoding] = self._tokenizer.encode_batch(pairs)
        found = [0.0] * len(texts)
        for batch in batches([len(one.ids) for one in encodings], _BATCH_TOKENS):
            for index, value in zip(batch, self._run([encodings[index] for index in batch]), strict=True):
                found[index] = value
        return found

    def status(self) -> dict[str, Any]:
        """For monitoring; it has nobody to lose."""
        return {"breaker": "closed", "failures": 0}

    async def aclose(self) -> None:
        return None

    def _run(self, batch: Sequence[Encoding]) -> list[float]:
        import numpy as np  # heavy: loaded when first used

        shape = len(batch), max(len(one.ids) for one in batch)
        arrays = {
            "input_ids": np.full(shape, self._pad_id, np.int64),
            "attention_mask": np.zeros(shape, np.int64),
            "token_type_ids": np.zeros(shape, np.int64),
        }
        for row, one in enumerate(batch):
            arrays["input_ids"][row, : len(one.ids)] = one.ids
            arrays["attention_mask"][row, : len(one.ids)] = 1
            if self.manifest.typed:
                arrays["token_type_ids"][row, : len(one.ids)] = one.type_ids
        fed = {name: array for name, array in arrays.items() if name in self._inputs}
        try:
            scores: list[float] = self._session.run(["score"], fed)[0].tolist()
        except Exception as error:
            raise BadUpstream("re-ranker", f"ONNX Runtime failed on {shape} tokens: {error}") from error
        if not all(map(math.isfinite, scores)):
            raise BadUpstream("re-ranker", "the cross-encoder made a score that is no number")
        return scores


def _sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, score))))
