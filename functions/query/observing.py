"""What happens with every request, whatever it asks for: an id, a time limit, headers, a log line, numbers, a span.

Pure ASGI: nothing is buffered, an answer's pieces pass through as they come. X-Forwarded-* headers are what a caller
says, so nobody believes them.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from functions.query import problems
from functions.query.exchanges import Exchange, Load
from shared import telemetry
from shared.telemetry import metrics, tracing

_log = telemetry.get_logger(__name__)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_LAMBDA_MARGIN_S = 0.5


class Observing:
    """seconds: what a request may take; streams say themselves how long they go on.

    before_leaving: given on Lambda, where numbers and spans leave with every request, for the process may be frozen
    after it; looks at what is not counted as it happens.
    """

    def __init__(
        self, app: ASGIApp, load: Load, seconds: float, *, before_leaving: Callable[[], None] | None = None
    ) -> None:
        self._app = app
        self._load = load
        self._seconds = seconds
        self._before_leaving = before_leaving
        self._routes: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = telemetry.begin(_request_id(scope))
        span = _span(scope, request) if tracing.on() else None
        exchange = Exchange(scope, receive, send, request, self._limit(scope))
        self._load.enter(exchange)
        try:
            await self._answer(exchange, scope)
        finally:
            self._load.leave(exchange)
            self._note(exchange, scope, request, span)
        if self._before_leaving is not None:
            self._before_leaving()
            await _leave()

    def _limit(self, scope: Scope) -> float:
        """On Lambda the process is ended with the call's own time, so the answer has to come before."""
        context = scope.get("aws.context")
        if context is None:
            return self._seconds
        return float(min(self._seconds, context.get_remaining_time_in_millis() / 1000 - _LAMBDA_MARGIN_S))

    async def _answer(self, exchange: Exchange, scope: Scope) -> None:
        try:
            if self._load.draining:
                await _refuse(exchange, scope)
            elif "aws.context" in scope:
                await self._apart(exchange, scope)
            else:
                await self._inside(exchange, scope)
        except asyncio.CancelledError:
            if exchange.given_up is None or exchange.task is None:
                raise
            exchange.task.uncancel()
        except Exception as error:
            if exchange.status is None:  # otherwise it was logged and answered where it arose
                await _fail(exchange, scope, error)
        if exchange.given_up is not None:
            await exchange.given_up

    async def _inside(self, exchange: Exchange, scope: Scope) -> None:
        await self._app(scope, exchange.receive, exchange.send)

    async def _apart(self, exchange: Exchange, scope: Scope) -> None:
        """Under Mangum the answer leaves when we return: what is given up must not be waited for.

        An answer that was begun has to end, too.
        """
        exchange.task = task = asyncio.create_task(self._inside(exchange, scope))
        done, _ = await asyncio.wait({task}, timeout=exchange.until - time.perf_counter())
        if done:
            task.result()
            return
        begun = exchange.status is not None
        exchange.expire()
        task.add_done_callback(lambda late: late.cancelled() or late.exception())
        if begun and not exchange.complete:
            await exchange.pass_on({"type": "http.response.body", "body": b""})

    def _note(
        self, exchange: Exchange, scope: Scope, request: telemetry.Request, span: tracing.RequestSpan | None
    ) -> None:
        seconds = time.perf_counter() - exchange.started
        route, status = self._route(scope), exchange.status or 499
        method = scope["method"] if scope["method"] in _METHODS else "other"
        metrics.count("requests", route=route, method=method, status=status)
        metrics.observe("request_seconds", seconds, route=route)
        if status == 429:
            metrics.count("requests_limited")
        if exchange.given_up is not None:
            metrics.count("requests_expired")
        if span is not None:
            span.end(route, status, request.ids)
        cut = {} if exchange.complete else {"broken_off": True}
        telemetry.write(
            {
                **request.ids,
                "event": "request",
                "method": method,
                "route": route,
                "status": status,
                "ms": round(seconds * 1000, 2),
                **cut,
            }
        )

    def _route(self, scope: Scope) -> str:
        """The template of the path. One without a parameter may be answered before it is routed, once it is known."""
        path: str | None = getattr(scope.get("route"), "path", None)
        if path is None:
            asked: str = scope["path"]
            known = asked in self._routes or ("endpoint" in scope and not scope.get("path_params"))
            return asked if known else "unmatched"
        if "{" not in path:
            self._routes.add(path)
        return path


def _request_id(scope: Scope) -> str:
    """The caller's where it is well-formed, else one of ours."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return f"{random.getrandbits(96):024x}"


def _span(scope: Scope, request: telemetry.Request) -> tracing.RequestSpan:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return tracing.RequestSpan(scope["method"], headers, request.ids)


async def _refuse(exchange: Exchange, scope: Scope) -> None:
    leaving = problems.problem(
        503,
        "unavailable",
        "This server is shutting down.",
        headers={"Retry-After": "1", "Connection": "close"},
    )
    await leaving(scope, exchange.receive, exchange.send)


async def _fail(exchange: Exchange, scope: Scope, error: Exception) -> None:
    _log.error("request_failed", error=type(error).__name__, exc_info=error)
    failed = problems.problem(500, "internal-error", "Something went wrong on our side.")
    await failed(scope, exchange.receive, exchange.send)


async def _leave() -> None:
    telemetry.flush()
    metrics.flush()
    if tracing.on():
        await asyncio.to_thread(tracing.flush)
