"""Errors as RFC 9457 problem documents. One table says which error is which status."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from shared.core import errors
from shared.telemetry import get_logger

_log = get_logger(__name__)
_BASE = "https://ragzero.dev/problems/"
_STATUS: dict[type[Exception], tuple[int, str]] = {
    errors.InvalidInput: (422, "invalid-input"),
    errors.TooLarge: (413, "too-large"),
    errors.NotFound: (404, "not-found"),
    errors.Gone: (410, "gone"),
    errors.Unauthorized: (401, "unauthorized"),
    errors.Forbidden: (403, "forbidden"),
    errors.Conflict: (409, "conflict"),
    errors.TooMany: (429, "too-many-requests"),
    errors.PromptTooLong: (422, "prompt-too-long"),
    errors.DeadlineExceeded: (503, "deadline-exceeded"),
    errors.BadUpstream: (503, "bad-upstream"),
    errors.SpaceChanged: (503, "space-changed"),
    errors.Unavailable: (503, "unavailable"),
    errors.OutcomeUnknown: (503, "outcome-unknown"),
}
_TITLES = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    422: "invalid-input",
}
_OTHERS = ("http-error", "internal-error")
_MAX_SHOWN = 10
_OUR_SIDE = "Something went wrong on our side; nothing you sent caused it to be lost."


class ProblemApp(FastAPI):
    """FastAPI refuses bodies that are too large before any handler of ours, in plain text: here that is a problem too."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def translated(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == 413:
                refused = True
                await problem(413, "too-large", "The request's body is larger than this route takes.")(
                    scope, receive, send
                )
            elif not refused:
                await send(message)

        await super().__call__(scope, receive, translated)


def types() -> list[str]:
    """All that `type` may be."""
    names = {name for _, name in _STATUS.values()} | set(_TITLES.values()) | set(_OTHERS)
    return [_BASE + name for name in sorted(names)]


def problem(
    status: int, type: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    return _response(document(status, type, detail, **more), headers or {})


def document(status: int, type: str, detail: str, **more: Any) -> dict[str, Any]:
    title = type.replace("-", " ").capitalize()
    return {"type": _BASE + type, "title": title, "status": status, "detail": detail, **more}


def described(error: Exception) -> dict[str, Any] | None:
    """The problem document of an error of ours; None for what the caller must not see."""
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return document(*_STATUS[kind], str(error), **_fields(error))
    return None


def told(error: Exception) -> dict[str, Any]:
    """The problem document for the end of a stream; what the caller must not see is logged."""
    known = described(error)
    if known is None:
        _log.error("stream_failed", error=type(error).__name__, exc_info=error)
        return document(500, "internal-error", "Something went wrong on our side.")
    return known


def of(error: errors.RagzeroError) -> Response:
    """The response that says what is the matter."""
    known = described(error)
    if known is None:
        _log.error("request_failed", error=type(error).__name__, exc_info=error)
        return problem(500, "internal-error", _OUR_SIDE)
    return _response(known, _headers(error))


def _response(body: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    return Response(
        json.dumps(body), body["status"], media_type="application/problem+json", headers=dict(headers)
    )


def install(app: FastAPI) -> None:
    app.add_exception_handler(errors.RagzeroError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(_request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.RagzeroError)
    return of(error)


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, errors.Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    retry_after = getattr(error, "retry_after", None)
    return {} if retry_after is None else {"Retry-After": str(math.ceil(retry_after))}


def _fields(error: Exception) -> dict[str, Any]:
    field = getattr(error, "field", None)
    return {"field": field} if field else {}


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if told := _not_as_json(request, error):
        return problem(422, "invalid-input", told, errors=[{"field": "Content-Type", "problem": told}])
    found = [
        {"field": ".".join(map(str, e["loc"][1:])) or str(e["loc"][0]), "problem": e["msg"]}
        for e in error.errors()
    ][:_MAX_SHOWN]
    detail = "; ".join(f"{one['field']}: {one['problem']}" for one in found)
    return problem(422, "invalid-input", detail, errors=found)


def _not_as_json(request: Request, error: RequestValidationError) -> str | None:
    """What to do about a body that nobody has read as JSON, because its type was not said or another."""
    sent = request.headers.get("content-type", "nothing")
    unread = any(one["type"] == "model_attributes_type" and one["loc"] == ("body",) for one in error.errors())
    if not unread or "json" in sent:
        return None
    return f"the body is read as JSON where Content-Type says application/json, not {sent[:80]!r}"


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    name = _TITLES.get(error.status_code, "http-error")
    headers, detail = dict(error.headers or {}), str(error.detail)
    if error.status_code == 404 and detail == "Not Found":
        detail = f"there is nothing at {request.url.path[:80]}; /docs says what there is"
    if error.status_code == 405 and (allowed := _methods(request)):
        headers["Allow"] = allowed
        detail = f"{request.method} is not taken here, only {allowed}"
    return problem(error.status_code, name, detail, headers=headers)


def _methods(request: Request) -> str:
    """All that the path takes: it is made of several routes, each of which knows its own method only."""
    path = getattr(request.scope.get("route"), "path", "").replace(":path}", "}")
    return ", ".join(sorted(method.upper() for method in request.app.openapi()["paths"].get(path, ())))


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("request_failed", path=request.url.path, error=type(error).__name__, exc_info=error)
    return problem(500, "internal-error", _OUR_SIDE)
