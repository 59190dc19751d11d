"""F23: the schema is migrated under traffic, old and new code together."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest

from shared.adapters.postgres import migrate
from shared.core.errors import RagzeroError, Unavailable
from tests.support.installation import Installation
from tests.support.model_change import admin_url
from tests.support.operating import client
from tests.support.sweeping import unsound, work_off

EXPAND = "alter table documents add column later integer; grant select (later) on documents to ragzero_query"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "_PAUSE_S", 0.1)
    monkeypatch.setattr(migrate, "_LOCK_TIMEOUT", "100ms")


def test_f23_questions_and_uploads_go_on_while_the_schema_waits_for_its_lock_and_changes(
    installation: Installation, quick: None
) -> None:
    """A transaction that will not end holds the table: nobody queues behind the migration for longer than a moment."""
    installation.put("0.txt", "The ferry leaves at nine.")
    work_off(installation)
    over, trouble, asked = threading.Event(), [], []
    with client(installation) as api, psycopg.connect(admin_url(installation)) as holder:

        def ask() -> None:
            while not over.is_set():
                answer = api.post("/v1/search", json={"question": f"When does the ferry leave? {len(asked)}"})
                if answer.status_code != 200 or not answer.json()["results"]:
                    trouble.append(answer.text)
                asked.append(answer.status_code)

        def upload() -> None:
            number = 0
            while not over.is_set():
                number += 1
                installation.put(f"{number}.txt", f"Ferry {number} leaves at ten.")
                work_off(installation)

        threads = [threading.Thread(target=one) for one in (ask, upload)]
        holder.execute("select count(*) from documents")
        for thread in threads:
            thread.start()
        applied: list[bool] = []
        change = threading.Thread(target=lambda: applied.append(_migrate(installation)))
        change.start()
        time.sleep(0.5)
        during = len(asked)
        assert not applied, "the lock is held by somebody else"
        holder.commit()
        change.join(20)
        time.sleep(0.2)
        over.set()
        for thread in threads:
            thread.join(20)
    assert applied == [True]
    assert trouble == []
    assert 0 < during < len(asked)
    work_off(installation)
    assert unsound(installation) == []


def _migrate(installation: Installation, text: str = EXPAND) -> bool:
    with psycopg.connect(admin_url(installation), autocommit=True) as connection:
        return migrate._apply(connection, "9999_later.sql", text)


def test_f23_a_lock_that_never_comes_is_given_up_with_nothing_changed(
    installation: Installation, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "_TRIES", 2)
    with psycopg.connect(admin_url(installation)) as holder:
        holder.execute("select count(*) from documents")
        with pytest.raises(Unavailable, match=r"9999_later\.sql did not get its locks"):
            _migrate(installation)
    assert not installation.rows("select 1 from migrations where name = '9999_later.sql'")
    assert _migrate(installation)
    assert not _migrate(installation), "once"
    with pytest.raises(RagzeroError, match="was changed after it had been applied"):
        _migrate(installation, EXPAND + ";")
