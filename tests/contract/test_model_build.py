"""The build makes a whole folder that agrees with the original model, or none; models here are tiny."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.model_build import PROBES, Recipe, build, find_model, main
from shared.adapters.onnx_embedder import MANIFEST, MIN_PARITY, OnnxEmbedder, file_sha256
from shared.core.errors import ConfigurationError, SpaceMismatch
from tests.support.tiny_models import SIZES, save_tokenizer

WINDOW = 48


def tiny_model(folder: Path, *, pooling: str = "mean", scale: float = 1.0, extra: Any = None) -> Path:
    """A random BERT in sentence-transformers' own format."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel

    plain = folder / "plain"
    save_tokenizer(plain)
    torch.manual_seed(5)
    bert = BertModel(BertConfig(max_position_embeddings=64, **SIZES))
    bert.embeddings.word_embeddings.weight.data *= scale
    bert.save_pretrained(plain)
    modules = [
        Transformer(str(plain), max_seq_length=WINDOW),
        Pooling(64, pooling_mode=pooling),
        extra or Normalize(),
    ]
    SentenceTransformer(modules=modules, device="cpu", prompts={"query": "q: ", "document": "d: "}).save(
        str(folder / "tiny"), create_model_card=False
    )
    return folder / "tiny"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "tiny"
    build(Recipe(str(source), int8=True), out)
    return out


def torch_vectors(source: Path, texts: list[str], **options: Any) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(source), device="cpu").encode(texts, **options)


def test_the_folder_holds_what_the_manifest_lists(built: Path) -> None:
    manifest = OnnxEmbedder.load(built).manifest
    assert sorted(path.name for path in built.iterdir()) == sorted([*manifest.files, MANIFEST])
    assert all(file_sha256(built / name) == digest for name, digest in manifest.files.items())
    assert (manifest.dimension, manifest.max_tokens, manifest.pooling) == (64, WINDOW, "mean")
    assert manifest.probes == PROBES
    assert manifest.parity["fp32"].min >= MIN_PARITY
    assert str(Path.home()) not in (built / MANIFEST).read_text()


def test_vectors_and_prompts_are_those_of_sentence_transformers(source: Path, built: Path) -> None:
    embedder = OnnxEmbedder.load(built)
    texts = ["The rent is due.", "no " * 100, "", "lease?"]
    expected = torch_vectors(source, texts, prompt_name="document")
    np.testing.assert_allclose((embedder.encode(texts) * expected).sum(axis=1), 1, atol=1e-3)
    question = torch_vectors(source, ["lease?"], prompt_name="query")[0]
    assert embedder.encode_query("lease?") @ question > MIN_PARITY


def test_cls_pooling_is_built_as_such(tmp_path: Path) -> None:
    source = tiny_model(tmp_path, pooling="cls")
    manifest = build(Recipe(str(source)), tmp_path / "out")
    assert manifest.pooling == "cls"
    expected = torch_vectors(source, ["The rent is due."], prompt="")
    found = OnnxEmbedder.open(tmp_path / "out", replace(manifest, document_prefix=""), variant="fp32")
    assert float((found.encode(["The rent is due."]) * expected).sum()) > MIN_PARITY


def test_building_again_gives_the_same_folder(source: Path, built: Path, tmp_path: Path) -> None:
    build(Recipe(str(source), int8=True), tmp_path / "again")
    for path in built.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_the_space_is_the_models_not_the_files(source: Path, built: Path, tmp_path: Path) -> None:
    """float32 storage is another file of the same space; other prefixes are another space."""
    fingerprint = OnnxEmbedder.load(built).fingerprint
    plain = build(Recipe(str(source), float32=True), tmp_path / "plain")
    assert plain.fingerprint == fingerprint
    assert file_sha256(tmp_path / "plain" / "model.onnx") != file_sha256(built / "model.onnx")
    assert build(Recipe(str(source), query_prefix=""), tmp_path / "other").fingerprint != fingerprint


def test_a_model_that_float16_cannot_store_is_refused_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tiny_model(tmp_path, scale=1e8)
    before = sorted(tmp_path.iterdir())
    capsys.readouterr()
    assert main(["--model", str(source), "--out", str(tmp_path / "out")]) == 1
    assert "do not fit into float16; build with --float32" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    assert main(["--model", str(source), "--out", str(tmp_path / "out"), "--float32"]) == 0


def test_an_export_that_disagrees_is_refused_and_the_old_folder_stays(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    build(Recipe(str(source)), out)
    before = {path.name: file_sha256(path) for path in out.iterdir()}
    monkeypatch.setattr("scripts.model_build._mean", lambda hidden, _: hidden.sum(1) + hidden[:, 0])
    with pytest.raises(SpaceMismatch, match="agrees to cosine"):
        build(Recipe(str(source)), out)
    assert {path.name: file_sha256(path) for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]


def test_what_cannot_be_exported_is_named(tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Dense

    with pytest.raises(ConfigurationError, match="Dense"):
        build(Recipe(str(tiny_model(tmp_path / "a", extra=Dense(64, 32)))), tmp_path / "out")
    with pytest.raises(ConfigurationError, match="got max"):
        build(Recipe(str(tiny_model(tmp_path / "b", pooling="max"))), tmp_path / "out")


def test_a_folder_that_is_no_model_is_not_replaced(source: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="not replacing"):
        build(Recipe(str(source)), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_the_default_model_comes_with_the_installation() -> None:
    config = json.loads((find_model("all-MiniLM-L6-v2") / "config.json").read_text())
    assert config["hidden_size"] == 384
