"""Metadata changed without indexing anew, sources fetched, and many documents deleted at once."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient

from functions.query import jobs
from functions.query.app import create_app
from shared.adapters.s3 import Bucket
from shared.core.models import ObjectState
from tests.support.access import bearer, names
from tests.support.documents import pdf_bytes
from tests.support.installation import Installation
from tests.support.sweeping import drift, sweeping, unsound, work_off

TEXT = "The lighthouse on the eastern mole was built in 1911 of red brick. Number {number}."


@pytest.fixture
def filled(installation: Installation) -> Installation:
    for number in range(4):
        installation.put(f"{number}.txt", TEXT.format(number=number), {"year": str(1910 + number)})
    installation.deliver()
    return installation


def changed(api: TestClient, id: object, **metadata: Any) -> dict[str, Any]:
    answer = api.patch(f"/v1/documents/{id}", json={"metadata": metadata})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def found(api: TestClient, **more: Any) -> set[str]:
    asked = {"question": "Who built the lighthouse?", **more}
    return names(api.post("/v1/search", json=asked).json()["results"])


def test_metadata_changes_at_once_and_nothing_is_embedded_again(
    filled: Installation, api: TestClient
) -> None:
    before = filled.document("1.txt")
    answer = changed(api, before["id"], year=2026, author="Ada", draft=True)
    assert answer["coherent"] is True
    assert answer["document"]["metadata"] == {"year": 2026, "author": "Ada", "draft": True}
    assert found(api, filter={"year": 2026}) == {"1"}
    assert found(api, filter={"year": 1911}) == set()
    after = filled.document("1.txt")
    same = ("generation", "published_generation", "chunks", "content_hash", "pipeline")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}

    work_off(filled)
    settled = filled.document("1.txt")
    assert (settled["metadata"], settled["generation"]) == (after["metadata"], before["generation"])
    assert changed(api, before["id"], year=None)["document"]["metadata"] == {"author": "Ada", "draft": True}


def test_the_bucket_has_the_metadata_so_that_no_event_undoes_it(
    filled: Installation, api: TestClient
) -> None:
    """Neither one that is delivered again, nor a sweep."""
    events = [filled.rows("select key, seen_sequencer as s from documents where key = '1.txt'")[0]]
    changed(api, filled.document("1.txt")["id"], author="Ada")
    head = filled.aws.client("s3").head_object(Bucket=filled.intake.bucket, Key="1.txt")
    assert head["Metadata"] == {"year": "1911", "author": "Ada"}
    work_off(filled)
    filled.ingest.process([("m", _hint(filled, events[0]["s"] + "1"))], 1e12)
    with sweeping(filled) as sweeper:
        sweeper.settle()
    assert filled.document("1.txt")["metadata"] == {"year": 1911, "author": "Ada"}
    assert (drift(filled), unsound(filled)) == ([], [])


def _hint(installation: Installation, sequencer: str) -> Any:
    from shared.core.hints import Hint

    return Hint(installation.intake.bucket, "1.txt", sequencer[-64:])


def test_labels_hide_a_document_from_the_next_question_on(filled: Installation, api: TestClient) -> None:
    filled.rows("update api_keys set acl = '{staff}' where scopes @> '{admin}' returning 1")
    staff = bearer(filled.admin_key)
    with TestClient(create_app(filled.query_settings(), filled.embedder), headers=staff) as seen:
        assert found(seen) == {"0", "1", "2", "3"}
        answer = changed(api, filled.document("2.txt")["id"], acl="Board, hr")
        assert answer["document"]["acl"] == ["board", "hr"]
        assert found(seen) == {"0", "1", "3"}
        changed(api, filled.document("2.txt")["id"], acl="staff")
        assert found(seen) == {"0", "1", "2", "3"}
    assert unsound(filled) == []


def test_a_worker_that_saw_the_older_metadata_does_not_bring_it_back(
    filled: Installation, api: TestClient
) -> None:
    from shared.adapters.postgres.connection import Database
    from shared.adapters.postgres.documents import DocumentStore
    from shared.core.errors import LeaseLost
    from shared.core.models import Version

    store = DocumentStore(Database(filled.url("ragzero_ingest")))
    id = filled.document("1.txt")["id"]
    claim = store.observe(filled.tenant, filled.intake.bucket, [("1.txt", "")], 60)[0].claim
    assert claim is not None
    changed(api, id, acl="board")
    with pytest.raises(LeaseLost):
        store.touch(claim, Version("e", None, 1, {"year": 1911}, "p", ""))
    store.close()
    assert filled.document("1.txt")["acl"] == ["board"]


def test_who_hides_a_document_from_itself_is_told_so_at_once(filled: Installation, api: TestClient) -> None:
    id = filled.document("2.txt")["id"]
    filled.rows("update api_keys set acl = '{staff}' where scopes @> '{admin}' returning 1")
    app = create_app(filled.query_settings(), filled.embedder)
    with TestClient(app, headers=bearer(filled.admin_key)) as staff:
        assert changed(staff, id, acl="board")["document"]["acl"] == ["board"]
        assert staff.get(f"/v1/documents/{id}").status_code == 404


def test_of_two_changes_at_once_the_index_has_what_the_bucket_has(
    filled: Installation, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one comes between our change of the object and our telling the index of it."""
    describe = Bucket.describe

    def overtaken(bucket: Bucket, state: ObjectState, metadata: dict[str, str]) -> ObjectState:
        ours = describe(bucket, state, metadata)
        describe(bucket, ours, {"year": "2030"})
        return ours

    monkeypatch.setattr(Bucket, "describe", overtaken)
    id = filled.document("1.txt")["id"]
    assert changed(api, id, year=2026)["document"]["metadata"] == {"year": 2030}
    assert found(api, filter={"year": 2030}) == {"1"}


