"""Errors as OpenAI's clients read them, on the routes made for those: whatever part of the application refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATHS = ("/v1/chat/completions", "/v1/models", "/v1/embeddings")
_TYPES = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", "forbidden"),
    404: ("invalid_request_error", "model_not_found"),
    409: ("invalid_request_error", "conflict"),
    413: ("invalid_request_error", "too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}
_LONG_WAIT_S = 60


def error_of(problem: Mapping[str, Any]) -> dict[str, Any]:
    """The error object of a problem document."""
    status = problem["status"]
    usual = (
        ("server_error", "internal_error") if status >= 500 else ("invalid_request_error", "invalid_value")
    )
    type, code = _TYPES.get(status, usual)
    field = problem.get("field") or next((one["field"] for one in problem.get("errors", ())), None)
    if status == 503:
        code = "unavailable"
    return {"error": {"message": problem["detail"], "type": type, "param": field, "code": code}}


def status_of(status: int) -> int:
    """OpenAI knows no 422."""
    return 400 if status == 422 else status


class OpenAiErrors:
    """ASGI middleware: problem documents become OpenAI's errors on its routes, and nowhere else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_openai(scope["path"]):
            await self._app(scope, receive, _Translated(send))
        else:
            await self._app(scope, receive, send)


class _Translated:
    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_problem(message):
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._answer(self._start)

    async def _answer(self, start: Message) -> None:
        body = json.dumps(error_of(json.loads(self._body))).encode()
        headers = [
            header for header in start["headers"] if header[0] not in (b"content-type", b"content-length")
        ]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if _waits_long(dict(start["headers"])):
            headers.append((b"x-should-retry", b"false"))  # its clients would come back long before
        await self._send({**start, "status": status_of(start["status"]), "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def is_openai(path: str) -> bool:
    return path.startswith(PATHS)


def _is_problem(start: Message) -> bool:
    return (b"content-type", b"application/problem+json") in list(start.get("headers", ()))


def _waits_long(headers: Mapping[bytes, bytes]) -> bool:
    wait = headers.get(b"retry-after", b"")
    return wait.isdigit() and int(wait) > _LONG_WAIT_S
