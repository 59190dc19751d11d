"""Parses documents in limited processes, one fork each, and says what happened when one of them ends badly."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from types import TracebackType
from typing import Self

from functions.ingest.parsing import wire
from functions.ingest.parsing.limits import ParseLimits
from shared.core.errors import Unavailable, UnreadableDocument
from shared.core.models import ParsedDocument

_START_SECONDS = 30.0
_CHUNK = 1 << 20
_TICK = 0.25


class ParserPool:
    """Parses one document at a time in a child that holds no secrets and can open neither files nor connections.

    The process that forks the children starts with the first document, and again whenever it is found dead. Safe to
    share between threads; they take turns.
    """

    def __init__(self, limits: ParseLimits | None = None) -> None:
        self.limits = limits or ParseLimits()
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def parse(self, data: bytes, *, name: str) -> ParsedDocument:
        """The document's text. UnreadableDocument where the file is at fault (besides the parsers' own codes:
        timeout, out_of_memory, crashed, too_large), Unavailable where no parser could be started."""
        if len(data) > self.limits.input_bytes:
            raise self.limits.too_large(len(data))
        with self._lock:
            started_before = self._server is not None
            try:
                return self._attempt(data, name)
            except Unavailable:
                if not started_before:
                    raise
            return self._attempt(data, name)  # it died since the last document; this one starts another

    def close(self) -> None:
        """Ends the processes; a later parse starts new ones."""
        with self._lock:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _attempt(self, data: bytes, name: str) -> ParsedDocument:
        try:
            if self._server is None:
                self._server = _Server(self.limits)
            return self._server.parse(data, name)
        except UnreadableDocument:
            raise
        except BaseException:  # interrupted midway: the conversation with this server cannot go on
            self._stop()
            raise

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()


class _Server:
    """The running fork server, see server.py for what is said to it."""

    def __init__(self, limits: ParseLimits) -> None:
        self._limits = limits
        self._control, theirs = socket.socketpair()
        self._control.settimeout(_START_SECONDS)
        with theirs, _translated():
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    sys.executable,
                    "-s",
                    "-P",
                    "-m",
                    "functions.ingest.parsing.server",
                    json.dumps(asdict(limits)),
                ],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        try:
            self._hear(len(wire.READY))
        except BaseException:
            self.stop()
            raise

    def parse(self, data: bytes, name: str) -> ParsedDocument:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, _translated():
                socket.send_fds(self._control, [b"."], [theirs.fileno()])
            answer = self._converse(ours, data, name)
            status, peak = self._end_child()
        if answer is None:
            raise self._limits.too_slow()
        try:
            return wire.decode(answer)
        except (ValueError, RecursionError):
            raise _post_mortem(status, peak, self._limits) from None

    def stop(self) -> None:
        self._control.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _converse(self, document: socket.socket, data: bytes, name: str) -> bytes | None:
        """What the child answers, possibly cut short; None when time ran out."""
        talk = _Conversation(document, self._limits.wall_seconds)
        named = name.encode("utf-8", "replace")
        try:
            talk.send(wire.REQUEST.pack(len(named), len(data)) + named)
            talk.send(data)
            return talk.receive(wire.max_bytes(self._limits.text_bytes, self._limits.blocks))
        except TimeoutError:
            return None

    def _end_child(self) -> tuple[int, int]:
        """Has the child killed, should it still live: its wait status and peak memory in bytes."""
        with _translated():
            self._control.sendall(wire.DONE)
        status, peak = wire.ENDED.unpack(self._hear(wire.ENDED.size))
        return status, peak

    def _hear(self, size: int) -> bytes:
        heard = b""
        with _translated():
            while len(heard) < size:
                part = self._control.recv(size - len(heard))
                if not part:
                    raise ConnectionResetError("the parser process ended")
                heard += part
        return heard


class _Conversation:
    """Sends and receives within so many seconds. Time during which this process was stopped does not count: the
    child may have answered meanwhile, and nobody could have read it."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._left = seconds
        self._last = time.monotonic()

    def send(self, data: bytes) -> None:
        """Sends all of it, or as much as the other side wants."""
        view = memoryview(data)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while view:
                self._wait(select.POLLOUT)
                view = view[self._connection.send(view[:_CHUNK]) :]

    def receive(self, limit: int) -> bytes:
        """Everything until the other side ends; nothing where that is more than limit bytes."""
        parts: list[bytes] = []
        size = 0
        with contextlib.suppress(ConnectionResetError):
            while self._wait(select.POLLIN) and (part := self._connection.recv(_CHUNK)):
                parts.append(part)
                size += len(part)
                if size > limit:
                    return b""
        return b"".join(parts)

    def _wait(self, event: int) -> bool:
        poller = select.poll()
        poller.register(self._connection, event)
        while not poller.poll(_TICK * 1000):
            self._count()
        self._count()
        return True

    def _count(self) -> None:
        now = time.monotonic()
        self._left -= min(now - self._last, 2 * _TICK)
        self._last = now
        if self._left <= 0:
            raise TimeoutError


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:  # a broken connection or a time-out
        raise Unavailable("parser", f"the parser process does not answer ({type(error).__name__})") from error


def _post_mortem(status: int, peak: int, limits: ParseLimits) -> UnreadableDocument:
    """What a child without a (whole) answer died of."""
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        return limits.too_slow()
    if code == -signal.SIGKILL:
        detail = "The parser was killed from outside; most likely the machine was short of memory."
    elif peak > 0.75 * limits.memory_bytes:
        return limits.out_of_memory()
    else:
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        mib = limits.memory_bytes / 2**20
        detail = f"The parser broke down on this file ({how}); it may use {mib:g} MiB of memory."
    return UnreadableDocument("crashed", detail)


def _environment() -> dict[str, str]:
    """Where Python and its modules are, and nothing else of ours: no credentials reach the parsers."""
    environment = {
        "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path),
        "PYTHONUTF8": "1",
    }
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        environment["LD_LIBRARY_PATH"] = str(sysconfig.get_config_var("LIBDIR"))
    return environment
