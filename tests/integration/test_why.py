"""Why a document is not searchable, in one call, with what helps; and what helps does help."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.ingest.wiring import build as build_ingest
from tests.support.installation import Installation
from tests.support.operating import client
from tests.support.sweeping import drift, silence, sweeping, work_off

NOBODY = {"embed_url": "http://127.0.0.1:9/wake", "embed_key": "k" * 16}


@pytest.fixture
def asked(installation: Installation) -> Iterator[TestClient]:
    """The API for a key with the scope ingest, which sees all labels."""
    with client(installation, installation.api_key) as made:
        yield made


def why(api: TestClient, **asked: Any) -> dict[str, Any]:
    answer = api.get("/v1/index/why", params=asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def requeue(api: TestClient, **asked: Any) -> dict[str, Any]:
    answer = api.post("/v1/index/requeue", json=asked)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_searchable_document_is_searchable(installation: Installation, asked: TestClient) -> None:
    installation.put("a.txt", "A note about barges.")
    work_off(installation)
    found = why(asked, key="a.txt")
    assert (found["code"], found["searchable"], found["remedy"]) == ("searchable", True, None)
    assert found["event"] == {
        "seen": True,
        "outstanding": False,
        "seen_sequencer": found["event"]["done_sequencer"],
        "done_sequencer": installation.document("a.txt")["done_sequencer"],
    }
    assert found["generation"] == {"published": 1, "newest": 1}
    assert (found["object"]["bytes"], found["object"]["indexed"]) == (20, True)
    assert found["lease"] == {"held": False, "until": None, "attempts": 1}
    assert why(asked, document_id=found["document_id"]) == found


def test_an_object_of_which_no_event_came_is_requeued(installation: Installation, asked: TestClient) -> None:
    silence(installation)
    installation.put("a b+ü.txt", "Nobody was told.")
    found = why(asked, key="a b+ü.txt")
    assert (found["code"], found["searchable"], found["remedy"]) == ("event_not_seen", False, "requeue")
    assert (found["document_id"], found["event"]["seen"]) == (None, False)
    assert requeue(asked, key="a b+ü.txt") == {"key": "a b+ü.txt", "document_id": None}
    work_off(installation)
    assert why(asked, key="a b+ü.txt")["code"] == "searchable"


def test_a_newer_version_of_which_no_event_came(installation: Installation, asked: TestClient) -> None:
    installation.put("a.txt", "First version.")
    work_off(installation)
    silence(installation)
    installation.put("a.txt", "Second version.")
    found = why(asked, key="a.txt")
    assert (found["code"], found["searchable"], found["remedy"]) == ("outdated", True, "requeue")
    assert found["object"]["indexed"] is False
    requeue(asked, document_id=found["document_id"])
    work_off(installation)
    assert why(asked, key="a.txt")["code"] == "searchable"
    assert drift(installation) == []


def test_the_same_bytes_with_other_metadata_are_another_version(
    installation: Installation, asked: TestClient
) -> None:
    installation.put("a.txt", "Same bytes.", {"site": "north"})
    work_off(installation)
    silence(installation)
    installation.put("a.txt", "Same bytes.", {"site": "south"})
    assert why(asked, key="a.txt")["code"] == "outdated"


def test_an_object_that_is_gone(installation: Installation, asked: TestClient) -> None:
    installation.put("a.txt", "First version.")
    work_off(installation)
    silence(installation)
    installation.delete("a.txt")
    found = why(asked, key="a.txt")
    assert (found["code"], found["searchable"], found["object"]) == ("gone_from_bucket", True, None)
    requeue(asked, key="a.txt")
    work_off(installation)
    assert (why(asked, key="a.txt")["code"], drift(installation)) == ("deleted", [])


def test_a_delete_that_is_held_back(installation: Installation, asked: TestClient) -> None:
    for number in range(4):
        installation.put(f"{number}.txt", f"Text {number}.")
    work_off(installation)
    silence(installation)
    for number in range(3):
        installation.delete(f"{number}.txt")
    with sweeping(installation, max_deletes=1) as sweeper:
        sweeper.sweep()
    found = why(asked, key="0.txt")
    assert (found["code"], found["remedy"]) == ("deletion_held_back", "confirm_deletes")
    assert found["sweep"]["held_by"] == 1
    assert "sweep 1 waits" in found["explanation"]


def test_a_file_that_cannot_be_read_says_why_and_is_read_again_when_asked(
    installation: Installation, asked: TestClient
) -> None:
    """Requeueing works on the very version that failed before, unlike an event for it."""
    installation.put("a.pdf", "%PDF-1.7 and then nothing of the kind")
    work_off(installation)
    found = why(asked, key="a.pdf")
    assert (found["code"], found["remedy"]) == ("failed", "replace")
    assert found["failure"]["reason"] in found["explanation"]
    before = installation.document("a.pdf")["generation"]
    requeue(asked, key="a.pdf")
    work_off(installation)
    assert installation.document("a.pdf")["generation"] == before + 1
    assert why(asked, key="a.pdf")["code"] == "failed"


def test_a_document_in_work_and_one_that_was_left(installation: Installation, asked: TestClient) -> None:
    installation.put("a.txt", "A note.")
    work_off(installation)
    installation.rows(
        "update documents set status = 'processing', attempt = 3, lease_until = now() + interval '1 min' returning 1"
    )
    found = why(asked, key="a.txt")
    assert (found["code"], found["remedy"]) == ("in_progress", "wait")
    assert (found["lease"]["held"], found["lease"]["attempts"]) == (True, 3)
    assert found["lease"]["until"] is not None
    installation.rows("update documents set lease_until = now() - interval '1 s' returning 1")
    found = why(asked, key="a.txt")
    assert (found["code"], found["remedy"], found["lease"]["held"]) == ("queued", "requeue", False)
    requeue(asked, key="a.txt")
    work_off(installation)
    assert why(asked, key="a.txt")["code"] == "searchable"


def test_one_that_waits_for_the_embedding_job_knows_its_place(
    installation: Installation, asked: TestClient
) -> None:
    lane = installation.ingest_settings(cpu_lane_chunks=0, **NOBODY)
    installation.__dict__["ingest"] = build_ingest(lane, installation.embedder)
    text = "\n\n".join(f"# Part {n}\n\nTide {n} rose {n} feet." for n in range(6))
    for key in ("first.md", "second.md"):
        installation.put(key, text.replace("rose", f"in {key} rose"))
        work_off(installation)
    found = why(asked, key="second.md")
    assert (found["code"], found["remedy"]) == ("waiting_for_embedding", "wait")
    embedding = found["embedding"]
    assert (embedding["chunks"], embedding["chunks_ahead"], embedding["documents_ahead"]) == (6, 6, 1)
    assert (embedding["eta_s"], embedding["in_hand"]) == (None, False)
    pretend_to_have_embedded(installation, chunks=60, seconds=30)
    assert why(asked, key="second.md")["embedding"]["eta_s"] == pytest.approx(6.0, rel=0.01)
    assert why(asked, key="first.md")["embedding"]["eta_s"] == pytest.approx(3.0, rel=0.01)


def pretend_to_have_embedded(installation: Installation, chunks: int, seconds: int) -> None:
    installation.rows(
        """
        insert into documents (tenant_id, collection_id, bucket, key, status, chunks, timeline)
        select tenant_id, collection_id, bucket, 'done.md', 'searchable', %s, jsonb_build_array(
            jsonb_build_object('status', 'processing', 'at', now() - make_interval(secs => %s),
                               'detail', 'waiting for the embedding job: 60 chunks'),
            jsonb_build_object('status', 'searchable', 'at', now()))
        from documents limit 1 returning 1
        """,
        chunks,
        seconds,
    )


def test_labels_hide_a_document_and_say_so_to_those_who_see_it(
    installation: Installation, asked: TestClient
) -> None:
    installation.put("a.txt", "For a few.", {"acl": "sales,hr"})
    work_off(installation)
    assert why(asked, key="a.txt")["code"] == "searchable"
    assert why(asked, key="a.txt")["labels"] == ["hr", "sales"]
    assert why(asked, key="a.txt", labels=["hr"])["code"] == "searchable"
    hidden = why(asked, key="a.txt", labels=["engineering"])
    assert (hidden["code"], hidden["remedy"]) == ("hidden_by_labels", "other_key")


@pytest.mark.parametrize("path", ["a.txt", "no-such.txt"])
def test_17_who_may_not_see_a_document_learns_nothing_of_it(installation: Installation, path: str) -> None:
    """Neither another tenant nor a key without its labels: the answer is that of a document that is not there."""
    installation.put("a.txt", "For a few.", {"acl": "sales"})
    work_off(installation)
    stranger = installation.add_key(uuid.uuid4(), ["ingest"])
    limited = installation.add_key(installation.tenant, ["ingest"])
    installation.rows("update api_keys set acl = '{hr}' where id = %s returning 1", limited.split("_")[2])
    seen = set()
    for key in (stranger, limited):
        with client(installation, key) as api:
            for answer in (
                api.get("/v1/index/why", params={"key": path}),
                api.post("/v1/index/requeue", json={"key": path}),
            ):
                seen.add((answer.status_code, answer.json()["detail"]))
            if path == "a.txt":
                id = str(installation.document("a.txt")["id"])
                answer = api.get("/v1/index/why", params={"document_id": id})
                seen.add((answer.status_code, answer.json()["detail"]))
    assert seen == {(404, "neither the bucket nor the index has such a document")}
    assert installation.messages() == []


def test_a_reading_key_may_not_ask(installation: Installation) -> None:
    with client(installation, installation.add_key(installation.tenant, ["query"])) as api:
        assert api.get("/v1/index/why", params={"key": "a.txt"}).status_code == 403
        assert api.post("/v1/index/requeue", json={"key": "a.txt"}).status_code == 403


@pytest.mark.parametrize("params", [{}, {"key": "a", "document_id": str(uuid.uuid4())}])
def test_one_document_is_named(asked: TestClient, params: dict[str, str]) -> None:
    assert asked.get("/v1/index/why", params=params).status_code == 422
    assert asked.post("/v1/index/requeue", json=params).status_code == 422


def test_without_a_queue_nothing_is_requeued_and_the_setting_is_named(installation: Installation) -> None:
    installation.put("a.txt", "A note.")
    with client(installation, installation.api_key, queue_url=None) as api:
        answer = api.post("/v1/index/requeue", json={"key": "a.txt"})
    assert (answer.status_code, "RAGZERO_QUEUE_URL" in answer.json()["detail"]) == (404, True)
