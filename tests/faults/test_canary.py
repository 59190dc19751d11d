"""A canary that lies is caught: an index that lost rows raises the alarm, and is worked around until it is sound."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from functions.reindex.handler import handle
from scripts.local.event_source import LambdaContext
from tests.support.installation import Installation
from tests.support.model_change import admin_url
from tests.support.operating import client
from tests.support.sweeping import sweeping, work_off

_QUESTION = {"question": "Which bell rang on day 7?", "top_k": 10}


def canary(installation: Installation, **settings: Any) -> dict[str, Any]:
    with sweeping(installation, exact_below=0, **settings) as sweeper:
        context = LambdaContext("reindex", time.monotonic() + 60)
        return handle({"task": "canary"}, context, lambda: sweeper.services)


def put(
    installation: Installation,
    first: int,
    last: int,
    folder: str = "",
    metadata: dict[str, str] | None = None,
) -> None:
    for number in range(first, last):
        text = "\n\n".join(
            f"# Day {number}.{part}\n\nBell {part} of day {number} rang {part} times." for part in range(20)
        )
        installation.put(f"{folder}{number}.md", text, metadata)
    work_off(installation)


def lose(installation: Installation, first: int, last: int, *where: Any) -> None:
    """What is put now is in the table and not in the index, as after a crash of which the index remembers nothing."""
    ready = "update pg_index set indisready = %s where indexrelid = 'vectors_1_hnsw'::regclass"
    with psycopg.connect(admin_url(installation), autocommit=True) as connection:
        connection.execute(ready, [False])
        put(installation, first, last, *where)
        connection.execute(ready, [True])


def found(api: TestClient) -> dict[str, Any]:
    body: dict[str, Any] = api.post("/v1/search", json=_QUESTION).json()
    return body


def test_an_index_that_lost_rows_raises_the_alarm_and_is_not_used_until_it_is_sound(
    installation: Installation,
) -> None:
    put(installation, 0, 6)
    assert canary(installation) == {"status": "done", "collections": 1, "recall": 1.0, "alarms": {}}
    lose(installation, 6, 12)
    with client(installation, exact_below=0) as api:
        assert found(api)["retrieval"] == "ann"
        report = canary(installation)
        collection = installation.rows("select id from collections")[0]["id"]
        assert (report["alarms"], report["recall"] < 0.8) == ({collection: "exact"}, True), report
        assert found(api)["retrieval"] == "exact"
        with psycopg.connect(admin_url(installation), autocommit=True) as connection:
            connection.execute("reindex index vectors_1_hnsw")
        assert canary(installation)["alarms"] == {}
        assert found(api)["retrieval"] == "ann"


def test_what_is_lost_within_a_filter_raises_the_alarm_of_the_tenant_that_asks_by_it(
    installation: Installation,
) -> None:
    """One document of ten, which in all of the index hardly shows; of two of its site it is half. Another tenant's index
    is sound."""
    tenant = uuid.uuid4()
    installation.add_key(tenant, ["query"])
    folder, north = f"tenants/{tenant}/", {"site": "north"}
    put(installation, 0, 2)
    put(installation, 0, 8, folder)
    put(installation, 8, 9, folder, north)
    lose(installation, 9, 10, folder, north)
    collections = installation.rows("select id, tenant_id from collections")
    own = next(row["id"] for row in collections if row["tenant_id"] == tenant)
    installation.rows("update documents set metadata = '{}' where tenant_id = %s returning 1", tenant)
    assert canary(installation, canary_samples=1000, canary_recall=0.8)["alarms"] == {}
    installation.rows(
        "update documents set metadata = %s where key = any(%s) returning 1",
        json.dumps(north),
        [f"{folder}8.md", f"{folder}9.md"],
    )
    report = canary(installation, canary_samples=1000, canary_recall=0.8)
    assert (report["collections"], report["alarms"]) == (2, {own: "exact"}), report
    assert installation.rows("select tenant_id from search_tunings") == [{"tenant_id": tenant}]


def test_small_collections_are_left_alone(installation: Installation) -> None:
    put(installation, 0, 1)
    with sweeping(installation) as sweeper:
        context = LambdaContext("reindex", time.monotonic() + 60)
        report = handle({"task": "canary"}, context, lambda: sweeper.services)
    assert report["collections"] == 0


@pytest.mark.parametrize("width", [100, 400])
def test_a_collection_is_searched_wider_when_that_helps(installation: Installation, width: int) -> None:
    """By what the canary wrote down: the very parameter of the transaction."""
    put(installation, 0, 2)
    installation.rows(
        "insert into search_tunings select id, 1, tenant_id, %s, false, 0.5 from collections returning 1",
        width,
    )
    with client(installation, exact_below=0) as api:
        assert found(api)["retrieval"] == "ann"
        assert len(found(api)["results"]) == 10
