"""The child's side of LambdaProcess: reads calls from a socket, runs the handler, answers."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from scripts.local.lambda_runtime import Handler, LambdaContext, load
from shared.telemetry import set_checkpoint_hook


def checkpoint_hook(call: dict[str, Any]) -> Callable[[str], None]:
    """What happens at checkpoints during this call: nothing, a sudden death, or a stop until somebody continues us."""
    passed: dict[str, int] = {}

    def hook(name: str) -> None:
        passed[name] = passed.get(name, 0) + 1
        if passed[name] != call["occurrence"]:
            return
        if name == call["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if name == call["pause_at"]:
            # to this very thread: another one would be stopped first, and this one run on meanwhile
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    return hook


def answer(handler: Handler, call: dict[str, Any]) -> dict[str, Any]:
    set_checkpoint_hook(checkpoint_hook(call))
    context = LambdaContext(os.environ["AWS_LAMBDA_FUNCTION_NAME"], time.monotonic() + call["timeout"])
    try:
        return {"response": json.loads(json.dumps(handler(call["event"], context)))}
    except Exception as error:
        return {"error": [type(error).__name__, str(error), traceback.format_exc()]}


def run(name: str, connection: socket.socket, environment: dict[str, str], log: str) -> None:
    """The life of a process that was forked for the handler of that name: calls come over connection until it is closed."""
    os.setsid()
    _write_to(log)
    os.chdir(environment["PYTHONPATH"])
    os.environ.clear()
    os.environ.update(environment)
    with connection, connection.makefile("rwb") as stream:
        handler = load(name)
        stream.write(b'{"ready": true}\n')
        stream.flush()
        for line in stream:
            stream.write(json.dumps(answer(handler, json.loads(line))).encode() + b"\n")
            stream.flush()


def _write_to(log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
        stream.reconfigure(write_through=True)
    os.close(file)
