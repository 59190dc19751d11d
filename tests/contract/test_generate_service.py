"""The GPU server's life as a process, with a stand-in engine (tests/vllm runs the real one)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from functions.generate.command import engine_command
from functions.generate.engine import Engine
from scripts.local.process import free_port
from shared.core.errors import ConfigurationError
from shared.settings import GenerateSettings
from tests.support.waiting import PATIENCE_S, until

ROOT = Path(__file__).parents[2]
KEY = "the-key-of-the-service-tests"
HEADERS = {"Authorization": f"Bearer {KEY}"}


@dataclass
class Service:
    process: subprocess.Popen[str]
    url: str
    engine_url: str
    folder: Path

    def next_event(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline() or "{}"))

    def ends_with(self) -> int:
        return self.process.wait(PATIENCE_S)

    def engines_child_ends(self) -> None:
        """Killed, and so a moment later gone; left alone it would live for a minute."""
        until(lambda: not _lives(int((self.folder / "pids").read_text())), seconds=30)


Starter = Callable[..., Service]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    started: list[subprocess.Popen[str]] = []

    def _start(
        behaviour: str, *, program: tuple[str, ...] = ("-m", "functions.generate"), **settings: str
    ) -> Service:
        folder = tmp_path / behaviour
        folder.mkdir()
        port, engine_port = free_port(), free_port()
        values = {"MODEL": folder, "API_KEY": KEY, "PORT": port, "ENGINE_PORT": engine_port, **settings}
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests/fakes/engine")])
        named = {f"RAGZERO_GENERATE_{name}": str(value) for name, value in values.items()}
        process = subprocess.Popen(
            [sys.executable, *program],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, **named},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return Service(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{engine_port}", folder)

    yield _start
    for process in started:
        process.kill()
        process.communicate()


def test_ready_only_after_a_completion_then_drained_on_sigterm(start: Starter) -> None:
    """The answer that is being written ends properly; the engine and its child are gone afterwards."""
    service = start("good")
    assert service.next_event()["event"] == "ready"
    body = {"model": "m", "messages": [], "stream": True}
    with httpx.stream("POST", f"{service.url}/v1/chat/completions", json=body, headers=HEADERS) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        service.process.send_signal(signal.SIGTERM)
        rest = b"".join(pieces)
    assert rest.endswith(b"data: [DONE]\n\n")
    assert service.next_event()["event"] == "draining"
    assert service.ends_with() == 0
    service.engines_child_ends()


def test_an_engine_that_does_not_become_ready_is_given_up(start: Starter) -> None:
    service = start("slow", STARTUP_SECONDS="2")
    assert service.next_event()["error"] == "DeadlineExceeded"
    assert service.ends_with() == 1
    if (service.folder / "pids").exists():  # it may not have come so far
        service.engines_child_ends()


@pytest.mark.parametrize(
    ("behaviour", "error", "said"),
    [
        ("crash", "Unavailable", "exited with code 3"),
        (
            "mute",
            "ConfigurationError",
            "RAGZERO_GENERATE_MODEL: cannot chat: you must provide a chat template",
        ),
    ],
)
def test_an_engine_that_cannot_serve_is_a_clear_end(
    start: Starter, behaviour: str, error: str, said: str
) -> None:
    service = start(behaviour)
    event = service.next_event()
    assert event["error"] == error
    assert said in event["message"]
    assert service.ends_with() == 1


def test_the_port_stays_shut_until_it_is_ready_and_sigterm_ends_it_at_once(start: Starter) -> None:
    service = start("slow")
    until(lambda: (service.folder / "pids").exists())
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.url}/health", headers=HEADERS)
    service.process.send_signal(signal.SIGTERM)
    assert service.ends_with() == 0
    service.engines_child_ends()


PATIENT_LAST_WORDS = """
from functions.generate import service
service._LAST_WORDS_S = 3600.0
from functions.generate import __main__
"""


def test_a_sick_engine_is_reported_answered_for_and_cleared_away(start: Starter) -> None:
    """It answers for its engine until it is told to stop, when nobody tells it for a few seconds."""
    service = start("good", program=("-c", PATIENT_LAST_WORDS))
    assert service.next_event()["event"] == "ready"
    httpx.post(f"{service.engine_url}/sicken")
    started = time.monotonic()
    assert "503" in service.next_event()["cause"]
    assert time.monotonic() - started < 30
    for _ in range(200):  # one that leaves at once answers a few, too
        assert httpx.get(f"{service.url}/v1/models", headers=HEADERS).status_code == 503
    service.process.send_signal(signal.SIGTERM)
    assert service.ends_with() == 70
    service.engines_child_ends()


def test_a_killed_server_leaves_no_engine(start: Starter) -> None:
    service = start("good")
    assert service.next_event()["event"] == "ready"
    service.process.kill()
    until(lambda: not _answers(service.engine_url))


STUMBLING = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        if Handler.asked % 3:
            self.do_POST()
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


async def test_a_connection_that_breaks_now_and_then_is_no_death() -> None:
    """A busy engine closes kept connections under our feet; killing it for that would end every answer."""
    port = free_port()
    engine = Engine([sys.executable, "-c", STUMBLING, str(port)], f"http://127.0.0.1:{port}", "any")
    await engine.start(PATIENCE_S)
    await asyncio.sleep(2)
    assert engine.death.cause is None
    await engine.stop(within_s=0)


IN_A_CONTAINER = """
import time
from functions.generate.container import Container
Container().start()
print('{"event": "up"}', flush=True)
time.sleep(60)
"""


def test_a_container_leaves_when_its_server_does(start: Starter) -> None:
    """By itself. A host such as Modal starts another only when this one is gone."""
    container = start("good", program=("-c", IN_A_CONTAINER))
    assert container.next_event()["event"] == "up"
    httpx.post(f"{container.engine_url}/sicken")
    assert container.ends_with() == 70
    container.engines_child_ends()


def test_a_container_that_cannot_start_says_why(start: Starter) -> None:
    program = ("-c", IN_A_CONTAINER.replace("Container().start()", SAY_WHY))
    event = start("mute", program=program).next_event()
    assert "you must provide a chat template" in event["message"]


SAY_WHY = """
import json
try:
    Container().start()
