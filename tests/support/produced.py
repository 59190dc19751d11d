"""What an API was seen to answer, held against what its description says it may."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from functions.query.app import create_app
from scripts.openapi import document
from tests.fakes.gpu_server import FakeGpu
from tests.support.access import bearer
from tests.support.installation import Installation

Answer = tuple[str, str, int]
"""A method in small letters, a path of the description, and a status."""


@cache
def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = document()["paths"]
    return paths


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in _paths().items():
        for method, operation in methods.items():
            yield method, path, operation


def described(status: int | None = None) -> set[Answer]:
    """All answers of the description, or those with that status."""
    return {
        (method, path, int(known))
        for method, path, operation in operations()
        for known in operation["responses"]
        if status in (None, int(known))
    }


class Produced:
    """ASGI middleware that remembers what was answered."""

    def __init__(self) -> None:
        self.seen: set[Answer] = set()
        self._forms = [
            (re.compile(re.sub(r"\{[^}]+\}", ".+" if path.endswith("{model}") else "[^/]+", path)), path)
            for path in sorted(_paths(), key=lambda path: path.count("{"))
        ]

    def around(self, app: ASGIApp) -> ASGIApp:
        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            async def noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    self._note(scope["method"].lower(), scope["path"], message["status"])
                await send(message)

            await app(scope, receive, noted)

        return watched

    def lacking(self, status: int) -> set[Answer]:
        """Described, and never seen."""
        return described(status) - self.seen

    def unannounced(self) -> set[Answer]:
        """Seen, and not described."""
        return self.seen - described()

    def _note(self, method: str, path: str, status: int) -> None:
        known = next((one for form, one in self._forms if form.fullmatch(path)), None)
        if known is not None:
            self.seen.add((method, known, status))


@contextmanager
def watching(installation: Installation, produced: Produced, **settings: Any) -> Iterator[TestClient]:
    """The API with an operator's key and all queues, watched."""
    queues = {
        "queue_url": installation.intake.queue_url,
        "dead_letter_url": installation.intake.dead_letter_url,
    }
    app = produced.around(create_app(installation.query_settings(**queues | settings), installation.embedder))
    with TestClient(app, headers=bearer(installation.admin_key), raise_server_exceptions=False) as client:
        yield client


def model(gpu: FakeGpu) -> dict[str, Any]:
    """The settings of an API whose answers gpu writes."""
    return {"generator_url": gpu.url, "generator_api_key": gpu.key, "generator_model": gpu.model}
