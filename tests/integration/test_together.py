"""Small documents of one batch are stored, embedded and published together; each one's trouble is its own all the same."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from functions.ingest.handler import handle
from scripts.local.event_source import LambdaContext
from shared.core.errors import BadUpstream, OutcomeUnknown
from shared.core.models import Ready
from shared.telemetry import set_checkpoint_hook
from tests.support.installation import Installation

NAMES = ("crane", "gauge", "pier", "tug")


class Killed(BaseException):
    """The worker is gone."""


@pytest.fixture(autouse=True)
def hook() -> Iterator[None]:
    yield
    set_checkpoint_hook(None)


@pytest.fixture
def batch(installation: Installation) -> dict[str, Any]:
    """One message for each of four documents, in their order."""
    for name in NAMES:
        installation.put(f"{name}.txt", f"The {name} was repaired in the spring.")
    bodies = {name: one["Body"] for one in installation.messages() for name in NAMES if name in one["Body"]}
    return {"Records": [{"messageId": name, "body": bodies[name]} for name in NAMES]}


def send(installation: Installation, batch: dict[str, Any]) -> set[str]:
    """The messages that come back."""
    response = handle(batch, LambdaContext("ingest", time.monotonic() + 60), installation.ingest)
    return {failure["itemIdentifier"] for failure in response["batchItemFailures"]}


def searchable(installation: Installation) -> set[str]:
    """Documents that a query would find something of."""
    return {
        row["key"].removesuffix(".txt")
        for row in installation.rows(
            "select d.key from documents d join chunks c on c.document_id = d.id"
            " and c.generation = d.published_generation join vectors_1 v on v.chunk_id = c.id"
            " where d.status = 'searchable'"
        )
    }


def counted(installation: Installation) -> dict[str, Any]:
    return dict(installation.rows("select documents, chunks from collections where name = 'default'")[0])


def test_they_become_visible_at_once_and_cost_one_epoch(
    installation: Installation, batch: dict[str, Any]
) -> None:
    before, reached = installation.epoch(), []
    set_checkpoint_hook(reached.append)
    assert send(installation, batch) == set()
    assert [point for point in reached if point not in ("reading", "parsing", "published")] == [
        "staged",
        "embedded",
        "publishing",
    ]
    assert installation.epoch() == before + 1
    assert searchable(installation) == set(NAMES)
    assert counted(installation) == {"documents": 4, "chunks": 4}


@pytest.mark.parametrize("point", ["parsing", "staged", "embedded", "publishing"])
def test_one_that_another_worker_takes_holds_up_no_other(
    installation: Installation, batch: dict[str, Any], point: str
) -> None:
    """Whatever was done together with it is done again without it; of it, nothing is written any more."""
    passed: list[str] = []

    def take(reached: str) -> None:
        passed.append(reached)
        if reached == point and passed.count("parsing") == len(NAMES):
            set_checkpoint_hook(None)
            installation.rows("update documents set attempt = attempt + 1 where key = 'pier.txt' returning 1")

    set_checkpoint_hook(take)
    assert send(installation, batch) == {"pier"}
    assert searchable(installation) == {"crane", "gauge", "tug"}
    assert counted(installation) == {"documents": 3, "chunks": 3}
    vectors = "select 1 from vectors_1 v join documents d on d.id = v.document_id where d.key = 'pier.txt'"
    assert installation.rows(vectors) == []


@pytest.mark.parametrize("point", ["staged", "embedded", "publishing"])
def test_killed_before_they_are_published_none_is_visible_and_all_are_published_once(
    installation: Installation, batch: dict[str, Any], point: str
) -> None:
    def kill(reached: str) -> None:
        if reached == point:
            raise Killed

    before = installation.epoch()
    set_checkpoint_hook(kill)
    with pytest.raises(Killed):
        send(installation, batch)
    set_checkpoint_hook(None)
    assert (searchable(installation), installation.epoch()) == (set(), before)
    installation.rows("update documents set lease_until = now() - interval '1 s' returning 1")
    assert send(installation, batch) == set()
    assert searchable(installation) == set(NAMES)
    assert counted(installation) == {"documents": 4, "chunks": 4}
    assert installation.rows("select count(*) as n from chunks")[0]["n"] == 4


@pytest.mark.parametrize("committed", [True, False])
def test_when_the_connection_breaks_at_the_commit_each_is_asked_about(
    installation: Installation, batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    store = installation.ingest._store
    publish = store.publish

    def broken(ready: Sequence[Ready]) -> None:
        if committed:
            publish(ready)
        raise OutcomeUnknown

    monkeypatch.setattr(store, "publish", broken)
    assert send(installation, batch) == (set() if committed else set(NAMES))
    assert searchable(installation) == (set(NAMES) if committed else set())
    monkeypatch.undo()
    assert send(installation, batch) == set()
    assert searchable(installation) == set(NAMES)


def test_one_that_the_encoder_cannot_take_holds_up_no_other(
    installation: Installation, batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = installation.embedder.encode

    def choking(texts: Sequence[str]) -> Any:
        if any("gauge" in text for text in texts):
            raise BadUpstream("encoder", "it cannot take that")
        return encode(texts)

    monkeypatch.setattr(installation.embedder, "encode", choking)
    assert send(installation, batch) == {"gauge"}
    assert searchable(installation) == {"crane", "pier", "tug"}
    assert installation.document("gauge.txt")["lease_until"] is None


def test_one_that_is_not_whole_is_not_published_and_the_others_are(
    installation: Installation, batch: dict[str, Any]
) -> None:
    def lose(reached: str) -> None:
        if reached == "publishing":
            set_checkpoint_hook(None)
            installation.rows(
                "delete from chunks c using documents d where d.id = c.document_id and d.key = 'tug.txt' returning 1"
            )

    set_checkpoint_hook(lose)
    assert send(installation, batch) == {"tug"}
    assert searchable(installation) == {"crane", "gauge", "pier"}
    assert send(installation, batch) == set()
    assert searchable(installation) == set(NAMES)


def test_what_there_is_no_time_for_comes_back_without_a_lease(
    installation: Installation, batch: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pass_the_time(reached: str) -> None:
        if reached == "parsing":
            later = time.monotonic() + 600
            monkeypatch.setattr("functions.ingest.batch.time", SimpleNamespace(monotonic=lambda: later))

    set_checkpoint_hook(pass_the_time)
    assert send(installation, batch) == set(NAMES)
    set_checkpoint_hook(None)
    monkeypatch.undo()
    assert len(installation.rows("select 1 from documents where lease_until is null")) == len(NAMES)
    assert send(installation, batch) == set()
    assert searchable(installation) == set(NAMES)


def test_documents_of_several_collections_and_tenants_come_in_one_batch(installation: Installation) -> None:
    other, text = uuid.uuid4(), "The tug was repaired in the spring."
    installation.add_key(other, ["query"])
    installation.put("a.txt", text)
    installation.put("b.txt", text, {"collection": "rules"})
    installation.put(f"tenants/{other}/c.txt", text)
    bodies = [one["Body"] for one in installation.messages() if "TestEvent" not in one["Body"]]
    records = [{"messageId": str(number), "body": body} for number, body in enumerate(bodies)]
    encoded, encode = [], installation.embedder.encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installation.embedder, "encode", lambda texts: encoded.append(texts) or encode(texts))
        assert send(installation, {"Records": records}) == set()
    assert encoded == [[text]]  # once, for all of them
    assert searchable(installation) == {"a", "b", f"tenants/{other}/c"}
    counted = installation.rows("select tenant_id, name, documents from collections where documents > 0")
    assert {(row["tenant_id"], row["name"], row["documents"]) for row in counted} == {
        (installation.tenant, "default", 1),
        (installation.tenant, "rules", 1),
        (other, "default", 1),
    }
