"""Requests that are being answered: how long each may take, and what is put into its answer's head."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable

from starlette.types import Message, Receive, Scope, Send

from functions.query import problems
from shared.telemetry import Request

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000"),  # browsers heed it on https only
)
_UNLESS_SET = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
_SWEEP_S = 0.25
_SLOWEST_UPLOAD = 64 * 1024  # bytes a second
_STALLED_S = 60.0


class Exchange:
    """One request and its answer. until: when it is given up, on time.perf_counter's clock."""

    __slots__ = (
        "_receive",
        "_request",
        "_scope",
        "_send",
        "complete",
        "given_up",
        "started",
        "status",
        "streaming",
        "task",
        "until",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, request: Request, limit_s: float) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request = request
        self.started = time.perf_counter()
        self.until = self.started + limit_s
        self.status: int | None = None
        self.complete = self.streaming = False
        self.given_up: asyncio.Task[None] | None = None
        self.task: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """What takes time to arrive gives its request time, as long as it comes at a fair pace."""
        message = await self._receive()
        if body := message.get("body"):
            self.until += len(body) / _SLOWEST_UPLOAD
        return message

    async def send(self, message: Message) -> None:
        if self.given_up is None:
            await self.pass_on(message)

    async def pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": self._headers(message.get("headers", ()))}
        else:
            self.complete = not message.get("more_body", False)
        if not self.streaming:
            await self._send(message)
            return
        self.until = time.perf_counter() + _STALLED_S  # for a reader who does not read
        await self._send(message)
        self.until = math.inf  # a stream has a deadline of its own

    def expire(self) -> None:
        """Answers in place of the application, and cancels it. An answer that was begun is broken off."""
        if self.given_up is None:
            self.given_up = asyncio.create_task(self._give_up())
            if self.task is not None:
                self.task.cancel()

    async def _give_up(self) -> None:
        if self.status is None:
            detail = "The request took longer than this server gives it; it may or may not have had effect."
            late = problems.problem(503, "deadline-exceeded", detail, headers={"Retry-After": "2"})
            await late(self._scope, self._receive, self.pass_on)

    def _headers(self, given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = list(given)
        values = dict(headers)
        if values.get(b"content-type", b"").startswith(b"text/event-stream"):
            self.streaming = True
        headers += _ALWAYS
        headers += [header for header in _UNLESS_SET if header[0] not in values]
        headers.append((b"x-request-id", self._request.ids["request_id"].encode()))
        headers.append((b"server-timing", self._timing()))
        return headers

    def _timing(self) -> bytes:
        """The stages that are over by now."""
        total = (time.perf_counter() - self.started) * 1000
        stages = "".join([f"{name};dur={ms:.1f}, " for name, ms in self._request.stages.items()])
        return f"{stages}total;dur={total:.1f}".encode()


class Load:
    """What is being answered now. draining: nothing new is taken on."""

    def __init__(self) -> None:
        self.draining = False
        self._exchanges: set[Exchange] = set()
        self._swept_by: asyncio.AbstractEventLoop | None = None

    @property
    def in_flight(self) -> int:
        return len(self._exchanges)

    @property
    def streams(self) -> int:
        return sum(exchange.streaming for exchange in self._exchanges)

    def enter(self, exchange: Exchange) -> None:
        self._exchanges.add(exchange)
        loop = asyncio.get_running_loop()
        exchange.task = asyncio.current_task(loop)
        if self._swept_by is not loop:  # one timer for all of them: it costs a request nothing
            self._swept_by = loop
            loop.call_later(_SWEEP_S, self._sweep)

    def leave(self, exchange: Exchange) -> None:
        self._exchanges.discard(exchange)

    def _sweep(self) -> None:
        now = time.perf_counter()
        for exchange in [one for one in self._exchanges if one.until < now]:
            exchange.expire()
        if self._exchanges:
            asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
        else:
            self._swept_by = None
