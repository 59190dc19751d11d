"""Keys and their use through the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from fastapi.testclient import TestClient

from functions.query.app import create_app
from tests.support.installation import Installation


@contextmanager
def operating(installation: Installation, **settings: Any) -> Iterator[TestClient]:
    """The API with the key of an operator."""
    app = create_app(installation.query_settings(**settings), installation.embedder)
    with TestClient(app, headers=bearer(installation.admin_key), raise_server_exceptions=False) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def made(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def new_key(operator: TestClient, tenant: UUID | str, **fields: Any) -> dict[str, Any]:
    usual = {"tenant_id": str(tenant), "name": "app", "scopes": ["query"]}
    return made(operator.post("/v1/admin/keys", json=usual | fields))


def new_tenant(operator: TestClient, name: str) -> str:
    return str(made(operator.post("/v1/admin/tenants", json={"name": name}))["id"])


def names(results: list[dict[str, Any]]) -> set[str]:
    """The files' names, without folders and endings."""
    return {one["uri"].rsplit("/", 1)[-1].rsplit(".", 1)[0] for one in results}
