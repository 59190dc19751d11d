"""A sweep finds whatever the index and the bucket disagree on, has ingest look at it, and costs a listing otherwise."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import boto3
import pytest
import redis
from botocore.utils import parse_timestamp

from functions.ingest.wiring import build as build_ingest
from functions.reindex.handler import handle
from shared.adapters import aws, s3
from shared.adapters.s3 import Bucket
from shared.core.errors import BadUpstream, ConfigurationError, InvalidInput, NotFound
from tests.integration.test_delivery import send
from tests.support.installation import Installation
from tests.support.sweeping import (
    Sweeper,
    drift,
    event_of,
    repaired,
    silence,
    sweeping,
    work_off,
)
from tests.support.waiting import PATIENT


@pytest.fixture
def sweeper(installation: Installation) -> Iterator[Sweeper]:
    with sweeping(installation) as made:
        yield made


@pytest.fixture
def three_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PAGE_KEYS", 3)


def fill(installation: Installation, count: int) -> list[str]:
    keys = [f"{number:03}.txt" for number in range(count)]
    for key in keys:
        installation.put(key, f"Berth {key} is taken.")
    work_off(installation)
    return keys


def status(installation: Installation) -> dict[str, str]:
    return {row["key"]: row["status"] for row in installation.rows("select key, status from documents")}


def calls(client: Any) -> list[str]:
    """The names of the operations that client will have been asked for."""
    made: list[str] = []
    client.meta.events.register("before-call.*", lambda model, **_: made.append(model.name))
    return made


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-01T01:02:03.004Z",
        "2026-01-01T01:02:03",
        "Sat, 21 Nov 2026 17:36:58 GMT",
        "1795282618",
        "20261121",  # seconds since 1970, too, although it might be a day
        17.5,
    ],
)
def test_a_date_is_what_botocore_makes_of_it(written: Any) -> None:
    assert aws.instant(written) == parse_timestamp(written)


def test_a_listing_is_read_with_quick_dates(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made the first client of the process."""
    seen: list[Any] = []
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setattr(aws, "instant", lambda text: seen.append(text) or parse_timestamp(text))
    installation.put("a.txt", "Berth a is taken.")
    aws.client("sqs", region_name="us-east-1")
    (page,) = Bucket(installation.intake.bucket, endpoint_url=installation.aws.url).pages()
    assert len(page.objects) == len(seen) == 1


def test_an_untouched_bucket_costs_one_listing_and_reads_no_object(
    installation: Installation, sweeper: Sweeper, three_a_page: None
) -> None:
    fill(installation, 7)
    sweeper.settle()
    before = installation.rows("select xmin::text, id from documents order by id")
    asked = calls(sweeper.services.sweep._means.bucket.client)
    sent = calls(sweeper.services.sweep._means.ingest._client)
    assert sweeper.settle()["objects"] == 7
    assert asked == ["ListObjectsV2"] * 3
    assert sent == []
    assert installation.rows("select xmin::text, id from documents order by id") == before


def test_f14_what_no_event_told_of_is_repaired_by_one_sweep_and_counted(
    installation: Installation, sweeper: Sweeper
) -> None:
    fill(installation, 4)
    silence(installation)
    installation.put("new.txt", "Nobody was told.")
    installation.put("000.txt", "Another text by now.")
    installation.delete("001.txt")
    assert drift(installation) == ["000.txt", "001.txt", "new.txt"]
    assert repaired(sweeper.settle()) == {"missing": 1, "changed": 1, "gone": 1}
    assert drift(installation) == []
    assert repaired(sweeper.settle()) == {}
    assert installation.rows("select * from sweep_findings") == []


def test_f14_an_object_put_again_with_other_metadata_alone_is_noticed(
    installation: Installation, sweeper: Sweeper
) -> None:
    fill(installation, 1)
    silence(installation)
    installation.put("000.txt", "Berth 000.txt is taken.", {"site": "north"})
    assert repaired(sweeper.settle()) == {"changed": 1}
    assert installation.document("000.txt")["metadata"] == {"site": "north"}
    assert installation.document("000.txt")["generation"] == 1
    assert repaired(sweeper.settle()) == {}


def test_f21_a_bucket_whose_clock_is_ahead_is_asked_once_more_and_then_left_alone(
    installation: Installation, sweeper: Sweeper
) -> None:
    """Its objects look newer than our last look at them, which was at these very versions."""
    fill(installation, 3)
    installation.rows("update documents set updated_at = updated_at - interval '1 hour' returning 1")
    epoch = installation.epoch()
    assert repaired(sweeper.settle()) == {"changed": 3}
    assert repaired(sweeper.settle()) == {}
    assert repaired(sweeper.settle()) == {}
    assert installation.rows("select * from sweep_findings") == []
    assert installation.epoch() == epoch


