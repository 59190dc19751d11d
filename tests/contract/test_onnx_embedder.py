"""The CPU encoder keeps the Embedder contract, and refuses to serve vectors that are not its space's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.model_build import DEFAULT_MODEL, MODELS, Recipe, build
from shared.adapters.onnx_embedder import MANIFEST, MIN_PARITY, Manifest, OnnxEmbedder, lowest_cosine
from shared.core.chunking import chunk
from shared.core.errors import BadUpstream, ConfigurationError, SpaceMismatch
from shared.core.models import Block, ParsedDocument
from shared.core.ports import Embedder

ROOT = Path(__file__).parents[2]
TEXTS = [
    "rent",
    "The tenant pays the rent in advance, on the first working day of the month.",
    "When does the lease end?",
    "a much longer text " * 30,
    "",
    "東京は日本の首都です。",
    "x",
]


@pytest.fixture(scope="module")
def folder() -> Path:
    """The default model with its int8 variant, which an installation need not have: built once, kept apart."""
    for name in (DEFAULT_MODEL, f"{DEFAULT_MODEL}-int8"):
        folder = ROOT / MODELS / name
        if (folder / MANIFEST).exists() and "int8" in Manifest.read(folder).parity:
            return folder
    build(Recipe(int8=True), folder)
    return folder


@pytest.fixture(scope="module")
def embedder(folder: Path) -> OnnxEmbedder:
    return OnnxEmbedder.load(folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A folder to tamper with; the large files are links until a test replaces them."""
    target = tmp_path / "model"
    shutil.copytree(folder, target, copy_function=os.symlink)
    (target / MANIFEST).unlink()
    shutil.copyfile(folder / MANIFEST, target / MANIFEST)
    return target


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads((folder / MANIFEST).read_text())
    change(data)
    (folder / MANIFEST).write_text(json.dumps(data))


def test_vectors_are_float32_of_length_one_and_in_the_order_given(embedder: OnnxEmbedder) -> None:
    port: Embedder = embedder
    vectors = port.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), port.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(port.encode([text])[0], vector, atol=1e-5)


def test_many_texts_of_all_lengths_are_each_themselves(embedder: OnnxEmbedder) -> None:
    texts = [f"{'word ' * (number * 7 % 90)}{number}" for number in range(60)]
    vectors = embedder.encode(texts)
    np.testing.assert_allclose(vectors[::-1], embedder.encode(texts[::-1]), atol=1e-5)


def test_no_texts_make_no_vectors(embedder: OnnxEmbedder) -> None:
    assert embedder.encode([]).shape == (0, embedder.dimension)


def test_a_question_is_one_vector_near_its_answer(embedder: OnnxEmbedder) -> None:
    question = embedder.encode_query("When must the rent be paid?")
    assert question.shape == (embedder.dimension,)
    scores = embedder.encode(TEXTS) @ question
    assert int(scores.argmax()) == 1


def test_text_beyond_the_window_is_cut_off(embedder: OnnxEmbedder) -> None:
    inside = "rent " * (embedder.manifest.max_tokens - 2)
    np.testing.assert_allclose(
        embedder.encode([inside]), embedder.encode([inside + "completely different"]), atol=1e-6
    )


def test_prefixes_are_put_before_questions_and_documents(embedder: OnnxEmbedder, folder: Path) -> None:
    manifest = replace(embedder.manifest, query_prefix="query: ", document_prefix="passage: ")
    prefixed = OnnxEmbedder.open(folder, manifest, variant="fp32")
    expected = embedder.encode(["query: rent", "passage: rent"])
    np.testing.assert_allclose(prefixed.encode_query("rent"), expected[0], atol=1e-5)
    np.testing.assert_allclose(prefixed.encode(["rent"])[0], expected[1], atol=1e-5)
    assert manifest.fingerprint != embedder.fingerprint


def test_offsets_are_of_the_whole_text_without_special_tokens(embedder: OnnxEmbedder) -> None:
    text = "Überraschung, 東京! " + "rent " * 1000
    offsets = embedder.offsets(text)
    assert len(offsets) > 1000
    assert text[slice(*offsets[-1])] == "rent"
    assert "".join(text[start:end] for start, end in offsets) == "".join(text.split())


def test_chunks_fit_the_window_with_their_special_tokens(embedder: OnnxEmbedder) -> None:
    text = " ".join(f"Clause {n} of the Überlassungsvertrag: {n * 7919} € fällig; 東京!" for n in range(300))
    headings = ("Contracts of every kind " * 20, "Lease")
    chunks = chunk(ParsedDocument("text/plain", (Block(text, 1, headings),)), embedder)
    sizes = [len(embedder.offsets(piece.embedding_text)) + 2 for piece in chunks]
    assert len(sizes) > 10
    assert max(sizes) <= embedder.manifest.max_tokens


