"""The torch encoder of an embedding space: sentence-transformers, on a GPU where there is one.

It makes the vectors that the CPU lane makes (shared/adapters/onnx_embedder.py), or refuses to serve.
"""

from __future__ import annotations

import copy
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from shared.adapters.onnx_embedder import MIN_PARITY, QUICK_PROBES, Manifest, lowest_cosine
from shared.core.errors import BadUpstream, ConfigurationError, SpaceMismatch
from shared.telemetry import get_logger

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

Vectors = NDArray[np.float32]

_log = get_logger(__name__)
# About eight full chunks: larger batches leave a core's cache and are slower.
CPU_BATCH_TOKENS = 2_048
# Enough to fill any GPU; more only costs memory.
MOST_BATCH_TOKENS = 131_072
_TRIAL_ROWS = 8


def token_budget(free_bytes: int, bytes_per_token: float) -> int:
    """Tokens per batch, padding included, that use at most half of the free memory."""
    return int(min(MOST_BATCH_TOKENS, max(CPU_BATCH_TOKENS, free_bytes / 2 / max(1.0, bytes_per_token))))


class TorchEncoder:
    """load(), then place(); in between it may be frozen in a memory snapshot."""

    def __init__(self, model: SentenceTransformer, manifest: Manifest) -> None:
        from tokenizers import Tokenizer  # imported when first used: a job that finds no work needs no model

        self.manifest = manifest
        self.dtype = "float32"
        self.device = "cpu"
        self.tokens = self.padded_tokens = 0
        self.batch_tokens = CPU_BATCH_TOKENS
        self._original: SentenceTransformer | None = model
        self._model = model
        # the library's own tokenizer pads and truncates as it was last asked to; this one never changes
        self._tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(manifest.max_tokens)
        self._pad_id = int(model.tokenizer.pad_token_id or 0)
        self._sentinels = self._tokenize(manifest.probes[:QUICK_PROBES])

    @classmethod
    def load(cls, manifest: Manifest, model: str, revision: str | None = None) -> Self:
        """In float32 on the CPU. model is a folder, or a hub id with the commit to use."""
        os.environ.setdefault("TQDM_DISABLE", "1")
        from sentence_transformers import SentenceTransformer  # imported when first used, as above

        local = Path(model).is_dir()
        try:
            loaded = SentenceTransformer(model, revision=revision, device="cpu", local_files_only=local)
        except Exception as error:
            raise ConfigurationError("RAGZERO_EMBED_MODEL", f"cannot load {model!r}: {error}") from error
        return cls(loaded.eval(), manifest)

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    @property
    def padding_waste(self) -> float:
        """The share of the computed tokens that were padding."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0

    def place(self, device: str | None = None) -> None:
        """Moves to the device (the GPU, if there is one) in the smallest precision that keeps to the space.

        Raises SpaceMismatch when none does.
        """
        import torch  # imported when first used, as above

        if self._original is None:
            return
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        for dtype in _precisions(self.device):
            self._model = copy.deepcopy(self._original).to(self.device, getattr(torch, dtype))
            self.dtype = dtype
            self.batch_tokens = self._affordable()
            try:
                self.prove()
            except SpaceMismatch as error:
                _log.warning("precision_refused", dtype=dtype, device=self.device, reason=str(error))
                continue
            self._original = None
            return
        raise SpaceMismatch(
            f"the model in RAGZERO_EMBED_MODEL is not {self.manifest.name}: no precision on {self.device} "
            f"reproduces the probes with cosine {MIN_PARITY}"
        )

    def prove(self) -> None:
        """Encodes all probes; raises SpaceMismatch when they are not where the manifest says."""
        try:
            found = self._encode(self._tokenize(self.manifest.probes), _nothing)
        except BadUpstream as error:
            raise SpaceMismatch(f"the encoder fails on the space's probes: {error}") from error
        cosine = lowest_cosine(found, self.manifest.probe_vectors)
        if not cosine >= MIN_PARITY:
            raise SpaceMismatch(
                f"{self.manifest.name} ({self.dtype} on {self.device}) reproduces its probes with cosine "
                f"{cosine:.5f}, at least {MIN_PARITY} is needed"
            )

    def encode(self, texts: Sequence[str], between: Callable[[], None] = lambda: None) -> Vectors:
        """Unit vectors of documents, shape (len(texts), dimension), in the order given.

        between is called before each batch; what it raises ends the work. A few probes travel along: their
        vectors tell whether the order was kept. Raises BadUpstream, and then no vector may be used.
        """
        tokens = self._tokenize(texts)
        vectors = self._encode(tokens + self._sentinels, between)
        found = vectors[len(texts) :]
        cosine = lowest_cosine(found, self.manifest.probe_vectors[: len(found)])
        if not cosine >= MIN_PARITY:
            raise BadUpstream("encoder", f"vectors came in another order: a probe's has cosine {cosine:.4f}")
        return vectors[: len(texts)]

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        prefix = self.manifest.document_prefix
        encodings = self._tokenizer.encode_batch_fast([_clean(prefix + text) for text in texts])
        return [encoding.ids for encoding in encodings]

    def _encode(self, tokens: list[list[int]], between: Callable[[], None]) -> Vectors:
        vectors = np.full((len(tokens), self.manifest.dimension), np.nan, np.float32)
        for batch, found in self._batches(tokens, between):
            vectors[batch] = _units(found, len(batch), self.manifest.dimension)
        return vectors

    def _batches(
        self, tokens: list[list[int]], between: Callable[[], None]
    ) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
        """Indices and their vectors, longest first; the next batch is under way while one is fetched."""
        order = sorted(range(len(tokens)), key=lambda index: -len(tokens[index]))
        done, launched = 0, None
        while done < len(order):
            between()
            rows = max(1, self.batch_tokens // max(1, len(tokens[order[done]])))
            batch = order[done : done + rows]
            output = self._attempt([tokens[index] for index in batch])
            if output is None:
                continue
            if launched:
                yield launched[0], _fetched(launched[1])
            launched = batch, output
            done += len(batch)
        if launched:
            yield launched[0], _fetched(launched[1])

    def _attempt(self, batch: list[list[int]]) -> torch.Tensor | None:
        """None when the batch did not fit into memory; the next ones are half as large."""
        try:
            return self._forward(batch)
        except Exception as error:
            if not _out_of_memory(error):
                raise BadUpstream(
                    "encoder", f"failed on {len(batch)} texts of up to {len(batch[0])} tokens: {error}"
                ) from error
            if len(batch) == 1:
                raise BadUpstream(
                    "encoder",
                    f"one text of {len(batch[0])} tokens does not fit into the memory of {self.device}",
                ) from error
        self.batch_tokens = len(batch) * len(batch[0]) // 2
        _log.warning("batch_halved", tokens=self.batch_tokens, device=self.device)
        self._free_memory()
        return None

    def _forward(self, batch: list[list[int]]) -> torch.Tensor:
        import torch  # imported when first used, as above

        longest = max(map(len, batch))
        ids = np.full((len(batch), longest), self._pad_id, np.int64)
        mask = np.zeros((len(batch), longest), np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        features = {
            "input_ids": torch.from_numpy(ids).to(self.device),
            "attention_mask": torch.from_numpy(mask).to(self.device),
        }
        with torch.inference_mode():
            output: torch.Tensor = self._model(features)["sentence_embedding"]
        self.tokens += sum(map(len, batch))
        self.padded_tokens += ids.size
        return output

    def _affordable(self) -> int:
        """Tokens per batch, by what a trial batch of full-length texts took."""
        if self.device == "cpu":
            return CPU_BATCH_TOKENS
        import torch  # imported when first used, as above

        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self._forward([[self._pad_id] * self.manifest.max_tokens] * _TRIAL_ROWS)
        taken = torch.cuda.max_memory_allocated() - before
        return token_budget(torch.cuda.mem_get_info()[0], taken / (_TRIAL_ROWS * self.manifest.max_tokens))

    def _free_memory(self) -> None:
        if self.device != "cpu":
            import torch  # imported when first used, as above

            torch.cuda.empty_cache()


def _precisions(device: str) -> tuple[str, ...]:
    if device != "cpu":
        return ("float16", "float32")
    # without the instructions, bfloat16 on a CPU is several times slower than float32
    return ("bfloat16", "float32") if _native_bfloat16() else ("float32",)


def _native_bfloat16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    if platform.system() != "Linux" or not cpuinfo.exists():
        return False
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _out_of_memory(error: Exception) -> bool:
    import torch  # imported when first used, as above

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def _fetched(output: Any) -> NDArray[np.float32]:
    vectors: NDArray[np.float32] = output.float().cpu().numpy()
    return vectors


def _units(found: NDArray[np.float32], count: int, dimension: int) -> Vectors:
    """Scaled to length 1 in float32, for reduced precision rounds the length, too. Raises BadUpstream."""
    if found.shape != (count, dimension):
        raise BadUpstream(
            "encoder", f"expected {count} vectors of {dimension} dimensions, got the shape {found.shape}"
        )
    if not np.isfinite(found).all():
        raise BadUpstream("encoder", "a vector has components that are not finite")
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise BadUpstream("encoder", "a vector has length 0")
    unit: Vectors = found / lengths
    return unit


def _clean(text: str) -> str:
    """Lone surrogates replaced one for one: the tokenizer takes none, JSON may carry some."""
    return text.encode("utf-8", "replace").decode()


def _nothing() -> None:
    pass
