"""Nothing that was deleted is left, in any table or space; and what is to go by itself goes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from functions.reindex.audit import Audit
from functions.reindex.handler import handle
from scripts.local.event_source import LambdaContext
from scripts.local.process import HOST
from scripts.local.redis_server import RedisServer
from shared.adapters.postgres.audits import AuditStore
from shared.adapters.postgres.connection import Database
from shared.adapters.s3 import Bucket
from shared.adapters.sqs import Queue
from tests.support.installation import Installation
from tests.support.sweeping import Sweeper, event_of, sweeping, work_off
from tests.support.waiting import PATIENT


@pytest.fixture
def sweeper(installation: Installation) -> Iterator[Sweeper]:
    with sweeping(installation, audit_grace_seconds=0) as made:
        yield made


def task(sweeper: Sweeper, name: str) -> dict[str, Any]:
    context = LambdaContext("reindex", time.monotonic() + 60)
    return handle({"task": name}, context, lambda: sweeper.services)


def test_after_deletes_and_replacements_nothing_is_left(installation: Installation, sweeper: Sweeper) -> None:
    for number in range(4):
        installation.put(f"{number}.txt", f"Secret number {number}.", {"site": "north"})
    work_off(installation)
    installation.delete("0.txt")
    installation.put("1.txt", "Something else.")
    work_off(installation)
    report = task(sweeper, "audit")
    assert report["clean"], report
    assert set(report["findings"].values()) == {0}
    assert installation.rows("select clean from audits") == [{"clean": True}]


LEFT = {
    "chunks_of_deleted": "update documents set status = 'deleted', published_generation = null",
    "vectors_of_deleted_in_space_1": "update documents set status = 'deleted', published_generation = null",
    "metadata_of_deleted": "update documents set status = 'deleted', published_generation = null",
    "editions_of_deleted": "with kept as (insert into editions (document_id, tenant_id, collection_id, generation, attempt)"
    " select id, tenant_id, collection_id, 9, 9 from documents)"
    " update documents set status = 'deleted', published_generation = null",
    "chunks_of_older_generations": "update documents set generation = 2, published_generation = 2",
    "answers_kept_too_long": "insert into answers (id, tenant_id, request, lease_until, created_at) "
    "select gen_random_uuid(), id, '{}', now(), now() - interval '2 days' from tenants",
    "responses_kept_too_long": "insert into idempotent_requests (tenant_id, key, fingerprint, lease_until, created_at) "
    "select id, 'k', '', now(), now() - interval '2 days' from tenants",
}


@pytest.mark.parametrize("what", LEFT)
def test_what_is_left_is_found(installation: Installation, sweeper: Sweeper, what: str) -> None:
    installation.put("note.txt", "It was deleted, and it is here.", {"site": "north"})
    work_off(installation)
    installation.rows(LEFT[what] + " returning 1")
    report = task(sweeper, "audit")
    assert (report["clean"], report["findings"][what]) == (False, 1), report


def test_answers_to_requests_of_tenants_that_fell_silent_are_forgotten_by_the_sweep(
    installation: Installation, sweeper: Sweeper
) -> None:
    """Who asks on removes their own; nobody else would remove these."""
    silent = uuid.uuid4()
    installation.add_key(silent, ["query"])
    for tenant in (installation.tenant, silent):
        for age in ("2 days", "1 hour"):
            installation.rows(
                "insert into idempotent_requests (tenant_id, key, fingerprint, lease_until, created_at) "
                "values (%s, %s, '', now(), now() - %s::interval) returning 1",
                *(tenant, age, age),
            )
    assert not task(sweeper, "audit")["clean"]
    assert task(sweeper, "sweep")["upkeep"]["requests"] == 2
    assert task(sweeper, "audit")["clean"]
    assert installation.rows("select key from idempotent_requests") == [{"key": "1 hour"}] * 2


def test_what_the_cache_and_letters_still_hold_of_an_erased_document_is_found(
    installation: Installation, redis_server: RedisServer, empty_redis: redis.Redis
) -> None:
    """A live one of the same name is none of the audit's business; nor is what was answered since."""
    dead = Queue(installation.intake.dead_letter_url, endpoint_url=installation.aws.url)
    settings: dict[str, Any] = {
        "audit_grace_seconds": 0,
        "erase_after_seconds": 0,
        "dead_letter_url": installation.intake.dead_letter_url,
        "redis_url": f"redis://{HOST}:{redis_server.port}",
        **PATIENT,
    }
    with sweeping(installation, **settings) as sweeper:
        for key in ("a file.txt", "again.txt"):
            installation.put(key, f"It says that it is {key}.")
        work_off(installation)
        for key in ("a file.txt", "again.txt"):
            installation.delete(key)
        work_off(installation)
        assert sweeper.sweep()["upkeep"]["erased"] == 2
        installation.put("again.txt", "It is there again.")
        work_off(installation)
        clean = task(sweeper, "audit")
        assert (clean["clean"], clean["unseen"]) == (True, []), clean
        found = ("cached_answers_of_erased", "dead_letters_of_erased", "discarded_letters_of_erased")
        assert [clean["findings"][name] for name in found] == [0, 0, 0]

        letters = [event_of(key, installation.intake.bucket, "1") for key in ("a+file.txt", "again.txt")]
        dead.send([*letters, "no event"])
        installation.rows(
            "insert into discarded_letters (message_id, body, reason, discarded_by) values ('m', %s, 'r', 'w') returning 1",
            letters[0],
        )
        epoch = installation.epoch()
        for name, tag in (("old", 1), ("new", epoch)):
            empty_redis.set(f"rz:a:{installation.tenant}:{name}", f"{tag}:an answer")
        report = task(sweeper, "audit")
        assert not report["clean"]
        assert [report["findings"][name] for name in found] == [1, 1, 1], report
        assert dead.state().waiting == 3, "each letter was put back"

    with sweeping(installation, **settings | {"redis_url": f"redis://{HOST}:9"}) as cut_off:
        assert task(cut_off, "audit")["unseen"] == ["cached_answers"]


def test_a_document_goes_when_its_time_has_come_and_its_object_was_not_put_again(
    installation: Installation, sweeper: Sweeper
) -> None:
    installation.put("month.txt", "Kept for a month.", {"expires_after": "30"})
    installation.put("year.txt", "Kept for a year.", {"expires_after": "365"})
    installation.put("again.txt", "Kept for a month, and put again.", {"expires_after": "30"})
    installation.put("ever.txt", "Kept.", {"expires_after": "soon"})
    work_off(installation)
    assert task(sweeper, "expire") == {"status": "done", "deleted": 0}
    installation.rows("update documents set created_at = created_at - interval '40 days' returning 1")
    assert task(sweeper, "expire") == {"status": "done", "deleted": 0}, "each object is new"

    settings = {"endpoint_url": installation.aws.url}
    bucket, later = Bucket(installation.intake.bucket, **settings), datetime.now(UTC) + timedelta(days=31)
    audit = Audit(
        AuditStore(Database(installation.url("ragzero_reindex")), bucket.name, 0), bucket, lambda: later
    )
    installation.rows("update documents set created_at = now() where key = 'again.txt' returning 1")
    assert audit.expire(time.monotonic() + 60)["deleted"] == 1
    audit.close()
    work_off(installation)
    assert installation.document("month.txt")["status"] == "deleted"
    kept = installation.rows("select key from documents where published_generation is not null order by key")
    assert [row["key"] for row in kept] == ["again.txt", "ever.txt", "year.txt"]
    assert task(sweeper, "audit")["clean"]
