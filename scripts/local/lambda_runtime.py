"""What a function meets when Lambda calls it: its context, its name, its deadline."""

from __future__ import annotations

import importlib
import math
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shared.core.errors import ConfigurationError

Event = dict[str, Any]
Handler = Callable[[Event, Any], Any]


class Killed(Exception):
    """The function's process ended before it answered."""


class TimedOut(Killed):
    """The function did not answer in its time and was killed, as Lambda does."""


class HandlerError(Exception):
    """The handler raised; type and message are the original's."""

    def __init__(self, type_: str, message: str, trace: str) -> None:
        super().__init__(f"{type_}: {message}\n{trace}")
        self.type = type_
        self.message = message


@dataclass(frozen=True)
class LambdaContext:
    """What a handler is told about its call. deadline is on the monotonic clock."""

    function_name: str
    deadline: float
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    function_version: str = "$LATEST"
    memory_limit_in_mb: int = 1024
    log_group_name: str = "local"
    log_stream_name: str = "local"

    @property
    def invoked_function_arn(self) -> str:
        return f"arn:aws:lambda:us-east-1:000000000000:function:{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, math.floor((self.deadline - time.monotonic()) * 1000))


def load(name: str) -> Handler:
    """The function that `package.module:function` names."""
    module, _, function = name.partition(":")
    found: Handler | None = getattr(importlib.import_module(module), function, None)
    if not callable(found):
        raise ConfigurationError("handler", f"{name!r} names no function; expected package.module:function")
    return found


def dying_at_deadline(handler: Handler) -> Handler:
    """handler, whose process is killed when a call outlasts its context, as Lambda ends an environment."""

    def call(event: Event, context: Any) -> Any:
        left = context.get_remaining_time_in_millis() / 1000
        timer = threading.Timer(left, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
        try:
            return handler(event, context)
        finally:
            timer.cancel()

    return call
