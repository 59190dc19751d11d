"""The API's description, completed: what FastAPI cannot see of headers, refusals and their shapes, in one place.

Every route gets what all have in common; a route that can say more is named in _MORE.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from functions.query import problems
from functions.query.examples import REQUESTS, RESPONSES
from functions.query.openai_errors import is_openai
from functions.query.openai_schemas import OpenAiError

_SAID = {
    400: "The request cannot be read.",
    401: "No valid API key.",
    403: "The key lacks the scope that this takes.",
    404: "No such thing, or not yours.",
    409: "It is otherwise already, or the Idempotency-Key was used for another request.",
    410: "It was there, and no longer holds; also what was answered to this Idempotency-Key.",
    413: "The body is larger than this route takes.",
    422: "Something in the request is not accepted; `errors` or `field` names it.",
    429: "A limit is reached; Retry-After says when to come back.",
    503: "Something we depend on did not answer in time; try again.",
}
_MORE: dict[tuple[str, str], tuple[int, ...]] = {
    ("post", "/v1/search"): (404,),
    ("post", "/v1/query"): (404,),
    ("get", "/v1/explain"): (404,),
    ("get", "/v1/answers/{id}"): (410, 500),
    ("get", "/v1/documents/{id}/chunks"): (410,),
    ("get", "/v1/index/why"): (404,),
    ("post", "/v1/index/requeue"): (404,),
    ("post", "/v1/chat/completions"): (404,),
    ("post", "/v1/embeddings"): (404,),
    ("post", "/v1/admin/keys"): (404,),
    ("post", "/v1/evaluations"): (404,),
    ("post", "/v1/uploads/complete"): (404,),
    ("post", "/v1/uploads/abort"): (404,),
    ("post", "/v1/uploads"): (404,),
    ("post", "/v1/index/spaces/rollback"): (404,),
    ("post", "/v1/index/candidates"): (404,),
    ("get", "/v1/index/dead-letters"): (404,),
    ("post", "/v1/index/dead-letters/redrive"): (404,),
    ("post", "/v1/index/dead-letters/discard"): (404,),
    ("get", "/v1/evaluations/{before}/compare/{after}"): (409,),
    ("patch", "/v1/documents/{id}"): (409,),
    ("patch", "/v1/collections/{name}"): (409,),
    ("patch", "/v1/admin/tenants/{id}"): (409,),
    ("delete", "/v1/admin/tenants/{id}"): (409,),
    ("patch", "/v1/admin/keys/{id}"): (409,),
    ("delete", "/v1/admin/keys/{id}"): (409,),
    ("get", "/healthz"): (503,),
    ("get", "/readyz"): (503,),
}
# what they answered may have been about a document that was deleted before the request came again
_REPLAYED = (
    "/v1/search",
    "/v1/query",
    "/v1/query/batch",
    "/v1/chat/completions",
    "/v1/documents",
    "/v1/uploads",
    "/v1/uploads/complete",
    "/v1/deletions",
    "/v1/jobs/{id}/resume",
    "/v1/index/requeue",
    "/v1/evaluations/{id}/questions",
)
_NEVER = {("get", "/v1/models/{model}"): {422}}  # any text is the name of a model, which there is or is not
_NO_SCOPE = ("/v1/key",)
_WAIT = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}}
_CHALLENGE = {"WWW-Authenticate": {"schema": {"type": "string"}}}
_EVENT = {
    "description": "Where `stream` is true: server-sent events.",
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
_STREAMED = ("/v1/query", "/v1/chat/completions")
_HEADERS: dict[int, Any] = {401: _CHALLENGE, 429: _WAIT}
_ONCE = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Under one key a request takes effect once; sent again, it gets the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]{1,255}$"},
}


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """document, as FastAPI makes it, with all that is missing."""
    schemas = document["components"]["schemas"]
    schemas["Problem"] = _problem()
    schemas["OpenAiError"] = OpenAiError.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= schemas["OpenAiError"].pop("$defs", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for method, path, operation in _operations(document):
        if method == "post":
            operation.setdefault("parameters", []).append(_ONCE)
        for status in sorted(_statuses(method, path, operation)):
            operation["responses"][str(status)] = _refusal(status, path)
        if path in _STREAMED:
            operation["responses"]["200"]["content"]["text/event-stream"] = {"schema": _EVENT}
        _exemplify(operation, method, path)
        operation["responses"] = dict(sorted(operation["responses"].items()))
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def _statuses(method: str, path: str, operation: dict[str, Any]) -> set[int]:
    found = set(_MORE.get((method, path), ()))
    if "security" in operation:
        found |= {401, 429, 503} | (set() if path in _NO_SCOPE else {403})
    if "422" in operation["responses"] or method == "post":
        found.add(422)
    if "{" in path:
        found.add(404)
    if method == "post":
        found |= {409, 413} | ({410} if path in _REPLAYED else set())
    if "requestBody" in operation:
        found |= {400, 413}
    found -= _NEVER.get((method, path), set())
    if is_openai(path):
        operation["responses"].pop("422", None)
        return (found - {422}) | ({400} if 422 in found else set())
    return found


def _refusal(status: int, path: str) -> dict[str, Any]:
    theirs = is_openai(path)
    shape = "OpenAiError" if theirs else "Problem"
    form = "application/json" if theirs else "application/problem+json"
    content = {form: {"schema": {"$ref": f"#/components/schemas/{shape}"}}}
    headers = {"headers": _HEADERS[status]} if status in _HEADERS else {}
    return {
        "description": _SAID.get(status, "Something went wrong on our side."),
        "content": content,
        **headers,
    }


def _exemplify(operation: dict[str, Any], method: str, path: str) -> None:
    if asked := REQUESTS.get((method, path)):
        operation["requestBody"]["content"]["application/json"]["example"] = asked
    if answered := RESPONSES.get((method, path)):
        success = min(operation["responses"])
        operation["responses"][success]["content"]["application/json"]["example"] = answered


def _problem() -> dict[str, Any]:
    complaint = {
        "type": "object",
        "properties": {"field": {"type": "string"}, "problem": {"type": "string"}},
        "required": ["field", "problem"],
    }
    return {
        "title": "Problem",
        "description": "RFC 9457. What `type` names stays; what `detail` says may be worded anew.",
        "type": "object",
        "properties": {
            "type": {"type": "string", "enum": problems.types()},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string"},
            "field": {"type": "string", "description": "Of the request, where one is to blame."},
            "errors": {"type": "array", "items": complaint},
        },
        "required": ["type", "title", "status", "detail"],
    }
