"""A backup is worth what its restoring brings back: the same answers, from an empty database."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from scripts import backup
from scripts.backup import read, write
from shared.adapters.postgres.migrate import ROLES, migrate
from shared.core.errors import Conflict
from tests.support.installation import PASSWORD, Databases, Installation
from tests.support.model_change import admin_url
from tests.support.operating import client
from tests.support.sweeping import drift, sweeping, unsound, work_off

KEY = "ab" * 32


@pytest.fixture
def town(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Installation:
    monkeypatch.setenv("RAGZERO_BACKUP_KEY", KEY)
    for number in range(25):
        labels = {"acl": "harbour"} if number % 5 == 0 else {"site": f"pier {number}"}
        installation.put(
            f"{number}.txt", f"Ferry {number} leaves pier {number} at {number} past nine.", labels
        )
    work_off(installation)
    return installation


@pytest.fixture
def empty(databases: Databases) -> Iterator[str]:
    name = databases.create()
    yield name
    databases.drop(name)


def emptied(databases: Databases, name: str) -> str:
    """Migrated, and without any space, as for a new installation."""
    databases.superuser.execute(f"drop database {name} with (force)")
    databases.superuser.execute(f"create database {name}")
    url = databases.postgres.dsn(dbname=name)
    migrate(url, dict.fromkeys(ROLES, PASSWORD))
    return url


def answers(api: TestClient) -> list[Any]:
    """Fifty questions, with all that can be told of where the answer stands."""
    found = []
    for number in range(50):
        asked = {"question": f"When does ferry {number % 25} leave pier {number % 7}?", "cache": "bypass"}
        body = api.post("/v1/query", json=asked).json()
        found.append([body["answer"], body["citations"], body["sources"]])
    return found


def best(api: TestClient) -> list[Any]:
    """Without what depends on the order in which documents came."""
    return [(sources[0]["uri"], sources[0]["text"], len(sources)) for _, _, sources in answers(api)]


def test_a_database_restored_from_a_backup_with_the_index_gives_the_same_answers(
    town: Installation, databases: Databases, empty: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with client(town) as api:
        before = answers(api)
    monkeypatch.setenv("DATABASE_ADMIN_URL", admin_url(town))
    assert backup.main(["make", str(tmp_path), "--index"]) == 0
    (file,) = tmp_path.glob("*.backup")
    assert b"Ferry" not in file.read_bytes()
    monkeypatch.setenv("DATABASE_ADMIN_URL", emptied(databases, empty))
    assert backup.main(["restore", str(file)]) == 0
    restored = dataclasses.replace(town, database=empty)
    with client(restored, town.api_key) as api:
        assert answers(api) == before
    assert unsound(restored) == []
    assert drift(restored) == []
    restored.put("new.txt", "A ferry that came later.")
    work_off(restored)
    assert restored.document("new.txt")["status"] == "searchable"
    restored.disconnect()
    assert backup.main(["restore", str(file)]) == 1, "only into an empty one"


KEPT = {
    "answer_feedback": "insert into answer_feedback (tenant_id, answer_id, key_id, question, rating, expected) "
    "values (%s, gen_random_uuid(), 'a key', 'When does ferry 1 leave?', 'bad', 'at one') returning 1",
    "webhooks": "insert into webhooks (tenant_id, url, events, secret) "
    "values (%s, 'https://example.com/', '{document.searchable}', '\\x00ff') returning 1",
}
"""What no object in the bucket tells of."""


def test_what_a_small_backup_lacks_comes_back_from_the_bucket(
    town: Installation, databases: Databases, empty: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The recovery of last resort: tenants and keys from the backup, everything else from the objects."""
    for statement in KEPT.values():
        town.rows(statement, town.tenant)
    with client(town) as api:
        before = best(api)
    monkeypatch.setenv("DATABASE_ADMIN_URL", admin_url(town))
    assert backup.main(["make", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("*.backup")
    monkeypatch.setenv("DATABASE_ADMIN_URL", emptied(databases, empty))
    assert backup.main(["restore", str(file)]) == 0
    restored = dataclasses.replace(town, database=empty)
    for table in KEPT:
        assert restored.rows(f"select * from {table}") == town.rows(f"select * from {table}"), table
    with sweeping(restored) as sweeper:
        counts = sweeper.settle()
    assert counts["missing"] == 25
    with client(restored, town.api_key) as api:
        assert best(api) == before
    assert unsound(restored) == []
    restored.disconnect()


RECORDS = [("spaces", ["{}"]), ("tenants", ['{"id": 1}', '{"id": 2}'])]


def sealed() -> bytes:
    out = io.BytesIO()
    assert write(out, bytes(32), RECORDS) == {"spaces": 1, "tenants": 2}
    return out.getvalue()


def test_what_was_written_is_read() -> None:
    assert list(read(io.BytesIO(sealed()), bytes(32))) == RECORDS


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda data: data[:-40],
        lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
        lambda data: b"another file",
        lambda data: data[: data.rindex(b"\0\0\0")],
    ],
)
def test_a_backup_that_was_changed_or_cut_off_is_refused(spoilt: Any) -> None:
    with pytest.raises(Conflict):
        list(read(io.BytesIO(spoilt(sealed())), bytes(32)))


def test_another_key_opens_nothing() -> None:
    with pytest.raises(Conflict, match="another key"):
        list(read(io.BytesIO(sealed()), b"1" * 32))


def test_backups_do_not_go_where_they_would_be_ingested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAGZERO_BUCKET", "documents")
    assert backup.main(["ls", "s3://documents/backups"]) == 1
    assert "is ingested" in capsys.readouterr().err


def test_backups_that_hold_what_was_deleted_since_are_named(
    installation: Installation,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Those without the index hold no documents; one that is young may hold some for a while."""
    monkeypatch.setenv("RAGZERO_BACKUP_KEY", KEY)
    monkeypatch.setenv("DATABASE_ADMIN_URL", admin_url(installation))
    for key in ("stays.txt", "goes.txt"):
        installation.put(key, f"It says that it {key}.")
    work_off(installation)
    installation.rows("update documents set created_at = created_at - interval '1 minute' returning 1")
    assert backup.main(["make", str(tmp_path), "--index"]) == 0
    assert backup.main(["make", str(tmp_path)]) == 0
    installation.delete("goes.txt")
    work_off(installation)
    capsys.readouterr()
    assert backup.main(["audit", str(tmp_path)]) == 0
    assert "-index.backup: holds 1 documents that were deleted since\n" in capsys.readouterr().out
    assert backup.main(["audit", str(tmp_path), "--days", "0"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("older than 0 days: remove it")
