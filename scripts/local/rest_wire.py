"""How the REST interface writes commands and replies."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

from scripts.local.rest_parser import Status
from shared.adapters.cache.wire import Reply, ReplyError

Scope = MutableMapping[str, Any]
Command = list[bytes]


class RefusedError(Exception):
    """A request that is answered without asking Redis."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise RefusedError(400, f"ERR failed to parse the request body as JSON: {error}") from error


def parse_commands(body: bytes) -> list[Command]:
    parsed = parse(body)
    if not isinstance(parsed, list):
        raise RefusedError(400, "ERR failed to parse pipeline request: an array of commands was expected")
    return [parse_command(each) for each in parsed]


def parse_command(parsed: Any) -> Command:
    if not isinstance(parsed, list):
        raise RefusedError(
            400, f"ERR failed to parse command: an array was expected, not {type(parsed).__name__}"
        )
    if not parsed:
        raise RefusedError(400, "ERR empty command")
    return [_argument(each) for each in parsed]


def _argument(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int | float):
        return repr(value).encode()
    raise RefusedError(400, f"ERR command arguments must be strings or numbers, not {type(value).__name__}")


def path_command(scope: Scope, query: list[tuple[str, str]], body: bytes) -> Command:
    raw: bytes = scope["raw_path"].split(b"?", 1)[0]
    command = [unquote_to_bytes(segment) for segment in raw.strip(b"/").split(b"/")]
    if body:
        command.append(body)
    for key, value in query:
        if key != "_token":
            command += [key.encode()] + ([value.encode()] if value else [])
    return command


def item(reply: Reply, express: Callable[[bytes], str]) -> dict[str, Any]:
    return {"error": str(reply)} if isinstance(reply, ReplyError) else {"result": _value(reply, express)}


def _value(reply: Reply, express: Callable[[bytes], str]) -> Any:
    if isinstance(reply, list):
        return [_value(each, express) for each in reply]
    if isinstance(reply, ReplyError):
        return express(str(reply).encode())
    if isinstance(reply, Status) and reply == b"OK":
        return "OK"
    return express(reply) if isinstance(reply, bytes) else reply


def as_base64(value: bytes) -> str:
    return b64encode(value).decode("ascii")


def as_text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def to_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
