"""The HTTP API as a FastAPI application."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from functions.query import problems
from functions.query.exchanges import Load
from functions.query.fastlane import FastLane
from functions.query.idempotency import Idempotent
from functions.query.observing import Observing
from functions.query.openai_errors import OpenAiErrors
from functions.query.routers import PROBE, PROBES, QUESTIONS, of_questions, others, pages
from shared import telemetry
from shared.settings import QuerySettings
from shared.telemetry import metrics, tracing

if TYPE_CHECKING:
    from functions.query.wiring import Graph
    from shared.adapters.onnx_embedder import OnnxEmbedder

_MAX_JSON = 64 * 1024


class Api(problems.ProblemApp):
    """state.load is what it is answering now, state.graph what the routes work with, state.wired what makes it. later: the
    routes' parts, of which that of questions comes first."""

    def __init__(
        self,
        settings: QuerySettings,
        graph: Callable[[], Awaitable[Graph]],
        later: Iterable[Callable[[Api], None]],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._later = deque(later)
        self.state.load = load = Load()
        self.state.wired = graph
        leaving = self._set_gauges if settings.lambda_function else None
        most = settings.max_upload_bytes + _MAX_JSON
        once = Idempotent(super().__call__, graph, most)
        entry: ASGIApp = Observing(
            FastLane(once, self.state), load, settings.request_seconds, before_leaving=leaving
        )
        entry = OpenAiErrors(entry)
        if settings.cors_origins:
            entry = _for_browsers(entry, settings.cors_origins)
        self._entry = entry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._later and scope["type"] == "http" and scope["path"] not in PROBES:
            self.complete(but=1 if scope["path"] in QUESTIONS else 0)
        await self._entry(scope, receive, send)

    def complete(self, *, but: int = 0) -> None:
        """From here on all routes are there, but those of so many parts from the end."""
        while len(self._later) > but:
            self._later.popleft()(self)

    def take(self, routers: Iterable[APIRouter]) -> None:
        """Their very routes: including the routers would make each of them anew, a millisecond each."""
        for router in routers:
            self.router.routes.extend(router.routes)

    def openapi(self) -> dict[str, Any]:
        self.complete()
        if self.openapi_schema is None:
            from functions.query.describing import completed  # many shapes: loaded when first used

            self.openapi_schema = completed(super().openapi())
        return self.openapi_schema

    def _set_gauges(self) -> None:
        graph: Graph | None = getattr(self.state, "graph", None)
        if graph is not None:
            from functions.query.monitoring import set_gauges  # there is a graph, so it is loaded

            set_gauges(graph.database, graph.watched, self.state.load)


def _for_browsers(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """Keys go in a header that pages set themselves, so no credentials of the browser's are ever wanted."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=("Authorization", "X-API-Key", "X-Request-Id", "Idempotency-Key", "traceparent"),
        expose_headers=("X-Request-Id", "Server-Timing", "Retry-After", "Location"),
    )


class _Graphs:
    """The graph, made when it is first needed and kept; on another event loop, which connections do not move to, anew."""

    def __init__(self, make: Callable[[], Awaitable[Graph]]) -> None:
        self._make = make
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()
        self._graph: Graph | None = None

    async def get(self) -> Graph:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._lock, self._graph = loop, asyncio.Lock(), None
        async with self._lock:
            if self._graph is None:
                self._graph = await self._make()
        return self._graph

    async def close(self) -> None:
        if self._graph is not None:
            await self._graph.close()


def create_app(
    settings: QuerySettings | None = None, embedder: OnnxEmbedder | None = None, *, lazy: bool = False
) -> FastAPI:
    """lazy: what the routes work with, and most routes, are made at the first request that needs them, not at the start."""
    settings = settings or QuerySettings.load()
    telemetry.configure(settings.log_level)
    metrics.configure(settings.metrics_form, "query")
    tracing.configure(settings.otlp_endpoint, "ragzero-query")

    async def make() -> Graph:
        from functions.query.wiring import wire  # all adapters: a probe does not need them

        return await wire(settings, embedder)

    graphs = _Graphs(make)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if not lazy:
            app.state.graph = await graphs.get()
        yield
        await graphs.close()
        tracing.shutdown()

    def asked(app: Api) -> None:
        app.take(of_questions())

    def rest(app: Api) -> None:
        app.take(pages(app.title, settings.upload_origin))
        app.take(others(settings.max_upload_bytes))

    app = Api(
        settings,
        graphs.get,
        (asked, rest),
        title="ragzero",
        version="0.1.0",
        description="Drop files in a bucket, ask questions over HTTPS, pay nothing while nobody asks.",
        lifespan=lifespan,
        max_body_size=_MAX_JSON,
        redirect_slashes=False,  # a redirect would repeat the Host header, which is the caller's word
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    problems.install(app)
    app.take([PROBE])
    if not lazy:
        app.complete()
    return app
