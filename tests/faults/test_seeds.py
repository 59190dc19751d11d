"""F12-F16 and F20-F22 of the faults that ragzero survives, each from a few seeds, or twenty with --all-seeds; `--seed N` replays one.

The workers are processes of their own that are frozen between calls. Each seed has a tenant of its own, and ends with the
invariants checked: by what questions see, by SQL, and by the recorded history.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import pytest

from functions.reindex.audit import Audit
from shared.adapters.postgres.audits import AuditStore
from shared.adapters.postgres.connection import Database
from shared.adapters.s3 import Bucket
from shared.adapters.sqs import Queue
from tests.integration.test_dead_letters import LETTERS
from tests.support.access import bearer
from tests.support.sweeping import event_of, repaired
from tests.support.town import Shared, Town

NAMES = ["a.md", "b.md", "c.md"]
POINTS = ["reading", "parsing", "staged", "embedded", "publishing"]
HEIRS_POINTS = ["reading", "parsing", "staged", "publishing"]
"""It may find all vectors there, and embed nothing."""
HOUR = 3600


def test_f12_an_event_that_comes_again_changes_nothing(town: Town) -> None:
    """Up to five times in one batch, and again long after, also after the delete: one parse for each version."""
    seen: list[str] = []
    for _ in range(3):
        town.change(town.dice.choice(NAMES))
        new = town.events()
        assert town.hand(*new * town.dice.randint(1, 5)) == []
        seen += new
        before = town.footprint()
        assert town.hand(*town.dice.choices(seen, k=town.dice.randint(1, 5))) == []
        assert town.footprint() == before, town.steps
        town.look()
    parsed = sum(row["generation"] for row in town.documents("generation"))
    assert parsed == sum(step.startswith("put") for step in town.steps)
    town.end()


ORDERS = list(itertools.permutations(range(4)))
random.Random(13).shuffle(ORDERS)


def test_f13_events_in_every_order_end_in_the_state_of_the_bucket(town: Town, fault_seed: int) -> None:
    """PUT, PUT, DELETE, PUT: three of the 24 orders here, each of them in two seeds or three; an event is delivered as soon
    as those before it are, while the bucket goes on changing, or with all the others at the end."""
    orders = {f"{n}.md": ORDERS[(fault_seed * 3 + n) % 24] for n in range(3)}
    events: dict[str, list[str]] = {name: [] for name in orders}
    told = dict.fromkeys(orders, 0)
    while any(len(made) < 4 for made in events.values()):
        name = town.dice.choice([name for name, made in events.items() if len(made) < 4])
        town.delete(name) if len(events[name]) == 2 else town.put(name)
        events[name] += town.events()
        if town.dice.random() < 0.3:
            assert town.hand(*_due(town, orders, events, told)) == []
            town.look()
    while batch := _due(town, orders, events, told):
        assert town.hand(*batch) == []
    town.end()
    assert {row["status"] for row in town.documents("status")} == {"searchable"}


def _due(town: Town, orders: dict[str, Any], events: dict[str, list[str]], told: dict[str, int]) -> list[str]:
    """The next event of each key whose turn has come, in any order."""
    due = []
    for name, order in orders.items():
        if told[name] < 4 and order[told[name]] < len(events[name]):
            due.append(events[name][order[told[name]]])
            told[name] += 1
    town.dice.shuffle(due)
    return due


def test_f14_what_no_event_told_of_is_repaired_by_one_sweep_and_counted(town: Town, fault_seed: int) -> None:
    """Single events are lost in even seeds; in odd ones the bucket tells nobody for a while."""
    deaf = fault_seed % 2 == 1
    for name in NAMES:
        town.put(name)
    town.deliver(town.events())
    if deaf:
        _notify(town, False)
    for _ in range(3):
        town.change(town.dice.choice([*NAMES, "d.md"]))
        events = town.events()
        assert not (deaf and events)
        if town.dice.random() < 0.4:
            assert town.hand(*events) == []
        town.look()
    if deaf:
        _notify(town, True)
    expected = _differences(town)
    assert repaired(town.settle()) == expected, town.steps
    town.end()
    assert repaired(town.settle()) == {}


def _notify(town: Town, wanted: bool) -> None:
    intake, aws = town.installation.intake, town.installation.aws
    if wanted:
        aws.ensure(intake.bucket, intake.bucket, visibility=30)
    else:
        aws.client("s3").put_bucket_notification_configuration(
            Bucket=intake.bucket, NotificationConfiguration={}
        )
    town.deaf = not wanted


def _differences(town: Town) -> dict[str, int]:
    """Between bucket and index, told from outside."""
    there, indexed = town.in_bucket(), town.look()
    counts = {
        "missing": len(there.keys() - indexed.keys()),
        "changed": sum(there[name] != indexed[name] for name in there.keys() & indexed.keys()),
        "gone": len(indexed.keys() - there.keys()),
    }
    return {kind: count for kind, count in counts.items() if count}


def test_f15_an_object_that_changes_while_it_is_worked_on_ends_in_its_newest_state(town: Town) -> None:
    """Before it is read, between reading and publishing, and after; its events wait, or come to another worker."""
    name = town.dice.choice(NAMES)
    town.put(name)
    first = town.events()
    slow = town.pause(town.dice.choice([*POINTS, "published"]), *first)
    town.look()
    for _ in range(town.dice.randint(1, 2)):
        town.change(name)
    rest = town.events()
    if town.dice.random() < 0.5:
        rest = town.hand(*rest, worker=1)
    town.look()
    rest += town.thaw(slow, *first)
    town.look()
    town.dice.shuffle(rest)
    town.deliver(rest)
    town.end()


def test_f16_versions_that_go_for_good_and_objects_that_expire(town: Town) -> None:
    """An old version that goes changes nothing; when the newest goes, the one before it is there again."""
    for _ in range(3):
        for name in NAMES[:2]:
            town.put(name)
        town.deliver(town.events())
    _old_version_goes(town, town.dice.choice(NAMES[:2]))
    name = town.dice.choice(NAMES[:2])
    town.dice.choice([_newest_version_goes, _expires, _expires_untold])(town, name)
    town.end()


def _versions(town: Town, name: str) -> list[str]:
    """Their ids, the newest first."""
    s3, bucket = town.installation.aws.client("s3"), town.installation.intake.bucket
    found = s3.list_object_versions(Bucket=bucket, Prefix=town.key(name))["Versions"]
    return [one["VersionId"] for one in sorted(found, key=lambda one: not one["IsLatest"])]


def _old_version_goes(town: Town, name: str) -> None:
    town.delete(name, town.dice.choice(_versions(town, name)[1:]))
    before = (town.epoch(), town.look())
    town.deliver(town.events())
    assert (town.epoch(), town.look()) == before, town.steps


def _newest_version_goes(town: Town, name: str) -> None:
    town.delete(name, _versions(town, name)[0])
    town.deliver(town.events())


def _expires(town: Town, name: str) -> None:
    """S3 gives no sequencer to expiry."""
    town.delete(name)
    town.events()
    body = event_of(
        town.key(name), town.installation.intake.bucket, "", "LifecycleExpiration:DeleteMarkerCreated"
    )
    town.deliver([body])


def _expires_untold(town: Town, name: str) -> None:
    town.delete(name)
    town.events()
    assert repaired(town.settle()) == {"gone": 1}


def test_f20_a_zombie_writes_nothing(town: Town) -> None:
    """Its lease ran out while it was frozen; its heir is done with the document when it wakes, or still at it."""
    name = town.dice.choice(NAMES)
    town.put(name)
    events = later = town.events()
    zombie = town.pause(town.dice.choice(POINTS), *events)
    if town.dice.random() < 0.6:
        town.change(name)
        later = town.events()
    town.expire_leases()
    heir = None
    if name in town.in_bucket() and town.dice.random() < 0.5:
        heir = town.pause(town.dice.choice(HEIRS_POINTS), *later, worker=1)
    else:
        assert town.hand(*later, worker=1) == []
    before = town.footprint()
    back = town.thaw(zombie, *events)
    assert back == events, "what it could not do comes back to the queue"
    assert town.footprint() == before, town.steps
    town.look()
    if heir:
        assert town.thaw(heir, *later) == []
    town.deliver(back)
    town.end()


def test_f21_clocks_that_are_an_hour_off_have_no_effect(town: Town, fault_seed: int) -> None:
    """On leases, on the order of events, on expiry; of the workers, of the bucket, of the function that sweeps."""
    skews = [town.dice.choice([-HOUR, HOUR]) for _ in range(2)]
    name = town.dice.choice(NAMES)
    town.put(name)
    events = town.events()
    held = town.pause(town.dice.choice(POINTS), *events, skew=skews[0])
    assert town.hand(*events, worker=1, skew=skews[1]) == events, "the lease is the database's"
    assert town.thaw(held, *events) == []
    for _ in range(3):
        town.change(name)
    waiting = town.events()
    town.dice.shuffle(waiting)
    assert town.hand(*waiting, worker=1, skew=skews[1]) == []
    with _BucketClock(town, town.dice.choice([-HOUR, HOUR])):
        town.settle()
        epoch = town.epoch()
        assert repaired(town.settle()) == {}, town.steps
        assert town.epoch() == epoch
    town.end()
    assert _expired(town, timedelta(seconds=HOUR)) == 0


class _BucketClock:
    """The times that the sweeper reads of the bucket are off."""

    def __init__(self, town: Town, seconds: int) -> None:
        self._events = town.sweeper.services.sweep._means.bucket.client.meta.events
        self._off = timedelta(seconds=seconds)

    def __enter__(self) -> None:
        self._events.register("after-call.s3.ListObjectsV2", self._skewed)

    def __exit__(self, *_: object) -> None:
        self._events.unregister("after-call.s3.ListObjectsV2", self._skewed)

    def _skewed(self, parsed: dict[str, Any], **_: Any) -> None:
        headers = parsed["ResponseMetadata"]["HTTPHeaders"]
        headers["date"] = format_datetime(parsedate_to_datetime(headers["date"]) + self._off)
        for one in parsed.get("Contents", []):
            one["LastModified"] += self._off


def _expired(town: Town, off: timedelta) -> int:
    """How many documents that are to stay for a day are deleted by a function whose clock is off."""
    town.installation.rows(
        "update documents set metadata = '{\"expires_after\": 1}', created_at = now() - interval '23 hours' "
        "where tenant_id = %s returning 1",
        town.tenant,
    )
    name = town.installation.intake.bucket
    bucket = Bucket(name, endpoint_url=town.installation.aws.url)
    store = AuditStore(Database(town.installation.url("ragzero_reindex")), name, 0)
    audit = Audit(store, bucket, lambda: datetime.now(UTC) + off)
    deleted: int = audit.expire(float("inf"))["deleted"]
    audit.close()
    return deleted


@pytest.fixture
def dead(shared: Shared) -> Queue:
    return Queue(shared.installation.intake.dead_letter_url, endpoint_url=shared.installation.aws.url)


def test_f22_dead_letters_that_are_redriven_converge(town: Town, shared: Shared, dead: Queue) -> None:
    """Some superseded, some repeated, in any order, some before others: what is outdated is not worked on again."""
    letters: list[str] = []
    for name in NAMES[:2]:
        town.put(name)
        old = town.events()
        assert town.hand(*old) == []
        for _ in range(town.dice.randint(1, 2)):
            town.change(name)
        letters += (old + town.events()) * town.dice.randint(1, 4)
    town.dice.shuffle(letters)
    begun = {row["key"]: row["generation"] for row in town.documents("key, generation")}
    dead.send(letters)
    wishes = [{"state": "superseded"}, {"state": "open"}, {"prefix": town.key(town.dice.choice(NAMES[:2]))}]
    moved = sum(_redriven(town, shared, wish) for wish in [town.dice.choice(wishes), {}])
    assert (moved, dead.state().waiting) == (len(letters), 0)
    redriven = town.events()
    assert Counter(letters) <= Counter(redriven)
    town.dice.shuffle(redriven)
    town.deliver(redriven)
    town.end()
    there = town.in_bucket()
    for row in town.documents("key, generation"):
        assert row["generation"] == begun[row["key"]] + (row["key"].rsplit("/", 1)[1] in there)


def _redriven(town: Town, shared: Shared, wish: dict[str, str]) -> int:
    """How many letters went back to ingest, in as many calls as it takes."""
    key, moved, done = bearer(town.installation.admin_key), 0, False
    while not done:
        answer = shared.api.post(f"{LETTERS}/redrive", json=wish, headers=key)
        assert answer.status_code == 200, answer.text
        moved, done = moved + answer.json()["moved"], answer.json()["done"]
    return moved
