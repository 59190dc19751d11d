"""The real vLLM engine on a CPU, started through functions/generate in an environment of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.local.process import free_port

ROOT = Path(__file__).parents[2]
MODEL_LENGTH = 32_768


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int
    key: str
    model: str
    engine: httpx.Client
    """Past the fence, straight to the engine."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def next_event(self) -> dict[str, Any]:
        """The next line of stdout; {} at its end."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return dict(json.loads(line)) if line else {}

    def metric(self, name: str) -> float:
        """A gauge or counter of the engine, summed over its labels."""
        text = self.engine.get("/metrics").text
        values = re.findall(rf"^{re.escape(name)}{{[^}}]*}} (\S+)$", text, re.M)
        assert values, name
        return sum(map(float, values))

    def core_pid(self) -> int:
        """The process that computes: a child of the API server, which is our child's child."""
        listing = subprocess.check_output(["ps", "-eo", "pid,ppid,args"], text=True).splitlines()[1:]
        rows = [line.split(None, 2) for line in listing]
        engines = [pid for pid, parent, _ in rows if parent == str(self.process.pid)]
        return next(int(pid) for pid, parent, args in rows if parent in engines and "EngineCore" in args)


@pytest.fixture(scope="session")
def vllm_python() -> str:
    made = subprocess.run(
        [ROOT / "scripts/vllm-env"], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    return str(ROOT / made.stdout.split()[-1])


@pytest.fixture(scope="session")
def tiny_model(vllm_python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny-llama"
    subprocess.run([vllm_python, "-m", "scripts.vllm_model", folder], check=True, cwd=ROOT)
    return folder


@pytest.fixture(scope="session")
def server(vllm_python: str, tiny_model: Path) -> Iterator[Server]:
    started = start(vllm_python, tiny_model)
    try:
        ready = started.next_event()
        assert ready.get("event") == "ready", ready
        print(f"vLLM was ready after {ready['seconds']} s")
        yield started
    finally:
        stop(started.process)
        print("vLLM's last words:", *iter(started.next_event, {}))
        assert started.process.stdout is not None
        started.process.stdout.close()
        started.engine.close()


def start(vllm_python: str, model: Path) -> Server:
    port, engine_port, key = free_port(), free_port(), "the-key-of-the-vllm-tests"
    settings = {
        "MODEL": str(model),
        "SERVED_NAME": "tiny",
        "API_KEY": key,
        "PORT": str(port),
        "ENGINE_PORT": str(engine_port),
        "DTYPE": "float32",
        "MAX_MODEL_LEN": str(MODEL_LENGTH),
        "MAX_SEQUENCES": "32",
        "ENFORCE_EAGER": "1",
        "CPU_KV_CACHE_GB": "1",
        "STARTUP_SECONDS": "300",
    }
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_RPC_BASE_PATH": str(model.parent),  # a killed engine leaves its sockets there
        **{f"RAGZERO_GENERATE_{name}": value for name, value in settings.items()},
    }
    command = [vllm_python, "-m", "functions.generate"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    return Server(process, port, key, "tiny", httpx.Client(base_url=f"http://127.0.0.1:{engine_port}"))


def stop(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
