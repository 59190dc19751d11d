"""An allow-list before the engine: what it does not name does not exist for the world outside."""

from __future__ import annotations

import asyncio
import hmac
import json
import re

import httpx
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from functions.generate.engine import Death

# On the raw path, so that %2e and the like never match. No segment begins with a dot, none is empty.
_ALLOWED = re.compile(rb"/health|/v1(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
_METHODS = ("GET", "POST")
_REQUEST_HEADERS = (b"accept", b"content-type", b"x-request-id")
_RESPONSE_HEADERS = ("content-type", "content-length", "x-request-id")
_MAX_BODY = 4 * 2**20
_RETRY_AFTER_S = 5


class _ProblemError(Exception):
    """A request that the fence answers itself."""

    def __init__(self, status: int, kind: str, title: str, **headers: str) -> None:
        super().__init__(title)
        document = {"type": f"urn:ragzero:problem:{kind}", "title": title, "status": status}
        self.response = Response(json.dumps(document), status, headers, media_type="application/problem+json")


class _ClientLeftError(Exception):
    """Nobody is there to answer."""


class Fence:
    """ASGI. Passes /v1/* and /health on to the engine for callers with the key.

    Answers stream through as they come. A client that leaves closes its request upstream, so that the engine
    stops working on it; an engine that dies ends every answer at once.
    """

    def __init__(self, upstream: str, api_key: str, death: Death) -> None:
        self._key = api_key.encode()
        self._death = death
        self._client = httpx.AsyncClient(
            base_url=upstream,
            timeout=httpx.Timeout(None, connect=5.0),
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
            headers={"accept-encoding": "identity"},
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        if scope["type"] != "http":
            return
        try:
            self._admit(scope)
            body = await _body(receive)
            await self._pass_on(scope, body, receive, send)
        except _ProblemError as problem:
            await problem.response(scope, receive, send)
        except _ClientLeftError:
            return

    def _admit(self, scope: Scope) -> None:
        if not _ALLOWED.fullmatch(scope["raw_path"]):
            raise _ProblemError(404, "not-found", "There is no such thing here")
        if not self._knows(_header(scope, b"authorization")):
            challenge = {"WWW-Authenticate": "Bearer"}
            raise _ProblemError(401, "unauthorized", "A valid API key is required", **challenge)
        if scope["method"] not in _METHODS:
            raise _ProblemError(405, "method-not-allowed", "Only GET and POST", Allow=", ".join(_METHODS))
        if self._death.cause is not None:
            raise self._dead()

    def _knows(self, authorization: bytes) -> bool:
        scheme, _, key = authorization.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(key.strip(), self._key)

    def _dead(self) -> _ProblemError:
        title = f"The engine is dead: {self._death.cause or 'connection lost'}"
        return _ProblemError(503, "engine-dead", title, **{"Retry-After": str(_RETRY_AFTER_S)})

    async def _pass_on(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        relaying = asyncio.create_task(self._relay(self._request(scope, body), answer))
        leaving = asyncio.create_task(_until_client_leaves(receive))
        tasks = (relaying, leaving, asyncio.create_task(self._death.wait()))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            client_left = leaving.done()
        finally:
            for task in tasks:
                task.cancel()
            outcome, *_ = await asyncio.gather(*tasks, return_exceptions=True)
        if isinstance(outcome, httpx.HTTPError | asyncio.CancelledError) and not client_left:
            await self._break_off(answer)

    def _request(self, scope: Scope, body: bytes) -> httpx.Request:
        url = httpx.URL(path=scope["path"], query=scope["query_string"])
        headers = [(name, value) for name, value in scope["headers"] if name in _REQUEST_HEADERS]
        return self._client.build_request(scope["method"], url, headers=headers, content=body or None)

    async def _relay(self, request: httpx.Request, answer: _Answer) -> None:
        response = await self._client.send(request, stream=True)
        try:
            await answer.begin(response)
            async for piece in response.aiter_raw():
                await answer.write(piece)
                # What lies ready is read without a pause: this one lets it be seen that the client has left.
                await asyncio.sleep(0)
            await answer.end()
        finally:
            await response.aclose()

    async def _break_off(self, answer: _Answer) -> None:
        """As good an end as the answer can still have; without one the server cuts the connection."""
        dead = self._dead()
        if not answer.begun:
            raise dead
        if answer.is_event_stream and not answer.ended:
            error = {"message": str(dead), "type": "engine_dead", "code": 503}
            await answer.write(f"\n\ndata: {json.dumps({'error': error})}\n\n".encode())
            await answer.end()


class _Answer:
    """The response on its way to the client."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = self.ended = self.is_event_stream = False

    async def begin(self, response: httpx.Response) -> None:
        kept = [(name, response.headers[name]) for name in _RESPONSE_HEADERS if name in response.headers]
        headers = [(name.encode(), value.encode()) for name, value in kept]
        headers += [(b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]
        self.is_event_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        self.begun = True
        await self._send({"type": "http.response.start", "status": response.status_code, "headers": headers})

    async def write(self, piece: bytes) -> None:
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self) -> None:
        self.ended = True
        await self._send({"type": "http.response.body", "body": b""})


async def _until_client_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ClientLeftError
        body += message.get("body", b"")
        if len(body) > _MAX_BODY:
            raise _ProblemError(
                413, "too-large", f"A request has at most {_MAX_BODY} bytes", Connection="close"
            )
        if not message.get("more_body"):
            return bytes(body)


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")
