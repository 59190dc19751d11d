"""The HTTP API as a FastAPI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from functions.query import problems
from functions.query.routes import documents, health, questions
from functions.query.wiring import wire
from shared.adapters.onnx_embedder import OnnxEmbedder
from shared.settings import QuerySettings

_MAX_JSON = 64 * 1024


def create_app(settings: QuerySettings | None = None, embedder: OnnxEmbedder | None = None) -> FastAPI:
    settings = settings or QuerySettings.load()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.graph = graph = await wire(settings, embedder)
        yield
        await graph.close()

    app = problems.ProblemApp(
        title="ragzero",
        version="0.1.0",
        description="Drop files in a bucket, ask questions over HTTPS, pay nothing while nobody asks.",
        lifespan=lifespan,
        max_body_size=_MAX_JSON,
    )
    problems.install(app)
    app.include_router(health.router)
    app.include_router(questions.router)
    app.include_router(documents.router(settings.max_upload_bytes))
    return app
