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
from scripts.local.stack import ROOT, VLLM_PYTHON
from scripts.local.supervisor import FAILED, PID, READY, STATUS
from shared.core.errors import RagzeroError, Unavailable

FOLDER = Path(os.environ.get("RAGZERO_LOCAL_DIR", ROOT / ".local"))
_MODELS = ROOT / ".local" / "models"  # where scripts/install makes them, wherever the documents are kept
DEFAULT_MODEL = _MODELS / "all-MiniLM-L6-v2"
_PATIENCE_S = 90
_PATIENCE_WITH_MODEL_S = 700
_TINY = _MODELS / "tiny-llama"


def up(folder: Path, model_dir: Path, generate: str | None, *, detach: bool) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        running = PidFile(folder / PID).process() is not None
        if running:
            print("ragzero is running already")
        else:
            _start(folder, model_dir, generate)
        environment = read_env(folder)
        demonstrate(environment, folder / "env", put_samples=not running)
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


def _start(folder: Path, model_dir: Path, generate: str | None) -> None:
    status = folder / STATUS
    status.unlink(missing_ok=True)
    with (folder / "supervisor.log").open("ab") as log:
        command = [
            sys.executable,
            "-m",
            "scripts.local.supervisor",
            "--folder",
            str(folder),
            "--model",
            str(model_dir),
        ]
        supervisor = subprocess.Popen(
            command + (["--generate", generate] if generate else []),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    patience_s = _PATIENCE_S if generate is None else _PATIENCE_WITH_MODEL_S
    for line in _progress(status, supervisor, folder, patience_s):
        if line.startswith(FAILED):
            raise Unavailable("local mode", line.removeprefix(FAILED))
        print(f"  {line}", flush=True)


def _progress(
    status: Path, supervisor: subprocess.Popen[bytes], folder: Path, patience_s: float
) -> Iterator[str]:
    """The status lines as they come, without the final `ready`."""
    shown, deadline = 0, time.monotonic() + patience_s
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
    raise Unavailable("local mode", f"not ready after {patience_s} s; see {folder}/*.log")


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


def _language_model(given: str | None) -> str:
    if given is None:
        print(
            "no --model: answers come from a tiny model of random weights, which shows the mechanics and speaks nonsense"
        )
        return tiny_model()
    return str(Path(given).resolve()) if Path(given).exists() else given


def tiny_model() -> str:
    """The folder of a random two-layer model, made when it is not there yet."""
    if not (_TINY / "config.json").exists():
        subprocess.run([VLLM_PYTHON, "-m", "scripts.vllm_model", str(_TINY)], cwd=ROOT, check=True)
    return str(_TINY)


def main() -> int:
    parser = argparse.ArgumentParser(
        usage="scripts/up [--detach] [--embedding-model DIR] [--generate vllm [--model MODEL]], scripts/down",
        description=__doc__,
        epilog="RAGZERO_LOCAL_DIR names another folder than .local for documents, index, keys and logs: a second ragzero.",
    )
    parser.add_argument("command", choices=["up", "down"], help=argparse.SUPPRESS)
    parser.add_argument("--detach", action="store_true", help="return once it is ready")
    parser.add_argument(
        "--embedding-model",
        type=Path,
        default=DEFAULT_MODEL,
        metavar="DIR",
        help="made by scripts/build-model",
    )
    parser.add_argument("--generate", choices=["vllm"], help="answers by a model, on this machine's CPU")
    parser.add_argument(
        "--model", help="with --generate: a folder, or org/name@commit; without, a tiny random one"
    )
    arguments = parser.parse_args()
    try:
        if arguments.command == "down":
            return down(FOLDER)
        model = _language_model(arguments.model) if arguments.generate else None
        return up(FOLDER, arguments.embedding_model, model, detach=arguments.detach)
    except RagzeroError as error:
        print(f"{arguments.command}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
