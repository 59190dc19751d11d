"""Errors as RFC 9457 problem documents. One table says which error is which status."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from shared.core import errors
from shared.telemetry import get_logger

_log = get_logger(__name__)
_BASE = "https://ragzero.dev/problems/"
_STATUS: dict[type[Exception], tuple[int, str]] = {
    errors.InvalidInput: (422, "invalid-input"),
    errors.NotFound: (404, "not-found"),
    errors.Unauthorized: (401, "unauthorized"),
    errors.Forbidden: (403, "forbidden"),
    errors.Conflict: (409, "conflict"),
    errors.TooMany: (429, "too-many-requests"),
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
_MAX_SHOWN = 10


def problem(
    status: int, type: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    body = {
        "type": _BASE + type,
        "title": type.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
    }
    return Response(
        json.dumps(body | more), status, media_type="application/problem+json", headers=dict(headers or {})
    )


def install(app: FastAPI) -> None:
    app.add_exception_handler(errors.RagzeroError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(_request: Request, error: Exception) -> Response:
    for kind in type(error).__mro__:
        if kind in _STATUS:
            status, name = _STATUS[kind]
            return problem(status, name, str(error), headers=_headers(error), **_fields(error))
    return await _unexpected(_request, error)


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, errors.Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    retry_after = getattr(error, "retry_after", None)
    return {} if retry_after is None else {"Retry-After": str(math.ceil(retry_after))}


def _fields(error: Exception) -> dict[str, Any]:
    field = getattr(error, "field", None)
    return {"field": field} if field else {}


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [
        {"field": ".".join(map(str, e["loc"][1:])) or str(e["loc"][0]), "problem": e["msg"]}
        for e in error.errors()
    ][:_MAX_SHOWN]
    detail = "; ".join(f"{one['field']}: {one['problem']}" for one in found)
    return problem(422, "invalid-input", detail, errors=found)


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    name = _TITLES.get(error.status_code, "http-error")
    return problem(error.status_code, name, str(error.detail), headers=error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("request_failed", path=request.url.path, error=type(error).__name__, exc_info=error)
    return problem(
        500, "internal-error", "Something went wrong on our side; nothing you sent caused it to be lost."
    )
