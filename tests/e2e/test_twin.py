"""The packaged zips, deployed by Terraform onto a local AWS: the conformance suite, and what only a twin can be put through."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from scripts.local.founding import DATABASE
from scripts.local.twin import FUNCTIONS, PREFIX, Twin
from tests.e2e.conformance import Conformance
from tests.e2e.target import Target, Tenant
from tests.fakes.gpu_server import FakeGpu
from tests.support.waiting import PATIENT_VARIABLES, until

# three minutes on a machine without other work, and the packages' layers take another two the first time
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
_UPLOADS = 200


@pytest.fixture(scope="module")
def gpu() -> Iterator[FakeGpu]:
    with FakeGpu() as made:
        yield made


class PatientTwin(Twin):
    def _redis(self) -> dict[str, str]:
        return super()._redis() | PATIENT_VARIABLES


@pytest.fixture(scope="module")
def twin(state_folder: Path, model_dir: Path, gpu: FakeGpu) -> Iterator[Twin]:
    generator = {
        "RAGZERO_GENERATOR_URL": gpu.url,
        "RAGZERO_GENERATOR_API_KEY": gpu.key,
        "RAGZERO_GENERATOR_MODEL": gpu.model,
    }
    made = PatientTwin(state_folder / "twin", model_dir, print, parameters=generator, tethered=True)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def target(twin: Twin) -> Target:
    return Target.named_in(twin.environment)


@pytest.fixture(scope="module")
def guest(target: Target) -> Iterator[Tenant]:
    """A tenant whose documents are in nobody's way."""
    made = Tenant.made(target)
    yield made
    made.close()


class TestConformance(Conformance):
    pass


def test_a_model_writes_the_answer_from_what_was_uploaded(twin: Twin, guest: Tenant, gpu: FakeGpu) -> None:
    """The generator's address and key come from SSM, as all that is secret does."""
    guest.put("anchor.txt", "The anchor of the Marigold weighs forty-two stone.")
    guest.searchable("anchor.txt")
    gpu.reply("It weighs forty-two stone [1].")
    answer = guest.ask("What does the anchor weigh?", generate=True)
    assert (answer["mode"], answer["answer"]) == ("model", "It weighs forty-two stone [1].")
    assert answer["citations"][0]["uri"].endswith("/anchor.txt")
    assert "forty-two stone" in json.dumps(gpu.requests[-1].body)


def rows(twin: Twin, statement: str, *values: Any) -> list[dict[str, Any]]:
    """Seen by a superuser, past the pooler."""
    with psycopg.connect(
        twin.postgres.dsn(dbname=DATABASE), row_factory=dict_row, autocommit=True
    ) as connection:
        return connection.execute(statement.encode(), values).fetchall()


