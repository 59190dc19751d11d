"""Stands in for vLLM's module of this name where the engine's life is tested: same arguments, same paths, no model.

The last part of --model says how it behaves: good, crash, mute (no chat template) or slow (never healthy).
It has a child of its own, as vLLM has, and POST /sicken makes /health fail, as vLLM's does when that child dies.
The child's pid and calls of /sleep and /wake_up are written into the folder that --model names.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route


class Engine:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._behaviour = behaviour = folder.name
        self._status = 503 if behaviour == "slow" else 200

    async def health(self, _: Request) -> Response:
        return Response(status_code=self._status)

    async def sicken(self, _: Request) -> Response:
        self._status = 503
        return Response()

    async def sleep(self, request: Request) -> Response:
        with (self._folder / "slept").open("a") as log:
            log.write(f"{request.url.path}?{request.url.query} ")
        return Response()

    async def chat(self, request: Request) -> Response:
        if self._behaviour == "mute":
            return JSONResponse({"error": {"message": "you must provide a chat template", "code": 400}}, 400)
        if (await request.json()).get("stream"):
            return StreamingResponse(_slow_words(), media_type="text/event-stream")
        return JSONResponse({"choices": [{"message": {"role": "assistant", "content": "Hi"}}]})


async def _slow_words() -> AsyncIterator[str]:
    for _ in range(10):
        yield 'data: {"choices": [{"delta": {"content": "word "}}]}\n\n'
        await asyncio.sleep(0.15)
    yield "data: [DONE]\n\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--port", type=int)
    known, _ = parser.parse_known_args()
    if known.model.name == "crash":
        raise SystemExit(3)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (known.model / "pids").write_text(f"{child.pid}")
    engine = Engine(known.model)
    routes = [
        Route("/health", engine.health),
        Route("/sicken", engine.sicken, methods=["POST"]),
        Route("/v1/chat/completions", engine.chat, methods=["POST"]),
    ]
    routes += [Route(path, engine.sleep, methods=["POST"]) for path in ("/sleep", "/wake_up")]
    app = Starlette(routes=routes)
    uvicorn.run(app, port=known.port, lifespan="off", log_level="error", timeout_graceful_shutdown=1)


main()
