"""Another embedding model for tests, made in a second: the usual one's vectors, turned at random into fewer dimensions.

Near things stay near, so it searches well, but no vector of the one space means anything in the other, and the
dimensions tell them apart.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from shared.adapters.onnx_embedder import (
    MANIFEST,
    MODEL_FILES,
    TOKENIZER,
    Manifest,
    OnnxEmbedder,
    Parity,
    file_sha256,
)

DIMENSION = 256


def turned(model_dir: Path, out: Path, dimension: int = DIMENSION, seed: int = 7) -> Path:
    """The folder of a model whose vectors are those of the one in model_dir times a random matrix, scaled to length 1."""
    out.mkdir(parents=True)
    os.link(model_dir / TOKENIZER, out / TOKENIZER)
    file = MODEL_FILES["fp32"]
    graph = onnx.load(model_dir / file)
    _turn(graph, dimension, seed)
    onnx.save(graph, out / file)
    original = Manifest.read(model_dir)
    manifest = replace(
        original,
        name=f"turned-{dimension}",
        model=f"turned-{dimension}",
        revision=f"seed-{seed}",
        dimension=dimension,
        source={**original.source, "weights": hashlib.sha256(f"{dimension} {seed}".encode()).hexdigest()},
        files={name: file_sha256(out / name) for name in (file, TOKENIZER)},
    )
    vectors = OnnxEmbedder.open(out, manifest, variant="fp32").encode(manifest.probes)
    proved = replace(manifest, probe_vectors=vectors, parity={"fp32": Parity(1.0, 1.0, vectors)})
    (out / MANIFEST).write_text(json.dumps(proved.to_dict()))
    return out


def _turn(graph: onnx.ModelProto, dimension: int, seed: int) -> None:
    full = graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value or 384
    matrix = np.random.default_rng(seed).standard_normal((full, dimension)).astype(np.float32)
    for node in graph.graph.node:
        node.output[:] = ["full" if name == "embedding" else name for name in node.output]
    graph.graph.initializer.append(numpy_helper.from_array(matrix, "turn"))
    graph.graph.node.extend(
        [
            helper.make_node("MatMul", ["full", "turn"], ["turned"]),
            helper.make_node("LpNormalization", ["turned"], ["embedding"], axis=1, p=2),
        ]
    )
    graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value = dimension