def test_what_failed_for_its_metadata_is_indexed_once_that_is_put_right(
    installation: Installation, api: TestClient
) -> None:
    installation.put("a.txt", TEXT, {"acl": "???"})
    installation.deliver()
    assert installation.document("a.txt")["reason_code"] == "invalid_metadata"
    changed(api, installation.document("a.txt")["id"], acl="hr")
    installation.deliver()
    assert installation.document("a.txt")["status"] == "searchable"


@pytest.mark.parametrize(
    "metadata", [{}, {"collection": "x"}, {"acl": " "}, {"Ä": "x"}, {"a": "\n"}, {"a": "x" * 3000}, {"a": {}}]
)
def test_bad_metadata_changes_nothing(
    filled: Installation, api: TestClient, metadata: dict[str, Any]
) -> None:
    before = filled.document("1.txt")
    refused = api.patch(f"/v1/documents/{before['id']}", json={"metadata": metadata})
    assert refused.status_code == 422, refused.text
    assert filled.document("1.txt") == before


def test_the_source_is_fetched_without_a_key_and_as_a_file(filled: Installation, api: TestClient) -> None:
    id = filled.document("1.txt")["id"]
    link = api.get(f"/v1/documents/{id}/source").json()
    answer = httpx.get(link["url"], timeout=60)
    assert answer.text == TEXT.format(number=1)
    assert link["bytes"] == len(answer.content)
    assert parse_qs(urlsplit(link["url"]).query)["X-Amz-Expires"] == ["3600"]
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["content-type"] == "application/octet-stream"
    api.delete(f"/v1/documents/{id}")
    assert api.get(f"/v1/documents/{id}/source").status_code == 404
    assert api.patch(f"/v1/documents/{id}", json={"metadata": {"a": "b"}}).status_code == 404


# Many at once.


