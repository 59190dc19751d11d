"""The way in for questions that were asked before, word for word: one look-up in this process, one round trip to Redis.

Whether a body is valid and what it asks for depends on its bytes alone, so what the ordinary route once made of them is
remembered; who asks, the limits and the epoch are looked at every time. Whatever cannot be answered here goes on to the
ordinary route together with what was found out about it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.datastructures import State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.query import problems
from functions.query.kept import parsed
from shared.core.errors import RagzeroError
from shared.telemetry import metrics

if TYPE_CHECKING:  # a probe meets none of them
    from functions.query.answer_cache import AnswerCache
    from functions.query.gate import Admission, Gate
    from shared.core.credentials import Principal
    from shared.core.recipes import Order
    from shared.core.visits import Asked

ADMISSION, BODY = "ragzero.admission", "ragzero.body"
_MOST_BODIES = 4_096
_MOST_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Known:
    """What a body asks for, by any caller; names: what that is called for callers seen before."""

    order: Order
    acl: tuple[str, ...] | None
    names: dict[tuple[object, ...], Asked]


class Bodies:
    """The bodies that the ordinary route found to be questions for a whole answer, cached if possible."""

    def __init__(self, cache: AnswerCache) -> None:
        self._cache = cache
        self._known: OrderedDict[bytes, Known] = OrderedDict()

    def learn(self, body: bytes, order: Order, acl: list[str] | None) -> None:
        if len(body) <= _MOST_BYTES:
            self._known[body] = Known(order, None if acl is None else tuple(acl), {})
            if len(self._known) > _MOST_BODIES:
                self._known.popitem(last=False)

    def get(self, body: bytes) -> Known | None:
        return self._known.get(body)

    def asked(self, known: Known, who: Principal) -> Asked:
        caller = (who.tenant_id, who.acl, self._cache.space)
        if (asked := known.names.get(caller)) is None:
            acl = None if known.acl is None else list(known.acl)
            asked = self._cache.asked(who, known.order, acl, read=True)
            if len(known.names) < _MOST_BODIES:
                known.names[caller] = asked
        return asked


class FastLane:
    """ASGI middleware around the application; state.graph says what to ask, once it is there."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app = app
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        graph = getattr(self._state, "graph", None) if _is_query(scope) else None
        if graph is None:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        messages, body = await _received(receive)
        receive = _replayed(messages, receive)
        scope[BODY] = body
        known = graph.bodies.get(body) if body is not None else None
        if known is not None:
            try:
                admission = await _admitted(graph.gate, graph.bodies, known, scope)
            except RagzeroError as error:
                await problems.of(error)(scope, receive, send)
                return
            if admission.answer is not None:
                metrics.count("cache_lookups", result="exact")
                await _sent(send, parsed(admission.answer, admission.epoch or 0).response(started))
                return
            scope[ADMISSION] = admission
        await self._app(scope, receive, send)


def _is_query(scope: Scope) -> bool:
    return bool(scope["type"] == "http" and scope["path"] == "/v1/query" and scope["method"] == "POST")


async def _admitted(gate: Gate, bodies: Bodies, known: Known, scope: Scope) -> Admission:
    admission = await gate.admit(api_key(scope), lambda who: bodies.asked(known, who))
    admission.who.require("query")
    return admission


async def _received(receive: Receive) -> tuple[list[Message], bytes | None]:
    """The messages so far, and the body when that is all of it."""
    messages: list[Message] = []
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            return messages, None
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            return messages, b"".join(one.get("body", b"") for one in messages)
        if size > _MOST_BYTES:
            return messages, None


def _replayed(messages: list[Message], receive: Receive) -> Receive:
    waiting = messages[::-1]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def api_key(scope: Scope) -> str | None:
    """The API key of a request: of the Authorization header, else X-API-Key."""
    other = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, text = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":
                return str(text.strip())
        elif name == b"x-api-key":
            other = value.decode("latin-1")
    return other


async def _sent(send: Send, body: bytes) -> None:
    headers: list[Any] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
