"""scripts/rag index against a running API: what is told, and the exit status scripts go by."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from scripts import rag
from shared.adapters.sqs import Queue
from tests.support.api import serving
from tests.support.installation import Installation
from tests.support.operating import client
from tests.support.sweeping import drift, silence, sweeping, work_off

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """run("why", "a.txt"): (exit status, what was printed)."""
    monkeypatch.setenv("RAGZERO_API_KEY", installation.api_key)
    monkeypatch.setenv("RAGZERO_ADMIN_KEY", installation.admin_key)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["rag", "index", *arguments])
        monkeypatch.setattr(rag.console, "_width", 300)
        status = rag.main()
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    with serving(client(installation).app) as url:
        monkeypatch.setenv("RAGZERO_API_URL", url)
        yield run


def test_why_and_requeue(installation: Installation, run: Run) -> None:
    silence(installation)
    installation.put("a b.txt", "Nobody was told.")
    status, printed = run("why", "a b.txt")
    assert status == 2
    assert "event_not_seen" in printed
    assert "scripts/rag index requeue a b.txt" in printed
    assert run("requeue", "a b.txt") == (0, "a b.txt will be looked at again\n")
    work_off(installation)
    uri = f"s3://{installation.intake.bucket}/a b.txt"
    for document in ("a b.txt", uri, str(installation.document("a b.txt")["id"])):
        status, printed = run("why", document)
        assert (status, "searchable: Queries find it." in printed) == (0, True)
    status, printed = run("why", "no-such.txt")
    assert (status, "404" in printed) == (1, True)


def test_dead_letters_are_listed_sent_again_and_discarded(installation: Installation, run: Run) -> None:
    dead = Queue(installation.intake.dead_letter_url, endpoint_url=installation.aws.url)
    silence(installation)
    installation.put("a.txt", "Whose event was given up.")
    with sweeping(installation) as sweeper:
        sweeper.sweep()
    dead.send([*(message["Body"] for message in installation.messages()), "garbage"])
    status, printed = run("dead-letters")
    assert (status, "a.txt" in printed, "unreadable" in printed) == (0, True, True)
    assert run("redrive")[0] == 1, "nobody sends all of them by mistake"
    assert run("redrive", "--state", "open") == (0, "1 letters given to ingest again, 1 left\n")
    work_off(installation)
    assert drift(installation) == []
    assert run("discard", "--all", "--reason", "typed by hand")[1] == "1 letters discarded, 0 left\n"
    assert dead.state().waiting == 0


def test_deletes_held_back_and_the_doctor(installation: Installation, run: Run) -> None:
    for number in range(4):
        installation.put(f"{number}.txt", f"Text {number}.")
    work_off(installation)
    for number in range(3):
        installation.delete(f"{number}.txt")
    installation.messages()
    with sweeping(installation, max_deletes=1) as sweeper:
        sweeper.settle()
        status, printed = run("doctor")
        assert (status, "confirm-deletes 1" in printed) == (0, True)
        assert run("confirm-deletes", "1")[1].startswith("the next sweep has 3 documents deleted")
        sweeper.settle()
    assert drift(installation) == []
    status, printed = run("sweeps")
    assert (status, "gone 3" in printed) == (0, True)
    installation.rows("delete from migrations where name = '0001_spine.sql' returning 1")
    status, printed = run("doctor")
    assert (status, "what helps: scripts/migrate" in printed) == (1, True)
