"""Workers in processes of their own, frozen and killed at named points, through the pooler (FAULTS.md)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from scripts.local.process import Server
from tests.support.installation import Installation
from tests.support.lambda_process import Killed, LambdaProcess
from tests.support.servers import revive

HANDLER = "functions.ingest.handler:handler"
TEXT = "The tide gauge at pier nine was installed in 1911."


def environment(installation: Installation) -> dict[str, str]:
    """No lease runs out by itself."""
    return installation.environment("ragzero_ingest") | {"RAGZERO_LEASE_SECONDS": "3600"}


@pytest.fixture
def worker(installation: Installation, lambda_process: Callable[..., LambdaProcess]) -> LambdaProcess:
    return lambda_process(HANDLER, environment(installation))


@pytest.fixture
def second_worker(installation: Installation, lambda_process: Callable[..., LambdaProcess]) -> LambdaProcess:
    return lambda_process(HANDLER, environment(installation))


def event(installation: Installation) -> dict[str, Any]:
    bodies = [m["Body"] for m in installation.messages() if "TestEvent" not in m["Body"]]
    return {"Records": [{"messageId": str(number), "body": body} for number, body in enumerate(bodies)]}


def visible(installation: Installation) -> list[str]:
    return [
        row["text"]
        for row in installation.rows(
            "select c.text from chunks c join documents d on d.id = c.document_id "
            "and d.published_generation = c.generation join vectors_1 v on v.chunk_id = c.id order by c.id"
        )
    ]


def expire_lease(installation: Installation) -> None:
    """Rather than wait for it: the lease's end lies in the past now."""
    installation.rows("update documents set lease_until = now() - interval '1 s' returning id")


@pytest.mark.parametrize("point", ["parsing", "staged", "embedded", "publishing"])
def test_f1_killed_before_publishing_nothing_is_visible_and_the_retry_publishes_once(
    installation: Installation, worker: LambdaProcess, point: str
) -> None:
    installation.put("gauge.txt", TEXT)
    batch = event(installation)
    with pytest.raises(Killed):
        worker.invoke(batch, kill_at=point)
    assert visible(installation) == []
    assert installation.document("gauge.txt")["status"] == "processing"
    expire_lease(installation)
    assert worker.invoke(batch) == {"batchItemFailures": []}
    assert visible(installation) == [TEXT]
    assert installation.rows("select count(*) as n from chunks")[0]["n"] == 1
    assert installation.rows("select documents, chunks from collections")[0] == {"documents": 1, "chunks": 1}


def test_f2_killed_after_publishing_the_redelivery_changes_nothing(
    installation: Installation, worker: LambdaProcess
) -> None:
    installation.put("gauge.txt", TEXT)
    batch = event(installation)
    with pytest.raises(Killed):
        worker.invoke(batch, kill_at="published")
    epoch = installation.epoch()
    assert worker.invoke(batch) == {"batchItemFailures": []}
    assert installation.epoch() == epoch
    assert visible(installation) == [TEXT]


def test_a_document_under_lease_comes_back_to_the_queue(
    installation: Installation, worker: LambdaProcess, second_worker: LambdaProcess
) -> None:
    installation.put("gauge.txt", TEXT)
    batch = event(installation)
    held = worker.begin(batch, pause_at="staged")
    held.wait_paused()
    assert second_worker.invoke(batch)["batchItemFailures"] == [{"itemIdentifier": "0"}]
    held.thaw()
    assert held.result() == {"batchItemFailures": []}


@pytest.mark.parametrize("point", ["parsing", "staged", "publishing"])
def test_f20_a_zombie_writes_nothing(
    installation: Installation, worker: LambdaProcess, second_worker: LambdaProcess, point: str
) -> None:
    """Its lease ran out while it was frozen, and another worker finished the newer version."""
    installation.put("gauge.txt", TEXT)
    zombie = worker.begin(event(installation), pause_at=point)
    zombie.wait_paused()
    installation.put("gauge.txt", "The tide gauge was moved to pier four.")
    expire_lease(installation)
    assert second_worker.invoke(event(installation)) == {"batchItemFailures": []}
    before = installation.rows("select epoch from tenants")
    zombie.thaw()
    assert zombie.result()["batchItemFailures"] == [{"itemIdentifier": "0"}]
    assert visible(installation) == ["The tide gauge was moved to pier four."]
    assert installation.rows("select epoch from tenants") == before
    assert installation.rows("select count(*) as n from chunks")[0]["n"] == 1


def test_f15_a_document_deleted_while_it_is_worked_on_never_becomes_visible(
    installation: Installation, worker: LambdaProcess, api: Any
) -> None:
    installation.put("gauge.txt", TEXT)
    slow = worker.begin(event(installation), pause_at="publishing")
    slow.wait_paused()
    id = installation.document("gauge.txt")["id"]
    assert api.delete(f"/v1/documents/{id}").json()["status"] == "deleted"
    slow.thaw()
    slow.result()
    assert visible(installation) == []
    assert installation.document("gauge.txt")["status"] == "deleted"


def test_f19_a_worker_frozen_for_longer_than_its_connection_lives_goes_on(
    installation: Installation, worker: LambdaProcess
) -> None:
    installation.put("one.txt", TEXT)
    worker.invoke(event(installation))
    installation.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'ragzero_ingest'"
    )
    revive_pooler(installation)
    installation.put("two.txt", TEXT)
    assert worker.invoke(event(installation)) == {"batchItemFailures": []}
    assert installation.document("two.txt")["status"] == "searchable"


def revive_pooler(installation: Installation) -> None:
    pooler: Server = installation.databases.pgbouncer
    pooler.kill()
    revive(pooler)


def test_f17_a_file_that_hangs_the_parser_fails_alone(
    make_installation: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten good files and one whose parser is out of time: ten published, one failed with a reason, in under 60 s."""
    from functions.ingest.parsing import ParseLimits, ParserPool

    installation = make_installation()
    monkeypatch.setattr(installation.ingest, "_parsers", ParserPool(ParseLimits(cpu_seconds=1)))
    for number in range(10):
        installation.put(f"good-{number}.txt", f"Good file number {number}.")
    installation.put("bad.html", b"<div>" * 2_000_000 + b"text")
    started = time.monotonic()
    installation.deliver()
    assert time.monotonic() - started < 60
    states = {
        row["key"]: row for row in installation.rows("select key, status, reason_code, reason from documents")
    }
    assert all(states[f"good-{number}.txt"]["status"] == "searchable" for number in range(10))
    assert states["bad.html"]["status"] == "failed"
    assert states["bad.html"]["reason"]
