"""Sweeps of one test's installation, through the very handler."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from functions.ingest.handler import handle as ingest
from functions.reindex.handler import handle
from functions.reindex.wiring import Services, build
from scripts.local.event_source import LambdaContext
from shared.settings import ReindexSettings
from tests.support.installation import Installation


class Sweeper:
    """No grace and no patience unless a test asks for them: what is found is told, each time."""

    def __init__(self, installation: Installation, **settings: Any) -> None:
        self.installation = installation
        self.services: Services = build(reindex_settings(installation, **settings))

    def sweep(self, seconds: float = 60.0) -> dict[str, Any]:
        return self.task("sweep", seconds)

    def task(self, name: str, seconds: float = 60.0) -> dict[str, Any]:
        """One call of the handler that has so long, its margin not counted."""
        context = LambdaContext("reindex", time.monotonic() + seconds + 10)
        return handle({"task": name}, context, lambda: self.services)

    def settle(self) -> dict[str, int]:
        """A sweep to its end, and what it told ingest done; its counts."""
        report = self.sweep()
        assert report["status"] == "done", report
        work_off(self.installation)
        counts: dict[str, int] = report["counts"]
        return counts

    def close(self) -> None:
        self.services.close()


def work_off(installation: Installation) -> None:
    """Hands ingest what waits in the queue, until nothing does, without waiting for more."""
    while messages := installation.messages():
        records = [{"messageId": message["MessageId"], "body": message["Body"]} for message in messages]
        context = LambdaContext("ingest", time.monotonic() + 120)
        assert ingest({"Records": records}, context, installation.ingest) == {"batchItemFailures": []}


def reindex_settings(installation: Installation, **changes: Any) -> ReindexSettings:
    values = {
        "database_url": installation.url("ragzero_reindex"),
        "bucket": installation.intake.bucket,
        "queue_url": installation.intake.queue_url,
        "aws_endpoint_url": installation.aws.url,
        "default_tenant": installation.tenant,
        "grace_seconds": 0,
        "patience_seconds": 0,
        "knock_seconds": 0,
    }
    return ReindexSettings(**values | changes)


@contextmanager
def sweeping(installation: Installation, **settings: Any) -> Iterator[Sweeper]:
    sweeper = Sweeper(installation, **settings)
    try:
        yield sweeper
    finally:
        sweeper.close()


def silence(installation: Installation) -> None:
    """The bucket tells nobody of its changes any more, and what it has told is lost."""
    installation.aws.client("s3").put_bucket_notification_configuration(
        Bucket=installation.intake.bucket, NotificationConfiguration={}
    )
    installation.messages()


def repaired(counts: dict[str, int]) -> dict[str, int]:
    """What a sweep told ingest of; nothing in a healthy installation."""
    return {kind: counts[kind] for kind in ("missing", "changed", "stuck", "gone") if counts[kind]}


def drift(installation: Installation) -> list[str]:
    """I1: keys whose document is not what the bucket has, told by the bucket and the database themselves."""
    s3 = installation.aws.client("s3")
    listed: dict[str, str] = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=installation.intake.bucket):
        listed |= {found["Key"]: found["ETag"] for found in page.get("Contents", [])}
    rows = installation.rows("select key, status, etag, published_generation from documents")
    indexed = {row["key"]: row["etag"] for row in rows if row["status"] in ("searchable", "failed")}
    visible = [row["key"] for row in rows if row["published_generation"] and row["status"] != "searchable"]
    return sorted({key for key in listed | indexed if listed.get(key) != indexed.get(key)} | set(visible))


def unsound(installation: Installation) -> list[str]:
    """I1 and I2, told by the database itself: what is wrong with it, in words."""
    wrong = {
        "chunks of a generation nobody sees": """
            select 1 from chunks c join documents d on d.id = c.document_id
            where d.published_generation is distinct from c.generation""",
        "chunks without a vector": """
            select 1 from chunks c left join vectors_1 v on v.chunk_id = c.id where v.chunk_id is null""",
        "documents that miss chunks": """
            select 1 from documents d where d.published_generation is not null
            and d.chunks <> (select count(*) from chunks c where c.document_id = d.id)""",
        "collections that miscount": """
            select 1 from collections c where (c.documents, c.chunks) <> (
                select count(*), coalesce(sum(d.chunks), 0) from documents d
                where d.collection_id = c.id and d.published_generation is not null)""",
        "lexemes that miscount": """
            select 1 from collections c where (select coalesce(sum(l.chunks), 0) from lexemes l where l.collection_id = c.id)
                <> (select coalesce(sum(length(t.terms)), 0) from chunk_terms t join chunks on chunks.id = t.chunk_id
                    where chunks.collection_id = c.id)""",
        "leases left": "select 1 from documents where lease_until is not null",
    }
    asked = " union all ".join(
        f"select %s as name where exists ({statement})" for statement in wrong.values()
    )
    return [row["name"] for row in installation.rows(asked, *wrong)]


def texts(installation: Installation) -> dict[str, str]:
    """What queries can find, by key; each document here is one chunk."""
    rows = installation.rows(
        "select d.key, c.text from chunks c join documents d on d.id = c.document_id "
        "and d.published_generation = c.generation"
    )
    assert len(rows) == len({row["key"] for row in rows})
    return {row["key"]: row["text"] for row in rows}


def event_of(key: str, bucket: str, sequencer: str, name: str = "ObjectCreated:Put") -> str:
    record = {
        "eventName": name,
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "sequencer": sequencer}},
    }
    return json.dumps({"Records": [record]})
