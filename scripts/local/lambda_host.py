"""Runs the packages that a local AWS was given as Lambda functions, in environments like Lambda's.

The emulator keeps the functions, their settings and their limits, and hands each call on to here (LocalAws,
hosted_at). What runs is the zip it was given, under AWS's own runtime client: see packaged.py.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import httpx
import psutil

from scripts.local.aws import LocalAws
from scripts.local.lambda_runtime import HandlerError, Killed, TimedOut
from scripts.local.packaged import Packaged, Runtime
from scripts.local.process import HOST, Server
from shared.telemetry import configure, get_logger

_UNRESERVED = 10
_log = get_logger(__name__)


class LambdaHost(Server):
    """python: the version that the packages were made for."""

    name = "lambda"
    preferred_port = 14567

    def __init__(
        self, folder: Path, aws: LocalAws, python: str, *, port: int | None = None, tethered: bool = False
    ) -> None:
        super().__init__(folder, port=port, tethered=tethered)
        self._aws = aws
        self._python = python

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        where = ["--port", str(self.port), "--folder", str(self.folder), "--python", self._python]
        return [sys.executable, "-m", "scripts.local.lambda_host", *where]

    def environment(self) -> dict[str, str]:
        root = str(Path(__file__).resolve().parents[2])
        return {**os.environ, **self._aws.variables, "PYTHONPATH": root, "PYTHONUNBUFFERED": "1"}

    def environments(self) -> dict[str, list[dict[str, Any]]]:
        """By function: {pid, busy, init_s, calls, peak_mb} of each environment that runs."""
        found: dict[str, list[dict[str, Any]]] = httpx.get(self.url, timeout=60).raise_for_status().json()
        return found


@dataclass(frozen=True)
class Deployed:
    """A function as the emulator was told of it. most: environments at a time."""

    name: str
    handler: str
    memory_mb: int
    variables: Mapping[str, str]
    most: int
    package: Path

    @classmethod
    def read(cls, name: str, packages: Path) -> Deployed:
        told: Any = boto3.client("lambda").get_function(FunctionName=name)
        configuration = told["Configuration"]
        return cls(
            name,
            configuration["Handler"],
            configuration["MemorySize"],
            configuration.get("Environment", {}).get("Variables", {}),
            told.get("Concurrency", {}).get("ReservedConcurrentExecutions", _UNRESERVED),
            _unpacked(httpx.get(told["Code"]["Location"], timeout=60).raise_for_status().content, packages),
        )


def _unpacked(content: bytes, packages: Path) -> Path:
    """The zip in a folder of its own, which others with the same content share."""
    folder = packages / hashlib.sha256(content).hexdigest()
    if folder.exists():
        return folder
    fresh = folder.with_suffix(".new")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(fresh)
        for entry in archive.infolist():
            (fresh / entry.filename).chmod(entry.external_attr >> 16)
    return fresh.rename(folder)


class Environment(Packaged):
    calls = 0

    def facts(self, *, busy: bool) -> dict[str, Any] | None:
        """None when its process has ended."""
        try:
            peak_mb = round(self.peak_mb())
        except psutil.NoSuchProcess:
            return None
        known = {"pid": self.pid, "busy": busy, "calls": self.calls}
        return {**known, "init_s": round(self.init_s, 3), "peak_mb": peak_mb}


class Fleet:
    """The environments of one function: one call each at a time, no more of them than the function may have."""

    def __init__(
        self, deployed: Deployed, runtime: Runtime, log: Path, credentials: Mapping[str, str]
    ) -> None:
        self._deployed = deployed
        self._runtime = runtime
        self._log = log
        self._credentials = credentials
        self._changed = threading.Condition()
        self._idle: list[Environment] = []
        self._busy: list[Environment] = []

    def call(self, event: bytes, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        environment = self._taken(timeout)
        try:
            environment.calls += 1
            return environment.call(event, deadline - time.monotonic())
        finally:
            self._give_back(environment)

    def facts(self) -> list[dict[str, Any]]:
        with self._changed:
            known = [(each, False) for each in self._idle] + [(each, True) for each in self._busy]
        facts = (each.facts(busy=busy) for each, busy in known if each.pid is not None)
        return [each for each in facts if each is not None]

    def end(self) -> None:
        for each in (*self._idle, *self._busy):
            each.kill()

    def _taken(self, timeout: float) -> Environment:
        with self._changed:
            if not self._changed.wait_for(self._room, timeout):
                raise TimedOut(f"{self._deployed.name}: all {self._deployed.most} environments are busy")
            environment = self._idle.pop() if self._idle else self._made()
            self._busy.append(environment)
            return environment

    def _room(self) -> bool:
        return bool(self._idle) or len(self._busy) < self._deployed.most

    def _give_back(self, environment: Environment) -> None:
        with self._changed:
            self._busy.remove(environment)
            self._idle.append(environment)
            self._changed.notify()

    def _made(self) -> Environment:
        return Environment(
            self._deployed.package,
            self._deployed.handler,
            {**self._credentials, **self._deployed.variables},
            self._runtime,
            self._log,
            name=self._deployed.name,
            memory_mb=self._deployed.memory_mb,
            tethered=True,
        )


class Host(ThreadingHTTPServer):
    """POST /<function>: a call. GET /: what runs."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, folder: Path, python: str) -> None:
        super().__init__((HOST, port), _Handler)
        self._folder = folder
        self._python = python
        self._lock = threading.Lock()
        self._fleets: dict[str, Fleet] = {}

    @cached_property
    def _runtime(self) -> Runtime:
        return Runtime.prepared(self._folder / "runtime", self._python)

    def fleet(self, name: str) -> Fleet:
        with self._lock:
            if name not in self._fleets:
                deployed = Deployed.read(name, self._folder / "packages")
                log = self._folder / f"{name}.log"
                self._fleets[name] = Fleet(deployed, self._runtime, log, _credentials())
            return self._fleets[name]

    def facts(self) -> dict[str, list[dict[str, Any]]]:
        return {name: fleet.facts() for name, fleet in list(self._fleets.items())}

    def end(self) -> None:
        for fleet in self._fleets.values():
            fleet.end()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Host

    def do_GET(self) -> None:
        self._say(200, json.dumps(self.server.facts()).encode())

    def do_POST(self) -> None:
        name, event = self.path.strip("/"), self.rfile.read(int(self.headers["Content-Length"]))
        left = float(self.headers["X-Amzn-Lambda-Deadline-Ms"]) / 1000 - time.time()
        try:
            self._say(200, self.server.fleet(name).call(event, left))
        except (HandlerError, Killed) as error:
            _log.warning("call_failed", function=name, error=type(error).__name__, reason=str(error))
            self._say(502, json.dumps({"errorType": type(error).__name__}).encode())

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quietly."""


def _credentials() -> dict[str, str]:
    wanted = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION")
    return {name: os.environ[name] for name in wanted}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--python", required=True)
    given = parser.parse_args()
    configure()
    (given.folder / "packages").mkdir(exist_ok=True)
    host = Host(given.port, given.folder, given.python)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=host.shutdown).start())
    try:
        host.serve_forever(poll_interval=0.1)
    finally:
        host.end()


if __name__ == "__main__":
    main()
