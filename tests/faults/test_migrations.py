"""F23: the schema is migrated under traffic, old and new code together."""

from __future__ import annotations

import itertools
import threading

import psycopg
import pytest

from shared.adapters.postgres import migrate
from shared.core.errors import RagzeroError, Unavailable
from tests.support.installation import Installation
from tests.support.load import Load
from tests.support.model_change import admin_url
from tests.support.town import Town

NAMES = ["a.md", "b.md", "c.md"]
TABLES = ["documents", "chunks", "collections", "tenants", "api_keys", "vectors_1"]
EXPAND = "alter table documents add column later integer; grant select (later) on documents to ragzero_query"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "_PAUSE_S", 0.1)
    monkeypatch.setattr(migrate, "_LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(migrate, "_TRIES", 10_000)


def test_f23_questions_and_uploads_go_on_while_the_schema_waits_for_its_lock_and_changes(
    busy_town: Town, quick: None, load_seed: int
) -> None:
    """A transaction that will not end holds the table: nobody queues behind the migration for longer than a moment.

    Then old code goes on beside new code, which uses the column, and at last the column is taken away.
    """
    town, column = busy_town, f"later_{load_seed}"
    table = town.dice.choice(TABLES)
    names = itertools.cycle(NAMES)
    town.upload(next(names))
    with Load(town.look, lambda: town.upload(next(names))) as load:
        _changed_under(load, town, table, f"alter table {table} add column {column} integer")
        newest = f"update {table} set {column} = 1 where ctid = (select min(ctid) from {table}) returning 1"
        assert town.installation.rows(newest)
        load.goes_on()
        _changed_under(load, town, table, f"alter table {table} drop column {column}")
        load.goes_on()
    assert load.trouble == []
    town.end()


def _changed_under(load: Load, town: Town, table: str, statement: str) -> None:
    """While somebody reads the table and does not end, until everybody else has got on."""
    applied: list[bool] = []
    name = f"9_{statement}.sql"
    with psycopg.connect(admin_url(town.installation)) as holder:
        holder.execute(f"select count(*) from {table}".encode())
        change = threading.Thread(target=lambda: applied.append(_migrate(town.installation, statement, name)))
        change.start()
        load.goes_on()
        assert not applied, "the lock is held by somebody else"
    change.join(120)
    assert applied == [True]


def _migrate(installation: Installation, text: str = EXPAND, name: str = "9999_later.sql") -> bool:
    with psycopg.connect(admin_url(installation), autocommit=True) as connection:
        return migrate._apply(connection, name, text)


def test_f23_a_lock_that_never_comes_is_given_up_with_nothing_changed(
    installation: Installation, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(admin_url(installation)) as holder, monkeypatch.context() as patching:
        patching.setattr(migrate, "_TRIES", 2)
        holder.execute("select count(*) from documents")
        with pytest.raises(Unavailable, match=r"9999_later\.sql did not get its locks"):
            _migrate(installation)
    assert not installation.rows("select 1 from migrations where name = '9999_later.sql'")
    assert _migrate(installation)
    assert not _migrate(installation), "once"
    with pytest.raises(RagzeroError, match="was changed after it had been applied"):
        _migrate(installation, EXPAND + ";")
