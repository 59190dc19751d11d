"""A request of every route that the description has: in order, and about things that are not there."""

from __future__ import annotations

import re
import uuid
from typing import Any

from functions.query.examples import REQUESTS
from tests.support.produced import operations

NOWHERE = str(uuid.uuid4())
IDS = {"keys/{id}": "0" * 24, "sweeps/{id}": "7", "{name}": "nowhere", "{model}": "ragzero/nowhere"}
NUMBERED = ("/v1/evaluations/", "/v1/index/spaces/")
QUERIES = {
    "/v1/explain": {"question": "What?", "document_id": NOWHERE},
    "/v1/index/why": {"document_id": NOWHERE},
    "/v1/admin/tenants/{id}": {"confirm": "nobody"},
}
BODIES: dict[tuple[str, str], Any] = REQUESTS | {
    ("patch", "/v1/documents/{id}"): {"metadata": {"year": 2026}},
    ("post", "/v1/uploads"): {"files": [{"name": "a.txt", "size": 1}], "job_id": NOWHERE},
    ("post", "/v1/uploads/complete"): {"upload_id": "x", "etags": ["x"]},
    ("post", "/v1/uploads/abort"): {"upload_id": "x"},
    ("post", "/v1/deletions"): {"filter": {"year": 2026}, "dry_run": True},
    ("post", "/v1/webhooks"): {"url": "https://example.org/"},
    ("patch", "/v1/collections/{name}"): {"language": "german"},
    ("post", "/v1/admin/tenants"): {"name": "acme"},
    ("patch", "/v1/admin/tenants/{id}"): {"limits": {"rate": 5}},
    ("post", "/v1/admin/keys"): {"tenant_id": NOWHERE, "name": "app", "scopes": ["query"]},
    ("patch", "/v1/admin/keys/{id}"): {"name": "other"},
    ("post", "/v1/index/requeue"): {"document_id": NOWHERE},
    ("post", "/v1/index/dead-letters/redrive"): {},
    ("post", "/v1/index/dead-letters/discard"): {"reason": "made for a test"},
    ("post", "/v1/evaluations"): {"name": "a", "questions_digest": "0" * 64, "space": 99},
    ("post", "/v1/evaluations/{id}/questions"): {"number": 0, "question": "What?"},
    ("post", "/v1/index/spaces/{id}/promote"): {"force_reason": "a test"},
    ("post", "/v1/index/spaces/rollback"): {"reason": "a test"},
    ("post", "/v1/index/candidates/{name}/promote"): {"force_reason": "a test"},
    ("post", "/v1/index/candidates/{name}/rollback"): {"reason": "a test"},
}


def said(status: int) -> list[tuple[str, str, dict[str, Any]]]:
    return [one for one in operations() if str(status) in one[2]["responses"]]


def address(path: str) -> str:
    for place, value in IDS.items():
        path = path.replace(place, place.replace("{id}", value) if "{id}" in place else value)
    return re.sub(r"\{[a-z]+\}", "7" if path.startswith(NUMBERED) else NOWHERE, path)


def asked(method: str, path: str, operation: dict[str, Any]) -> dict[str, Any]:
    """All that the route takes, in order, about things that are not there."""
    query = {"params": QUERIES[path]} if path in QUERIES and method in ("get", "delete") else {}
    if "multipart/form-data" in operation.get("requestBody", {}).get("content", {}):
        return query | {"files": {"file": ("a.txt", b"Text.")}}
    return query | ({"json": BODIES.get((method, path), {})} if "requestBody" in operation else {})
