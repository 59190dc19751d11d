"""I1 and I2 under a queue that repeats, reorders and forgets."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from typing import Any

import pytest

from functions.ingest.events import hints
from functions.ingest.handler import handle
from scripts.local.event_source import LambdaContext
from tests.support.installation import Installation


class Parsings:
    """Counts what the real parser is asked to do."""

    def __init__(self, installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
        self.contents: list[bytes] = []
        real = installation.ingest._parsers.parse

        def parse(data: bytes, *, name: str) -> Any:
            self.contents.append(data)
            return real(data, name=name)

        monkeypatch.setattr(installation.ingest._parsers, "parse", parse)


@pytest.fixture
def parsings(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Parsings:
    return Parsings(installation, monkeypatch)


def send(installation: Installation, *bodies: str) -> list[str]:
    """Calls the handler with one batch; the ids of the messages it wants back."""
    records = [{"messageId": str(number), "body": body} for number, body in enumerate(bodies)]
    response = handle(
        {"Records": records}, LambdaContext("ingest", time.monotonic() + 60), installation.ingest
    )
    return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]


def bodies(installation: Installation) -> list[str]:
    return [m["Body"] for m in installation.messages() if "TestEvent" not in m["Body"]]


@pytest.mark.parametrize("times", [1, 5])
def test_f12_a_repeated_event_is_worked_on_once(
    installation: Installation, parsings: Parsings, times: int
) -> None:
    installation.put("a.txt", "A note about barges.")
    (body,) = bodies(installation)
    for _ in range(times):
        assert send(installation, body) == []
    epoch = installation.epoch()
    assert send(installation, body, body) == []
    assert len(parsings.contents) == 1
    assert installation.epoch() == epoch
    assert installation.document("a.txt")["generation"] == 1


def _order_bodies(installation: Installation, final: str) -> list[str]:
    """The events of PUT v1, PUT v2, DELETE, PUT v3 on one key."""
    installation.put("x.txt", "The first version speaks of herons.")
    installation.put("x.txt", "The second version speaks of storks.")
    installation.delete("x.txt")
    installation.put("x.txt", final)
    found = bodies(installation)
    assert len(found) == 4
    return found


def test_f13_every_order_of_events_ends_in_the_state_of_the_bucket(
    installation: Installation, parsings: Parsings
) -> None:
    for order in itertools.permutations(range(4)):
        parsings.contents.clear()
        final = f"The third version speaks of cranes, order {order}."
        found = _order_bodies(installation, final)
        for place in order:
            assert send(installation, found[place]) == []
        document = installation.document("x.txt")
        assert document["status"] == "searchable", order
        assert [row["text"] for row in installation.rows("select text from chunks")] == [final], order
        assert parsings.contents == [final.encode()], order


def test_f13_an_order_that_ends_with_the_delete_event_last_seen_first(
    installation: Installation, parsings: Parsings
) -> None:
    """A delete whose event overtakes the uploads leaves nothing behind."""
    installation.put("x.txt", "Here and gone.")
    installation.delete("x.txt")
    created, removed = bodies(installation)
    assert send(installation, removed) == []
    assert send(installation, created) == []
    assert installation.document("x.txt")["status"] == "deleted"
    assert parsings.contents == []


def test_f13_events_arrive_while_their_versions_are_current(
    installation: Installation, parsings: Parsings
) -> None:
    """The same four steps, each delivered before the next, and again all together afterwards."""
    seen: list[str] = []
    for step in ("one heron", "two storks", None, "three cranes"):
        if step is None:
            installation.delete("x.txt")
        else:
            installation.put("x.txt", step)
        (body,) = bodies(installation)
        seen.append(body)
        assert send(installation, body) == []
    epoch = installation.epoch()
    assert send(installation, *seen) == []
    assert installation.epoch() == epoch
    assert parsings.contents == [b"one heron", b"two storks", b"three cranes"]
    assert [row["text"] for row in installation.rows("select text from chunks")] == ["three cranes"]


def test_f18_garbage_returns_and_the_rest_is_published(installation: Installation) -> None:
    installation.put("good.txt", "Good text.")
    (good,) = bodies(installation)
    foreign = json.dumps(
        {
            "Records": [
                {
                    "eventName": "ObjectCreated:Put",
                    "s3": {"bucket": {"name": "elsewhere"}, "object": {"key": "k"}},
                }
            ]
        }
    )
    test_event = json.dumps({"Event": "s3:TestEvent", "Bucket": installation.intake.bucket})
    odd = ["not json", "[]", '{"Records": 7}', '{"Records": [{}]}', "[" * 50_000]
    assert send(installation, *odd, foreign, good, test_event) == ["0", "1", "2", "3", "4", "5"]
    assert installation.document("good.txt")["status"] == "searchable"


def test_17_an_event_about_another_tenant_or_bucket_is_refused(installation: Installation) -> None:
    stranger = uuid.uuid4()
    installation.put(f"tenants/{stranger}/x.txt", "Nobody owns this.")
    (body,) = bodies(installation)
    assert send(installation, body) == ["0"]
    assert installation.rows("select * from documents") == []


@pytest.mark.parametrize(
    "key",
    [
        "../up/../../etc/passwd.txt", "with space.txt", "a+b.txt", "a%2Bb.txt", "a%20b.txt", "emoji 🦩.txt", "line\nbreak.txt",
        "quote\"'.txt", "trailing/", "ü" * 500 + "/" + "k" * 19 + ".txt", "//double//slash.txt", "?query=1&x=#frag.txt",
    ],
)  # fmt: skip
def test_15_odd_keys_make_a_clean_round_trip(installation: Installation, key: str) -> None:
    installation.put(key, "Flamingos stand on one leg.")
    installation.deliver()
    document = installation.document(key)
    assert document["status"] == "searchable"
    installation.delete(key)
    installation.deliver()
    assert installation.document(key)["status"] == "deleted"


def test_keys_come_url_encoded() -> None:
    record = {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "b"}, "object": {"key": "a%2Bb+c%25.txt"}},
    }
    (hint,) = hints(json.dumps({"Records": [record]}))
    assert hint.key == "a+b c%.txt"


def test_16_a_tenant_prefix_is_not_a_prefix_of_another(installation: Installation) -> None:
    """The same file name under two tenants is two documents, each seen by its own tenant only."""
    other = uuid.uuid4()
    installation.add_key(other, ["query"])
    for tenant, text in ((installation.tenant, "Ours is about otters."), (other, "Theirs is about badgers.")):
        installation.put(f"tenants/{tenant}/note.txt", text)
    installation.deliver()
    found = installation.rows(
        "select d.tenant_id, c.text from chunks c join documents d on d.id = c.document_id"
    )
    assert {(row["tenant_id"], row["text"]) for row in found} == {
        (installation.tenant, "Ours is about otters."),
        (other, "Theirs is about badgers."),
    }