def test_lone_surrogates_are_encoded_rather_than_raised(embedder: OnnxEmbedder) -> None:
    np.testing.assert_array_equal(embedder.encode_query("a \ud800 b"), embedder.encode_query("a ? b"))
    assert len(embedder.offsets("a \ud800 b")) == 3


def test_threads_share_one_encoder(embedder: OnnxEmbedder) -> None:
    expected = embedder.encode(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(embedder.encode, [TEXTS] * 12):
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_all_probes_are_where_the_manifest_says(embedder: OnnxEmbedder) -> None:
    manifest = embedder.manifest
    assert len(manifest.probes) >= 20
    assert lowest_cosine(embedder.encode(manifest.probes), manifest.probe_vectors) >= MIN_PARITY
    embedder.prove(len(manifest.probes))


def test_int8_is_refused_with_its_measured_parity_unless_allowed(
    folder: Path, embedder: OnnxEmbedder
) -> None:
    parity = embedder.manifest.parity["int8"]
    assert parity.min < MIN_PARITY
    with pytest.raises(SpaceMismatch, match=f"{parity.min:.4f}"):
        OnnxEmbedder.load(folder, variant="int8")
    allowed = OnnxEmbedder.load(folder, variant="int8", allow_int8=True)
    assert allowed.fingerprint != embedder.fingerprint, "its vectors are a space of their own"
    allowed.prove(len(embedder.manifest.probes))


def test_int8_vectors_do_not_depend_on_their_company(folder: Path) -> None:
    """Dynamic quantisation scales by the batch, so int8 must take one text at a time."""
    encoder = OnnxEmbedder.load(folder, variant="int8", allow_int8=True)
    np.testing.assert_array_equal(encoder.encode(TEXTS)[0], encoder.encode(TEXTS[:1])[0])


def test_another_models_file_is_refused(copy: Path) -> None:
    (copy / "model.onnx").unlink()
    shutil.copyfile(copy / "model-int8.onnx", copy / "model.onnx")
    with pytest.raises(SpaceMismatch, match="SHA-256"):
        OnnxEmbedder.load(copy)


def test_vectors_that_differ_from_the_probes_are_refused(copy: Path) -> None:
    def swap(data: dict[str, Any]) -> None:
        vectors = data["parity"]["fp32"]["vectors"]
        vectors[0], vectors[2] = vectors[2], vectors[0]

    rewrite(copy, swap)
    with pytest.raises(SpaceMismatch, match="reproduces its probes with cosine"):
        OnnxEmbedder.load(copy)


@pytest.mark.parametrize(
    ("field", "value"), [("pooling", "cls"), ("max_tokens", 512), ("fingerprint", "0" * 64)]
)
def test_a_manifest_that_contradicts_its_fingerprint_is_refused(
    copy: Path, field: str, value: object
) -> None:
    rewrite(copy, lambda data: data.update({field: value}))
    with pytest.raises(SpaceMismatch, match="claims space"):
        OnnxEmbedder.load(copy)


def test_a_missing_or_broken_folder_says_which(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere/manifest\.json"):
        OnnxEmbedder.load(tmp_path / "nowhere")
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ConfigurationError, match=r"tokenizer\.json"):
        OnnxEmbedder.load(copy)
    rewrite(copy, lambda data: data["parity"].pop("int8"))
    with pytest.raises(ConfigurationError, match="without int8"):
        OnnxEmbedder.load(copy, variant="int8", allow_int8=True)


def test_a_vector_of_another_length_is_never_handed_out(embedder: OnnxEmbedder, folder: Path) -> None:
    class Broken:
        """What a faulty kernel would do; the real one cannot be made to."""

        def run(self, _: list[str], feed: dict[str, Any]) -> list[Any]:
            return [np.full((len(feed["input_ids"]), embedder.dimension), np.nan, np.float32)]

    broken = OnnxEmbedder(embedder.manifest, "fp32", Broken(), folder / "tokenizer.json")
    with pytest.raises(SpaceMismatch, match="length 1"):
        broken.encode(["rent"])


def test_a_failure_inside_the_runtime_is_our_error(folder: Path, embedder: OnnxEmbedder) -> None:
    beyond = replace(embedder.manifest, max_tokens=4096)  # more positions than the model has
    with pytest.raises(BadUpstream, match="ONNX Runtime failed"):
        OnnxEmbedder.open(folder, beyond, variant="fp32").encode(["rent " * 3000])


def test_importing_is_cheap_and_nothing_heavy_is_ever_loaded(folder: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from shared.adapters.onnx_embedder import OnnxEmbedder\n"
        "early = {'numpy', 'onnxruntime', 'tokenizers'} & set(sys.modules)\n"
        "OnnxEmbedder.load(Path(sys.argv[1])).encode_query('rent')\n"
        "late = {'torch', 'transformers', 'huggingface_hub', 'onnx'} & set(sys.modules)\n"
        "sys.exit(f'{early} {late}' if early or late else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == done.stdout == "", "nothing is said on the way"
