"""The transactions everything runs in, through the pooler."""

from __future__ import annotations

import asyncio

import pytest

from shared.adapters.postgres.connection import AsyncDatabase, Database
from tests.support.installation import Installation
from tests.support.servers import revive
from tests.support.waiting import until


def test_what_an_exception_interrupts_is_undone(installation: Installation) -> None:
    database = Database(installation.url("ragzero_ingest"))
    with pytest.raises(ZeroDivisionError), database.transaction(installation.tenant) as cursor:
        cursor.execute("insert into collections (tenant_id, name) values (%s, 'half')", [installation.tenant])
        raise ZeroDivisionError
    assert installation.rows("select * from collections where name = 'half'") == []
    with database.transaction(installation.tenant) as cursor:
        cursor.execute(
            "insert into collections (tenant_id, name) values (%s, 'whole')", [installation.tenant]
        )
    assert len(installation.rows("select * from collections where name = 'whole'")) == 1
    database.close()


def test_transactions_do_not_nest(installation: Installation) -> None:
    database = Database(installation.url("ragzero_ingest"))
    with database.transaction(None), pytest.raises(RuntimeError, match="open"), database.transaction(None):
        pass
    database.close()


async def test_a_connection_that_died_in_the_pool_is_replaced(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.adapters.postgres.connection._TRUSTED_S", 0.0)
    database = AsyncDatabase(installation.url("ragzero_query"), max_connections=2)
    await database.check()
    installation.databases.pgbouncer.kill()
    installation.databases.pgbouncer.start()
    installation.databases.pgbouncer.wait_ready()
    await database.check()
    await database.close()


async def test_who_waits_while_the_pooler_is_away_is_served_when_it_is_back_although_nobody_else_comes(
    installation: Installation,
) -> None:
    database = AsyncDatabase(installation.url("ragzero_query"), max_connections=2, connect_timeout=60)
    installation.databases.pgbouncer.kill()
    waiting = [asyncio.create_task(database.check()) for _ in range(4)]
    await asyncio.to_thread(until, lambda: database.statistics().get("connections_errors", 0) >= 4)
    assert not any(one.done() for one in waiting)
    revive(installation.databases.pgbouncer)  # by this thread: it would end with another
    await asyncio.wait_for(asyncio.gather(*waiting), 30)
    await database.close()
