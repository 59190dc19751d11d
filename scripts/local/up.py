"""Starts ragzero on this machine, shows it a few documents, asks a question, and keeps serving."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.local.demo import demonstrate
from scripts.local.process import PidFile, end, tail
from scripts.local.stack import ROOT
from scripts.local.supervisor import FAILED, PID, READY, STATUS
from shared.core.errors import RagzeroError, Unavailable

FOLDER = Path(os.environ.get("RAGZERO_LOCAL_DIR", ROOT / ".local"))
DEFAULT_MODEL = FOLDER / "models" / "all-MiniLM-L6-v2"
_PATIENCE_S = 90


def up(folder: Path, model_dir: Path, *, detach: bool) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        running = PidFile(folder / PID).process() is not None
        if running:
            print("ragzero is running already")
        else:
            _start(folder, model_dir)
        environment = read_env(folder)
        demonstrate(environment, put_samples=not running)
    if detach or running:
        return 0
    return _keep_serving(folder)


def down(folder: Path) -> int:
    process = PidFile(folder / PID).process()
    if process is None:
        print("ragzero is not running")
        return 0
    end(process, signal.SIGTERM, grace=60)
    print("ragzero stopped; documents, index and cache are kept in", folder)
    return 0


def read_env(folder: Path) -> dict[str, str]:
    lines = (folder / "env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two `up` at once take turns, so that the second finds the first one's servers."""
    with (folder / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(folder: Path, model_dir: Path) -> None:
    status = folder / STATUS
    status.unlink(missing_ok=True)
    with (folder / "supervisor.log").open("ab") as log:
        supervisor = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "scripts.local.supervisor",
                "--folder",
                str(folder),
                "--model",
                str(model_dir),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    for line in _progress(status, supervisor, folder):
        if line.startswith(FAILED):
            raise Unavailable("local mode", line.removeprefix(FAILED))
        print(f"  {line}", flush=True)


def _progress(status: Path, supervisor: subprocess.Popen[bytes], folder: Path) -> Iterator[str]:
    """The status lines as they come, without the final `ready`."""
    shown, deadline = 0, time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        lines = status.read_text().splitlines() if status.exists() else []
        for line in lines[shown:]:
            if line == READY:
                return
            yield line
        shown = len(lines)
        if supervisor.poll() is not None and not (
            status.exists() and status.read_text().splitlines()[shown:]
        ):
            raise Unavailable("local mode", f"the supervisor ended:\n{tail(folder / 'supervisor.log')}")
        time.sleep(0.05)
    raise Unavailable("local mode", f"not ready after {_PATIENCE_S} s; see {folder}/*.log")


def _keep_serving(folder: Path) -> int:
    print("\nServing; Ctrl-C stops it.")
    try:
        while PidFile(folder / PID).process() is not None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        print()
        return down(folder)
    print(f"ragzero ended:\n{tail(folder / 'supervisor.log')}", file=sys.stderr)
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["up", "down"])
    parser.add_argument("--detach", action="store_true", help="return once it is ready")
    parser.add_argument(
        "--embedding-model", type=Path, default=DEFAULT_MODEL, help="made by scripts/build-model"
    )
    arguments = parser.parse_args()
    try:
        if arguments.command == "down":
            return down(FOLDER)
        return up(FOLDER, arguments.embedding_model, detach=arguments.detach)
    except RagzeroError as error:
        print(f"{arguments.command}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
