"""Runs local mode in the background: starts the stack, restarts what dies, stops all of it on SIGTERM.

Progress goes line by line into the status file, whose last line is `ready` or `failed: <why>`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from scripts.local.process import PidFile
from scripts.local.stack import Stack
from shared.core.errors import RagzeroError

PID = "supervisor.pid"
STATUS = "status"
READY = "ready"
FAILED = "failed: "


def supervise(folder: Path, model_dir: Path, generate: str | None) -> int:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with (folder / STATUS).open("w", buffering=1) as status:
        stack = Stack(folder, model_dir, lambda line: print(line, file=status), generate)
        try:
            stack.start()
        except Exception as error:
            stack.stop()
            print(FAILED + str(error).replace("\n", "\n  "), file=status)
            return 1
        print(READY, file=status)
    while not stopping.wait(1):
        _revive(stack)
    stack.stop()
    return 0


def _revive(stack: Stack) -> None:
    try:
        for name in stack.restart_dead():
            print(f"{name} had ended and was started again", file=sys.stderr)
    except RagzeroError as error:
        print(f"a server does not come back: {error}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--generate", help="a model for vLLM")
    arguments = parser.parse_args()
    pid_file = PidFile(arguments.folder / PID)
    pid_file.write(os.getpid())
    try:
        return supervise(arguments.folder, arguments.model, arguments.generate)
    finally:
        pid_file.clear()


if __name__ == "__main__":
    raise SystemExit(main())