except Exception as error:
    print(json.dumps({"message": str(error)}), flush=True)
    raise SystemExit(1)
"""


def test_a_taken_port_is_known_before_the_engine_starts(start: Starter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        service = start("good", PORT=str(taken.getsockname()[1]))
        assert "RAGZERO_GENERATE_PORT" in service.next_event()["message"]
    assert not (service.folder / "pids").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY", "short"),
        ("PORT", "70000"),
        ("REVISION", "main"),
        ("DTYPE", "int3"),
        ("MAX_SEQUENCES", "0"),
    ],
)
def test_a_wrong_variable_is_named_and_the_key_is_not_shown(start: Starter, name: str, value: str) -> None:
    event = start("good", **{name: value}).next_event()
    assert event["error"] == "ConfigurationError"
    assert f"RAGZERO_GENERATE_{name}" in event["message"]
    assert "short" not in event["message"]


def _settings(**overrides: object) -> GenerateSettings:
    return GenerateSettings.load(**{"model": "./m", "api_key": KEY, **overrides})


def test_the_command_line_follows_the_settings() -> None:
    command = engine_command(
        _settings(enforce_eager=True, max_model_len=4096, max_sequences=7, dtype="float16")
    )
    line = " ".join(command)
    for part in ("--enforce-eager", "--max-model-len 4096", "--max-num-seqs 7", "--dtype float16"):
        assert part in line
    assert "--enable-prefix-caching" in line
    assert "--host 127.0.0.1" in line
    assert "--revision" not in line
    assert KEY not in line
    plain = engine_command(_settings(prefix_caching=False))
    assert "--no-enable-prefix-caching" in plain
    assert "--enforce-eager" not in plain


def test_a_hub_model_needs_a_pinned_commit() -> None:
    with pytest.raises(ConfigurationError, match="RAGZERO_GENERATE_REVISION"):
        engine_command(_settings(model="org/model"))
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert f"--revision {commit}" in " ".join(engine_command(_settings(model="org/model", revision=commit)))


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