def test_f16_expiry_has_no_sequencer_and_removes(installation: Installation) -> None:
    """S3 gives sequencers to uploads and deletes only."""
    fill(installation, 2)
    silence(installation)
    installation.delete("000.txt")
    name = "LifecycleExpiration:DeleteMarkerCreated"
    body = event_of("000.txt", installation.intake.bucket, "", name)
    assert send(installation, body) == []
    assert status(installation) == {"000.txt": "deleted", "001.txt": "searchable"}


def test_f16_expiry_that_nobody_was_told_of_removes(installation: Installation, sweeper: Sweeper) -> None:
    fill(installation, 2)
    silence(installation)
    installation.delete("000.txt")
    assert repaired(sweeper.settle()) == {"gone": 1}
    assert status(installation) == {"000.txt": "deleted", "001.txt": "searchable"}


def test_f16_an_old_version_deleted_for_good_changes_nothing(
    installation: Installation, sweeper: Sweeper
) -> None:
    s3_client = installation.aws.client("s3")
    fill(installation, 1)
    (old,) = s3_client.list_object_versions(Bucket=installation.intake.bucket)["Versions"]
    installation.put("000.txt", "The current version.")
    installation.deliver()
    epoch = installation.epoch()
    s3_client.delete_object(Bucket=installation.intake.bucket, Key="000.txt", VersionId=old["VersionId"])
    installation.deliver()
    assert repaired(sweeper.settle()) == {}
    assert installation.epoch() == epoch
    assert [row["text"] for row in installation.rows("select text from chunks")] == ["The current version."]


def test_keys_are_compared_in_the_order_of_the_bucket_at_every_page_border(
    installation: Installation, sweeper: Sweeper, three_a_page: None
) -> None:
    """Among them keys that a linguistic or UTF-16 order would put elsewhere, and such as need encoding."""
    keys = ["A.txt", "Z.txt", "_.txt", "a b.txt", "a+b.txt", "a%2Bb.txt", "a/b.txt", "a//b.txt", "b.txt", "Ä.txt",
            "ä.txt", "é.txt", "ﬁ.txt", "\U0001f9a9.txt", "\uffee.txt", "line\nbreak.txt", "'quoted'.txt"]  # fmt: skip
    for key in keys:
        installation.put(key, f"Found under {key!r}.")
    installation.deliver()
    assert repaired(sweeper.settle()) == {}
    silence(installation)
    for key in keys[::2]:
        installation.delete(key)
    installation.put("0.txt", "First of all.")
    installation.put("\U0001f9a9\U0001f9a9.txt", "Last of all.")
    with sweeping(installation, max_deletes=100) as careless:
        assert repaired(careless.settle()) == {"missing": 2, "gone": 9}
    assert drift(installation) == []


def test_a_sweep_without_time_does_a_page_and_goes_on_from_there(
    installation: Installation, sweeper: Sweeper, three_a_page: None
) -> None:
    fill(installation, 8)
    silence(installation)
    installation.put("000.txt", "Changed on the first page.")
    installation.put("007.txt", "Changed on the last page.")
    installation.delete("004.txt")
    cursors = []
    while (report := sweeper.sweep(seconds=0))["status"] == "paused":
        (row,) = installation.rows("select cursor, lease_until from sweeps")
        assert row["lease_until"] is None
        cursors.append(row["cursor"])
    assert cursors == ["002.txt", "006.txt"]
    assert repaired(report["counts"]) == {"changed": 2, "gone": 1}
    assert report["counts"]["objects"] == 7
    work_off(installation)
    assert drift(installation) == []


