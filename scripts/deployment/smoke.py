"""Whether it works: one document in, one question answered from it, the document gone again."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx

from shared.core.errors import BadUpstream

PATIENCE_S = 300.0
"""A database and a function that were never called take their time."""


def smoke(
    url: str, key: str, *, pause: Callable[[float], None] = time.sleep, patience: float = PATIENCE_S
) -> str:
    """What was answered. Raises BadUpstream, with what came instead."""
    word = uuid.uuid4().hex[:12]
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as api:
        text = f"# Smoke test\n\nThe password of the smoke test is {word}.".encode()
        sent = _said(
            api.post("/v1/documents", files={"file": (f"smoke-{word}.md", text, "text/markdown")}), 202
        )
        try:
            _wait(api, sent["id"], pause, patience)
            question = {
                "question": "What is the password of the smoke test?",
                "cache": "bypass",
                "generate": False,
            }
            answer = _said(api.post("/v1/query", json=question), 200)
        finally:
            _said(api.delete(f"/v1/documents/{sent['id']}"), 200)
    if word not in answer["answer"]:
        raise BadUpstream("the API", f"expected {word} in the answer, got {answer['answer']!r}")
    return str(answer["answer"])


def _wait(api: httpx.Client, document: str, pause: Callable[[float], None], patience: float) -> None:
    ends = time.monotonic() + patience
    while (seen := _said(api.get(f"/v1/documents/{document}"), 200))["status"] != "searchable":
        if seen["status"] == "failed" or time.monotonic() > ends:
            raise BadUpstream("the API", f"the document is {seen['status']}: {seen.get('reason')}")
        pause(1.0)


def _said(answer: httpx.Response, expected: int) -> dict[str, Any]:
    if answer.status_code != expected:
        problem = (
            f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:300]}"
        )
        raise BadUpstream("the API", problem)
    found: dict[str, Any] = answer.json() if answer.content else {}
    return found
