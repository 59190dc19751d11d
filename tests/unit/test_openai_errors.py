"""Problem documents as OpenAI's clients read errors; everything else is left as it is."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from functions.query import problems
from functions.query.openai_errors import OpenAiErrors
from shared.core.errors import (
    BadUpstream,
    Forbidden,
    InvalidInput,
    NotFound,
    RagzeroError,
    TooMany,
    Unauthorized,
)


def answered(error: RagzeroError, path: str = "/v1/embeddings") -> Any:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await problems.of(error)(scope, receive, send)

    return TestClient(OpenAiErrors(app)).get(path)


@pytest.mark.parametrize(
    ("error", "status", "type", "code"),
    [
        (InvalidInput("no", field="input"), 400, "invalid_request_error", "invalid_value"),
        (Unauthorized(), 401, "invalid_request_error", "invalid_api_key"),
        (Forbidden(), 403, "permission_error", "forbidden"),
        (NotFound(), 404, "invalid_request_error", "model_not_found"),
        (TooMany(), 429, "rate_limit_error", "rate_limit_exceeded"),
        (BadUpstream("x"), 503, "server_error", "unavailable"),
        (RagzeroError("secret"), 500, "server_error", "internal_error"),
    ],
)
def test_each_error_is_one_that_the_clients_know(
    error: RagzeroError, status: int, type: str, code: str
) -> None:
    answer = answered(error)
    found = answer.json()["error"]
    assert (answer.status_code, found["type"], found["code"]) == (status, type, code)
    assert found["param"] == getattr(error, "field", None)
    assert "secret" not in answer.text
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_who_has_to_wait_for_long_is_not_made_to_try_again() -> None:
    """The clients do by themselves, within seconds, whatever a month's budget says."""
    assert answered(TooMany(retry_after=5_000)).headers["x-should-retry"] == "false"
    assert "x-should-retry" not in answered(TooMany(retry_after=5)).headers
    assert answered(TooMany(retry_after=5)).headers["retry-after"] == "5"


def test_other_routes_keep_their_problem_documents() -> None:
    answer = answered(NotFound(), "/v1/search")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 404
