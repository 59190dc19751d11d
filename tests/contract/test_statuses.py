"""Every status that the description names is made to happen on its route, and no other one does."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from functions.query.app import create_app
from functions.query.openai_errors import is_openai
from shared.adapters.postgres.deletions import _FORGOTTEN
from shared.adapters.s3 import Bucket
from tests.fakes.gpu_server import FakeGpu
from tests.support.access import bearer
from tests.support.installation import Installation
from tests.support.produced import Produced, described, model, watching
from tests.support.requests import address, asked, said
from tests.support.servers import revive
from tests.support.sweeping import work_off

SMALL = 1024 * 1024
QUESTION = "How many tonnes does the harbour crane lift?"


@pytest.fixture
def api(installation: Installation, produced: Produced) -> Iterator[TestClient]:
    """A small file is the largest it takes."""
    with watching(installation, produced, max_upload_bytes=SMALL) as client:
        yield client


def refused(api: TestClient, status: int, method: str, path: str, **request: Any) -> None:
    answer = api.request(method, address(path), **request)
    assert answer.status_code == status, (method, path, answer.status_code, answer.text[:200])
    form = "application/json" if is_openai(path) else "application/problem+json"
    assert answer.headers["content-type"] == form, (method, path)


def once() -> dict[str, str]:
    return {"Idempotency-Key": uuid.uuid4().hex}


def test_every_status_has_a_test() -> None:
    tested = {int(name[5:8]) for name in globals() if re.match("test_[45][0-9][0-9]_", name)}
    assert tested == {status for _, _, status in described() if status >= 400}


def test_400_for_a_body_that_is_none(api: TestClient, produced: Produced) -> None:
    for method, path, operation in said(400):
        if "requestBody" in operation:
            (form,) = operation["requestBody"]["content"]
            refused(api, 400, method, path, content=b'"\xff"', headers={"Content-Type": form})
    assert produced.lacking(400) == set()


def test_401_without_a_key(api: TestClient, produced: Produced) -> None:
    for method, path, operation in said(401):
        refused(api, 401, method, path, headers={"Authorization": ""}, **asked(method, path, operation))
    assert produced.lacking(401) == set()
    assert len(said(401)) >= 40


def test_403_with_a_key_that_may_do_something_else(
    api: TestClient, installation: Installation, produced: Produced
) -> None:
    for scope in ("query", "ingest"):
        key = bearer(installation.add_key(installation.tenant, [scope]))
        for method, path, operation in said(403):
            api.request(method, address(path), headers=key, **asked(method, path, operation))
    assert produced.lacking(403) == set()


def test_404_for_what_is_not_there(installation: Installation, api: TestClient, produced: Produced) -> None:
    for method, path, operation in said(404):
        request = asked(method, path, operation)
        if path in ("/v1/search", "/v1/query"):
            request["json"] = request["json"] | {"collection": "nowhere"}
        if path in ("/v1/chat/completions", "/v1/embeddings"):
            request["json"] = request["json"] | {"model": "ragzero/nowhere"}
        if path.endswith("/feedback"):
            request["json"] = {"rating": "good"}  # without its question nobody knows what it is about
        api.request(method, address(path), **request)
    with watching(installation, produced, queue_url=None) as without_queues:
        for method, path, operation in said(404):
            if "dead-letters" in path:
                without_queues.request(method, path, **asked(method, path, operation))
    assert produced.lacking(404) == set()


def test_409_for_a_key_that_stood_for_another_request(api: TestClient, produced: Produced) -> None:
    taken = {"Idempotency-Key": "taken"}
    assert api.post("/v1/search", json={}, headers=taken).status_code == 422
    for method, path, operation in said(409):
        if method == "post":
            refused(api, 409, method, path, headers=taken, **asked(method, path, operation))
    assert {answer for answer in produced.lacking(409) if answer[0] == "post"} == set()


def test_409_for_what_is_otherwise_by_now(
    installation: Installation, api: TestClient, produced: Produced, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = filled(installation)
    own = installation.admin_key.split("_")[2]
    closed = api.post("/v1/admin/tenants", json={"name": "acme"}).json()["id"]
    api.delete(f"/v1/admin/tenants/{closed}", params={"confirm": "acme"})
    key = {"tenant_id": str(installation.tenant), "name": "app", "scopes": ["query"]}
    revoked = api.post("/v1/admin/keys", json=key).json()["id"]
    api.delete(f"/v1/admin/keys/{revoked}")
    runs = [
        api.post("/v1/evaluations", json={"name": "a", "questions_digest": digit * 64}).json()["id"]
        for digit in "01"
    ]
    describe = Bucket.describe

    def late(bucket: Bucket, *arguments: Any) -> Any:
        installation.put("crane.txt", "The harbour crane was replaced.")
        return describe(bucket, *arguments)

    monkeypatch.setattr(Bucket, "describe", late)
    for method, path, body in (
        ("patch", f"/v1/documents/{document}", {"metadata": {"year": 2026}}),
        ("patch", "/v1/collections/default", {"language": "german"}),
        ("patch", f"/v1/admin/tenants/{closed}", {"limits": {"rate": 5}}),
        ("delete", f"/v1/admin/tenants/{installation.tenant}?confirm=x", None),
        ("patch", f"/v1/admin/keys/{revoked}", {"name": "other"}),
        ("delete", f"/v1/admin/keys/{own}", None),
        ("get", f"/v1/evaluations/{runs[0]}/compare/{runs[1]}", None),
    ):
        refused(api, 409, method, path, **({} if body is None else {"json": body}))
    assert {answer for answer in produced.lacking(409) if answer[0] != "post"} == set()


def test_410_for_what_was_true_before(installation: Installation, produced: Produced) -> None:
    text = "The harbour crane lifts forty tonnes. " * 200
    document = filled(installation, text)
    with FakeGpu() as gpu, watching(installation, produced, **model(gpu)) as api:
        gpu.reply("It lifts forty tonnes [1].")
        answer = api.post("/v1/query", json={"question": QUESTION}).json()
        chunks = api.get(f"/v1/documents/{document}/chunks", params={"limit": 1}).json()
        filled(installation, text + "It was built in Gdansk.")
        refused(api, 410, "get", f"/v1/answers/{answer['id']}")
        cursor = {"cursor": chunks["next_cursor"]}
        refused(api, 410, "get", f"/v1/documents/{document}/chunks", params=cursor)
    assert {answer for answer in produced.lacking(410) if answer[0] != "post"} == set()


def test_410_for_a_repetition_of_what_spoke_of_a_deleted_document(
    installation: Installation, api: TestClient, produced: Produced
) -> None:
    """Set here as the sweep after the delete sets it."""
    repeated = {method + path: once() for method, path, _ in said(410)}
    for _ in range(2):
        for method, path, operation in said(410):
            if method == "post":
                headers = repeated[method + path]
                if path == "/v1/documents":
                    headers = headers | {"Content-Type": "multipart/form-data; boundary=x"}
                api.request(method, address(path), headers=headers, **asked(method, path, operation))
        installation.rows(
            "update idempotent_requests set status = 410, body = %s, headers = %s returning 1",
            json.dumps(_FORGOTTEN).encode(),
            json.dumps([["content-type", "application/problem+json"]]),
        )
    assert {answer for answer in produced.lacking(410) if answer[0] == "post"} == set()


def test_413_for_a_body_that_is_too_large(api: TestClient, produced: Produced) -> None:
    """Of a route without a body, too, where it would have to be remembered."""
    for method, path, operation in said(413):
        headers = (once() if "requestBody" not in operation else {}) | {"Content-Type": "application/json"}
        refused(api, 413, method, path, content=b" " * (3 * SMALL), headers=headers)
    assert produced.lacking(413) == set()


def test_422_for_what_no_route_takes(api: TestClient, produced: Produced) -> None:
    wrong = {"limit": "0", "from": "yesterday", "dimension": "0"}
    for method, path, _ in said(422):
        if method == "post":
            refused(api, 422, method, path, headers={"Idempotency-Key": "ü".encode()})
        else:
            refused(api, 422, method, re.sub(r"\{[a-z]+\}", "!", path), params=wrong)
    assert produced.lacking(422) == set()


def test_429_beyond_the_rate(installation: Installation, produced: Produced) -> None:
    """Also of a batch, which answers for each question: its repetition is counted once."""
    with watching(installation, produced, key_rate=0.001, key_burst=1) as api:
        assert api.get("/v1/key").status_code == 200
        for method, path, operation in said(429):
            headers = once() if path == "/v1/query/batch" else {}
            refused(api, 429, method, path, headers=headers, **asked(method, path, operation))
    assert produced.lacking(429) == set()


def test_500_for_an_answer_that_came_to_nothing(installation: Installation, produced: Produced) -> None:
    filled(installation)
    with FakeGpu() as gpu, watching(installation, produced, **model(gpu)) as api:
        gpu.reply("It lifts forty tonnes [1], which is a lot for a crane of its age.")
        gpu.error_after(3)
        streamed = api.post("/v1/query", json={"question": QUESTION, "stream": True}).text
        assert "event: error" in streamed
        (id,) = set(re.findall(r'"id": ?"([0-9a-f-]{36})"', streamed.split("event: error")[0]))
        refused(api, 500, "get", f"/v1/answers/{id}")
    assert produced.lacking(500) == set()


async def test_503_without_a_database(installation: Installation, produced: Produced) -> None:
    """All at once, as each waits for a connection as long as one may take. A probe that touches nothing answers so only
    when the process is about to leave."""
    app = create_app(installation.query_settings(), installation.embedder, lazy=True)
    transport = httpx.ASGITransport(produced.around(app))
    headers = bearer(installation.admin_key)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as api:
        assert (await api.get("/v1/key")).status_code == 200
        installation.databases.pgbouncer.kill()
        try:
            answers = await asyncio.gather(
                *(
                    api.request(method, address(path), headers=once(), **asked(method, path, operation))
                    for method, path, operation in said(503)
                    if path != "/healthz"
                )
            )
        finally:
            revive(installation.databases.pgbouncer)
        assert (await api.get("/healthz")).status_code == 200
        app.state.load.draining = True
        answers.append(await api.get("/healthz"))
        await app.state.graph.close()
    assert all(answer.headers["retry-after"] for answer in answers)
    assert produced.lacking(503) == set()


def filled(installation: Installation, text: str = "The harbour crane lifts forty tonnes.") -> str:
    installation.put("crane.txt", text)
    work_off(installation)
    return str(installation.document("crane.txt")["id"])
