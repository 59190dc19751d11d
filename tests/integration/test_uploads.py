"""Files that go straight into the bucket, batches of them, and what a job knows of them."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from datetime import datetime, timedelta
from types import NoneType
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import psycopg
import pytest
from fastapi.testclient import TestClient

from functions.query import uploads
from functions.query.app import create_app
from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.jobs import JobStore
from shared.core.errors import InvalidInput
from shared.core.jobs import Job
from tests.support.access import bearer
from tests.support.installation import Installation
from tests.support.model_change import admin_url
from tests.support.sweeping import sweeping
from tests.support.waiting import until

TEXT = b"The lighthouse on the eastern mole was built in 1911 of red brick."
BROKEN = b"\x00\xff\xd8" * 9


def begun(api: TestClient, *files: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = api.post("/v1/uploads", json={"files": list(files), **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def named(name: str, data: bytes = TEXT, **more: Any) -> dict[str, Any]:
    return {"name": name, "size": len(data), **more}


def send(ticket: dict[str, Any], data: bytes = TEXT) -> httpx.Response:
    return httpx.post(ticket["url"], data=ticket["fields"], files={"file": ("f", data)}, timeout=60)


def test_a_batch_is_uploaded_and_its_job_tells_how_far_it_is(
    installation: Installation, api: TestClient
) -> None:
    files = [named(f"notes/{n}.txt", metadata={"year": 1911, "title": "Möle"}) for n in range(3)]
    batch = begun(api, *files, named("picture.txt", BROKEN), collection="harbour")
    assert api.get(batch["job_url"]).json()["counts"]["pending"] == 4
    for ticket in batch["uploads"][:3]:
        assert send(ticket).status_code == 204
    assert send(batch["uploads"][3], BROKEN).status_code == 204
    installation.deliver()

    job = api.get(batch["job_url"]).json()
    assert (job["status"], job["total"], job["kind"]) == ("done", 4, "upload")
    assert (job["counts"]["searchable"], job["counts"]["failed"]) == (3, 1)
    (failed,) = job["failed"]
    assert failed["id"] == batch["uploads"][3]["document_id"]
    assert failed["reason"]
    document = api.get(batch["uploads"][0]["status_url"]).json()
    assert (document["collection"], document["metadata"]["year"]) == ("harbour", 1911)
    assert document["metadata"]["title"] == "Möle"


def test_the_bucket_takes_exactly_what_was_announced(installation: Installation, api: TestClient) -> None:
    """Neither more bytes, nor other metadata, nor another name."""
    (ticket,) = begun(api, named("a.txt", metadata={"acl": "hr"}))["uploads"]
    assert api.get(ticket["status_url"]).json()["acl"] == ["hr"]  # from now on, not once it is there
    assert send(ticket, TEXT + b"!").status_code in (400, 403)
    for changed in ({"key": "tenants/other.txt"}, {"x-amz-meta-acl": "everybody"}):
        assert send({**ticket, "fields": ticket["fields"] | changed}).status_code in (400, 403)
    assert send(ticket).status_code == 204


def test_addresses_hold_as_long_as_is_said(api: TestClient) -> None:
    batch = begun(api, named("a.txt"), {"name": "large.txt", "size": 3 * uploads.PART_BYTES})
    whole, parted = batch["uploads"]
    policy = json.loads(base64.b64decode(whole["fields"]["policy"]))
    assert _near(policy["expiration"], batch["expires_at"])
    for part in parted["parts"]:
        asked = parse_qs(urlsplit(part["url"]).query)
        begin = datetime.strptime(asked["X-Amz-Date"][0], "%Y%m%dT%H%M%S%z")
        until = begin + timedelta(seconds=int(asked["X-Amz-Expires"][0]))
        assert _near(until.isoformat(), batch["expires_at"])


def _near(one: str, other: str) -> bool:
    return abs(datetime.fromisoformat(one) - datetime.fromisoformat(other)) < timedelta(minutes=10)


def test_more_files_join_a_job_of_the_same_tenant_only(installation: Installation, api: TestClient) -> None:
    job = begun(api, named("a.txt"))["job_id"]
    assert begun(api, named("b.txt"), job_id=job)["job_id"] == job
    assert api.get(f"/v1/jobs/{job}").json()["total"] == 2
    other = bearer(installation.add_key(uuid.uuid4(), ["query", "ingest"]))
    assert api.get(f"/v1/jobs/{job}", headers=other).status_code == 404
    refused = api.post("/v1/uploads", json={"files": [named("c.txt")], "job_id": job}, headers=other)
    assert refused.status_code == 404
    assert installation.rows("select status from documents where key like '%%c.txt'") == [
        {"status": "deleted"}
    ]


def test_a_job_takes_so_many_files_and_none_when_it_deletes(
    installation: Installation, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.put("there.txt", TEXT, {"year": "1911"})
    installation.deliver()
    removing = api.post("/v1/deletions", json={"filter": {"year": 1911}}).json()["job"]["id"]
    loading = begun(api, named("a.txt"))["job_id"]
    monkeypatch.setattr("shared.adapters.postgres.jobs.MOST_DOCUMENTS", 2)
    for job, files, status in (
        (removing, [named("b.txt")], 404),
        (loading, [named("b.txt"), named("c.txt")], 422),
        (None, [named("b.txt"), named("b.txt")], 422),
    ):
        refused = api.post("/v1/uploads", json={"files": files, "job_id": job})
        assert refused.status_code == status, refused.text
    pending = installation.rows("select key from documents where status = 'pending'")
    assert [row["key"].rsplit("/", 1)[-1] for row in pending] == ["a.txt"]


def test_two_who_add_to_a_job_at_the_same_moment_do_not_make_it_too_large(
    installation: Installation, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be added until both wait; had each counted by then what was there before the other, both would add."""
    monkeypatch.setattr("shared.adapters.postgres.jobs.MOST_DOCUMENTS", 2)
    a, b, c = (UUID(one["document_id"]) for n in range(3) for one in begun(api, named(f"{n}.txt"))["uploads"])

    async def both() -> tuple[Job, list[BaseException | None]]:
        database = AsyncDatabase(installation.url("ragzero_query"), max_connections=3)
        store = JobStore(database)
        try:
            id = await store.make(installation.tenant, "upload", [a])
            with psycopg.connect(admin_url(installation)) as stopped:
                stopped.execute("lock table job_documents in share mode")
                adding = [asyncio.create_task(store.add(installation.tenant, id, [one])) for one in (b, c)]
                await asyncio.to_thread(until, lambda: waiting(installation) == 2)
            done = await asyncio.gather(*adding, return_exceptions=True)
            job = await store.get(installation.tenant, None, id)
            assert job is not None
            return job, done
        finally:
            await database.close()

    job, done = asyncio.run(both())
    assert {type(one) for one in done} == {NoneType, InvalidInput}
    assert sum(job.counts.values()) == 2


