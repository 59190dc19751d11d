"""The API as operators use it: with the queues of ingest known to it."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from functions.query.app import create_app
from tests.support.installation import Installation


def client(installation: Installation, key: str | None = None, **settings: Any) -> TestClient:
    """With the admin key unless another is given."""
    queues = {
        "queue_url": installation.intake.queue_url,
        "dead_letter_url": installation.intake.dead_letter_url,
    }
    app = create_app(installation.query_settings(**queues | settings), installation.embedder)
    headers = {"Authorization": f"Bearer {key or installation.admin_key}"}
    return TestClient(app, headers=headers, raise_server_exceptions=False)
