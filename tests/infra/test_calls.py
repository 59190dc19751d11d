"""What the functions call of AWS while they do everything they can, compared with the list that permissions are held against."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from functions.ingest.wiring import build
from scripts.local.process import HOST, free_port
from tests.support.installation import Installation
from tests.support.operating import client
from tests.support.sweeping import silence, sweeping, work_off

RECORDED = json.loads((Path(__file__).parent / "calls.json").read_text())


@contextmanager
def calls() -> Iterator[set[str]]:
    """service:Operation of every call of clients that are made in here."""
    made: set[str] = set()

    def note(model: Any, **_: Any) -> None:
        made.add(f"{model.service_model.service_name}:{model.name}")

    boto3.setup_default_session()
    boto3._get_default_session().events.register("before-call", note)
    try:
        yield made
    finally:
        boto3.DEFAULT_SESSION = None


def recorded(function: str) -> set[str]:
    return set(RECORDED[function])


def test_ingest_reads_objects_asks_for_those_that_are_gone_and_reminds_itself(
    installation: Installation,
) -> None:
    with client(installation, webhooks_private=True) as api:
        assert api.post("/v1/webhooks", json={"url": f"http://{HOST}:{free_port()}/"}).status_code == 201
    settings = installation.ingest_settings(webhooks_private=True, queue_url=installation.intake.queue_url)
    with calls() as made:
        installation.__dict__["ingest"] = build(settings, installation.embedder)
        installation.put("a.txt", "The ferry leaves at nine.")
        work_off(installation)
        installation.delete("a.txt")
        work_off(installation)
        installation.rows(
            "update tenants set closed_at = now() where id = %s returning id", installation.tenant
        )
        installation.put("late.txt", "Of a closed tenant only deletes are worked on: is it there?")
        installation.deliver()
    assert made == recorded("ingest")


def test_query_uploads_deletes_examines_and_moves_letters(installation: Installation) -> None:
    installation.put("b.txt", "All of ingest's own calls are made before.")
    work_off(installation)
    dead = {"QueueUrl": installation.intake.dead_letter_url, "MessageBody": "{}"}
    installation.aws.client("sqs").send_message(**dead)
    key = installation.add_key(installation.tenant, ["query", "ingest", "admin"])
    with calls() as made, client(installation, key) as api:
        sent = api.post("/v1/documents", files={"file": ("a.md", b"# Pier\n\nIt opens at nine.")})
        assert sent.status_code == 202, sent.text
        work_off(installation)
        document = sent.json()["id"]
        assert api.get("/readyz").status_code == 200
        assert api.get("/v1/index/doctor").status_code == 200
        assert api.get("/v1/index/why", params={"document_id": document}).status_code == 200
        assert api.post("/v1/index/requeue", json={"document_id": document}).status_code == 202
        (letter,) = api.get("/v1/index/dead-letters").json()["items"]
        moved = api.post("/v1/index/dead-letters/redrive", json={"ids": [letter["id"]]})
        assert moved.status_code == 200, moved.text
        installation.aws.client("sqs").send_message(**dead)
        (letter,) = api.get("/v1/index/dead-letters").json()["items"]
        given_up = {"ids": [letter["id"]], "reason": "made for a test"}
        assert api.post("/v1/index/dead-letters/discard", json=given_up).status_code == 200
        changed = api.patch(f"/v1/documents/{document}", json={"metadata": {"team": "harbour"}})
        assert changed.status_code == 200, changed.text
        large = {"files": [{"name": "large.txt", "size": 20_000_000}]}
        (ticket,) = api.post("/v1/uploads", json=large).json()["uploads"]
        upload = {"upload_id": ticket["upload_id"]}
        etags = ["x"] * len(ticket["parts"])
        assert api.post("/v1/uploads/complete", json=upload | {"etags": etags}).status_code == 422
        assert api.post("/v1/uploads/abort", json=upload).status_code == 200
        assert api.delete(f"/v1/documents/{document}").status_code == 200
    assert made == recorded("query")


def test_reindex_lists_tells_expires_and_audits(installation: Installation) -> None:
    """The canary asks the database alone."""
    installation.put("over.txt", "The ferry left at nine.", {"expires_after": "0"})
    work_off(installation)
    assert installation.document("over.txt")["status"] == "searchable"
    installation.put("a.txt", "The ferry leaves at nine.")
    silence(installation)
    dead = {"QueueUrl": installation.intake.dead_letter_url, "MessageBody": "{}"}
    installation.aws.client("sqs").send_message(**dead)
    with (
        calls() as made,
        sweeping(installation, dead_letter_url=installation.intake.dead_letter_url) as sweeper,
    ):
        assert sweeper.sweep()["status"] == "done"
        assert sweeper.task("expire") == {"status": "done", "deleted": 1}
        assert sweeper.task("canary")["status"] == "done"
        audit = sweeper.task("audit")
        assert (audit["status"], audit["unseen"]) == ("done", [])
    assert made == recorded("reindex")


@pytest.mark.parametrize("function", RECORDED)
def test_the_list_is_sorted_and_without_repetitions(function: str) -> None:
    assert RECORDED[function] == sorted(recorded(function))
