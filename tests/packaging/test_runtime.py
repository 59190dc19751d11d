"""Each package on AWS's own runtime client, without the source, with a new Python and its secrets in SSM."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.local.event_source import EventSource, MappingSettings
from scripts.local.packaged import Packaged, Runtime
from scripts.local.pgbouncer import PgBouncer
from tests.packaging.conftest import Environment, Unpack
from tests.support import lambda_events
from tests.support.installation import PASSWORD, PEPPER, Installation
from tests.support.lambda_process import HandlerError
from tests.support.servers import revive, running
from tests.support.serving_process import ServingProcess
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(600)  # building the packages the first time takes a while
Make = Callable[..., Packaged]
HANDBOOK = """# Spring clean

The north pier is closed on Mondays because the crane is inspected. Visitors use the south pier instead.

# Prices

A day ticket costs eleven euros and is sold at the harbour office.
"""


FIRST_CALLS: dict[str, Any] = {
    "ingest": {"Records": []},
    "query": lambda_events.http_api(httpx.Request("GET", "https://api.example/healthz")),
    "reindex": {"task": "sweep"},
}


class Streaming(ServingProcess):
    """The package under the Lambda Web Adapter, which starts run.sh and speaks HTTP with it."""

    def __init__(self, folder: Path, package: Path, variables: Mapping[str, str]) -> None:
        super().__init__(folder, variables)
        self._package = package

    def command(self) -> Sequence[str]:
        return [str(self._package / "run.sh")]

    def environment(self) -> dict[str, str]:
        adapter = {"AWS_LWA_PORT": str(self.port), "AWS_LWA_INVOKE_MODE": "response_stream"}
        return {**self._variables, **adapter, "RAGZERO_BASE_PATH": "/"}


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
    time.sleep(1.1)  # a connection that lay idle for less is trusted
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
    again = mapping(ingest, installation)

    def published() -> bool:
        again.poll()
        # the lease of whoever was killed ends as if its time were over
        installation.rows("update documents set lease_until = null where key = 'second.md' returning id")
        return bool(
            installation.rows("select 1 from documents where key = 'second.md' and status = 'searchable'")
        )

    until(published)
    document = installation.document("second.md")
    stored = "select distinct generation from chunks where document_id = %s"
    assert installation.rows(stored, document["id"]) == [{"generation": document["published_generation"]}]


def test_a_gigabyte_is_enough(
    installation: Installation, packaged: Make, record_property: Callable[[str, object], None]
) -> None:
    """With no more address space than that for each process, and no more memory for all of a function's together."""
    ingest, query = (packaged(installation, name, memory_mb=1024) for name in ("ingest", "query"))
    installation.put("handbook.md", HANDBOOK * 200)
    deliver(ingest, installation)
    assert ask(query, installation, "/v1/search", {"question": "When is the pier closed?"}).json()["results"]
    for name, each in {"ingest": ingest, "query": query}.items():
        record_property(f"{name}_peak_mb", round(each.peak_mb()))
        assert each.peak_mb() < 1024


def test_a_sweep_finds_what_no_event_told(installation: Installation, packaged: Make) -> None:
    """The schedule's package tells ingest's of an object whose event was lost."""
    reindex = packaged(installation, "reindex", RAGZERO_SWEEP_GRACE_SECONDS="0")
    installation.put("handbook.md", HANDBOOK)
    assert installation.messages()
    assert reindex.invoke({"task": "sweep"}, timeout=60)["status"] == "done"
    deliver(packaged(installation, "ingest"), installation)
    assert installation.document("handbook.md")["status"] == "searchable"


@pytest.mark.parametrize("name", ["ingest", "query", "reindex"])
def test_nothing_is_written_beside_the_code_and_no_secret_into_the_log(
    installation: Installation, packaged: Make, unpack: Unpack, name: str
) -> None:
    """/var/task is read-only; and a Python that disliked the bytecode in the package would want to write its own."""
    before = sorted(unpack(name).rglob("*"))
    function = packaged(installation, name)
    answered = function.invoke(FIRST_CALLS[name])
    assert answered == {"batchItemFailures": []} or answered.get("statusCode") == 200 or answered["status"]
    assert sorted(unpack(name).rglob("*")) == before
    assert not any(secret in function.log.read_text() for secret in (PASSWORD, PEPPER))


def test_a_setting_that_is_missing_is_named_when_the_function_starts(
    installation: Installation, packaged: Make
) -> None:
    query = packaged(installation, "query", RAGZERO_MODEL_DIR="")
    with pytest.raises(HandlerError, match="RAGZERO_MODEL_DIR"):
        query.start()


def test_the_streaming_package_serves_what_the_web_adapter_asks_for(
    installation: Installation,
    state_folder: Path,
    unpack: Unpack,
    runtime: Runtime,
    environment: Environment,
) -> None:
    """Started by its run.sh: ready, an answer as events, and away in peace on SIGTERM."""
    package = unpack("query-stream")
    told = runtime.environment(package, 1024) | environment(installation, "query-stream")
    with running(Streaming(state_folder / "streaming", package, told)) as server:
        installation.put("handbook.md", HANDBOOK)
        installation.deliver()
        headers = {"Authorization": f"Bearer {installation.api_key}"}
        question = {"question": "What does a day ticket cost?", "stream": True}
        with httpx.stream("POST", f"{server.url}/v1/query", json=question, headers=headers) as answer:
            events = [
                line.removeprefix("event: ") for line in answer.iter_lines() if line.startswith("event:")
            ]
    assert events[0] == "status"
    assert events[-1] == "done"
    assert "sources" in events
