"""The Modal definition of the embedding job says what it must, and its hooks run here on a real backlog."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from functions.embed import wiring
from functions.embed.probe import probe
from functions.ingest.wiring import build
from scripts.model_build import find_model
from shared.core.errors import ConfigurationError, Unavailable
from tests.support import modal_definition
from tests.support.installation import Installation
from tests.support.modal_definition import COMMIT, KEY, ROOT, Definition

modal = pytest.importorskip("modal")

FILE = ROOT / "infra/modal/embed.py"
RECORDED = (
    (modal.App, "cls", "cls"),
    (modal.App, "function", "function"),
    (modal, "asgi_app", "asgi_app"),
    (modal, "enter", "enter"),
    (modal.Secret, "from_name", "secret"),
    (modal.Image, "env", "env"),
    (modal.Image, "uv_pip_install", "install"),
    (modal.Image, "add_local_file", "file"),
)
Load = Callable[..., Definition]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, model_dir: Path) -> Load:
    def _load(**environment: str) -> Definition:
        usual = {
            "RAGZERO_EMBED_MODEL": "org/model",
            "RAGZERO_EMBED_REVISION": COMMIT,
            "RAGZERO_MODEL_DIR": str(model_dir),
        }
        return modal_definition.load(FILE, monkeypatch, RECORDED, usual | environment)

    return _load


@pytest.mark.parametrize(("environment", "most"), [("dev", 1), ("staging", 1), ("prod", 4)])
def test_it_scales_to_zero_and_never_far_up(load: Load, environment: str, most: int) -> None:
    told = load(MODAL_ENVIRONMENT=environment).told
    for part in ("cls", "function"):
        assert told[part]["min_containers"] == 0
        assert told[part]["scaledown_window"] <= 60
    assert told["cls"]["max_containers"] == most


def test_a_batch_job_may_be_tried_again_within_bounds(load: Load) -> None:
    told = load().told["cls"]
    assert told["retries"].max_retries == 2
    assert told["timeout"] > load().module.RUN


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MODAL_ENVIRONMENT", "production"),
        ("RAGZERO_EMBED_REVISION", "main"),
        ("RAGZERO_EMBED_REVISION", "v1.0"),
    ],
)
def test_what_cannot_be_deployed_is_refused_by_name(load: Load, variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        load(**{variable: value})


def test_gpu_volume_and_snapshot(load: Load) -> None:
    """Weights are loaded on the CPU before the snapshot and go to the GPU after it."""
    defined = load()
    told = defined.told["cls"]
    assert told["gpu"] == "T4"
    assert set(told["volumes"]) == {"/weights"}
    assert told["enable_memory_snapshot"] is True
    source = ast.parse(FILE.read_text())
    hooks = {
        node.name: ast.unparse(node.decorator_list[0])
        for node in ast.walk(source)
        if isinstance(node, ast.FunctionDef) and node.decorator_list
    }
    assert hooks["load"] == "modal.enter(snap=True)"
    assert hooks["place"] == "modal.enter(snap=False)"


def test_nobody_gets_in_without_a_proxy_token_and_the_key(load: Load) -> None:
    defined = load()
    assert defined.told["asgi_app"]["requires_proxy_auth"] is True
    assert defined.told["secret"]["required_keys"] == ["DATABASE_URL", "RAGZERO_EMBED_KEY"]
    assert len(defined.told["cls"]["secrets"]) == len(defined.told["function"]["secrets"]) == 1


def test_all_that_is_installed_is_pinned(load: Load) -> None:
    defined = load()
    _, environment = defined.args["env"]
    assert environment["RAGZERO_EMBED_REVISION"] == COMMIT
    assert not [name for name in environment if "KEY" in name or "SECRET" in name]
    assert defined.told["install"] == {"requirements": ["functions/embed/requirements.txt"]}
    pins = [
        line for line in (ROOT / "functions/embed/requirements.txt").read_text().splitlines() if "==" in line
    ]
    assert {"torch", "sentence-transformers", "psycopg"} <= {line.split("==")[0].strip() for line in pins}
    assert (ROOT / "functions/embed/requirements.txt").read_text().count("--hash=sha256:") > len(pins)


def test_infra_modal_holds_no_logic() -> None:
    assert not modal_definition.logic(FILE)


@pytest.fixture
def waiting(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """A document waits, and the environment is that of the container."""
    settings = installation.ingest_settings(
        cpu_lane_chunks=0, embed_url="http://127.0.0.1:9/wake", embed_key=KEY
    )
    installation.__dict__["ingest"] = build(settings, installation.embedder)
    installation.put("note.md", "# Note\n\nThe ferry leaves at nine.")
    installation.deliver()
    monkeypatch.setenv("DATABASE_URL", installation.url("ragzero_embed"))
    monkeypatch.setenv("RAGZERO_EMBED_KEY", KEY)
    monkeypatch.setenv("RAGZERO_EMBED_PATIENCE_SECONDS", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return installation


@pytest.mark.filterwarnings("ignore:The .* function is executing locally")
def test_the_hooks_load_place_and_run(
    load: Load, waiting: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    defined = load()
    monkeypatch.setenv("RAGZERO_EMBED_MODEL", str(find_model("all-MiniLM-L6-v2")))
    monkeypatch.setenv("RAGZERO_EMBED_DEVICE", "cpu")
    wiring.loaded.cache_clear()
    wiring.placed.cache_clear()
    report = defined.module.Embed().run.local()
    assert (report["published"], report["chunks"], report["device"]) == (1, 1, "cpu")
    assert waiting.document("note.md")["status"] == "searchable"


@pytest.mark.filterwarnings("ignore:The .* function is executing locally")
def test_the_door_takes_our_key_only(load: Load, waiting: Installation) -> None:
    client = TestClient(load().module.door.local())
    assert client.post("/wake", json={"containers": 1}).status_code == 401
    assert client.post("/wake", json={}, headers={"Authorization": f"Bearer {KEY}"}).status_code == 422


def test_the_probe_names_an_address_that_does_not_answer(waiting: Installation) -> None:
    with pytest.raises(Unavailable, match="did not answer"):
        probe("http://127.0.0.1:9")