def delete(api: TestClient, status: int = 200, **body: Any) -> dict[str, Any]:
    answer = api.post("/v1/deletions", json=body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def test_documents_that_meet_a_filter_are_deleted_after_a_look(filled: Installation, api: TestClient) -> None:
    wanted = {"filter": {"year": {"$gte": 1912}}}
    dry = delete(api, **wanted, dry_run=True)
    assert (dry["matched"], dry["job"], len(dry["sample"])) == (2, None, 2)
    assert found(api) == {"0", "1", "2", "3"}
    report = delete(api, **wanted)
    assert (report["matched"], report["job"]["status"]) == (2, "done")
    assert (report["job"]["counts"]["deleted"], report["job"]["remaining"]) == (2, 0)
    assert found(api) == {"0", "1"}
    work_off(filled)
    listed = filled.aws.client("s3").list_objects_v2(Bucket=filled.intake.bucket)["Contents"]
    assert {one["Key"] for one in listed} == {"0.txt", "1.txt"}
    assert api.get(f"/v1/jobs/{report['job']['id']}").json() == report["job"]
    assert delete(api, **wanted)["matched"] == 0


def test_a_delete_that_takes_longer_than_a_call_is_resumed(
    filled: Installation, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_PATIENCE_S", 0.0)
    report = delete(api, 202, filter={"year": {"$gte": 1911}})
    assert (report["job"]["status"], report["job"]["remaining"]) == ("running", 3)
    monkeypatch.undo()
    job = api.post(f"/v1/jobs/{report['job']['id']}/resume").json()
    assert (job["status"], job["remaining"], job["counts"]["deleted"]) == ("done", 0, 3)
    assert found(api) == {"0"}


def test_only_what_the_key_sees_is_deleted(filled: Installation, api: TestClient) -> None:
    changed(api, filled.document("2.txt")["id"], acl="board")
    filled.rows("update api_keys set acl = '{staff}' where scopes @> '{admin}' returning 1")
    with TestClient(
        create_app(filled.query_settings(), filled.embedder), headers=bearer(filled.admin_key)
    ) as staff:
        assert delete(staff, filter={"$not": {"year": 1}}, dry_run=True)["matched"] == 3
        assert delete(staff, filter={"year": 1912})["matched"] == 0
    assert found(api) == {"0", "1", "2", "3"}


def test_a_delete_keeps_to_its_collection(filled: Installation, api: TestClient) -> None:
    filled.put("9.txt", TEXT.format(number=9), {"year": "1911", "collection": "other"})
    filled.deliver()
    for collection, matched in (("other", 1), ("default", 1), ("nowhere", 0), (None, 2)):
        wanted = {"filter": {"year": 1911}, "dry_run": True}
        more = {} if collection is None else {"collection": collection}
        assert delete(api, **wanted, **more)["matched"] == matched, collection


def test_a_job_shows_and_goes_on_with_what_the_key_sees_only(
    filled: Installation, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(api, filled.document("2.txt")["id"], acl="board")
    with monkeypatch.context() as hurried:
        hurried.setattr(jobs, "_PATIENCE_S", 0.0)
        address = f"/v1/jobs/{delete(api, 202, filter={'$not': {'year': 1}})['job']['id']}"
    filled.rows("update api_keys set acl = '{staff}' where scopes @> '{admin}' returning 1")
    app = create_app(filled.query_settings(), filled.embedder)
    with TestClient(app, headers=bearer(filled.admin_key)) as staff:
        assert staff.get(address).json()["total"] == 3
        left = staff.post(f"{address}/resume").json()
    assert (left["status"], left["remaining"], left["counts"]["deleted"]) == ("running", 1, 3)
    assert found(api) == {"2"}
    assert api.post(f"{address}/resume").json()["status"] == "done"
    assert found(api) == set()


@pytest.mark.parametrize(
    "body",
    [{"filter": {}}, {}, {"filter": {"page": 1}}, {"filter": {"$nor": []}}, {"filter": {"a": 1}, "x": 1}],
)
def test_a_delete_without_a_good_filter_is_refused(
    filled: Installation, api: TestClient, body: dict[str, Any]
) -> None:
    assert delete(api, 422, **body)["type"].endswith("invalid-input")
    assert found(api) == {"0", "1", "2", "3"}


def test_a_job_that_is_not_there_or_goes_on_by_itself_is_not_resumed(
    installation: Installation, api: TestClient
) -> None:
    job = api.post("/v1/uploads", json={"files": [{"name": "a.txt", "size": 1}]}).json()["job_id"]
    assert api.post(f"/v1/jobs/{job}/resume").status_code == 409
    assert api.post(f"/v1/jobs/{installation.tenant}/resume").status_code == 404


def test_a_document_with_pages_keeps_them(installation: Installation, api: TestClient) -> None:
    installation.put("report.pdf", pdf_bytes(["# One\n\nFirst page.", "# Two\n\nSecond page."]))
    installation.deliver()
    before = installation.document("report.pdf")
    changed(api, before["id"], a="b")
    work_off(installation)
    after = installation.document("report.pdf")
    assert (
        (after["pages"], after["media_type"])
        == (before["pages"], before["media_type"])
        == (2, "application/pdf")
    )
