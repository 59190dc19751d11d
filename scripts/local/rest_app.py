"""The part of Upstash's REST interface that its client needs, as an ASGI application over a real Redis.

`/` takes one command as a JSON array, `/pipeline` and `/multi-exec` an array of them, and `/set/key/value?EX=10` is a
command as a path. The token comes as `Authorization: Bearer` or `?_token=`. Faults can be switched on at run time
through `/-/faults`, which has a token of its own.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scripts.local.rest_wire import (
    Command,
    RefusedError,
    Scope,
    as_base64,
    as_text,
    item,
    parse,
    parse_command,
    parse_commands,
    path_command,
    to_json,
)
from shared.adapters.cache.resp import RespClient
from shared.adapters.cache.wire import Reply, ReplyError
from shared.core.errors import BadUpstream, Unavailable

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_REQUEST_BYTES = 10 * 1024 * 1024

# They block, or change the state of the one connection everybody shares, or reach beyond the data.
NOT_AVAILABLE = frozenset(
    b"BLPOP BRPOP BLMOVE BRPOPLPUSH BLMPOP BZPOPMIN BZPOPMAX BZMPOP WAIT WAITAOF SUBSCRIBE PSUBSCRIBE SSUBSCRIBE "
    b"UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE MONITOR MULTI EXEC DISCARD WATCH UNWATCH SELECT AUTH HELLO RESET QUIT CLIENT "
    b"CONFIG DEBUG SHUTDOWN SAVE BGSAVE BGREWRITEAOF REPLICAOF SLAVEOF SYNC PSYNC CLUSTER FAILOVER MODULE ACL MIGRATE "
    b"SWAPDB LATENCY SLOWLOG READONLY READWRITE ASKING".split()
)
HARMLESS = frozenset((b"PING", b"ECHO", b"TIME", b"COMMAND"))
BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass
class Faults:
    """What goes wrong on purpose. times: how many requests are affected, None meaning all.

    delay is in seconds; hang never answers; status 401 or 502 answers that and runs nothing; drop_after_apply runs the
    commands and closes the connection without an answer; failing_item is the index of the command in a request that
    is not run and answered with an error.
    """

    delay: float = 0.0
    hang: bool = False
    status: int | None = None
    drop_after_apply: bool = False
    failing_item: int | None = None
    times: int | None = None

    def take(self) -> Faults:
        """The faults of the next request."""
        if self.times is None:
            return self
        if self.times <= 0:
            return NO_FAULTS
        self.times -= 1
        return self


NO_FAULTS = Faults()


class _DroppedError(Exception):
    """The connection is to be closed without an answer."""


@dataclass(frozen=True)
class Tokens:
    """An empty token lets nobody in."""

    full: str
    read_only: str
    admin: str


class Shim:
    """The ASGI application."""

    def __init__(self, redis: RespClient, tokens: Tokens) -> None:
        self.faults = Faults()
        self.requests = 0
        self._redis = redis
        self._tokens = tokens
        self._reads: frozenset[bytes] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status, body, kind = await self._answer(scope, receive)
        except _DroppedError:
            await _cut_off(scope, receive)
            return
        except RefusedError as refusal:
            status, body, kind = refusal.status, to_json({"error": str(refusal)}), b"application/json"
        except Unavailable as error:
            status, body, kind = 503, to_json({"error": f"ERR {error}"}), b"application/json"
        headers = [
            (b"content-type", kind),
            (b"content-length", b"%d" % len(body)),
            (b"upstash-sync-token", b"local=%d" % self.requests),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes, bytes]:
        body = await _body(scope, receive)
        if scope["path"].startswith("/-/"):
            return 200, to_json(self._administer(scope, body)), b"application/json"
        self.requests += 1
        faults = self.faults.take()
        if faults is not NO_FAULTS:
            await _disturb(faults, receive)
            if faults.status == 502:
                return 502, BAD_GATEWAY, b"text/html"
        status, payload = await self._serve(scope, body, faults.failing_item)
        if faults.drop_after_apply:
            raise _DroppedError
        return status, to_json(payload), b"application/json"

    async def _serve(self, scope: Scope, body: bytes, failing: int | None) -> tuple[int, Any]:
        headers = dict(scope["headers"])
        query = parse_qsl(scope["query_string"].decode(), keep_blank_values=True)
        read_only = self._authorize(headers, query)
        express = as_base64 if headers.get(b"upstash-encoding") == b"base64" else as_text
        path = scope["path"]
        if path in ("/pipeline", "/multi-exec"):
            commands = parse_commands(body)
            await self._check(commands, read_only)
            if path == "/pipeline":
                return 200, [item(reply, express) for reply in await self._pipeline(commands, failing)]
            return await self._transaction(commands, failing, express)
        command = parse_command(parse(body)) if path == "/" else path_command(scope, query, body)
        await self._check([command], read_only)
        (reply,) = await self._pipeline([command], failing)
        return 400 if isinstance(reply, ReplyError) else 200, item(reply, express)

    async def _pipeline(self, commands: Sequence[Command], failing: int | None) -> list[Reply]:
        if failing is None or failing >= len(commands):
            return await self._redis.send(commands) if commands else []
        before, after = commands[:failing], commands[failing + 1 :]
        replies = await self._redis.send([*before, *after]) if before or after else []
        replies.insert(failing, ReplyError("ERR injected fault"))
        return replies

    async def _transaction(
        self, commands: Sequence[Command], failing: int | None, express: Callable[[bytes], str]
    ) -> tuple[int, Any]:
        queued = [[b"NOSUCHCOMMAND"] if at == failing else command for at, command in enumerate(commands)]
        *_, outcome = await self._redis.send([[b"MULTI"], *queued, [b"EXEC"]])
        if isinstance(outcome, list):
            return 200, [item(reply, express) for reply in outcome]
        return 400, {"error": str(outcome)}

    def _authorize(self, headers: dict[bytes, bytes], query: list[tuple[str, str]]) -> bool:
        """Whether the caller may only read."""
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            token = next((value for key, value in query if key == "_token"), "")
        if token and token == self._tokens.full:
            return False
        if token and token == self._tokens.read_only:
            return True
        raise RefusedError(401, "WRONGPASS invalid or missing auth token")

    async def _check(self, commands: Sequence[Command], read_only: bool) -> None:
        for name, *arguments in commands:
            upper = name.upper()
            if upper in NOT_AVAILABLE or _blocks(upper, arguments):
                raise RefusedError(400, f"ERR Command is not available: '{name.decode(errors='replace')}'")
            if read_only and upper not in HARMLESS and upper not in await self._read_commands():
                shown = name.decode(errors="replace").lower()
                raise RefusedError(400, f"NOPERM this user has no permissions to run the '{shown}' command")

    async def _read_commands(self) -> frozenset[bytes]:
        if self._reads is None:
            (known,) = await self._redis.send([[b"COMMAND"]])
            if not isinstance(known, list):
                raise BadUpstream("redis", "COMMAND was not answered with a list")
            self._reads = frozenset(
                entry[0].upper()
                for entry in known
                if isinstance(entry, list) and isinstance(entry[0], bytes) and b"readonly" in _flags(entry[2])
            )
        return self._reads

    def _administer(self, scope: Scope, body: bytes) -> dict[str, Any]:
        expected = b"Bearer " + self._tokens.admin.encode()
        if not self._tokens.admin or dict(scope["headers"]).get(b"authorization") != expected:
            raise RefusedError(401, "WRONGPASS the admin token is required")
        if scope["path"] != "/-/faults":
            raise RefusedError(404, f"ERR no such page: {scope['path']}")
        if scope["method"] == "PUT":
            self.faults = _faults(body)
        return {"faults": dataclasses.asdict(self.faults), "requests": self.requests}


class Protocol(HttpToolsProtocol):
    """uvicorn's own, which also knows how to cut a client off in the middle of a request."""

    _transports: dict[tuple[str, int], asyncio.Transport] = {}  # noqa: RUF012 - one per process is meant

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._transports[tuple(transport.get_extra_info("peername")[:2])] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None:
            self._transports.pop(self.client, None)
        super().connection_lost(exc)

    @classmethod
    def abort(cls, client: tuple[str, int]) -> None:
        if client in cls._transports:
            cls._transports[client].abort()


