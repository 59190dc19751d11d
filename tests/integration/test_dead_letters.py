"""Dead letters are seen without being lost, sent again without harm, and thrown away with a name and a reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shared.adapters.sqs import Queue
from shared.core.errors import ConfigurationError, RagzeroError
from shared.telemetry import set_checkpoint_hook
from tests.integration.test_delivery import Parsings, bodies, send
from tests.support.installation import Installation
from tests.support.operating import client
from tests.support.sweeping import drift, event_of, unsound, work_off

LETTERS = "/v1/index/dead-letters"


@pytest.fixture
def operator(installation: Installation) -> Iterator[TestClient]:
    with client(installation) as made:
        yield made


@pytest.fixture
def dead(installation: Installation) -> Queue:
    return Queue(installation.intake.dead_letter_url, endpoint_url=installation.aws.url)


def get(api: TestClient, path: str = LETTERS, **params: Any) -> Any:
    answer = api.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def post(api: TestClient, what: str, **wanted: Any) -> dict[str, Any]:
    answer = api.post(f"{LETTERS}/{what}", json=wanted)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def outdated_and_current(installation: Installation, keys: Sequence[str]) -> tuple[list[str], list[str]]:
    """Events of first versions, which were worked on, and of second ones, which never arrived."""
    for key in keys:
        installation.put(key, f"The first version of {key}.")
    first = bodies(installation)
    assert send(installation, *first) == []
    for key in keys:
        installation.put(key, f"The second version of {key}.")
    return first, bodies(installation)


def test_f22_a_thousand_letters_half_of_them_superseded(
    installation: Installation, operator: TestClient, dead: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"{number:02}.txt" for number in range(25)]
    old, new = outdated_and_current(installation, keys)
    dead.send((old + new) * 20)
    epoch, parsings = installation.epoch(), Parsings(installation, monkeypatch)
    moved = {"moved": 0, "done": False}
    while not moved["done"]:
        moved = {**post(operator, "redrive"), "before": moved["moved"]}
        assert moved["kept"] == 0
    assert dead.state().waiting == 0
    reached = list[str]()
    set_checkpoint_hook(reached.append)
    try:
        work_off(installation)
    finally:
        set_checkpoint_hook(None)
    assert drift(installation) == []
    assert unsound(installation) == []
    assert len(parsings.contents) == len(keys), "the superseded are no-ops, the rest is worked on once"
    published = installation.rows(
        "select generation, jsonb_path_query_array(timeline, '$[*] ? (@.status == \"searchable\")') as times from documents"
    )
    assert [(row["generation"], len(row["times"])) for row in published] == [(2, 2)] * len(keys)
    assert installation.epoch() == epoch + reached.count("publishing"), "one for what is published together"


def test_letters_are_shown_with_what_became_of_them_and_stay(
    installation: Installation, operator: TestClient, dead: Queue
) -> None:
    (old,), (new,) = outdated_and_current(installation, ["a b+ü.txt"])
    stranger = event_of("tenants/nobody/x.txt", installation.intake.bucket, "1")
    elsewhere = event_of("x.txt", "another-bucket", "1")
    dead.send([old, new, "no JSON", stranger, elsewhere])
    for _ in range(2):
        page = get(operator)
        assert page["more"] is False
        shown = sorted((one["state"], one["keys"], one["problem"] or "") for one in page["items"])
        assert shown == [
            ("open", ["a b+ü.txt"], "the document is searchable"),
            ("open", ["tenants/nobody/x.txt"], "the key 'tenants/nobody/x.txt' does not begin with tenants/<tenant id>/"),
            ("open", ["x.txt"], "it is about the bucket 'another-bucket'"),
            ("superseded", ["a b+ü.txt"], ""),
            ("unreadable", [], "the message is not JSON"),
        ]  # fmt: skip
        assert all(one["body"] is None for one in page["items"])
    (unreadable,) = get(operator, state="unreadable")["items"]
    (inspected,) = get(operator, id=unreadable["id"])["items"]
    assert inspected["body"] == "no JSON"
    assert len(get(operator, limit=2)["items"]) == 2
    assert get(operator, limit=2)["more"] is True
    assert {one["state"] for one in get(operator, prefix="a b")["items"]} == {"open", "superseded"}


@pytest.mark.parametrize(
    ("wanted", "expected"), [({"state": "superseded"}, 2), ({"prefix": "1"}, 2), ({}, 4), ({"state": "open", "prefix": "0"}, 1)]
)  # fmt: skip
def test_what_is_sent_again_is_what_was_asked_for(
    installation: Installation, operator: TestClient, dead: Queue, wanted: dict[str, str], expected: int
) -> None:
    old, new = outdated_and_current(installation, ["0.txt", "1.txt"])
    dead.send(old + new)
    assert post(operator, "redrive", **wanted) == {"moved": expected, "kept": 4 - expected, "done": True}
    assert dead.state().waiting == 4 - expected
    assert len(bodies(installation)) == expected


def test_one_letter_by_its_id(installation: Installation, operator: TestClient, dead: Queue) -> None:
    old, new = outdated_and_current(installation, ["0.txt", "1.txt"])
    dead.send(old + new)
    one = get(operator, state="open", prefix="1")["items"][0]
    assert post(operator, "redrive", ids=[one["id"]])["moved"] == 1
    work_off(installation)
    assert drift(installation) == ["0.txt"]


def test_killed_between_sending_and_removing_a_letter_is_sent_twice_and_nothing_is_lost(
    installation: Installation, operator: TestClient, dead: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, new = outdated_and_current(installation, ["0.txt"])
    dead.send(new)

    def die(name: str) -> None:
        if name == "letters_sent":
            raise RagzeroError("killed")

    set_checkpoint_hook(die)
    try:
        assert operator.post(f"{LETTERS}/redrive", json={}).status_code == 500
    finally:
        set_checkpoint_hook(None)
    assert dead.state().waiting == 1
    assert post(operator, "redrive")["moved"] == 1
    parsings = Parsings(installation, monkeypatch)
    work_off(installation)
    assert len(parsings.contents) == 1
    assert drift(installation) == []


def test_what_is_thrown_away_is_kept_with_who_and_why(
    installation: Installation, operator: TestClient, dead: Queue
) -> None:
    dead.send(["no JSON", '{"Records": []}'])
    wanted = get(operator, state="unreadable")["items"][0]
    assert post(operator, "discard", ids=[wanted["id"]], reason="sent by hand, by mistake")["moved"] == 1
    (kept,) = get(operator, LETTERS + "/discarded")
    assert (kept["message_id"], kept["reason"]) == (wanted["id"], "sent by hand, by mistake")
    assert kept["body"] == get_body(installation, wanted["id"])
    assert kept["discarded_by"] == installation.admin_key.split("_")[2]
    assert dead.state().waiting == 1


def get_body(installation: Installation, id: str) -> str:
    (row,) = installation.rows("select body from discarded_letters where message_id = %s", id)
    return str(row["body"])


@pytest.mark.parametrize(
    "wanted", [{}, {"reason": ""}, {"reason": "xy"}, {"reason": "fine", "limit": 3}, {"ids": []}]
)
def test_throwing_away_needs_a_reason(operator: TestClient, wanted: dict[str, Any]) -> None:
    assert operator.post(f"{LETTERS}/discard", json=wanted).status_code == 422


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", "/redrive"), ("POST", "/discard"), ("GET", "/discarded")]
)
def test_letters_are_for_operators(installation: Installation, method: str, path: str) -> None:
    with client(installation, installation.api_key) as api:
        assert api.request(method, LETTERS + path, json={"reason": "curious"}).status_code == 403


def test_without_queues_the_settings_are_named(installation: Installation) -> None:
    with client(installation, dead_letter_url=None) as api:
        answer = api.get(LETTERS)
    assert answer.status_code == 404
    assert "RAGZERO_DEAD_LETTER_URL" in answer.json()["detail"]


def test_a_queue_that_does_not_exist_is_the_settings_fault(installation: Installation) -> None:
    lost = Queue(installation.intake.queue_url + "-lost", endpoint_url=installation.aws.url)
    for use in (lost.state, lambda: lost.receive(1), lambda: lost.send(["x"])):
        with pytest.raises(ConfigurationError, match="RAGZERO_QUEUE_URL"):
            use()


def test_large_letters_are_sent_in_batches_that_fit(installation: Installation, dead: Queue) -> None:
    """A batch as a whole has the limit of one message."""
    dead.send(["x" * 120_000 for _ in range(5)])
    assert dead.state().waiting == 5
