"""Child processes that survive nothing: started clean, watched until ready, stopped for good.

Every local server is a `Server`: it owns a folder (state, log, pid file) and one port on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from shared.core.errors import ConfigurationError, Unavailable

HOST = "127.0.0.1"
LOG_LINES_SHOWN = 15
_PORTS = range(20_000, 30_000)  # below those that Linux and macOS hand out to connections


def free_port(preferred: int = 0) -> int:
    """A port of 127.0.0.1 for a server that starts later: preferred where it can be had, otherwise any.

    Until this process ends nobody else gets the same number from here, in whatever process: what marks it as given is
    a UDP socket bound to it, which ends with its owner. No connection takes it in between either.
    """
    for port in (preferred, *_from_anywhere(_PORTS)):
        if port and _given(port):
            return port
    raise Unavailable("network", f"no free port on {HOST}")


def _from_anywhere(numbers: range) -> Iterator[int]:
    start = random.SystemRandom().randrange(len(numbers))
    yield from numbers[start:]
    yield from numbers[:start]


def _given(port: int) -> bool:
    """Whether port is the caller's from now on."""
    mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        mark.bind((HOST, port))
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except OSError:
        mark.close()
        return False
    mark.detach()  # stays bound until this process ends
    return True


def accepts(port: int) -> bool:
    """Whether something on this machine accepts TCP connections on port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0


def executable(name: str, hint: str) -> str:
    found = shutil.which(
        name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/opt/homebrew/bin"
    )
    if found is None:
        raise ConfigurationError(name, f"the program is not installed; {hint}")
    return found


def secret_file(path: Path) -> str:
    """The secret kept in path (mode 0600), made on first use."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
    return path.read_text()


def tail(path: Path, lines: int = LOG_LINES_SHOWN) -> str:
    if not path.exists():
        return "(no log)"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16_384))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def let_others_in(folder: Path) -> None:
    """Let another user walk through to folder (search permission only, nothing becomes listable)."""
    for step in (folder, *folder.parents):
        mode = step.stat().st_mode
        if not mode & 0o001:
            step.chmod(mode | 0o001)


def credentials(user: str | None) -> dict[str, Any]:
    """Arguments of Popen that make a child run as user, with that user's group and no other."""
    return {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


@dataclass(frozen=True)
class PidFile:
    """Names a process by pid and birth time, so that a reused pid is never taken for ours."""

    path: Path

    def write(self, pid: int) -> None:
        self.path.write_text(f"{pid} {psutil.Process(pid).create_time()}")

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)

    def process(self) -> psutil.Process | None:
        """The process that was written down, if it still runs."""
        try:
            pid, born = self.path.read_text().split()
            process = psutil.Process(int(pid))
            same = abs(process.create_time() - float(born)) < 1 and _runs(process)
        except (OSError, ValueError, psutil.Error):
            return None
        return process if same else None


def end(process: psutil.Process, first: signal.Signals, grace: float) -> None:
    """Send first, and after grace seconds SIGKILL to the process and its children."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        process.send_signal(first)
        # A stopped process only acts on its signal once it runs again.
        process.send_signal(signal.SIGCONT)
        _survivors([process], grace)
        alive = _survivors(family, 0.2)
        for each in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        _survivors(alive, 5)


def _survivors(processes: Sequence[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Those that still run after at most timeout seconds; a zombie nobody reaps does not count."""
    deadline = time.monotonic() + timeout
    while alive := [each for each in processes if _runs(each)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.005)
    return alive


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def tether(stop_signal: signal.Signals) -> Callable[[], None] | None:
    """What a child runs so that it is signalled when the thread that started it ends (Linux only)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    set_parent_death_signal = 1
    return lambda: prctl(set_parent_death_signal, int(stop_signal))


class Server:
    """A child process with a folder, a port, a log and a pid file.

    tethered servers also end when their starter dies (for test runs); the others outlive a killed starter and
    are ended by the next start in the same folder.
    """

    name = "server"
    preferred_port = 0
    stop_signal = signal.SIGTERM
    grace = 10.0

    def __init__(self, folder: Path, *, port: int | None = None, tethered: bool = False) -> None:
        self.folder = folder.resolve()
        self.log = self.folder / f"{self.name}.log"
        self.port = port or 0
        self._tethered = tethered
        self._pid_file = PidFile(self.folder / f"{self.name}.pid")
        self._child: subprocess.Popen[bytes] | None = None

    # What a server says about itself.

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def run_as(self) -> str | None:
        """The user the child runs as; None keeps the current one."""
        return None

    def prepare(self) -> None:
        """Write what the child reads before it starts."""

    def probe(self) -> bool:
        """Whether the server answers."""
        return accepts(self.port)

    # What can be done with it.

    @property
    def pid(self) -> int | None:
        process = self._pid_file.process()
        return None if process is None else int(process.pid)

    def running(self) -> bool:
        # Asking an own child also reaps it: a zombie would otherwise count as alive.
        return self.pid is not None if self._child is None else self._child.poll() is None

    def start(self) -> None:
        """Start the process, after ending one that an earlier run left in this folder. Returns before it is ready."""
        if self._child is not None and self.running():
            return
        if self._tethered and threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                f"{self.name} is tethered and would end with this thread: start it from the main one"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stop()
        self.port = self.port or free_port(self.preferred_port)
        self.prepare()
        self._spawn()

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Return when the server answers; raise Unavailable, with the end of its log, when it does not."""
        deadline = time.monotonic() + timeout
        while not self.probe():
            if not self.running():
                raise self._not_ready("ended before it was ready")
            if time.monotonic() > deadline:
                raise self._not_ready(f"was not ready after {timeout:g} s")
            time.sleep(0.01)

    def stop(self) -> None:
        """End the process and what it started; nothing happens when it does not run."""
        process = self._pid_file.process()
        if process is not None:
            end(process, self.stop_signal, self.grace)
        if self._child is not None:
            self._child.wait()
            self._child = None
        self._pid_file.clear()

    def kill(self) -> None:
        """End the process as a crash would: SIGKILL, nothing tidied up."""
        process = self._pid_file.process()
        if process is not None:
            process.kill()
        if self._child is not None:
            self._child.wait()

    def freeze(self) -> None:
        """Stop the process's clock: connections stay open and nothing answers, until thaw."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        process = self._pid_file.process()
        if process is not None:
            process.send_signal(number)

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment()),
                # A Ctrl-C in the terminal must reach the supervisor only, which stops its servers in order.
                start_new_session=True,
                **credentials(self.run_as()),
                preexec_fn=tether(self.stop_signal) if self._tethered else None,
            )
        self._pid_file.write(self._child.pid)

    def _not_ready(self, what: str) -> Unavailable:
        return Unavailable(self.name, f"{self.name} {what}; the end of {self.log}:\n{tail(self.log)}")
