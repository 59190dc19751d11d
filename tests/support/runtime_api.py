"""A package under AWS's own runtime client: the Lambda Runtime API, and an execution environment that talks to it.

The environment is what Lambda makes of a zip: a process in the unpacked folder that asks for calls one at a time, is
frozen between them, and is killed with everything it started when a call takes longer than it may.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import resource
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

from scripts.local.process import HOST, tail
from tests.support.lambda_process import HandlerError, Killed, TimedOut

VERSION = "/2018-06-01/runtime"
MB = 2**20


@dataclass(frozen=True)
class Call:
    """deadline is on the wall clock, in seconds, as the client is told it."""

    id: str
    body: bytes
    deadline: float


class RuntimeApi(ThreadingHTTPServer):
    """GET invocation/next waits for a call; POST invocation/<id>/response or error, or init/error, ends it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.calls: queue.Queue[Call | None] = queue.Queue()
        self.answers: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self.waiting = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.server_address[1]}"

    def close(self) -> None:
        self.calls.put(None)
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RuntimeApi

    def do_GET(self) -> None:
        self.server.waiting.set()
        call = self.server.calls.get()
        if call is None:
            return
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(call.body)),
            "Lambda-Runtime-Aws-Request-Id": call.id,
            "Lambda-Runtime-Deadline-Ms": str(int(call.deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:packaged",
            "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0",
        }
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(call.body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.answers.put((self.path.rpartition("/")[2], body))

    def log_message(self, format: str, *args: Any) -> None:
        """Quietly."""


@dataclass(frozen=True)
class Runtime:
    """A Python that has nothing installed, and the folder with AWS's client for it."""

    python: Path
    client: Path

    @cached_property
    def version(self) -> str:
        told = subprocess.run([self.python, "-V"], capture_output=True, text=True, check=True).stdout
        return ".".join(told.split()[1].split(".")[:2])

    def environment(self, package: Path, memory_mb: int) -> dict[str, str]:
        """What Lambda itself tells every function."""
        return {
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{self.version}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
            "AWS_LAMBDA_FUNCTION_NAME": "packaged",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "LAMBDA_TASK_ROOT": str(package),
            "LANG": "en_US.UTF-8",
            "PATH": f"{self.python.parent}:/usr/bin:/bin",
            "PYTHONPATH": str(self.client),
            "TZ": ":UTC",
        }


class Packaged:
    """One execution environment of an unpacked package. It starts at the first call, and afresh after it died.

    memory_mb: address space of each of its processes, or no limit. init_s: from the start until it asked for a call.
    """

    def __init__(
        self,
        package: Path,
        handler: str,
        env: Mapping[str, str],
        runtime: Runtime,
        log: Path,
        *,
        memory_mb: int | None = None,
    ) -> None:
        self.init_s = 0.0
        self.log = log
        self._package = package
        self._handler = handler
        self._memory_mb = memory_mb
        self._env = runtime.environment(package, memory_mb or 2048) | dict(env)
        self._command = [str(runtime.python), "-m", "awslambdaric", handler]
        self._api: RuntimeApi | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def invoke(self, event: Any, timeout: float = 30.0) -> Any:
        """The handler's response. Raises HandlerError, TimedOut or Killed."""
        self.start()
        assert self._api is not None
        self._signal(signal.SIGCONT)
        self._api.waiting.clear()
        deadline = time.time() + timeout
        self._api.calls.put(Call(str(uuid.uuid4()), json.dumps(event).encode(), deadline))
        kind, body = self._answer(time.monotonic() + timeout)
        self._freeze()
        if kind == "error":
            raise _raised(body)
        return json.loads(body)

    def start(self, timeout: float = 60.0) -> None:
        """Imports the handler, unless the environment is there already. Raises HandlerError when that fails."""
        if self._child is not None and self._child.poll() is None:
            return
        self.kill()
        self._api = RuntimeApi()
        began = time.monotonic()
        self._child = self._spawn(self._api.address)
        while not self._api.waiting.wait(0.005):
            self._look(began + timeout)
        self.init_s = time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL for the process and everything it started."""
        self._signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()
        if self._api is not None:
            self._api.close()
        self._child = self._api = None

    def peak_mb(self) -> float:
        """The most memory that each of its processes has had, added up: more than they had at any one time."""
        assert self._child is not None
        process = psutil.Process(self._child.pid)
        return sum(_peak(each.pid) for each in (process, *process.children(recursive=True))) / MB

    def stopped(self) -> bool:
        assert self._child is not None
        return bool(psutil.Process(self._child.pid).status() == psutil.STATUS_STOPPED)

    def _spawn(self, address: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                cwd=self._package,
                env={**self._env, "AWS_LAMBDA_RUNTIME_API": address, "_HANDLER": self._handler},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self._limit,
            )

    def _limit(self) -> None:
        if self._memory_mb is not None:
            resource.setrlimit(resource.RLIMIT_AS, (self._memory_mb * MB, self._memory_mb * MB))

    def _answer(self, deadline: float) -> tuple[str, bytes]:
        assert self._api is not None
        while True:
            with contextlib.suppress(queue.Empty):
                return self._api.answers.get(timeout=0.01)
            self._look(deadline)

    def _look(self, deadline: float) -> None:
        """Raises when there is nothing to wait for any more."""
        assert self._child is not None
        assert self._api is not None
        if self._child.poll() is not None:
            code, answers = self._child.returncode, self._api.answers
            told = [] if answers.empty() else [answers.get()]
            self.kill()
            if told:
                raise _raised(told[0][1])
            raise Killed(f"{self._handler} ended with {code}; the end of its log:\n{tail(self.log)}")
        if time.monotonic() > deadline:
            self.kill()
            raise TimedOut(f"{self._handler} took too long; the end of its log:\n{tail(self.log)}")

    def _freeze(self) -> None:
        """Once it has asked for the next call, as Lambda does."""
        assert self._api is not None
        self._api.waiting.wait(5)
        self._signal(signal.SIGSTOP)
        while not self.stopped():
            time.sleep(0.001)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)


def _raised(body: bytes) -> HandlerError:
    told = json.loads(body)
    trace = "".join(told.get("stackTrace", []))
    return HandlerError(told.get("errorType", ""), told.get("errorMessage", ""), trace)


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