@contextmanager
def messages_back_after(twin: Twin, seconds: int) -> Iterator[None]:
    """Twelve minutes, six times what the function may take, are too long to wait here."""
    sqs, url = twin.aws.client("sqs"), twin.outputs["queue"]["url"]
    usual = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["VisibilityTimeout"])["Attributes"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": str(seconds)})
    try:
        yield
    finally:
        sqs.set_queue_attributes(QueueUrl=url, Attributes=usual)


def test_an_ingest_killed_in_mid_document_begins_again_and_publishes_once(twin: Twin, guest: Tenant) -> None:
    station = "The gauge at station {0} read {1} millimetres on the first day and {2} on the last. " * 8
    pages = [f"# Station {n}\n\n" + station.format(n, 7 * n, 9 * n) for n in range(60)]
    with messages_back_after(twin, 3):
        with psycopg.connect(twin.postgres.dsn(dbname=DATABASE)) as holder:
            holder.execute("lock table chunks in access exclusive mode")  # or it would be done before we look
            guest.put("gauges.md", "\n\n".join(pages))
            victim = guest.target.eventually(lambda: _working(twin, guest), "ingest never began")
            os.kill(victim, signal.SIGKILL)
        # and its lease, which lasts as long as a call may, ends as if that time were over
        rows(twin, "update documents set lease_until = null where key = %s returning id", _key(guest))
        document = guest.searchable("gauges.md")
    assert victim not in [each["pid"] for each in twin.host.environments()[f"{PREFIX}-ingest"]]
    stored = rows(
        twin,
        "select generation, count(*) as n, count(distinct ordinal) as ordinals from chunks"
        " where document_id = %s group by generation",
        document["id"],
    )
    assert stored == [
        {"generation": document["generation"], "n": document["chunks"], "ordinals": document["chunks"]}
    ]
    states = [event["status"] for event in document["timeline"]]
    assert states.count("searchable") == 1


def _working(twin: Twin, guest: Tenant) -> int | None:
    """The process that has this document in hand."""
    state = rows(twin, "select status from documents where key = %s and lease_until > now()", _key(guest))
    busy = [each["pid"] for each in twin.host.environments().get(f"{PREFIX}-ingest", []) if each["busy"]]
    return busy[0] if state and len(busy) == 1 else None


def _key(guest: Tenant) -> str:
    return guest.object("gauges.md")


def test_two_hundred_uploads_at_once_stay_within_the_connections_that_were_budgeted(
    twin: Twin, guest: Tenant, record_property: Callable[[str, object], None]
) -> None:
    """Those that functions hold to the pooler, asked for while all of it is going on and questions come as well."""
    budget = twin.outputs["connections"]
    with counting(twin) as most, asking(guest):
        with ThreadPoolExecutor(16) as pool:
            list(
                pool.map(
                    lambda n: guest.put(f"note-{n}.txt", f"Note {n} is about buoy {n}."), range(_UPLOADS)
                )
            )
        guest.target.eventually(lambda: _all_searchable(twin, guest), "not all notes are searchable")
    record_property("connections", {"most": max(most), **budget})
    assert 2 <= max(most) <= budget["used"] <= budget["budget"]


def _all_searchable(twin: Twin, guest: Tenant) -> bool | None:
    states = "select status, count(*) as n from documents where key like %s group by status"
    found = rows(twin, states, guest.object("note-%"))
    return True if found == [{"status": "searchable", "n": _UPLOADS}] else None


@contextmanager
def asking(guest: Tenant) -> Iterator[None]:
    """Two people who ask one question after another."""
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            guest.ask("What is note 7 about?", cache="bypass")

    with ThreadPoolExecutor(2) as pool:
        people = [pool.submit(ask) for _ in range(2)]
        try:
            yield
        finally:
            done.set()
        for each in people:
            each.result()


@contextmanager
def counting(twin: Twin) -> Iterator[list[int]]:
    """How many connections the functions had, looked at again and again."""
    seen: list[int] = []
    done = threading.Event()

    def look() -> None:
        names = {f"ragzero_{name}" for name in FUNCTIONS}
        # the console understands no more than plain statements
        with psycopg.connect(
            twin.pgbouncer.dsn(dbname="pgbouncer"),
            row_factory=dict_row,
            cursor_factory=psycopg.ClientCursor,
            autocommit=True,
        ) as console:
            while not done.is_set():
                clients = console.execute("show clients").fetchall()
                seen.append(sum(each["user"] in names for each in clients))
                time.sleep(0.05)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def test_the_sweep_runs_when_its_schedule_calls_it(twin: Twin) -> None:
    called = twin.aws.client("lambda").invoke(
        FunctionName=f"{PREFIX}-reindex", Payload=json.dumps({"task": "sweep"})
    )
    assert "FunctionError" not in called
    assert json.loads(called["Payload"].read())["status"] == "done"


def test_no_secret_is_in_a_log_or_a_functions_environment(twin: Twin) -> None:
    made = twin.secrets
    secrets = [made.pepper, made.api_key, made.admin_key, *made.passwords.values(), twin.shim.token]
    logs = "".join(path.read_text() for path in (twin.folder / "lambda").glob("*.log"))
    functions = twin.aws.client("lambda").list_functions()["Functions"]
    told = logs + json.dumps([each["Environment"] for each in functions])
    assert len(functions) == len(FUNCTIONS)
    assert [number for number, secret in enumerate(secrets) if secret in told] == []


def test_environments_are_frozen_between_calls(twin: Twin) -> None:
    """As many as the function may have, at the most, and none of them runs while nobody calls."""
    for name, each in twin.host.environments().items():
        assert len(each) <= {f"{PREFIX}-ingest": 2, f"{PREFIX}-query": 4}.get(name, 1)
    until(lambda: not _awake(twin))


def _awake(twin: Twin) -> list[str]:
    """Functions with an environment that runs."""
    states = {
        name: {Path(f"/proc/{one['pid']}/stat").read_text().rsplit(")")[1].split()[0] for one in each}
        for name, each in twin.host.environments().items()
    }
    return [name for name, each in states.items() if not each <= {"T"}]
