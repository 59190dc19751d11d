"""The Modal definition says what it must, and its hooks run here with a stand-in engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from scripts.local.process import free_port
from shared.core.errors import ConfigurationError
from tests.support import modal_definition
from tests.support.modal_definition import COMMIT, KEY, ROOT, Definition

modal = pytest.importorskip("modal")

FILE = ROOT / "infra/modal/generate.py"
RECORDED = (
    (modal.App, "cls", "cls"),
    (modal, "concurrent", "concurrent"),
    (modal, "web_server", "web_server"),
    (modal.Secret, "from_name", "secret"),
    (modal.Image, "env", "env"),
)
Load = Callable[..., Definition]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    def _load(**environment: str) -> Definition:
        usual = {"RAGZERO_GENERATE_MODEL": "org/model", "RAGZERO_GENERATE_REVISION": COMMIT}
        return modal_definition.load(FILE, monkeypatch, RECORDED, usual | environment)

    return _load


@pytest.mark.parametrize(("environment", "most"), [("dev", 1), ("staging", 1), ("prod", 4)])
def test_it_scales_to_zero_and_never_far_up(load: Load, environment: str, most: int) -> None:
    told = load(MODAL_ENVIRONMENT=environment).told["cls"]
    assert told["min_containers"] == 0
    assert told["max_containers"] == most
    assert 60 <= told["scaledown_window"] <= 300


def test_an_unknown_environment_is_refused(load: Load) -> None:
    with pytest.raises(ConfigurationError, match="MODAL_ENVIRONMENT"):
        load(MODAL_ENVIRONMENT="production")


@pytest.mark.parametrize("revision", ["main", "", "v1.0"])
def test_only_a_commit_is_deployed(load: Load, revision: str) -> None:
    with pytest.raises(ConfigurationError, match="RAGZERO_GENERATE_REVISION"):
        load(RAGZERO_GENERATE_REVISION=revision)


def test_nobody_gets_in_without_a_proxy_token_and_the_key(load: Load) -> None:
    defined = load()
    assert defined.told["web_server"]["requires_proxy_auth"] is True
    assert defined.told["secret"]["required_keys"] == ["RAGZERO_GENERATE_API_KEY"]
    assert len(defined.told["cls"]["secrets"]) == 1


def test_gpu_volumes_concurrency_and_start_up_time(load: Load) -> None:
    told = load().told
    assert told["cls"]["gpu"] == "L4"
    assert told["cls"]["startup_timeout"] >= 600
    assert set(told["cls"]["volumes"]) == {"/weights", "/root/.cache/vllm"}
    assert "retries" not in told["cls"]  # Modal takes none for web functions
    assert told["concurrent"] == {"max_inputs": 64, "target_inputs": 32}


def test_gpu_snapshots_are_off_unless_asked_for(load: Load) -> None:
    told = load().told["cls"]
    assert told["enable_memory_snapshot"] is False
    assert told["experimental_options"] == {"enable_gpu_snapshot": False}
    assert load(RAGZERO_GENERATE_GPU_SNAPSHOT="1").told["cls"]["enable_memory_snapshot"] is True


def test_model_and_engine_are_pinned(load: Load) -> None:
    _, environment = load().args["env"]
    assert environment["RAGZERO_GENERATE_REVISION"] == COMMIT
    assert not [name for name in environment if "KEY" in name or "SECRET" in name]
    pins = (ROOT / "functions/generate/requirements.txt").read_text()
    lines = [line for line in pins.splitlines() if line and not line.startswith("#")]
    assert all("==" in line for line in lines)


def test_infra_modal_is_no_package_and_holds_no_logic() -> None:
    """An __init__.py there would shadow the Modal SDK; a branch or a loop there would be untested."""
    assert not (FILE.parent / "__init__.py").exists()
    assert not modal_definition.logic(FILE)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    def prepare(behaviour: str) -> Path:
        folder = tmp_path / behaviour
        folder.mkdir()
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests/fakes/engine")]))
        monkeypatch.setenv("RAGZERO_GENERATE_MODEL", str(folder))
        monkeypatch.setenv("RAGZERO_GENERATE_API_KEY", KEY)
        for name in ("PORT", "ENGINE_PORT"):
            monkeypatch.setenv(f"RAGZERO_GENERATE_{name}", str(free_port()))
        return folder

    return prepare


@pytest.mark.filterwarnings("ignore:The Generate.serve function is executing locally")
@pytest.mark.parametrize("snapshot", ["0", "1"])
def test_the_hooks_start_serve_and_stop(
    load: Load,
    stand_in: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    snapshot: str,
) -> None:
    defined = load(RAGZERO_GENERATE_GPU_SNAPSHOT=snapshot)
    folder = stand_in("good")
    monkeypatch.setenv("RAGZERO_GENERATE_SLEEP_MODE", snapshot)
    instance = defined.module.Generate()
    instance.serve.local()
    url = f"http://127.0.0.1:{os.environ['RAGZERO_GENERATE_PORT']}"
    health = httpx.get(f"{url}/health", headers={"Authorization": f"Bearer {KEY}"})
    slept = (folder / "slept").read_text() if snapshot == "1" else ""
    instance.container.stop()  # the exit hook's one line; Modal offers no way to run that hook here
    assert health.status_code == 200
    assert slept == ("/sleep?level=1 /wake_up? " if snapshot == "1" else "")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")
