"""Log lines: one JSON object each, on stderr, with the ids of the request they belong to."""

from __future__ import annotations

import asyncio
import logging
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from datetime import UTC, datetime
from typing import Any

import structlog

from shared.core.errors import RagzeroError
from shared.telemetry import requests

_MOST_FRAMES = 12
_level = logging.INFO
_unwritten: list[str] = []


def configure(level: str = "INFO") -> None:
    global _level
    _level = logging.getLevelName(level)
    structlog.configure(
        processors=[
            _with_request,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            _without_texts,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> Any:
    return structlog.get_logger(name)


def write(fields: dict[str, Any]) -> None:
    """An `info` line for what happens with every request: a fraction of a logger's price.

    The lines of one turn of the event loop leave together; `flush` is for who cannot wait for the next turn.
    """
    if _level > logging.INFO:
        return
    import orjson  # whoever serves requests has it; other functions do without

    moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = orjson.dumps({**fields, "level": "info", "timestamp": moment}, default=str)
    _unwritten.append(line.decode() + "\n")
    if len(_unwritten) == 1:
        try:
            asyncio.get_running_loop().call_soon(flush)
        except RuntimeError:
            flush()


def flush() -> None:
    lines = "".join(_unwritten)
    _unwritten.clear()
    sys.stderr.write(lines)
    sys.stderr.flush()


def _with_request(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    request = requests.current()
    return event if request is None else {**request.ids, **event}


def _without_texts(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Where an error arose and of which kind it is. What others' errors say may quote documents and questions."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if error is not None:
        event["exception"] = [_described(each) for each in _chain(error)]
    return event


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _described(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
    said = {"message": str(error)} if isinstance(error, RagzeroError) else {}
    code = getattr(error, "sqlstate", None)
    return {
        "type": type(error).__name__,
        **said,
        **({"sqlstate": code} if code else {}),
        "frames": [
            f"{'/'.join(frame.filename.split('/')[-3:])}:{frame.lineno} {frame.name}" for frame in frames
        ],
    }
