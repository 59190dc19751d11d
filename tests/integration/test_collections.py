"""Collections: their settings decide how documents are cut and searched, and they go with all that is in them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.query import collections
from tests.attacks.test_http import refused
from tests.support.access import bearer, made, names, new_key, new_tenant, operating
from tests.support.documents import pdf_bytes
from tests.support.installation import Installation

PAGE = "The ferry to the island leaves every morning at seven and returns in the evening. " * 40


@pytest.fixture
def api(installation: Installation) -> Iterator[TestClient]:
    with operating(installation) as client:
        yield client


def search(api: TestClient, collection: str, question: str = "When does the ferry leave?") -> set[str]:
    body = {"question": question, "collection": collection, "top_k": 50}
    answer = api.post("/v1/search", json=body)
    assert answer.status_code == 200, answer.text
    return names(answer.json()["results"])


def objects(installation: Installation) -> set[str]:
    listed = installation.aws.client("s3").list_objects_v2(Bucket=installation.intake.bucket)
    return {one["Key"] for one in listed.get("Contents", [])}


def test_a_collection_is_made_listed_and_counted(installation: Installation, api: TestClient) -> None:
    new = {"name": "ferries", "language": "german", "chunk_tokens": 60, "overlap_tokens": 5}
    assert made(api.post("/v1/collections", json=new)) | new == api.get("/v1/collections/ferries").json()
    assert "'ferries'" in refused(api.post("/v1/collections", json=new), 409)["detail"]
    installation.put("a.txt", PAGE, {"collection": "ferries"})
    installation.put("b.txt", PAGE)
    installation.deliver()
    listed = {item["name"]: item for item in api.get("/v1/collections").json()["items"]}
    assert (listed["ferries"]["documents"], listed["default"]["documents"]) == (1, 1)
    assert listed["ferries"]["chunks"] > listed["default"]["chunks"] > 0
    assert search(api, "ferries") == {"a"}


def test_chunk_sizes_and_language_are_what_ingest_works_by(
    installation: Installation, api: TestClient
) -> None:
    made(api.post("/v1/collections", json={"name": "small", "chunk_tokens": 32}))
    made(api.post("/v1/collections", json={"name": "deutsch", "language": "german", "overlap_tokens": 0}))
    for name in ("small", "deutsch"):
        installation.put(f"{name}.txt", PAGE + "Die Fähren fahren.", {"collection": name})
    installation.deliver()
    (small,) = installation.rows("select chunks, pipeline from documents where key = 'small.txt'")
    (german,) = installation.rows("select chunks, pipeline from documents where key = 'deutsch.txt'")
    assert small["pipeline"].endswith("/32+5/english/small")
    assert german["pipeline"].endswith("/240+0/german/deutsch")
    assert small["chunks"] > 5 * german["chunks"]
    lexemes = installation.rows(
        "select lexeme from lexemes l join collections c on c.id = l.collection_id where c.name = 'deutsch'"
    )
    assert {"fahr"} <= {row["lexeme"] for row in lexemes}, "stemmed as German"
    offsets = installation.embedder.offsets
    for row in installation.rows("select c.text from chunks c join documents d on d.id = c.document_id"
                                 " where d.key = 'small.txt'"):  # fmt: skip
        assert len(offsets(row["text"])) <= 32


def test_settings_change_only_while_nothing_depends_on_them(
    installation: Installation, api: TestClient
) -> None:
    made(api.post("/v1/collections", json={"name": "ferries", "chunk_tokens": 100}))
    changed = api.patch("/v1/collections/ferries", json={"language": "simple", "overlap_tokens": 9}).json()
    assert (changed["language"], changed["chunk_tokens"], changed["overlap_tokens"]) == ("simple", 100, 9)
    assert api.patch("/v1/collections/ferries", json={}).json() == changed
    installation.put("a.txt", PAGE, {"collection": "ferries"})
    installation.deliver()
    answer = refused(api.patch("/v1/collections/ferries", json={"chunk_tokens": 50}), 409)
    assert "indexed anew" in answer["detail"]
    installation.delete("a.txt")
    installation.deliver()
    assert api.patch("/v1/collections/ferries", json={"chunk_tokens": 50}).json()["chunk_tokens"] == 50


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"name": "Ferries"}, "'Ferries'"),
    ({"name": "../x"}, "'../x'"),
    ({"name": "x" * 64}, "name"),
    ({"language": "klingon"}, "'klingon'"),
    ({"language": "english; drop table chunks"}, "language"),
    ({"chunk_tokens": 31}, "chunk_tokens"),
    ({"chunk_tokens": 513}, "chunk_tokens"),
    ({"chunk_tokens": 241}, "at most 240"),
    ({"chunk_tokens": 40.5}, "chunk_tokens"),
    ({"chunk_tokens": "40"}, "chunk_tokens"),
    ({"overlap_tokens": -1}, "overlap_tokens"),
    ({"overlap_tokens": 61}, "at most a quarter of chunk_tokens, 60, not 61"),
    ({"chunk_tokens": 40, "overlap_tokens": 11}, "10, not 11"),
    ({"tenant_id": str(uuid.uuid4())}, "tenant_id"),
]


def test_a_bad_setting_is_refused_and_named(installation: Installation, api: TestClient) -> None:
    made(api.post("/v1/collections", json={"name": "there"}))
    for fields, named in BAD:
        detail = refused(api.post("/v1/collections", json={"name": "ferries"} | fields), 422)["detail"]
        assert named in detail, fields
        if "name" not in fields:
            assert named in refused(api.patch("/v1/collections/there", json=fields), 422)["detail"], fields
    assert len(installation.rows("select id from collections where tenant_id = %s", installation.tenant)) == 2


def test_a_collection_goes_with_all_that_is_in_it(installation: Installation, api: TestClient) -> None:
    for name in ("one", "two", "three"):
        installation.put(f"{name}.txt", f"{PAGE} {name}", {"collection": "ferries", "acl": name})
    installation.put("broken.pdf", b"%PDF-1.7 nothing", {"collection": "ferries"})
    installation.put("kept.txt", PAGE)
    installation.deliver()
    assert search(api, "ferries") == {"one", "two", "three"}
    removal = api.delete("/v1/collections/ferries")
    assert removal.status_code == 200, removal.text
    assert removal.json() == {"name": "ferries", "status": "deleted", "documents": 4, "remaining": 0}
    assert objects(installation) == {"kept.txt"}
    refused(api.get("/v1/collections/ferries"), 404)
    refused(api.post("/v1/search", json={"question": "ferry", "collection": "ferries"}), 404)
    refused(api.delete("/v1/collections/ferries"), 404)
    installation.deliver()
    (left,) = installation.rows(
        "select count(*) as n, sum(chunks) as chunks from documents where status <> 'deleted'"
    )
    assert left["n"] == 1
    assert installation.rows("select count(*) as n from chunks")[0]["n"] == left["chunks"]
    assert installation.rows("select * from label_sets") == []
    assert search(api, "default") == {"kept"}
    # the documents are remembered, and the same files make the collection anew
    installation.put("one.txt", PAGE, {"collection": "ferries"})
    installation.deliver()
    assert search(api, "ferries") == {"one"}
    assert installation.document("one.txt")["generation"] == 2


def test_a_removal_that_was_cut_short_goes_on(
    installation: Installation, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        installation.put(f"{number}.txt", f"{PAGE} {number}", {"collection": "ferries"})
    installation.deliver()
    monkeypatch.setattr(collections, "_BATCH", 2)
    calls = 0
    store = type(api.app.state.graph.documents)  # type: ignore[attr-defined]
    remove = store.remove

    async def broken(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise RuntimeError("killed")
        return await remove(self, *arguments)

    monkeypatch.setattr(store, "remove", broken)
    assert api.delete("/v1/collections/ferries").status_code == 500
    monkeypatch.setattr(store, "remove", remove)
    left = search(api, "ferries")
    assert len(left) == 4
    monkeypatch.setattr(collections, "_PATIENCE_S", 0.0)
    partly = api.delete("/v1/collections/ferries")
    assert (partly.status_code, partly.json()["status"]) == (202, "deleting")
    assert partly.json()["remaining"] == 4
    monkeypatch.setattr(collections, "_PATIENCE_S", 20.0)
    assert api.delete("/v1/collections/ferries").json()["documents"] == 4
    assert objects(installation) == set()


def test_the_default_collection_is_emptied_and_stays(installation: Installation, api: TestClient) -> None:
    """What is on its way elsewhere is not in it, though nobody knows yet where it goes."""
    installation.put("a.txt", PAGE)
    installation.deliver()
    installation.put("b.txt", PAGE, {"collection": "ferries"})
    api.post(
        "/v1/documents",
        files={"file": ("c.txt", f"In winter, too. {PAGE}".encode())},
        data={"collection": "ferries"},
    )
    removal = api.delete("/v1/collections/default").json()
    assert removal == {"name": "default", "status": "emptied", "documents": 1, "remaining": 0}
    installation.deliver()
    assert search(api, "ferries") == {"b", "c"}
    assert search(api, "default") == set()


def test_what_waits_for_the_embedding_job_goes_too(installation: Installation, api: TestClient) -> None:
    installation.put("long.pdf", pdf_bytes([PAGE] * 3), {"collection": "ferries"})
    job = installation.ingest
    job._embedding_job = Unheard()  # type: ignore[assignment]
    job._limits = type(job._limits)(cpu_lane_chunks=0)
    installation.deliver()
    assert installation.document("long.pdf")["status"] == "processing"
    assert api.delete("/v1/collections/ferries").json()["documents"] == 1
    assert installation.rows("select * from embed_waiting") == []
    assert objects(installation) == set()


class Unheard:
    def wake(self, backlog: int) -> None:
        pass


def test_two_tenants_may_use_one_name(installation: Installation, api: TestClient) -> None:
    tenant = new_tenant(api, "acme")
    theirs = bearer(new_key(api, tenant, scopes=["query", "ingest"])["key"])
    made(api.post("/v1/collections", json={"name": "ferries"}))
    refused(api.get("/v1/collections/ferries", headers=theirs), 404)
    refused(api.patch("/v1/collections/ferries", json={"language": "simple"}, headers=theirs), 404)
    refused(api.delete("/v1/collections/ferries", headers=theirs), 404)
    made(api.post("/v1/collections", json={"name": "ferries", "language": "simple"}, headers=theirs))
    assert api.get("/v1/collections/ferries").json()["language"] == "english"
    reader = bearer(new_key(api, tenant, name="reader")["key"])
    refused(api.post("/v1/collections", json={"name": "x"}, headers=reader), 403)
    refused(api.delete("/v1/collections/ferries", headers=reader), 403)
    assert len(api.get("/v1/collections", headers=reader).json()["items"]) == 2