def waiting(installation: Installation) -> int:
    (row,) = installation.rows(
        "select count(*) as n from pg_locks join pg_database d on d.oid = database "
        "where not granted and d.datname = current_database()"
    )
    return int(row["n"])


def test_a_job_is_about_its_own_documents(installation: Installation, api: TestClient) -> None:
    """Neither shown nor deleted with those of another one, or of none."""
    batch, other = begun(api, named("mine.txt")), begun(api, named("broken.txt", BROKEN))
    assert send(batch["uploads"][0]).status_code == 204
    assert send(other["uploads"][0], BROKEN).status_code == 204
    installation.put("old.txt", TEXT, {"year": "1911"})
    installation.deliver()
    removed = api.post("/v1/deletions", json={"filter": {"year": 1911}}).json()
    assert (removed["matched"], removed["job"]["total"]) == (1, 1)
    job = api.get(batch["job_url"]).json()
    assert (job["total"], job["counts"]["searchable"], job["failed"]) == (1, 1, [])


def test_a_large_file_goes_up_in_parts(installation: Installation, api: TestClient) -> None:
    data = (TEXT + b"\n\n") * 260_000
    (ticket,) = begun(api, named("large.txt", data, metadata={"year": 1911}))["uploads"]
    assert (ticket["method"], len(ticket["parts"])) == ("PUT", -(-len(data) // uploads.PART_BYTES))
    etags, rest = [], data
    first = {"upload_id": ticket["upload_id"], "etags": ["x"] * len(ticket["parts"])}
    assert api.post("/v1/uploads/complete", json=first).status_code == 422
    for part in ticket["parts"]:
        sent = httpx.put(part["url"], content=rest[: part["size"]], timeout=60)
        etags.append(sent.headers["etag"])
        rest = rest[part["size"] :]
    done = api.post("/v1/uploads/complete", json={"upload_id": ticket["upload_id"], "etags": etags})
    assert (done.status_code, done.json()["id"]) == (202, ticket["document_id"]), done.text
    found = installation.aws.client("s3").head_object(Bucket=installation.intake.bucket, Key="large.txt")
    assert (found["ContentLength"], found["Metadata"]) == (len(data), {"year": "1911"})
    again = api.post("/v1/uploads/complete", json={"upload_id": ticket["upload_id"], "etags": etags})
    assert again.status_code == 409


def test_an_upload_in_parts_is_complete_with_all_its_bytes_only(
    installation: Installation, api: TestClient
) -> None:
    """Whoever gets past the address's signature does not get a shorter file accepted."""
    size = 2 * uploads.PART_BYTES + 1_000
    (ticket,) = begun(api, {"name": "large.txt", "size": size})["uploads"]
    etags = []
    for number, part in enumerate(ticket["parts"], 1):
        asked = parse_qs(urlsplit(part["url"]).query)
        sent = installation.aws.client("s3").upload_part(
            Bucket=installation.intake.bucket,
            Key="large.txt",
            UploadId=asked["uploadId"][0],
            PartNumber=number,
            Body=b" " * part["size"],
        )
        etags.append(sent["ETag"])
        if number == 1:
            given = {"upload_id": ticket["upload_id"], "etags": etags * len(ticket["parts"])}
            refused = api.post("/v1/uploads/complete", json=given)
            assert (refused.status_code, refused.json()["field"]) == (422, "etags")
            assert f"{uploads.PART_BYTES} of {size} bytes" in refused.json()["detail"]
    done = api.post("/v1/uploads/complete", json={"upload_id": ticket["upload_id"], "etags": etags})
    assert done.status_code == 202, done.text


def test_an_upload_in_parts_that_is_given_up_leaves_nothing(
    installation: Installation, api: TestClient
) -> None:
    (ticket,) = begun(api, {"name": "large.txt", "size": 3 * uploads.PART_BYTES})["uploads"]
    given = {"upload_id": ticket["upload_id"]}
    for _ in range(2):
        assert api.post("/v1/uploads/abort", json=given).json() == {"status": "aborted"}
    assert api.get(ticket["status_url"]).json()["status"] == "deleted"
    assert api.post("/v1/uploads/complete", json=given | {"etags": ["x"] * 3}).status_code == 409
    with sweeping(installation, erase_after_seconds=0) as sweeper:
        assert sweeper.sweep()["upkeep"]["erased"] == 1
    assert installation.rows("select 1 from documents where key like '%%large%%'") == []


def test_an_upload_is_only_its_tenants(installation: Installation, api: TestClient) -> None:
    (ticket,) = begun(api, {"name": "large.txt", "size": 3 * uploads.PART_BYTES})["uploads"]
    other = bearer(installation.add_key(uuid.uuid4(), ["query", "ingest"]))
    for forged in (ticket["upload_id"], "bm8=", "%", ticket["upload_id"][:-8] + "AAAAAAA="):
        if forged == ticket["upload_id"]:
            refused = api.post("/v1/uploads/abort", json={"upload_id": forged}, headers=other)
        else:
            refused = api.post("/v1/uploads/abort", json={"upload_id": forged})
        assert refused.status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"size": -1},
        {"size": 2**40},
        {"name": ""},
        {"name": "${filename}"},
        {"content_type": "text"},
        {"metadata": {"Ü": "x"}},
        {"metadata": {"acl": " "}},
        {"metadata": {"a": ["x"]}},
    ],
)
def test_what_cannot_be_uploaded_is_refused_and_nothing_announced(
    installation: Installation, api: TestClient, change: dict[str, Any]
) -> None:
    body = {"files": [named("fine.txt"), named("bad.txt") | change]}
    assert api.post("/v1/uploads", json=body).status_code == 422
    assert installation.rows("select 1 from documents where status = 'pending'") == []


def test_a_sweep_waits_for_an_upload_as_long_as_its_address_holds(
    installation: Installation, api: TestClient
) -> None:
    installation.put("there.txt", TEXT)
    begun(api, named("a.txt"))
    with sweeping(installation) as sweeper:
        sweeper.settle()
        installation.rows("update documents set updated_at = now() - interval '20 minutes' returning 1")
        assert sweeper.settle()["gone"] == 0
        installation.rows("update documents set upload_until = now() - interval '1 minute' returning 1")
        assert sweeper.settle()["gone"] == 1


def test_a_document_of_another_is_not_replaced_by_a_key_that_cannot_see_it(
    installation: Installation, api: TestClient
) -> None:
    installation.put("board.txt", TEXT, {"acl": "board"})
    installation.deliver()
    installation.rows("update api_keys set acl = '{staff}' returning 1")
    with TestClient(create_app(installation.query_settings(), installation.embedder)) as fresh:
        files = [named("mine.txt"), named("board.txt")]
        refused = fresh.post("/v1/uploads", json={"files": files}, headers=bearer(installation.api_key))
    assert refused.status_code == 403
    assert installation.document("board.txt")["status"] == "searchable"
    assert installation.document("mine.txt")["status"] == "deleted"
