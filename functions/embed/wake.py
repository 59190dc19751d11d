"""The door that ingest knocks on: a bearer key, a number of containers, an answer at once."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_LONGEST_BODY = 1_024


def create_app(wake: Callable[[], object], key: str, max_containers: int) -> Starlette:
    """POST /wake {"containers": n} calls wake n times, at most max_containers; GET /health says that it listens."""

    async def answer(request: Request) -> Response:
        if not hmac.compare_digest(
            request.headers.get("authorization", "").encode(), f"Bearer {key}".encode()
        ):
            return _problem(401, "a valid key is required")
        wanted = await _containers(request)
        if wanted is None:
            return _problem(422, 'expected {"containers": a whole number from 1 on}')
        woken = min(wanted, max_containers)
        for _ in range(woken):
            await run_in_threadpool(wake)
        return JSONResponse({"woken": woken}, 202)

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "listening"})

    return Starlette(routes=[Route("/wake", answer, methods=["POST"]), Route("/health", health)])


async def _containers(request: Request) -> int | None:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_BODY:
            return None
    try:
        wanted = json.loads(body)["containers"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return wanted if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted > 0 else None


def _problem(status: int, title: str) -> Response:
    return JSONResponse(
        {"type": "about:blank", "title": title, "status": status},
        status,
        media_type="application/problem+json",
    )
