"""Each package on AWS's own runtime client, without the source, with a new Python and its secrets in SSM."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from scripts.local.event_source import EventSource, MappingSettings
from scripts.local.pgbouncer import PgBouncer
from tests.support import lambda_events
from tests.support.installation import Installation
from tests.support.runtime_api import Packaged
from tests.support.servers import revive

pytestmark = pytest.mark.timeout(600)  # building the packages the first time takes a while
Make = Callable[..., Packaged]
HANDBOOK = """# Spring clean

The north pier is closed on Mondays because the crane is inspected. Visitors use the south pier instead.

# Prices

A day ticket costs eleven euros and is sold at the harbour office.
"""


def ask(
    query: Packaged, installation: Installation, path: str, body: Any = None, timeout: float = 30.0
) -> httpx.Response:
    """A request as API Gateway's HTTP API hands it on, and what that makes of the response."""
    headers = {"Authorization": f"Bearer {installation.api_key}"}
    method = "GET" if body is None else "POST"
    request = httpx.Request(method, f"https://api.example{path}", headers=headers, json=body)
    return lambda_events.answer(query.invoke(lambda_events.http_api(request), timeout), method)


def mapping(ingest: Packaged, installation: Installation, timeout: float = 60.0) -> EventSource:
    """What hands the queue's messages to the function and deletes those that are done."""
    return EventSource(
        installation.aws.client("sqs"),
        installation.intake.queue_url,
        lambda event, context: ingest.invoke(event, context.get_remaining_time_in_millis() / 1000),
        MappingSettings(retry_delay=1, timeout=timeout),
    )


def deliver(ingest: Packaged, installation: Installation) -> int:
    return mapping(ingest, installation).drain(wait=2)


def test_a_file_in_the_bucket_becomes_searchable_and_is_quoted(
    installation: Installation, packaged: Make, record_property: Callable[[str, object], None]
) -> None:
    """The whole way with packages only: S3 event, ingest, search, a cited answer."""
    ingest, query = packaged(installation, "ingest"), packaged(installation, "query")
    installation.put("handbook.md", HANDBOOK)
    assert deliver(ingest, installation) >= 1
    assert installation.document("handbook.md")["status"] == "searchable"
    assert ask(query, installation, "/healthz").status_code == 200
    found = ask(query, installation, "/v1/search", {"question": "When is the north pier closed?"}).json()
    assert "Mondays" in json.dumps(found)
    answer = ask(query, installation, "/v1/query", {"question": "What does a day ticket cost?"})
    assert answer.status_code == 200
    assert "eleven euros" in answer.json()["answer"]


def test_frozen_and_thawed_it_finds_its_connections_gone_and_makes_new_ones(
    installation: Installation, packaged: Make, pgbouncer: PgBouncer
) -> None:
    ingest, query = packaged(installation, "ingest"), packaged(installation, "query")
    installation.put("handbook.md", HANDBOOK)
    deliver(ingest, installation)
    assert ask(query, installation, "/v1/search", {"question": "pier"}).status_code == 200
    assert query.stopped()
    assert ingest.stopped()
    pgbouncer.kill()
    revive(pgbouncer)
    assert ask(query, installation, "/v1/search", {"question": "the crane"}).json()["results"]
    installation.put("handbook.md", HANDBOOK.replace("eleven", "twelve"))
    deliver(ingest, installation)
    answer = ask(query, installation, "/v1/query", {"question": "What does a day ticket cost?"}).json()
    assert "twelve euros" in answer["answer"]


def test_killed_at_its_deadline_the_message_comes_back_and_the_document_is_published_once(
    installation: Installation, packaged: Make, pgbouncer: PgBouncer
) -> None:
    """The database stands still while the function works, until Lambda ends it."""
    ingest = packaged(installation, "ingest")
    installation.put("first.md", HANDBOOK)
    deliver(ingest, installation)
    installation.put("second.md", HANDBOOK.replace("pier", "mole"))
    pgbouncer.freeze()
    taken = mapping(ingest, installation, timeout=2).poll(wait=2)
    revive(pgbouncer)
    assert taken == 1
    assert deliver(ingest, installation) >= 1
    document = installation.document("second.md")
    assert document["status"] == "searchable"
    stored = "select distinct generation from chunks where document_id = %s"
    assert installation.rows(stored, document["id"]) == [{"generation": document["published_generation"]}]


@pytest.mark.parametrize("name", ["ingest", "query"])
def test_a_gigabyte_is_enough(installation: Installation, packaged: Make, name: str) -> None:
    """With no more address space than that for each process, and no more memory for all of them together."""
    ingest = packaged(installation, "ingest", memory_mb=1024 if name == "ingest" else None)
    query = packaged(installation, "query", memory_mb=1024 if name == "query" else None)
    installation.put("handbook.md", HANDBOOK * 200)
    deliver(ingest, installation)
    assert ask(query, installation, "/v1/search", {"question": "When is the pier closed?"}).json()["results"]
    limited = ingest if name == "ingest" else query
    print(name, "peak", limited.peak_mb(), "init", limited.init_s)
    assert limited.peak_mb() < 1024
