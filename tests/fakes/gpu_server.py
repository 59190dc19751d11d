"""A GPU server that misbehaves on request (FAULTS F8-F10): real HTTP on loopback, no GPU.

    with FakeGpu() as gpu:
        gpu.reply("Forty-two [1].")
        gpu.cold_for(30)
        Generator(gpu.url, gpu.key, gpu.model)

A misbehaviour lasts until another is asked for; heal() ends it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Messages = list[dict[str, str]]
Vectors = list[list[float]]
BadVectors = Literal["few", "nan", "dimension", "reordered"]
Mode = Literal[
    "well", "cold", "redirect", "silent", "stalled", "html", "status", "cut", "garbage", "error", "unfinished"
]


@dataclass(frozen=True)
class Recorded:
    """A request as it came; at is time.monotonic()."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at: float


@dataclass
class _Behaviour:
    mode: Mode = "well"
    until: float = math.inf
    retry_after: str | None = "1"
    tokens: int = 0
    status: int = 500
    message: str = ""
    token_delay_s: float = 0.0
    vectors: BadVectors | None = None


@dataclass
class FakeGpu:
    key: str = "fake-key"
    """Asked of every request; "" asks for none."""
    model: str = "fake-model"
    dimension: int = 384
    context: int = 4096
    """Prompts of more words than this are refused as vLLM refuses them."""

    relevance: Callable[[str], float] = len
    """What the re-ranker thinks of a text."""

    requests: list[Recorded] = field(default_factory=list)
    disconnects: int = 0
    """Streams that their client left before the end."""

    def __post_init__(self) -> None:
        self._now = _Behaviour()
        self.reply("The answer is forty-two [1].")
        self._parked: dict[str, tuple[float, Any]] = {}
        self._socket = socket.create_server(("127.0.0.1", 0))
        # Connections inherit it; asyncio sets it on sockets that name their protocol only, and this one does not.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        routes = [
            Route("/health", self._health),
            Route("/v1/models", self._models),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/embeddings", self._embeddings, methods=["POST"]),
            Route("/v1/rerank", self._rerank, methods=["POST"]),
            Route("/result/{ticket}", self._result),
        ]
        app = Starlette(routes=routes)
        config = uvicorn.Config(app, lifespan="off", log_level="critical", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(timeout=5)

    # -- what to answer ------------------------------------------------------------------------------------

    def reply(self, text: str | Callable[[Messages], str]) -> None:
        """The completion, or how it follows from the messages. Sent word by word."""
        self._reply: Callable[[Messages], str] = text if callable(text) else lambda _: text

    def slow(self, seconds_per_token: float) -> None:
        self._now.token_delay_s = seconds_per_token

    # -- how to misbehave ----------------------------------------------------------------------------------

    def heal(self) -> None:
        self._now = _Behaviour()

    def reset(self) -> None:
        """As new, for the next test."""
        self.heal()
        self.reply("The answer is forty-two [1].")
        self.requests.clear()
        self.disconnects, self.context = 0, 4096

    def cold_for(self, seconds: float, *, retry_after: str | None = "1") -> None:
        """503 for so long, then well."""
        self._now = _Behaviour("cold", time.monotonic() + seconds, retry_after=retry_after)

    def redirect_for(self, seconds: float, *, every: float = 0.3, to: str = "") -> None:
        """Holds each request for `every`, then 303 to a result URL (at origin `to`), for `seconds`."""
        self._now = _Behaviour("redirect", time.monotonic() + seconds, token_delay_s=every, message=to)

    def silent(self) -> None:
        """Accepts and never answers."""
        self._now = _Behaviour("silent")

    def stall_after(self, tokens: int) -> None:
        """Falls silent in mid-stream, the connection open."""
        self._now = _Behaviour("stalled", tokens=tokens)

    def cut_after(self, tokens: int) -> None:
        """Drops the connection in mid-stream."""
        self._now = _Behaviour("cut", tokens=tokens)

    def unfinished(self) -> None:
        """Ends the stream properly as HTTP, without [DONE]."""
        self._now = _Behaviour("unfinished")

    def garbage(self, text: str = "data: {not json\n\n", *, after: int = 0) -> None:
        """Sends text where an event belongs, after so many tokens."""
        self._now = _Behaviour("garbage", message=text, tokens=after)

    def html(self, status: int = 502) -> None:
        """What a proxy says when its upstream is gone; with 200, a login page."""
        self._now = _Behaviour("html", status=status)

    def status(self, status: int, message: str = "", *, retry_after: str | None = None) -> None:
        """An error of the API."""
        self._now = _Behaviour("status", status=status, message=message, retry_after=retry_after)

    def error_after(self, tokens: int, message: str = "engine died") -> None:
        """An error event in mid-stream."""
        self._now = _Behaviour("error", tokens=tokens, message=message)

    def bad_vectors(self, how: BadVectors) -> None:
        self._now = _Behaviour(vectors=how)

    # -- the server ----------------------------------------------------------------------------------------

    async def _health(self, request: Request) -> Response:
        return await self._unwell(request, None) or Response()

    async def _models(self, request: Request) -> Response:
        models = JSONResponse({"object": "list", "data": [{"id": self.model, "object": "model"}]})
        return await self._unwell(request, None) or models

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        return await self._unwell(request, body) or self._answer(body)

    async def _embeddings(self, request: Request) -> Response:
        body = await request.json()
        unwell = await self._unwell(request, body)
        if unwell:
            return unwell
        data = [{"index": i, "embedding": v} for i, v in enumerate(self._vectors(body["input"]))]
        return Response(json.dumps({"data": data}), media_type="application/json")

    async def _rerank(self, request: Request) -> Response:
        body = await request.json()
        unwell = await self._unwell(request, body)
        if unwell:
            return unwell
        scores = [self.relevance(text) for text in body["documents"]]
        ranked = sorted(enumerate(scores), key=lambda one: -one[1])
        return Response(
            json.dumps({"results": [{"index": at, "relevance_score": score} for at, score in ranked]}),
            media_type="application/json",
        )

    async def _result(self, request: Request) -> Response:
        self._record(request, None)
        body = self._parked[request.path_params["ticket"]][1]
        if time.monotonic() < self._now.until and self._now.mode == "redirect":
            return await self._park(body)
        return self._answer(body) if body else JSONResponse({})

    def _record(self, request: Request, body: Any) -> None:
        recorded = Recorded(request.method, request.url.path, dict(request.headers), body, time.monotonic())
        self.requests.append(recorded)

    async def _unwell(self, request: Request, body: Any) -> Response | None:
        """The misbehaviour's answer, or None for the proper one."""
        self._record(request, body)
        now = self._now
        if time.monotonic() >= now.until:
            self.heal()
            return None
        if now.mode == "cold":
            return Response(status_code=503, headers=_retry_after(now.retry_after))
        if now.mode == "redirect":
            return await self._park(body)
        if now.mode == "silent":
            await asyncio.sleep(3600)
        if now.mode == "html":
            return HTMLResponse("<html><h1>Bad gateway</h1></html>", now.status)
        if now.mode == "status":
            error = {"error": {"message": now.message, "code": now.status}}
            return JSONResponse(error, now.status, _retry_after(now.retry_after))
        return self._refused(request, body)

    def _refused(self, request: Request, body: Any) -> Response | None:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": {"message": "Unauthorized"}}, 401)
        if not body or "messages" not in body:
            return None
        if body["model"] != self.model:
            error = {"message": f"The model `{body['model']}` does not exist.", "param": "model", "code": 404}
            return JSONResponse({"error": error}, 404)
        if _words(body["messages"]) > self.context:
            message = f"This model's maximum context length is {self.context} tokens. Your prompt is longer."
            return JSONResponse({"error": {"message": message, "param": "input_tokens", "code": 400}}, 400)
        return None

    async def _park(self, body: Any) -> Response:
        await asyncio.sleep(self._now.token_delay_s)
        ticket = str(len(self._parked))
        self._parked[ticket] = (time.monotonic(), body)
        return Response(status_code=303, headers={"location": f"{self._now.message}/result/{ticket}"})

    def _answer(self, body: dict[str, Any]) -> Response:
        text = self._reply(body["messages"])
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            return JSONResponse({"object": "chat.completion", "model": self.model, "choices": [choice]})
        return StreamingResponse(self._stream(body, text), media_type="text/event-stream")

    async def _stream(self, body: dict[str, Any], text: str) -> AsyncIterator[str]:
        now, done = self._now, False
        tokens = re.findall(r"\s*\S+", text)[: body.get("max_tokens") or None]
        try:
            for number, token in enumerate(tokens):
                if now.mode in ("cut", "garbage", "error") and number == now.tokens:
                    break
                if now.mode == "stalled" and number == now.tokens:
                    await asyncio.sleep(3600)
                await asyncio.sleep(now.token_delay_s)
                yield _event({"choices": [{"index": 0, "delta": {"content": token}}]})
            for event in self._ending(now, body, len(tokens)):
                yield event
            done = True
        finally:
            self.disconnects += not done

    def _ending(self, now: _Behaviour, body: dict[str, Any], completed: int) -> list[str]:
        if now.mode == "cut":
            raise ConnectionAbortedError
        if now.mode == "garbage":
            return [now.message]
        if now.mode == "error":
            return [_event({"error": {"message": now.message, "code": 500}}), "data: [DONE]\n\n"]
        usage = {"prompt_tokens": _words(body["messages"]), "completion_tokens": completed}
        reason = "length" if completed == body.get("max_tokens") else "stop"
        stop = _event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        ending = [stop, _event({"choices": [], "usage": usage}), "data: [DONE]\n\n"]
        return ending[:-1] if now.mode == "unfinished" else ending

    def _vectors(self, texts: list[str]) -> Vectors:
        vectors = [_unit_vector(text, self.dimension) for text in texts]
        how = self._now.vectors
        if how == "few":
            return vectors[:-1]
        if how == "dimension":
            return [vector[:-1] for vector in vectors]
        if how == "reordered":
            return vectors[::-1]
        if how == "nan":
            vectors[0][0] = math.nan
        return vectors


def _unit_vector(text: str, dimension: int) -> list[float]:
    """The same for the same text, and nearly at right angles to every other's."""
    dice = random.Random(hashlib.sha256(text.encode()).digest())
    raw = [dice.gauss(0, 1) for _ in range(dimension)]
    length = math.sqrt(sum(x * x for x in raw))
    return [x / length for x in raw]


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps({'object': 'chat.completion.chunk', **chunk}, ensure_ascii=False)}\n\n"


def _words(messages: Messages) -> int:
    return sum(len(message["content"].split()) for message in messages)


def _retry_after(seconds: str | None) -> dict[str, str]:
    return {"Retry-After": seconds} if seconds else {}
