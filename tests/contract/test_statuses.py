"""What the description says of refusals, made to happen on every route that it says it of."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.query.app import create_app
from functions.query.examples import REQUESTS
from functions.query.openai_errors import is_openai
from scripts.openapi import document
from tests.support.access import bearer
from tests.support.installation import Installation

Operation = tuple[str, str, dict[str, Any]]
IDS = {"keys/{id}": "0" * 24, "sweeps/{id}": "7", "{id}": str(uuid.uuid4()), "{name}": "nowhere"}
SMALL = 1024 * 1024


def said(status: int) -> list[Operation]:
    return [
        (method, path, operation)
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
        if str(status) in operation["responses"]
    ]


def address(path: str) -> str:
    for place, value in IDS.items():
        if place in path:
            return path.replace(place, place.replace("{id}", value).replace("{name}", value))
    return path.replace("{model}", "ragzero/nowhere")


@pytest.fixture
def api(installation: Installation) -> Iterator[TestClient]:
    """A small file is the largest it takes."""
    app = create_app(installation.query_settings(max_upload_bytes=SMALL), installation.embedder)
    headers = bearer(installation.admin_key)
    with TestClient(app, headers=headers, raise_server_exceptions=False) as client:
        yield client


def refused(api: TestClient, status: int, method: str, path: str, **request: Any) -> None:
    answer = api.request(method, address(path), **request)
    assert answer.status_code == status, (method, path, answer.status_code, answer.text[:200])
    form = "application/json" if is_openai(path) else "application/problem+json"
    assert answer.headers["content-type"] == form, (method, path)


def asked(method: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
    """A body that is in order, where there is one."""
    if "multipart/form-data" in operation.get("requestBody", {}).get("content", {}):
        return {"files": {"file": ("a.txt", b"Text.")}}
    return {"json": REQUESTS.get((method, path), {})} if "requestBody" in operation else {}


def test_401_without_a_key(api: TestClient) -> None:
    operations = said(401)
    assert len(operations) >= 40
    for method, path, operation in operations:
        refused(api, 401, method, path, headers={"Authorization": ""}, **asked(method, path, operation))


def test_403_with_a_key_that_may_do_something_else(api: TestClient, installation: Installation) -> None:
    keys = [bearer(installation.add_key(installation.tenant, [scope])) for scope in ("query", "ingest")]
    for method, path, operation in said(403):
        body = asked(method, path, operation)
        statuses = [api.request(method, address(path), headers=key, **body).status_code for key in keys]
        assert 403 in statuses, (method, path, statuses)


def test_400_for_a_body_that_is_none(api: TestClient) -> None:
    for method, path, operation in said(400):
        if "requestBody" not in operation:
            continue
        (form,) = operation["requestBody"]["content"]
        refused(api, 400, method, path, content=b'"\xff"', headers={"Content-Type": form})


def test_409_for_a_key_that_stood_for_another_request(api: TestClient) -> None:
    once = {"Idempotency-Key": "taken"}
    assert api.post("/v1/search", json={}, headers=once).status_code == 422
    operations = [one for one in said(409) if one[0] == "post"]
    assert len(operations) >= 12
    for method, path, operation in operations:
        refused(api, 409, method, path, headers=once, **asked(method, path, operation))


def test_413_for_a_body_that_is_too_large(api: TestClient) -> None:
    """Of a route without a body, too, where it would have to be remembered."""
    for method, path, operation in said(413):
        once = {"Idempotency-Key": uuid.uuid4().hex} if "requestBody" not in operation else {}
        headers = once | {"Content-Type": "application/json"}
        refused(api, 413, method, path, content=b" " * (3 * SMALL), headers=headers)


def test_422_for_what_no_route_takes(api: TestClient) -> None:
    for method, path, _ in said(422):
        if method == "post":
            refused(api, 422, method, path, headers={"Idempotency-Key": "ü".encode()})


def test_429_beyond_the_rate(installation: Installation) -> None:
    app = create_app(installation.query_settings(key_rate=0.001, key_burst=1), installation.embedder)
    headers = bearer(installation.admin_key)
    with TestClient(app, headers=headers, raise_server_exceptions=False) as api:
        assert api.get("/v1/key").status_code == 200
        for method, path, operation in said(429):
            if path == "/v1/query/batch":  # which answers for each question
                continue
            refused(api, 429, method, path, **asked(method, path, operation))
