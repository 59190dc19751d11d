"""A function in a process of its own under a Lambda-like parent: frozen between calls, killed at named points.

Production code names its points with `shared.telemetry.checkpoint("name")`.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import select
import signal
import socket
import time
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psutil

from scripts.local.lambda_runtime import HandlerError, Killed, TimedOut
from scripts.local.process import tail
from tests.support import lambda_child
from tests.support.waiting import PATIENCE_S

__all__ = ["ROOT", "HandlerError", "Killed", "LambdaProcess", "TimedOut"]

ROOT = Path(__file__).resolve().parents[2]
TICK = 0.02
_CALL_S = 120.0  # its time goes on while a test lets a call wait for others
# Most of a start would be spent on these, which are not ours; a process forked where they are loaded already starts in a tenth of it.
_nursery = multiprocessing.get_context("forkserver")
_nursery.set_forkserver_preload(
    ["boto3", "numpy", "onnxruntime", "psycopg", "pydantic_settings", "tokenizers"]
)


class Invocation:
    """A call under way."""

    def __init__(self, process: LambdaProcess, deadline: float) -> None:
        self._process = process
        self._deadline = deadline

    def wait_paused(self, timeout: float = PATIENCE_S) -> None:
        """Return when the function has stopped itself at the call's pause_at."""
        give_up = time.monotonic() + timeout
        while not self._process.stopped():
            if not self._process.alive():
                raise Killed(
                    f"ended with {self._process.exit_code} before it paused; {self._process.log_tail()}"
                )
            if time.monotonic() > give_up:
                raise TimeoutError(f"not paused after {timeout:g} s; {self._process.log_tail()}")
            time.sleep(TICK)

    def thaw(self) -> None:
        self._process.thaw()

    def result(self) -> Any:
        """The handler's response; raises HandlerError, TimedOut or Killed."""
        answer = self._process.receive(self._deadline)
        if self._process.freezes:
            self._process.freeze()
        if "error" in answer:
            raise HandlerError(*answer["error"])
        return answer["response"]


class LambdaProcess:
    """One execution environment. It starts at the first call, and afresh at the first call after it died.

    env is all of the function's environment besides PATH and HOME; freezes=False leaves it running between calls.
    """

    def __init__(self, handler: str, env: Mapping[str, str], folder: Path, *, freezes: bool = True) -> None:
        self.freezes = freezes
        self.init_seconds = 0.0
        self._handler = handler
        self._env = env
        self._log = folder / f"lambda-{id(self):x}.log"
        self._child: ForkServerProcess | None = None
        self._socket: socket.socket | None = None
        self._unread = b""

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self.alive() else None

    @property
    def exit_code(self) -> int | None:
        return None if self._child is None else self._child.exitcode

    def invoke(
        self, event: Any, timeout: float = _CALL_S, *, kill_at: str | None = None, occurrence: int = 1
    ) -> Any:
        """Call the handler and wait; with kill_at it is killed at that checkpoint (its occurrence-th passing)."""
        return self.begin(event, timeout, kill_at=kill_at, occurrence=occurrence).result()

    def begin(
        self,
        event: Any,
        timeout: float = _CALL_S,
        *,
        kill_at: str | None = None,
        pause_at: str | None = None,
        occurrence: int = 1,
    ) -> Invocation:
        """Call the handler without waiting. pause_at stops the process at that checkpoint until thaw."""
        if not self.alive():
            self.start()
        self.thaw()
        points = {"kill_at": kill_at, "pause_at": pause_at, "occurrence": occurrence}
        self._send({"event": event, "timeout": timeout, **points})
        return Invocation(self, time.monotonic() + timeout)

    def start(self, timeout: float = PATIENCE_S) -> None:
        """Start the process and import the handler; init_seconds says how long that took."""
        self.kill()
        ours, theirs = socket.socketpair()
        started = time.monotonic()
        with theirs:
            environment = {**_basics(), **self._env}
            self._child = _nursery.Process(
                target=lambda_child.run, args=(self._handler, theirs, environment, str(self._log))
            )
            self._child.start()
        self._socket, self._unread = ours, b""
        self.receive(started + timeout)
        self.init_seconds = time.monotonic() - started

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL for the process and everything it started."""
        self._signal(signal.SIGKILL)
        if self._child is not None:
            self._child.join()
        if self._socket is not None:
            self._socket.close()
        self._child = self._socket = None

    def alive(self) -> bool:
        return self._child is not None and self._child.is_alive()

    def stopped(self) -> bool:
        if self._child is None:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            return bool(psutil.Process(self._child.pid).status() == psutil.STATUS_STOPPED)
        return False

    def log_tail(self) -> str:
        return f"the end of its log:\n{tail(self._log)}"

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next message from the child."""
        while b"\n" not in self._unread:
            if time.monotonic() > deadline:
                self.kill()
                raise TimedOut(f"{self._handler} did not answer in time; {self.log_tail()}")
            self._read()
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> LambdaProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _read(self) -> None:
        assert self._socket is not None
        # The end of the process is looked for too: what it forked may still hold its socket open.
        dead = not self.alive()
        ready, _, _ = select.select([self._socket], [], [], 0 if dead else TICK)
        data = self._socket.recv(1 << 16) if ready else b""
        self._unread += data
        if not data and (dead or ready):
            self._bury()

    def _bury(self) -> None:
        child = self._child
        if child is not None:
            child.join(5)
        code = None if child is None else child.exitcode
        self.kill()
        raise Killed(f"{self._handler} ended with {code} before it answered; {self.log_tail()}")

    def _send(self, message: dict[str, Any]) -> None:
        assert self._socket is not None
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            # The whole session, dead leader or not: its children freeze and die with the environment.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)


def _basics() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "AWS_LAMBDA_FUNCTION_NAME": "under-test",
    }
