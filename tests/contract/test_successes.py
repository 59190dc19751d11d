"""Every way to succeed that the description names, on its route: one walk through all that the API can do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from functions.query import candidates, collections, jobs, uploads
from shared.adapters.onnx_embedder import OnnxEmbedder
from tests.fakes.gpu_server import FakeGpu
from tests.support.installation import Installation
from tests.support.model_change import build
from tests.support.produced import Answer, Produced, described, model, watching
from tests.support.sweeping import silence, sweeping, work_off

TEXT = "The harbour crane lifts forty tonnes."
QUESTION = {"question": "How many tonnes does the harbour crane lift?"}


class Walker:
    """Asks, and reads what it is answered."""

    def __init__(self, api: TestClient) -> None:
        self.api = api

    def __call__(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        given = {"json": body} if body is not None else {}
        answer = self.api.request(method, path, params=params, **given)
        assert answer.status_code < 300, (method, path, answer.status_code, answer.text)
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text


def test_every_route_succeeds_in_every_way_it_can(
    installation: Installation,
    produced: Produced,
    next_model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installation.put("crane.txt", TEXT)
    work_off(installation)
    document = str(installation.document("crane.txt")["id"])
    with watching(installation, produced) as api:
        ask = Walker(api)
        operations(ask)
        questions(ask, document)
        documents(ask, installation, document, monkeypatch)
        accounts(ask)
        index(ask, installation)
        evaluations(ask, installation, next_model_dir)
        candidate(ask, installation, monkeypatch)
    with FakeGpu() as gpu, watching(installation, produced, **model(gpu)) as api:
        answers(Walker(api), gpu)
    lacking = {answer for answer in described() - produced.seen if answer[2] < 300}
    assert lacking == set[Answer]()


def operations(ask: Walker) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/monitoring/pool-status"):
        ask("get", path)
    for path in ("/monitoring/performance-metrics", "/v1/key", "/v1/usage"):
        ask("get", path)


def questions(ask: Walker, document: str) -> None:
    ask("post", "/v1/search", QUESTION)
    answer = ask("post", "/v1/query", QUESTION)
    ask("post", "/v1/query/batch", {"questions": [QUESTION]})
    assert ask("get", "/v1/explain", **QUESTION, document_id=document)["in_result"]
    ask("post", f"/v1/answers/{answer['id']}/feedback", QUESTION | {"rating": "good"})
    assert ask("get", "/v1/admin/feedback")["items"]
    said = [{"role": "user", "content": QUESTION["question"]}]
    ask("post", "/v1/chat/completions", {"model": "ragzero/default", "messages": said})
    named = [one["id"] for one in ask("get", "/v1/models")["data"]]
    for name in named:
        ask("get", f"/v1/models/{name}")
    ask("post", "/v1/embeddings", {"model": named[-1], "input": "A crane."})


def documents(
    ask: Walker, installation: Installation, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"/v1/documents/{document}"
    for path in ("/v1/documents", place, f"{place}/chunks", f"{place}/source"):
        ask("get", path)
    ask("patch", place, {"metadata": {"year": 1911}})
    sent = ask.api.post("/v1/documents", files={"file": ("pier.txt", b"The pier opens at nine.")})
    assert sent.status_code == 202
    uploaded(ask)
    work_off(installation)
    wanted = {"filter": {"year": 1911}}
    assert ask("post", "/v1/deletions", wanted | {"dry_run": True})["matched"] == 1
    with monkeypatch.context() as hurried:
        hurried.setattr(jobs, "_PATIENCE_S", 0.0)
        job = ask("post", "/v1/deletions", wanted)["job"]["id"]
    assert ask("post", f"/v1/jobs/{job}/resume")["status"] == "done"
    ask("get", f"{place}/deletion")
    ask("delete", f"/v1/documents/{sent.json()['id']}")
    kept = ask("post", "/v1/collections", {"name": "kept"})
    ask("get", "/v1/collections")
    ask("get", "/v1/collections/kept")
    ask("patch", "/v1/collections/kept", {"language": "german"})
    with monkeypatch.context() as hurried:
        hurried.setattr(collections, "_PATIENCE_S", -1.0)
        installation.put("kept.txt", TEXT, {"collection": kept["name"]})
        work_off(installation)
        assert ask("delete", "/v1/collections/kept")["remaining"] == 1
    assert ask("delete", "/v1/collections/kept")["status"] == "deleted"
    hook = ask("post", "/v1/webhooks", {"url": "https://example.org/"})["id"]
    ask("get", "/v1/webhooks")
    ask("delete", f"/v1/webhooks/{hook}")


def uploaded(ask: Walker) -> None:
    large = {"files": [{"name": "large.txt", "size": 2 * uploads.PART_BYTES + 1}]}
    begun, given_up = (ask("post", "/v1/uploads", large) for _ in range(2))
    assert ask("get", begun["job_url"])["status"] == "running"
    ask("post", "/v1/uploads/abort", {"upload_id": given_up["uploads"][0]["upload_id"]})
    (ticket,) = begun["uploads"]
    etags = [httpx.put(one["url"], content=b" " * one["size"]).headers["etag"] for one in ticket["parts"]]
    ask("post", "/v1/uploads/complete", {"upload_id": ticket["upload_id"], "etags": etags})


def accounts(ask: Walker) -> None:
    tenant = ask("post", "/v1/admin/tenants", {"name": "acme"})["id"]
    key = ask("post", "/v1/admin/keys", {"tenant_id": tenant, "name": "app", "scopes": ["query"]})["id"]
    for path in ("/v1/admin/tenants", f"/v1/admin/tenants/{tenant}", "/v1/admin/keys"):
        ask("get", path)
    ask("patch", f"/v1/admin/tenants/{tenant}", {"limits": {"rate": 5}})
    ask("patch", f"/v1/admin/keys/{key}", {"name": "other"})
    ask("delete", f"/v1/admin/keys/{key}")
    ask("delete", f"/v1/admin/tenants/{tenant}", confirm="acme")


def index(ask: Walker, installation: Installation) -> None:
    installation.put("held.txt", TEXT)
    work_off(installation)
    document = str(installation.document("held.txt")["id"])
    ask("get", "/v1/index/why", document_id=document)
    ask("post", "/v1/index/requeue", {"document_id": document})
    work_off(installation)
    ask("get", "/v1/index/doctor")
    ask("get", "/v1/index/settings")
    for way, more in (("redrive", {}), ("discard", {"reason": "made for a test"})):
        dead = {"QueueUrl": installation.intake.dead_letter_url, "MessageBody": '{"Records": []}'}
        installation.aws.client("sqs").send_message(**dead)
        assert ask("get", "/v1/index/dead-letters")["items"]
        assert ask("post", f"/v1/index/dead-letters/{way}", more)["moved"] == 1
    ask("get", "/v1/index/dead-letters/discarded")
    silence(installation)
    installation.delete("held.txt")
    with sweeping(installation, max_deletes=0, max_delete_share=0) as careful:
        careful.sweep()
    (sweep,) = ask("get", "/v1/index/sweeps")
    assert ask("post", f"/v1/index/sweeps/{sweep['id']}/confirm-deletes")["held"] == 1


def evaluations(ask: Walker, installation: Installation, following: Path) -> None:
    run = ask("post", "/v1/evaluations", {"name": "town", "questions_digest": "0" * 64})["id"]
    place = f"/v1/evaluations/{run}"
    ask("post", f"{place}/questions", QUESTION | {"number": 0})
    ask("post", f"{place}/finish")
    for path in (
        "/v1/evaluations",
        "/v1/evaluations/recent-questions",
        "/v1/evaluations/feedback-questions",
        place,
        f"{place}/questions",
    ):
        ask("get", path)
    ask("get", f"{place}/compare/{run}")
    space = build(installation, OnnxEmbedder.load(following))
    ask("get", "/v1/index/plan")
    ask("post", f"/v1/index/spaces/{space}/promote", {"force_reason": "a test"})
    ask("post", "/v1/index/spaces/rollback", {"reason": "a test"})
    assert len(ask("get", "/v1/index/spaces")) == 2
    assert len(ask("get", "/v1/index/spaces/changes")) == 2


def candidate(ask: Walker, installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    place = "/v1/index/candidates"
    installation.put("cut.txt", TEXT)
    ask("post", "/v1/index/requeue", {"key": "cut.txt"})
    work_off(installation)
    ask("post", place, {"chunk_tokens": 32})
    ask("post", f"{place}/default/build", {})
    work_off(installation)
    assert [one["lacking"] for one in ask("get", place)] == [0]
    ask("post", f"{place}/default/promote", {"force_reason": "a test"})
    ask("post", f"{place}/default/rollback", {"reason": "a test"})
    assert len(ask("get", f"{place}/changes")) == 2
    with monkeypatch.context() as hurried:
        hurried.setattr(candidates, "_PATIENCE_S", -1.0)
        assert ask("delete", f"{place}/default")["status"] == "reclaiming"
    assert ask("delete", f"{place}/default")["status"] == "reclaimed"


def answers(ask: Walker, gpu: FakeGpu) -> None:
    gpu.silent()
    pending = ask("post", "/v1/query", QUESTION | {"deadline_ms": 100})
    assert ask("get", pending["status_url"])["status"] == "running"
    gpu.heal()
    written = ask("post", "/v1/query", {"question": "What lifts forty tonnes?"})
    ask("get", f"/v1/answers/{written['id']}")
