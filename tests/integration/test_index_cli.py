"""scripts/rag index against a running API: what is told, and the exit status scripts go by."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts import rag, rag_outputs
from shared.adapters.sqs import Queue
from tests.support.api import serving
from tests.support.installation import Installation
from tests.support.operating import client
from tests.support.sweeping import drift, silence, sweeping, unsound, work_off

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


def test_other_sizes_and_another_language_reach_what_is_there_and_embed_only_texts_that_changed(
    installation: Installation, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    encode = installation.embedder.encode

    def counted(texts: Sequence[str]) -> Any:
        seen.extend(texts)
        return encode(texts)

    short = {f"{number}.txt": f"The ferry number {number} leaves at nine." for number in range(9)}
    long = "# Rules\n\n" + " ".join(f"Rule number {number} of the harbour holds." for number in range(40))
    for key, text in (short | {"long.md": long}).items():
        installation.put(key, text)
    work_off(installation)
    monkeypatch.setattr(installation.embedder, "encode", counted)
    ask = {"name": "default", "changes": {"chunk_tokens": 64, "overlap_tokens": 8, "language": "german"}}
    with client(installation, installation.api_key) as api:
        path = f"/v1/collections/{ask['name']}"
        assert api.patch(path, json=ask["changes"]).status_code == 409
        assert api.patch(path, json={**ask["changes"], "reread": True}).status_code == 200
        assert run("reread", "--rate", "1000") == (0, "10 documents will be read again\n")
        visible = api.post("/v1/search", json={"question": "When does ferry 3 leave?"}).json()["results"]
        assert visible, "each document keeps what was made of it meanwhile"
        work_off(installation)
    chunks = installation.rows("select d.key, count(*) as n from documents d join chunks c on c.document_id = d.id "
                               "and c.generation = d.published_generation group by 1")  # fmt: skip
    counts = {row["key"]: row["n"] for row in chunks}
    assert counts.pop("long.md") > 3
    assert set(counts.values()) == {1}
    assert seen
    assert all("Rule number" in text for text in seen), "the short ones' vectors are reused"
    assert unsound(installation) == []
    generations = {row["generation"] for row in installation.rows("select generation from documents")}
    seen.clear()
    assert run("reread", "--collection", "default", "--rate", "1000")[0] == 0
    work_off(installation)
    assert seen == [], "nothing changed, so nothing is embedded"
    assert generations == {2}


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


def test_the_doctor_compares_what_terraform_says_it_made(
    installation: Installation, run: Run, tmp_path: Path
) -> None:
    file, intake = tmp_path / "outputs.json", installation.intake
    queue = {"url": intake.queue_url, "dead_letters_url": intake.dead_letter_url}
    told = {"bucket": intake.bucket, "queue": queue, "parameters": {"query": []}}

    def examined(**changes: Any) -> tuple[int, str]:
        file.write_text(json.dumps({name: {"value": value} for name, value in (told | changes).items()}))
        return run("doctor", "--outputs", str(file))

    status, printed = examined()
    assert (status, printed.count("as the output")) == (0, 3), printed
    status, printed = examined(bucket="of-staging")
    assert status == 1
    assert f"RAGZERO_BUCKET: {intake.bucket} by argument; the output bucket says of-staging" in printed
    assert examined(queue=None)[0] == 1
    assert "expected what `terraform output -json`" in examined(queue=None)[1]


def test_parameters_that_the_stack_does_not_name_are_told_of() -> None:
    """By their names; what they say is not asked for."""
    read = {name: {"source": f"parameter /ragzero/dev/query/{name}", "value": None} for name in ("A", "B")}
    listed = ["/ragzero/dev/query/A", "/ragzero/dev/query/C"]
    (told,) = rag_outputs.unlisted(read | {"C": {"source": "environment", "value": "c"}}, listed)
    assert (told["name"], told["status"]) == ("B", "warn")