async def _body(scope: Scope, receive: Receive) -> bytes:
    if scope["method"] not in ("GET", "POST", "PUT"):
        raise RefusedError(405, f"ERR method {scope['method']} is not allowed")
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _DroppedError
        size += len(message.get("body", b""))
        if size > MAX_REQUEST_BYTES:
            raise RefusedError(
                413, f"ERR max request size exceeded. Limit: {MAX_REQUEST_BYTES} bytes, Actual: {size} bytes"
            )
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _cut_off(scope: Scope, receive: Receive) -> None:
    Protocol.abort(scope["client"])
    await _until_gone(receive)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _disturb(faults: Faults, receive: Receive) -> None:
    if faults.delay:
        await asyncio.sleep(faults.delay)
    if faults.hang:
        await _until_gone(receive)
        raise _DroppedError
    if faults.status == 401:
        raise RefusedError(401, "WRONGPASS invalid or missing auth token")


def _faults(body: bytes) -> Faults:
    try:
        return Faults(**json.loads(body or b"{}"))
    except (TypeError, ValueError) as error:
        raise RefusedError(
            400, f"ERR faults must be a JSON object of {Faults.__annotations__}: {error}"
        ) from error


def _blocks(name: bytes, arguments: Sequence[bytes]) -> bool:
    return name in (b"XREAD", b"XREADGROUP") and any(each.upper() == b"BLOCK" for each in arguments)


def _flags(reply: Reply) -> list[Reply]:
    return reply if isinstance(reply, list) else []
