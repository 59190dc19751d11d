"""Requests as the events that Lambda receives of them: the recorded ones in tests/events, filled in."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

Event = dict[str, Any]
_FOLDER = Path(__file__).resolve().parents[1] / "events"


def load(name: str) -> Event:
    event: Event = json.loads((_FOLDER / f"{name}.json").read_text())
    return event


def http_api(request: httpx.Request) -> Event:
    """An HTTP API hands on the path decoded, its stage before it."""
    event, path = load("http_api_v2"), "/prod" + unquote(_path(request))
    return _version_2(event, request, path)


def function_url(request: httpx.Request) -> Event:
    return _version_2(load("function_url"), request, _path(request))


def rest_api(request: httpx.Request) -> Event:
    event, path = load("rest_api_v1"), _path(request)
    for name, value in request.headers.items():
        event["headers"][name.title()], event["multiValueHeaders"][name.title()] = value, [value]
    values = parse_qs(request.url.query.decode(), keep_blank_values=True) or None
    event["multiValueQueryStringParameters"] = values
    event["queryStringParameters"] = {name: found[-1] for name, found in values.items()} if values else None
    event["requestContext"] |= {"httpMethod": request.method, "path": f"/prod{path}"}
    return event | {"path": path, "httpMethod": request.method} | _body(request)


KINDS: dict[str, Callable[[httpx.Request], Event]] = {
    "http_api": http_api,
    "rest_api": rest_api,
    "function_url": function_url,
}


def answer(response: dict[str, Any], method: str = "GET") -> httpx.Response:
    """What the gateway makes of a handler's response to a request of that method."""
    several = response.get("multiValueHeaders") or {}
    headers = [*response["headers"].items(), *((name, one) for name in several for one in several[name])]
    body, kind = response["body"], response["headers"].get("content-type", "")
    assert not (response["isBase64Encoded"] and ("json" in kind or "text/" in kind)), (
        "not every gateway undoes it"
    )
    content = base64.b64decode(body) if response["isBase64Encoded"] else body.encode()
    return httpx.Response(
        response["statusCode"], headers=headers, content=b"" if method == "HEAD" else content
    )


def _version_2(event: Event, request: httpx.Request, path: str) -> Event:
    query = request.url.query.decode()
    event["headers"] |= dict(request.headers)
    event["requestContext"]["http"] |= {"method": request.method, "path": path}
    joined = {name: ",".join(values) for name, values in parse_qs(query, keep_blank_values=True).items()}
    parameters = {"queryStringParameters": joined} if joined else {}
    return event | {"rawPath": path, "rawQueryString": query} | parameters | _body(request)


def _path(request: httpx.Request) -> str:
    """As it stands in the request, percent-encoded."""
    return urlsplit(request.url.raw_path.decode()).path


def _body(request: httpx.Request) -> Event:
    content, kind = request.read(), request.headers.get("content-type", "")
    if not content:
        return {}
    if kind.startswith(("text/", "application/json")):
        try:
            return {"body": content.decode(), "isBase64Encoded": False}
        except UnicodeDecodeError:
            pass
    return {"body": base64.b64encode(content).decode(), "isBase64Encoded": True}
