"""Requests that may be sent twice: under one Idempotency-Key a POST takes effect once, and its answer is given again.

The same key with another body is refused. Answers that say "try again" (401, 408, 429, 5xx) are not kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.query import problems
from functions.query.fastlane import api_key
from shared.core.errors import Conflict, InvalidInput, RagzeroError, TooLarge
from shared.telemetry import get_logger

if TYPE_CHECKING:  # a probe meets none of them
    from functions.query.gate import Gate
    from shared.core.credentials import Principal
    from shared.core.models import Answered, Earlier

_log = get_logger(__name__)
_HEADER, _REPLAYED = b"idempotency-key", b"idempotency-replayed"
IDENTIFIED = "ragzero.identified"
_FORM = re.compile(r"[\x21-\x7e]{1,255}")
_NOT_KEPT = {401, 408, 425, 429}
_MOST_KEPT = 1024 * 1024
_IN_MEMORY = 256 * 1024
_CHUNK = 64 * 1024
_LEASE_S = 330.0  # longer than the longest stream
_PATIENCE_S = 10.0


class Store(Protocol):
    async def begin(self, tenant: UUID, key: str, fingerprint: bytes, lease_s: float) -> Earlier | None: ...
    async def finish(self, tenant: UUID, key: str, answered: Answered) -> None: ...
    async def forget(self, tenant: UUID, key: str) -> None: ...


class Wired(Protocol):
    @property
    def gate(self) -> Gate: ...
    @property
    def idempotency(self) -> Store: ...


class Idempotent:
    """ASGI middleware; graph gives what to ask, made when it is first needed. most: bytes of a body."""

    def __init__(self, app: ASGIApp, graph: Callable[[], Awaitable[Wired]], most: int) -> None:
        self._app = app
        self._graph = graph
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        text = _key_of(scope)
        if text is None:
            await self._app(scope, receive, send)
            return
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as body:
            try:
                await self._once(text, body, scope, receive, send)
            except RagzeroError as error:
                await problems.of(error)(scope, receive, send)

    async def _once(
        self,
        text: str,
        body: tempfile.SpooledTemporaryFile[bytes],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if not _FORM.fullmatch(text):
            raise InvalidInput(
                "an Idempotency-Key has 1 to 255 visible ASCII characters", field="Idempotency-Key"
            )
        graph = await self._graph()
        who = (await graph.gate.admit(api_key(scope))).who
        tenant, scope[IDENTIFIED] = who.tenant_id, who
        fingerprint = await self._spooled(who, scope, receive, body)
        earlier = await _settled(graph.idempotency, tenant, text, fingerprint)
        if earlier is not None:
            await _again(earlier, send)
            return
        kept = _Tee(send)
        try:
            await self._app(scope, _played(body, receive), kept)
        finally:
            await asyncio.shield(_remember(graph.idempotency, tenant, text, kept))

    async def _spooled(
        self, who: Principal, scope: Scope, receive: Receive, body: tempfile.SpooledTemporaryFile[bytes]
    ) -> bytes:
        """The request's fingerprint; its body is in the file then. With a key that may do or see something else it is
        another request, or that key would be answered what it may not know."""
        target = f"POST {scope['path']}?{scope['query_string'].decode('latin-1')}\n"
        seen = hashlib.sha256(f"{sorted(who.scopes)} {who.acl}\n{target}".encode())
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise InvalidInput("the request was broken off")
            seen.update(message.get("body", b""))
            body.write(message.get("body", b""))
            if body.tell() > self._most:
                raise TooLarge(f"the request's body is larger than {self._most} bytes")
            if not message.get("more_body", False):
                body.seek(0)
                return seen.digest()


async def _settled(store: Store, tenant: UUID, key: str, fingerprint: bytes) -> Answered | None:
    """The answer to the first one, waited for; None when this is the first one. Raises Conflict on another body."""
    until = time.monotonic() + _PATIENCE_S
    while (earlier := await store.begin(tenant, key, fingerprint, _LEASE_S)) is not None:
        if earlier.fingerprint != fingerprint:
            raise Conflict("this Idempotency-Key was used for another request")
        if earlier.answered is not None:
            return earlier.answered
        if time.monotonic() > until:
            raise Conflict("the request with this Idempotency-Key is still being answered")
        await asyncio.sleep(0.1)
    return None


class _Tee:
    """Passes an answer on and keeps it, as far as it is worth that."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._body = bytearray()
        self._start: Message | None = None
        self._complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            if len(self._body) <= _MOST_KEPT:
                self._body += message.get("body", b"")
            self._complete = not message.get("more_body", False)
        await self._send(message)

    @property
    def answered(self) -> Answered | None:
        if self._start is None or not self._complete or len(self._body) > _MOST_KEPT:
            return None
        from shared.core.models import Answered  # many nouns: loaded by those who keep one

        status = int(self._start["status"])
        if status in _NOT_KEPT or status >= 500:
            return None
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in self._start["headers"]
        ]
        return Answered(status, headers, bytes(self._body))


async def _remember(store: Store, tenant: UUID, key: str, kept: _Tee) -> None:
    try:
        if (answered := kept.answered) is not None:
            await store.finish(tenant, key, answered)
        else:
            await store.forget(tenant, key)
    except RagzeroError as error:
        _log.warning("answer_not_remembered", reason=str(error))


async def _again(answered: Answered, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answered.headers]
    start = {
        "type": "http.response.start",
        "status": answered.status,
        "headers": [*headers, (_REPLAYED, b"true")],
    }
    await send(start)
    await send({"type": "http.response.body", "body": answered.body})


def _key_of(scope: Scope) -> str | None:
    if scope["type"] != "http" or scope["method"] != "POST":
        return None
    for name, value in scope["headers"]:
        if name == _HEADER:
            return str(value.decode("latin-1"))
    return None


def _played(body: tempfile.SpooledTemporaryFile[bytes], receive: Receive) -> Receive:
    over = False

    async def again() -> Message:
        nonlocal over
        if over:
            return await receive()
        piece = body.read(_CHUNK)
        over = len(piece) < _CHUNK
        return {"type": "http.request", "body": piece, "more_body": not over}

    return again
