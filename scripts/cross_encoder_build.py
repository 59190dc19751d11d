"""Builds the CPU re-ranker of a sentence-transformers cross-encoder: an ONNX graph from pairs of texts to a score."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.model_build import OPSET, PROBES, find_model, halve, swap, weights_sha256
from shared.adapters.onnx_embedder import TOKENIZER, file_sha256
from shared.adapters.onnx_reranker import MODEL, CrossManifest, OnnxReranker
from shared.core.errors import ConfigurationError

if TYPE_CHECKING:
    import torch
    from sentence_transformers import CrossEncoder

_MOST_TOKENS = 512
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def build_cross_encoder(
    model: str, revision: str | None, out: Path, *, float32: bool = False
) -> OnnxReranker:
    """In `out`, replacing what was there. Raises ConfigurationError when it scores otherwise than the original."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        source = find_model(model, revision)
        _fill(folder, source, Path(model).name, float32=float32)
        built = OnnxReranker.load(folder)
        built.prove(len(built.manifest.probes))
        swap(folder, out, Path(scratch))
    return built


def _fill(folder: Path, source: Path, name: str, *, float32: bool) -> None:
    original = _load(source)
    if not (source / TOKENIZER).exists():
        raise ConfigurationError("--model", f"{source} has no {TOKENIZER}")
    shutil.copyfile(source / TOKENIZER, folder / TOKENIZER)
    graph = _export(original, folder / MODEL)
    stored = graph if float32 else halve(graph)
    (folder / MODEL).write_bytes(stored.SerializeToString(deterministic=True))
    pairs = [(PROBES[0], probe) for probe in PROBES]
    scores = original.predict(pairs, activation_fn=_identity(), show_progress_bar=False)
    CrossManifest(
        name=name,
        revision=weights_sha256(source)[:12],
        max_tokens=min(int(original.max_seq_length or _MOST_TOKENS), _MOST_TOKENS),
        typed="token_type_ids" in original.tokenizer.model_input_names,
        files={file.name: file_sha256(file) for file in sorted(folder.iterdir())},
        probes=[(*pair, round(float(score), 5)) for pair, score in zip(pairs, scores, strict=True)],
        created_with={name: version(name) for name in ("onnxruntime", "sentence-transformers", "torch")},
    ).write(folder)


def _load(source: Path) -> CrossEncoder:
    from sentence_transformers import CrossEncoder

    model: CrossEncoder = CrossEncoder(
        str(source), device="cpu", local_files_only=True, model_kwargs={"attn_implementation": "eager"}
    ).eval()
    if model.num_labels != 1:
        raise ConfigurationError("--model", f"expected one score for a pair of texts, got {model.num_labels}")
    return model


def _identity() -> torch.nn.Module:
    import torch

    return torch.nn.Identity()


def _export(model: CrossEncoder, target: Path) -> Any:
    import onnx
    import torch

    network: Any = model.model

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(ids, attention_mask=mask, token_type_ids=types).logits
            return logits[:, 0]

    sample = torch.tensor([[1, 2, 3], [1, 2, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    ragged = {0: "pairs", 1: "tokens"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Network().eval(),
            (*sample, torch.zeros_like(sample[0])),
            target,
            input_names=list(_INPUTS),
            output_names=["score"],
            dynamic_axes=dict.fromkeys(_INPUTS, ragged) | {"score": {0: "pairs"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load(target)
