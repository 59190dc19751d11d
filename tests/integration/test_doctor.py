"""The doctor finds what was broken on purpose, says what helps, and finds nothing where nothing is."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import redis
from fastapi.testclient import TestClient

from functions.query.doctor import outside
from scripts.local import pgbouncer as pgbouncer_module
from scripts.local.pgbouncer import PgBouncer
from scripts.local.process import free_port
from scripts.local.redis_server import RedisServer
from shared.adapters.postgres.diagnosis import pooling
from shared.adapters.sqs import Queue
from shared.core.errors import Unavailable
from tests.support.installation import PASSWORD, Installation
from tests.support.operating import client
from tests.support.servers import running
from tests.support.sweeping import drift, silence, sweeping, work_off
from tests.support.waiting import PATIENT


@pytest.fixture
def operator(installation: Installation) -> Iterator[TestClient]:
    with client(installation) as made:
        yield made


def examine(api: TestClient) -> dict[str, dict[str, Any]]:
    answer = api.get("/v1/index/doctor")
    assert answer.status_code == 200, answer.text
    health = answer.json()
    assert health["status"] == max(
        (one["status"] for one in health["checks"]), key=("ok", "warn", "fail").index
    )
    return {one["name"]: one for one in health["checks"]}


def sick(api: TestClient) -> dict[str, str]:
    """What is not ok; each says what helps."""
    found = {name: one for name, one in examine(api).items() if one["status"] != "ok"}
    assert all(one["remedy"] for one in found.values())
    return {name: one["status"] for name, one in found.items()}


def sweep(installation: Installation, **settings: Any) -> None:
    with sweeping(installation, **settings) as sweeper:
        sweeper.settle()


@contextmanager
def broken(installation: Installation, statement: str, repair: str) -> Iterator[None]:
    """Also what belongs to the whole server is as it was afterwards."""
    url = installation.databases.postgres.dsn(dbname=installation.database)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())
        try:
            yield
        finally:
            connection.execute(repair.encode())


def test_a_healthy_installation_is_healthy(installation: Installation, operator: TestClient) -> None:
    installation.put("a.txt", "All is well.")
    work_off(installation)
    sweep(installation)
    found = examine(operator)
    assert {one["status"] for one in found.values()} == {"ok"}, found
    assert found["pooler"]["detail"] == "transaction mode"
    assert found["sweeps"]["detail"] == "sweep 1 compared 1 objects and repaired nothing"


def test_only_operators_are_told(installation: Installation) -> None:
    with client(installation, installation.api_key) as api:
        for path in ("doctor", "sweeps"):
            assert api.get(f"/v1/index/{path}").status_code == 403
        assert api.post("/v1/index/sweeps/1/confirm-deletes").status_code == 403


_REAL = "update pg_extension set extversion = (select default_version from pg_available_extensions where name = 'vector') where extname = 'vector'"
_ALL = "delete from migrations; insert into migrations select * from kept"
WRONG = [
    ("pgvector", "fail", "update pg_extension set extversion = '0.7.4' where extname = 'vector'", _REAL),
    ("pgvector", "warn", "update pg_extension set extversion = '0.8.2' where extname = 'vector'", _REAL),
    ("row_level_security", "fail", "alter table documents no force row level security", "alter table documents force row level security"),
    ("row_level_security", "fail", "alter table vectors_1 disable row level security", "alter table vectors_1 enable row level security"),
    ("roles", "fail", "alter role ragzero_embed bypassrls", "alter role ragzero_embed nobypassrls"),
    ("roles", "fail", "alter role ragzero_embed rename to gone", "alter role gone rename to ragzero_embed"),
    ("migrations", "fail", "delete from migrations where name = '0003_answers.sql'", _ALL),
    ("migrations", "fail", "update migrations set hash = 'x' where name = '0003_answers.sql'", _ALL),
    ("migrations", "warn", "insert into migrations (name, hash) values ('9999_later.sql', 'x')", _ALL),
    ("index", "fail", "update pg_index set indisvalid = false where indexrelid = 'vectors_1_hnsw'::regclass", "update pg_index set indisvalid = true where indexrelid = 'vectors_1_hnsw'::regclass"),
    ("audit", "fail", """insert into audits (findings, clean) values ('{"chunks_of_deleted": 2}', false)""", "delete from audits"),
    ("audit", "warn", "insert into audits (findings, clean, finished_at) values ('{}', true, now() - interval '20 days')", "delete from audits"),
]  # fmt: skip


def test_what_is_wrong_with_the_database(installation: Installation, operator: TestClient) -> None:
    """One thing after the other, each alone and undone again: roles belong to the whole server."""
    sweep(installation)
    with broken(installation, "create table kept as select * from migrations", "drop table kept"):
        for check, status, statement, repair in WRONG:
            with broken(installation, statement, repair):
                assert sick(operator) == {check: status}, statement
    assert sick(operator) == {}


def test_a_model_that_is_not_the_spaces(installation: Installation) -> None:
    sweep(installation)
    installation.rows("update spaces set fingerprint = 'another' returning 1")
    with client(installation) as api:
        assert sick(api) == {"encoder": "fail"}


def test_a_tenant_that_is_not_there(installation: Installation) -> None:
    sweep(installation)
    with client(installation, default_tenant="00000000-0000-4000-8000-000000000000") as api:
        assert sick(api) == {"tenant": "fail"}


async def test_the_pooler_is_recognised_by_who_serves_whom(
    installation: Installation, state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No session is changed for it: in session mode, or without a pooler, that would stay."""
    databases, name = installation.databases, installation.database
    straight = databases.postgres.dsn("ragzero_query", PASSWORD, name)
    assert await pooling(installation.url("ragzero_query")) == "transaction"
    assert await pooling(straight) == "none"
    configuration = pgbouncer_module.CONFIGURATION.replace("pool_mode = transaction", "pool_mode = session")
    monkeypatch.setattr(pgbouncer_module, "CONFIGURATION", configuration)
    made = PgBouncer(state_folder / "session_mode", databases.postgres, port=free_port(), tethered=True)
    with running(made) as in_session_mode:
        assert await pooling(in_session_mode.dsn("ragzero_query", PASSWORD, name)) == "session"


