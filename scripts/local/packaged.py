"""A package under AWS's own runtime client, in what Lambda makes of a zip: a process in the unpacked folder that asks
for calls one at a time, is frozen between them, and is killed with everything it started when a call takes longer than
it may.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import resource
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import psutil

from scripts.local.lambda_runtime import HandlerError, Killed, TimedOut
from scripts.local.process import tail, tether
from scripts.local.runtime_api import Call, RuntimeApi
from scripts.packaging.toolchain import TASK_ROOT, interpreter, uv
from shared.core.errors import ConfigurationError

MB = 2**20
_CLIENT = ("awslambdaric", "simplejson", "snapshot-restore-py")
# A child that dies with its parent dies with the thread that made it, so this one stays.
_starter = ThreadPoolExecutor(1, thread_name_prefix="environments")


@dataclass(frozen=True)
class Runtime:
    """A Python that has nothing installed, and the folder with AWS's client for it."""

    python: Path
    client: Path

    @classmethod
    def prepared(cls, folder: Path, version: str) -> Runtime:
        """In folder, where it is kept. Raises ConfigurationError when this machine has no such Python."""
        home, client, done = folder / "python", folder / "client", folder / f"ready-{version}"
        if not done.exists():
            python = interpreter(version)
            subprocess.run([python, "-m", "venv", "--clear", "--without-pip", home], check=True)
            pins = [f"{name}=={installed(name)}" for name in _CLIENT]
            made = uv("pip", "install", "--no-deps", "--python", str(python), "--target", str(client), *pins)
            if made.returncode != 0:
                raise ConfigurationError("awslambdaric", f"uv could not install it:\n{made.stderr}")
            done.touch()
        return cls(home / "bin" / "python", client)

    @cached_property
    def version(self) -> str:
        told = subprocess.run([self.python, "-V"], capture_output=True, text=True, check=True).stdout
        return ".".join(told.split()[1].split(".")[:2])

    def environment(self, package: Path, memory_mb: int, name: str = "packaged") -> dict[str, str]:
        """What Lambda itself tells every function."""
        return {
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{self.version}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory_mb),
            "AWS_LAMBDA_FUNCTION_NAME": name,
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
    tethered: it dies with this process.
    """

    def __init__(
        self,
        package: Path,
        handler: str,
        env: Mapping[str, str],
        runtime: Runtime,
        log: Path,
        *,
        name: str = "packaged",
        memory_mb: int | None = None,
        tethered: bool = False,
    ) -> None:
        self.init_s = 0.0
        self.log = log
        self._name = name
        self._package = package
        self._handler = handler
        self._memory_mb = memory_mb
        # a zip lies at /var/task in Lambda; here it lies where it was unpacked
        own = {key: _moved(value, package) for key, value in env.items()}
        self._env = runtime.environment(package, memory_mb or 2048, name) | own
        self._command = [str(runtime.python), "-m", "awslambdaric", handler]
        self._tether = tether(signal.SIGKILL) if tethered else None
        self._api: RuntimeApi | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def invoke(self, event: Any, timeout: float = 30.0) -> Any:
        """The handler's response. Raises HandlerError, TimedOut or Killed."""
        return json.loads(self.call(json.dumps(event).encode(), timeout))

    def call(self, event: bytes, timeout: float) -> bytes:
        """invoke, with event and response as JSON."""
        self.start()
        assert self._api is not None
        self._signal(signal.SIGCONT)
        self._api.waiting.clear()
        self._api.calls.put(Call(str(uuid.uuid4()), event, time.time() + timeout, self._name))
        kind, body = self._answer(time.monotonic() + timeout)
        self._freeze()
        if kind == "error":
            raise _raised(body)
        return body

    def start(self, timeout: float = 60.0) -> None:
        """Imports the handler, unless the environment is there already. Raises HandlerError when that fails."""
        if self._child is not None and self._child.poll() is None:
            return
        self.kill()
        self._api = RuntimeApi()
        began = time.monotonic()
        self._child = _starter.submit(self._spawn, self._api.address).result()
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

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

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
                preexec_fn=self._prepare,
            )

    def _prepare(self) -> None:
        if self._tether is not None:
            self._tether()
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
        assert self._child is not None
        self._api.waiting.wait(5)
        self._signal(signal.SIGSTOP)
        while self._child.poll() is None and not self.stopped():
            time.sleep(0.001)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)


def _moved(value: str, package: Path) -> str:
    return str(package) + value.removeprefix(TASK_ROOT) if value.startswith(f"{TASK_ROOT}/") else value


def _raised(body: bytes) -> HandlerError:
    told = json.loads(body)
    trace = "".join(told.get("stackTrace", []))
    return HandlerError(told.get("errorType", ""), told.get("errorMessage", ""), trace)


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
