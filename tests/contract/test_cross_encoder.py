"""A cross-encoder of one's own: built, refused when it is not as it was built, and used by the mode thorough."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from scripts.model_build import PROBES, main
from shared.adapters.onnx_embedder import MANIFEST
from shared.adapters.onnx_reranker import MODEL, OnnxReranker
from shared.core.errors import ConfigurationError
from tests.support.access import operating
from tests.support.installation import Installation
from tests.support.sweeping import work_off
from tests.support.tiny_models import SIZES, save_tokenizer

QUESTION = "Which crane lifts most?"
TEXTS = {
    "a.txt": "The harbour crane lifts forty tonnes.",
    "b.txt": "The crane of the yard lifts nine tonnes, and no more than that on a windy day.",
    "c.txt": "A crane is a bird, too, which lifts nothing.",
    "d.txt": "Most lifts are inspected once a year.",
}


def tiny_model(folder: Path, *, typed: bool) -> Path:
    """A random one, whose scores lie far enough apart."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    save_tokenizer(folder, typed=typed)
    torch.manual_seed(5)
    config = BertConfig(max_position_embeddings=96, num_labels=1, initializer_range=0.2, **SIZES)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def build(source: Path, out: Path) -> Path:
    assert main(["--cross-encoder", "--model", str(source), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("cross") / "tiny-cross", typed=True)


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, tmp_path_factory.mktemp("built") / "tiny")


def originals(source: Path, texts: list[str]) -> list[float]:
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(source), device="cpu", local_files_only=True)
    pairs = [(QUESTION, text) for text in texts]
    scores = model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    return [float(score) for score in scores]


def test_it_scores_as_the_original_does_alone_and_in_company(source: Path, built: Path) -> None:
    texts = [*TEXTS.values(), *PROBES]
    reranker, expected = OnnxReranker.load(built), originals(source, texts)
    assert max(expected) - min(expected) > 0.5
    assert reranker.score(QUESTION, texts) == pytest.approx(expected, abs=0.02, rel=0.02)
    alone = [reranker.score(QUESTION, [text])[0] for text in texts]
    assert alone == pytest.approx(expected, abs=0.02, rel=0.02)


def test_one_that_is_not_told_which_text_a_token_is_of(tmp_path: Path) -> None:
    source = tiny_model(tmp_path / "tiny-cross", typed=False)
    reranker = OnnxReranker.load(build(source, tmp_path / "built"))
    texts = list(TEXTS.values())
    assert reranker.score(QUESTION, texts) == pytest.approx(originals(source, texts), abs=0.02, rel=0.02)


def test_a_folder_that_is_not_as_it_was_built_is_refused(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(built, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["probes"][0][2] += 1
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ConfigurationError, match=r"RAGZERO_RERANK_DIR: .*scores a probe"):
        OnnxReranker.load(folder)
    (folder / MODEL).write_bytes((folder / MODEL).read_bytes()[:-1])
    with pytest.raises(ConfigurationError, match=r"model\.onnx is not the file"):
        OnnxReranker.load(folder)
    with pytest.raises(ConfigurationError, match="not a usable manifest"):
        OnnxReranker.load(tmp_path)


def test_thorough_ranks_passages_as_the_cross_encoder_does(
    installation: Installation, source: Path, built: Path
) -> None:
    for key, text in TEXTS.items():
        installation.put(key, text)
    work_off(installation)
    with operating(installation, rerank_dir=built) as api:
        found = api.post("/v1/search", json={"question": QUESTION, "mode": "thorough"}).json()
        quick = api.post("/v1/search", json={"question": QUESTION, "mode": "balanced"}).json()
        ready = api.get("/readyz").json()
    scores = dict(zip(TEXTS.values(), originals(source, list(TEXTS.values())), strict=True))
    ranked = [passage["text"] for passage in found["results"]]
    assert ranked == sorted(TEXTS.values(), key=lambda text: -scores[text])
    assert ranked != [passage["text"] for passage in quick["results"]]
    assert found["warnings"] == []
    assert "rerank" in found["timings_ms"]
    assert ready["dependencies"]["reranker"] == "ok"