def test_redis_that_cannot_forget(
    installation: Installation, redis_server: RedisServer, empty_redis: redis.Redis
) -> None:
    sweep(installation)
    with client(installation, redis_url=redis_server.url, **PATIENT) as api:
        assert sick(api) == {}
        assert examine(api)["cache"]["detail"] == "answers, evicts (allkeys-lru)"
        empty_redis.config_set("maxmemory-policy", "noeviction")
        try:
            assert sick(api) == {"cache": "warn"}
        finally:
            empty_redis.config_set("maxmemory-policy", "allkeys-lru")


def test_redis_that_does_not_answer(installation: Installation) -> None:
    sweep(installation)
    with client(installation, redis_url=f"redis://127.0.0.1:{free_port()}") as api:
        found = sick(api)
    assert found == {"cache": "fail", "clocks": "fail"}


def test_f21_clocks_that_disagree_are_told(
    installation: Installation, operator: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(installation)
    monkeypatch.setattr(outside, "time", SimpleNamespace(time=lambda: time.time() - 3600))
    assert sick(operator) == {"clocks": "warn"}
    detail = examine(operator)["clocks"]["detail"]
    ahead = [float(seconds) for seconds in re.findall(r"([+-]\d+\.\d) s", detail)]
    assert len(ahead) == 2, detail
    assert all(seconds == pytest.approx(3600, abs=60) for seconds in ahead)


def test_a_bucket_that_tells_too_little(installation: Installation, operator: TestClient) -> None:
    sweep(installation)
    s3, bucket = installation.aws.client("s3"), installation.intake.bucket
    before = s3.get_bucket_notification_configuration(Bucket=bucket)["QueueConfigurations"]
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    assert sick(operator) == {"notifications": "fail"}
    assert "s3:LifecycleExpiration:*" in examine(operator)["notifications"]["detail"]
    s3.delete_bucket_lifecycle(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    assert sick(operator) == {"notifications": "warn"}
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    silence(installation)
    assert sick(operator) == {"notifications": "fail"}
    assert "s3:ObjectCreated:*, s3:ObjectRemoved:*" in examine(operator)["notifications"]["detail"]
    s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": before}
    )
    installation.messages()
    assert sick(operator) == {}


def test_queues_that_are_not_each_others(installation: Installation, make_intake: Callable[..., Any]) -> None:
    sweep(installation)
    other = make_intake()
    with client(installation, queue_url=other.queue_url, dead_letter_url=other.dead_letter_url) as api:
        assert sick(api) == {"notifications": "fail"}, "the bucket tells another queue"
    with client(installation, dead_letter_url=other.dead_letter_url) as api:
        assert sick(api) == {"queue": "fail"}, "dead letters go somewhere else"
    with client(installation, queue_url=None, dead_letter_url=None) as api:
        assert sick(api) == {"queue": "warn", "dead_letters": "warn"}, "the settings name none"
    for policy in (
        "",
        f'{{"deadLetterTargetArn": "{installation.intake.dead_letter_arn}", "maxReceiveCount": 2}}',
    ):
        installation.aws.client("sqs").set_queue_attributes(
            QueueUrl=installation.intake.queue_url, Attributes={"RedrivePolicy": policy}
        )
        with client(installation) as api:
            assert sick(api) == {"queue": "fail"}, "it gives up too early, or never"


def test_dead_letters_are_mentioned(installation: Installation, operator: TestClient) -> None:
    sweep(installation)
    Queue(installation.intake.dead_letter_url, endpoint_url=installation.aws.url).send(["a", "b"])
    assert sick(operator) == {"dead_letters": "warn"}
    assert examine(operator)["dead_letters"]["detail"] == "2"


def test_an_installation_that_is_not_swept(installation: Installation, operator: TestClient) -> None:
    assert sick(operator) == {"sweeps": "warn"}
    sweep(installation)
    assert sick(operator) == {}
    with (
        sweeping(installation, aws_endpoint_url=f"http://127.0.0.1:{free_port()}") as lost,
        pytest.raises(Unavailable, match="the bucket cannot be reached"),
    ):
        lost.sweep()
    assert sick(operator) == {"sweeps": "fail"}
    assert "the bucket cannot be reached" in examine(operator)["sweeps"]["detail"]
    sweep(installation)
    installation.rows("update sweeps set finished_at = now() - interval '2 days' returning 1")
    assert sick(operator) == {"sweeps": "warn"}


def test_what_a_sweep_had_to_repair_points_at_the_cause(
    installation: Installation, operator: TestClient
) -> None:
    silence(installation)
    installation.put("a.txt", "Nobody was told.")
    sweep(installation)
    assert sick(operator) == {"notifications": "fail", "sweeps": "warn"}
    assert examine(operator)["sweeps"]["detail"].endswith("documents repaired: 1 missing")


def test_deletes_held_back_are_told_confirmed_and_done(
    installation: Installation, operator: TestClient
) -> None:
    """From the doctor's word to the bucket's state, over the API alone."""
    for number in range(5):
        installation.put(f"{number}.txt", f"Text {number}.")
    work_off(installation)
    for number in range(4):
        installation.delete(f"{number}.txt")
    installation.messages()
    sweep(installation, max_deletes=1)
    sweep(installation, max_deletes=1)
    found = examine(operator)["held_back"]
    assert (found["status"], found["detail"][:11]) == ("warn", "4 documents")
    assert "confirm-deletes 2" in found["remedy"]
    assert operator.post("/v1/index/sweeps/99/confirm-deletes").status_code == 404
    confirmed = operator.post("/v1/index/sweeps/2/confirm-deletes").json()
    assert confirmed == {"id": 2, "held": 4, "confirmed_by": installation.admin_key.split("_")[2]}
    assert examine(operator)["held_back"]["status"] == "ok"
    sweep(installation, max_deletes=1)
    assert drift(installation) == []
    newest, confirmed_one, first = operator.get("/v1/index/sweeps").json()
    assert (newest["counts"]["gone"], newest["counts"]["held"]) == (4, 0)
    assert (confirmed_one["confirmed_by"], first["confirmed_by"]) == (confirmed["confirmed_by"], None)