def test_two_sweeps_of_one_bucket_do_not_double_up(
    installation: Installation, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(installation, 1)
    with sweeping(installation) as other:
        seen: list[str] = []
        pages = sweeper.services.sweep._means.bucket.pages

        def slow(after: str = "") -> Any:
            seen.append(other.sweep()["status"])
            yield from pages(after)

        monkeypatch.setattr(sweeper.services.sweep._means.bucket, "pages", slow)
        assert sweeper.sweep()["status"] == "done"
    assert seen == ["busy"]
    assert len(installation.rows("select * from sweeps")) == 1


def test_a_sweep_that_was_taken_over_writes_nothing_more(
    installation: Installation, sweeper: Sweeper
) -> None:
    store = sweeper.services.sweep._means.store
    mine = store.begin()
    assert mine is not None
    installation.rows("update sweeps set lease_until = now() - interval '1 s' returning 1")
    other = store.begin()
    assert other is not None
    assert (other.id, other.token) == (mine.id, mine.token + 1)
    for write in (lambda: store.advance(mine, "x", False, {}), lambda: store.finish(mine, {})):
        with pytest.raises(Exception, match="taken sweep 1 over"):
            write()
    store.pause(mine)
    (row,) = installation.rows("select cursor, finished_at, lease_until from sweeps")
    assert (row["cursor"], row["finished_at"]) == ("", None)
    assert row["lease_until"] is not None


# The mass-delete guard.


def test_deleting_much_at_once_waits_for_a_confirmation(
    installation: Installation, make_sweeper: Callable[..., Sweeper]
) -> None:
    keys = fill(installation, 10)
    silence(installation)
    careful = make_sweeper(max_deletes=2)
    for key in keys[:3]:
        installation.delete(key)
    for _ in range(2):
        counts = careful.settle()
        assert (counts["held"], counts["gone"]) == (3, 0)
    assert len([one for one in status(installation).values() if one == "searchable"]) == 10
    (held_by,) = {row["held_by"] for row in installation.rows("select held_by from sweep_findings")}
    assert held_by == 1
    confirm(installation, held_by)
    counts = careful.settle()
    assert (counts["held"], counts["gone"]) == (0, 3)
    assert drift(installation) == []


def confirm(installation: Installation, sweep: int) -> None:
    installation.rows("update sweeps set confirmed_at = now() where id = %s returning 1", sweep)


def test_one_that_is_within_bounds_needs_none(
    installation: Installation, make_sweeper: Callable[..., Sweeper]
) -> None:
    """Both bounds have to be passed: a fifth of a large tenant, and more than a few documents."""
    keys = fill(installation, 10)
    silence(installation)
    installation.delete(keys[0])
    installation.delete(keys[1])
    assert make_sweeper(max_deletes=1, max_delete_share=0.5).settle()["gone"] == 2
    installation.delete(keys[2])
    assert make_sweeper(max_deletes=1, max_delete_share=0.01).settle()["gone"] == 1


def test_what_was_held_back_is_free_once_it_is_there_again(
    installation: Installation, make_sweeper: Callable[..., Sweeper]
) -> None:
    keys = fill(installation, 6)
    silence(installation)
    careful = make_sweeper(max_deletes=0)
    bodies = {key: f"Berth {key} is taken." for key in keys[:3]}
    for key in bodies:
        installation.delete(key)
    assert careful.settle()["held"] == 3
    for key, body in bodies.items():
        installation.put(key, body)
    counts = careful.settle()
    assert (counts["held"], counts["gone"]) == (0, 0)
    assert drift(installation) == []
    assert installation.rows("select * from sweep_findings where held_by is not null") == []


def test_more_uploads_do_not_free_what_was_held_back(
    installation: Installation, make_sweeper: Callable[..., Sweeper]
) -> None:
    """Three of four is too much; three of twenty would not be, but nobody has confirmed them."""
    keys = fill(installation, 4)
    careful = make_sweeper(max_deletes=2)
    messages = installation.messages
    for key in keys[:3]:
        installation.delete(key)
    messages()
    assert careful.settle()["held"] == 3
    for number in range(16):
        installation.put(f"more-{number:02}.txt", "More.")
    installation.deliver()
    counts = careful.settle()
    assert (counts["held"], counts["gone"]) == (3, 0)


@pytest.mark.parametrize("documents", [1, 4])
def test_a_listing_of_nothing_at_all_deletes_nothing(
    installation: Installation, sweeper: Sweeper, documents: int
) -> None:
    """A bucket that was emptied, or another one than we think: no share of nothing is small."""
    for key in fill(installation, documents):
        installation.delete(key)
    installation.messages()
    counts = sweeper.settle()
    assert (counts["objects"], counts["held"], counts["gone"]) == (0, documents, 0)
    assert set(status(installation).values()) == {"searchable"}


class _Refusing(BaseHTTPRequestHandler):
    answer = (403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")

    def do_GET(self) -> None:
        status, body = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def bucket_that_says(status: int, body: bytes) -> Iterator[str]:
    handler = type("Says", (_Refusing,), {"answer": (status, body)})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_bucket_that_refuses_to_be_listed_deletes_nothing_and_the_sweep_says_why(
    installation: Installation, sweeper: Sweeper, make_sweeper: Callable[..., Sweeper]
) -> None:
    fill(installation, 3)
    with (
        bucket_that_says(*_Refusing.answer) as url,
        sweeping(installation, aws_endpoint_url=url) as refused,
        pytest.raises(InvalidInput, match="AccessDenied"),
    ):
        refused.sweep()
    (row,) = installation.rows("select error, finished_at, lease_until from sweeps")
    assert "AccessDenied" in row["error"]
    assert (row["finished_at"], row["lease_until"]) == (None, None)
    assert installation.rows("select * from sweep_findings") == []
    assert repaired(sweeper.settle()) == {}
    assert installation.rows("select error from sweeps") == [{"error": None}]


def test_an_empty_answer_from_somewhere_else_deletes_nothing(installation: Installation) -> None:
    fill(installation, 3)
    empty = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    with bucket_that_says(200, empty) as url, sweeping(installation, aws_endpoint_url=url) as misled:
        misled.services.sweep._means.ingest._endpoint_url = installation.aws.url
        assert misled.sweep()["counts"]["held"] == 3
    assert installation.messages() == []


def test_a_bucket_that_does_not_exist_deletes_nothing(installation: Installation) -> None:
    fill(installation, 2)
    with sweeping(installation, bucket="no-such-bucket-anywhere") as lost, pytest.raises(NotFound):
        lost.sweep()
    assert installation.rows("select * from sweep_findings") == []


def test_a_listing_in_another_order_is_not_believed(installation: Installation, sweeper: Sweeper) -> None:
    """What it does not show where it should be would be taken for deleted."""
    fill(installation, 4)
    client = sweeper.services.sweep._means.bucket.client
    client.meta.events.register(
        "after-call.s3.ListObjectsV2", lambda parsed, **_: parsed["Contents"].reverse()
    )
    with pytest.raises(BadUpstream, match="not in the order of its keys"):
        sweeper.sweep()
    assert installation.rows("select * from sweep_findings") == []


# What is left alone, and what is not.


def test_what_is_so_new_that_its_event_may_be_on_the_way_is_left_to_the_next_sweep(
    installation: Installation, sweeper: Sweeper, make_sweeper: Callable[..., Sweeper]
) -> None:
    fill(installation, 2)
    installation.put("new.txt", "On its way.")
    installation.delete("000.txt")
    patient = make_sweeper(grace_seconds=60)
    assert repaired(patient.sweep()["counts"]) == {}
    work_off(installation)
    assert drift(installation) == []
    assert repaired(sweeper.settle()) == {}


def test_a_document_that_somebody_works_on_is_left_alone(
    installation: Installation, sweeper: Sweeper
) -> None:
    fill(installation, 2)
    silence(installation)
    installation.put("000.txt", "Changed.")
    installation.delete("001.txt")
    installation.rows("update documents set lease_until = now() + interval '1 min' returning 1")
    assert repaired(sweeper.settle()) == {}
    installation.rows("update documents set lease_until = now() - interval '1 s' returning 1")
    assert repaired(sweeper.settle()) == {"changed": 1, "gone": 1}


@pytest.mark.parametrize("left", ["pending", "processing"])
def test_a_document_that_was_begun_and_left_is_taken_over(
    installation: Installation, sweeper: Sweeper, left: str
) -> None:
    fill(installation, 2)
    installation.rows(
        "update documents set status = %s, published_generation = null, etag = null, "
        "lease_until = now() - interval '1 s' where key = '000.txt' returning 1",
        left,
    )
    assert repaired(sweeper.settle()) == {"stuck": 1}
    assert status(installation) == {"000.txt": "searchable", "001.txt": "searchable"}


def test_an_upload_that_was_announced_and_never_came_is_forgotten(
    installation: Installation, sweeper: Sweeper
) -> None:
    fill(installation, 1)
    installation.rows(
        "insert into documents (tenant_id, collection_id, bucket, key) "
        "select tenant_id, collection_id, bucket, 'never.txt' from documents returning 1"
    )
    assert repaired(sweeper.settle()) == {}, "it may still be on its way"
    installation.rows(
        "update documents set updated_at = now() - interval '1 hour' where key = 'never.txt' returning 1"
    )
    assert repaired(sweeper.settle()) == {"gone": 1}
    assert status(installation)["never.txt"] == "deleted"


def test_keys_that_belong_to_no_tenant_are_counted_and_not_told_of(
    installation: Installation, sweeper: Sweeper
) -> None:
    other = uuid.uuid4()
    installation.add_key(other, ["query"])
    fill(installation, 1)
    silence(installation)
    installation.put(f"tenants/{uuid.uuid4()}/x.txt", "Nobody's.")
    installation.put("tenants/x.txt", "Nobody's either.")
    installation.put(f"tenants/{other}/x.txt", "Somebody's.")
    counts = sweeper.settle()
    assert (counts["foreign"], repaired(counts)) == (2, {"missing": 1})
    assert installation.document(f"tenants/{other}/x.txt")["tenant_id"] == other


def test_a_hint_is_repeated_after_a_while_and_not_for_ever(
    installation: Installation, make_sweeper: Callable[..., Sweeper]
) -> None:
    fill(installation, 1)
    silence(installation)
    installation.put("lost.txt", "Whose hints are all lost.")
    patient = make_sweeper(patience_seconds=3600)
    assert repaired(patient.sweep()["counts"]) == {"missing": 1}
    assert repaired(patient.sweep()["counts"]) == {}
    assert len(installation.messages()) == 1
    for repeated in range(2, 8):
        installation.rows("update sweep_findings set hinted_at = now() - interval '2 hours' returning 1")
        counts = patient.sweep()["counts"]
        assert counts["missing"] == 0
        assert len(installation.messages()) == (1 if repeated <= 5 else 0)
    assert counts["unrepaired"] == 1
    installation.put("lost.txt", "Another version is another finding.")
    assert repaired(patient.settle()) == {"missing": 1}
    assert drift(installation) == []
    assert patient.settle()["unrepaired"] == 0


def test_a_hint_delivered_twice_or_late_is_worked_on_once(
    installation: Installation, sweeper: Sweeper
) -> None:
    fill(installation, 1)
    silence(installation)
    installation.put("000.txt", "Second version.")
    sweeper.sweep()
    (hint,) = [message["Body"] for message in installation.messages()]
    assert send(installation, hint) == []
    epoch, row = installation.epoch(), installation.document("000.txt")
    assert send(installation, hint, hint) == []
    assert installation.document("000.txt") == row
    assert installation.epoch() == epoch


def test_real_events_are_newer_than_every_hint(installation: Installation, sweeper: Sweeper) -> None:
    """Hints number themselves between the last event and the next one."""
    bucket, key = installation.intake.bucket, "000.txt"
    fill(installation, 1)
    silence(installation)
    before = installation.document(key)["done_sequencer"]
    for number in range(3):
        installation.put(key, f"Version {number}, of which nobody was told.")
        assert repaired(sweeper.settle()) == {"changed": 1}
    done = installation.document(key)["done_sequencer"]
    assert before < done < format(int(before.rstrip("0").ljust(18, "0"), 16) + 1, "018X").ljust(64, "0")
    installation.put(key, "The event of this one arrives.")
    next_event = format(int(before[:18], 16) + 1, "018X")
    assert send(installation, event_of(key, bucket, next_event)) == []
    assert drift(installation) == []


def test_a_full_queue_is_not_filled_further(
    installation: Installation, make_sweeper: Callable[..., Sweeper], three_a_page: None
) -> None:
    fill(installation, 1)
    silence(installation)
    for number in range(6):
        installation.put(f"new-{number}.txt", f"New file {number}.")
    bounded = make_sweeper(max_queued=2)
    assert bounded.sweep()["status"] == "paused"
    assert bounded.sweep()["status"] == "paused"
    assert installation.rows("select cursor from sweeps") == [{"cursor": "new-4.txt"}]
    assert installation.deliver() == 5
    assert repaired(bounded.settle()) == {"missing": 6}
    assert drift(installation) == []


# What a sweep does besides.


class Door:
    """Where the embedding job would be knocked for."""

    def __init__(self) -> None:
        self.knocks = 0
        door = self

        class Handler(_Refusing):
            def do_POST(self) -> None:
                door.knocks += 1
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(202)
                self.end_headers()

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/wake"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.close()


def test_a_knock_that_was_not_heard_is_repeated_while_nobody_works(
    installation: Installation, make_sweeper: Callable[..., Sweeper], door: Door
) -> None:
    lane = {"embed_url": "http://127.0.0.1:9/wake", "embed_key": "k" * 16}
    settings = installation.ingest_settings(cpu_lane_chunks=0, **lane)
    installation.__dict__["ingest"] = build_ingest(settings, installation.embedder)
    knocking = make_sweeper(**lane | {"embed_url": door.url})
    assert knocking.sweep()["upkeep"] == {}
    fill(installation, 2)
    assert knocking.sweep()["upkeep"] == {"knocked_for": 2}
    assert door.knocks == 1
    installation.rows("update embed_work set lease_until = now() + interval '1 min' returning 1")
    assert knocking.sweep()["upkeep"] == {}
    assert door.knocks == 1
    assert repaired(knocking.settle()) == {}, "what waits for the embedding job is in hand"


def test_what_is_over_is_removed(installation: Installation, sweeper: Sweeper) -> None:
    """Answers after a day; chunks of generations that are neither published nor in the making."""
    keys = fill(installation, 3)
    for age, answers in (("1 hour", 1), ("25 hours", 2)):
        for _ in range(answers):
            installation.rows(
                "insert into answers (id, tenant_id, request, lease_until, created_at) "
                f"values (gen_random_uuid(), %s, '{{}}', now(), now() - interval '{age}') returning 1",
                installation.tenant,
            )
    installation.rows(
        "update documents set generation = 3, published_generation = 3 where key = %s returning 1", keys[0]
    )
    installation.rows(
        "update documents set status = 'deleted', published_generation = null, etag = null where key = %s returning 1",
        keys[1],
    )
    installation.aws.client("s3").delete_object(Bucket=installation.intake.bucket, Key=keys[1])
    installation.messages()
    for epoch in (installation.epoch() - 1, installation.epoch()):
        installation.rows(
            "insert into semantic_answers (tenant_id, partition, epoch, question, embedding, body) "
            "values (%s, '', %s, '?', '[1]', '{}') returning 1",
            installation.tenant,
            epoch,
        )
    for age in ("26 months", "24 months"):
        installation.rows(
            f"insert into usage_days (tenant_id, day) values (%s, current_date - interval '{age}') returning 1",
            installation.tenant,
        )
    report = sweeper.sweep()
    assert report["upkeep"] == {"answers": 2, "semantic_answers": 1, "usage_days": 1}
    assert report["counts"].get("leftover_chunks", 0) == 0, "too young to be nobody's"
    installation.rows("update documents set updated_at = now() - interval '2 hours' returning 1")
    installation.messages()
    assert sweeper.sweep()["counts"]["leftover_chunks"] == 2
    left = installation.rows("select d.key from chunks c join documents d on d.id = c.document_id")
    assert [row["key"] for row in left] == [keys[2]]
    assert installation.rows("select sum(chunks) as n from lexemes where lexeme = 'berth'")[0]["n"] == 1


def test_epochs_that_could_not_be_told_are_told(
    installation: Installation,
    make_sweeper: Callable[..., Sweeper],
    empty_redis: redis.Redis,
    redis_server: Any,
) -> None:
    fill(installation, 1)
    assert len(installation.rows("select * from epoch_outbox")) == 1
    empty_redis.set(f"rz:e:{installation.tenant}", 1, ex=60)
    assert make_sweeper().sweep()["upkeep"] == {}
    telling = make_sweeper(redis_url=f"redis://127.0.0.1:{redis_server.port}", **PATIENT)
    assert telling.sweep()["upkeep"] == {"epochs_told": 1}
    assert int(empty_redis.get(f"rz:e:{installation.tenant}") or 0) == installation.epoch()
    assert installation.rows("select * from epoch_outbox") == []


@pytest.mark.parametrize("event", [{"task": "sleep"}, {}, {"task": ["sweep"]}, {"detail": "scheduled"}])
def test_a_task_nobody_knows_is_refused_by_name(event: dict[str, Any]) -> None:
    def never() -> Any:
        raise AssertionError("nothing may be connected to")

    with pytest.raises(InvalidInput, match="is unknown; there are: sweep"):
        handle(event, None, never)


def test_settings_name_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from shared.settings import ReindexSettings

    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere")
    monkeypatch.setenv("RAGZERO_BUCKET", "bucket")
    monkeypatch.delenv("RAGZERO_QUEUE_URL", raising=False)
    with pytest.raises(ConfigurationError, match="RAGZERO_QUEUE_URL"):
        ReindexSettings.load()


@pytest.fixture
def make_sweeper(installation: Installation) -> Iterator[Callable[..., Sweeper]]:
    made: list[Sweeper] = []

    def make(**settings: Any) -> Sweeper:
        made.append(Sweeper(installation, **settings))
        return made[-1]

    yield make
    for sweeper in made:
        sweeper.close()
