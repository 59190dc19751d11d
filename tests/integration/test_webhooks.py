"""Who wants to know hears of it, can tell that it is true, and hears of it later when nobody was in."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace as Clock
from typing import Any

import pytest
from fastapi.testclient import TestClient
from standardwebhooks import Webhook

from functions.ingest import wiring
from functions.ingest.handler import handle, handler
from functions.ingest.wiring import build
from functions.query.app import create_app
from scripts.local.event_source import EventSource, LambdaContext
from scripts.local.process import HOST, free_port
from shared.core.webhooks import MAX_ATTEMPTS, reminder
from tests.support.access import bearer
from tests.support.installation import Installation
from tests.support.sweeping import Sweeper, sweeping, work_off
from tests.support.waiting import PATIENCE_S

TEXT = "The lighthouse on the eastern mole was built in 1911 of red brick."


@dataclass
class Receiver:
    """A server of somebody's, which answers with status."""

    port: int
    status: int = 200
    location: str | None = None
    got: list[tuple[dict[str, str], str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/hook?x=1"

    def start(self) -> ThreadingHTTPServer:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                receiver.got.append((dict(self.headers), body))
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer((HOST, self.port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


@pytest.fixture(autouse=True)
def later_is_not_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a test takes: what failed is due again when the test says so, and a slow answer is waited for."""
    monkeypatch.setattr("shared.adapters.postgres.webhooks.BACKOFF_S", (3_600,))
    for name in (
        "functions.ingest.service._DELIVERY_S",
        "shared.adapters.courier._STEP_S",
        "shared.adapters.courier._TOTAL_S",
    ):
        monkeypatch.setattr(name, PATIENCE_S)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver(free_port())
    server = receiver.start()
    yield receiver
    server.shutdown()
    server.server_close()


@pytest.fixture
def trusting(installation: Installation) -> Iterator[TestClient]:
    """An installation whose webhooks may be on this machine."""
    settings = installation.ingest_settings(webhooks_private=True, queue_url=installation.intake.queue_url)
    installation.ingest = build(settings, installation.embedder)
    app = create_app(installation.query_settings(webhooks_private=True), installation.embedder)
    with TestClient(app, headers=bearer(installation.api_key)) as client:
        yield client


@pytest.fixture
def later(installation: Installation) -> Iterator[Sweeper]:
    with sweeping(installation, webhooks_private=True) as sweeper:
        yield sweeper


def hook(api: TestClient, url: str, **more: Any) -> dict[str, Any]:
    answer = api.post("/v1/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return dict(answer.json())


def add(installation: Installation, key: str, body: bytes | str = TEXT, **metadata: str) -> None:
    installation.put(key, body, metadata)
    work_off(installation)


def due(installation: Installation) -> None:
    installation.rows("update webhook_messages set due_at = now() returning 1")


def test_messages_are_signed_and_say_what_became_of_a_document(
    installation: Installation, trusting: TestClient, receiver: Receiver
) -> None:
    made = hook(trusting, receiver.url)
    add(installation, "good.txt")
    add(installation, "bad.txt", acl="???")
    told = [Webhook(made["secret"]).verify(body, headers) for headers, body in receiver.got]
    assert [one["type"] for one in told] == ["document.searchable", "document.failed"]
    good, bad = (one["data"] for one in told)
    document = installation.document("good.txt")
    assert (good["id"], good["status"], good["chunks"]) == (str(document["id"]), "searchable", 1)
    assert good["uri"].endswith("/good.txt")
    assert (bad["reason_code"], bad["status"]) == ("invalid_metadata", "failed")
    with pytest.raises(Exception, match="signature"):
        Webhook(made["secret"]).verify(receiver.got[0][1] + " ", receiver.got[0][0])
    (listed,) = trusting.get("/v1/webhooks").json()["items"]
    assert (listed["waiting"], listed["error"], listed["delivered_at"] is not None) == (0, None, True)
    assert "secret" not in listed
    assert trusting.delete(f"/v1/webhooks/{made['id']}").status_code == 200
    add(installation, "more.txt")
    assert len(receiver.got) == 2


def test_only_what_was_asked_for_is_told_and_only_to_its_tenant(
    installation: Installation, trusting: TestClient, receiver: Receiver
) -> None:
    other = bearer(installation.add_key(uuid.uuid4(), ["ingest"]))
    trusting.post("/v1/webhooks", json={"url": receiver.url}, headers=other)
    hook(trusting, receiver.url, events=["document.failed"])
    add(installation, "good.txt")
    assert receiver.got == []
    add(installation, "bad.txt", acl="???")
    assert len(receiver.got) == 1


def test_a_receiver_that_is_down_gets_it_later_signed_anew_and_at_most_so_often(
    installation: Installation, trusting: TestClient, receiver: Receiver, later: Sweeper
) -> None:
    made = hook(trusting, receiver.url)
    receiver.status = 503
    add(installation, "a.txt")
    later.sweep()
    assert len(receiver.got) == 1, "it is not due yet"
    installation.rows("update webhook_messages set created_at = created_at - interval '1 hour' returning 1")
    for _ in range(MAX_ATTEMPTS + 2):
        due(installation)
        later.sweep()
    assert len(receiver.got) == MAX_ATTEMPTS
    (listed,) = trusting.get("/v1/webhooks").json()["items"]
    assert (listed["waiting"], listed["given_up"]) == (0, 1)
    assert "503" in listed["error"]

    add(installation, "b.txt")
    receiver.status = 204
    due(installation)
    later.sweep()
    headers, body = receiver.got[-1]
    assert Webhook(made["secret"]).verify(body, headers)["data"]["uri"].endswith("b.txt")
    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert len(set(ids)) == 2, "the message is the same each time"


def held_back(installation: Installation) -> int:
    """Messages that wait in the queue until their delay is over."""
    name = "ApproximateNumberOfMessagesDelayed"
    found = installation.aws.client("sqs").get_queue_attributes(
        QueueUrl=installation.intake.queue_url, AttributeNames=[name]
    )
    return int(found["Attributes"][name])


def test_a_receiver_that_is_down_is_told_again_after_reminders_in_ingests_own_queue(
    installation: Installation,
    trusting: TestClient,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No sweep, and no new document; when there is nothing more to tell there are no more reminders either."""
    monkeypatch.setattr("shared.adapters.postgres.webhooks.BACKOFF_S", (1,))
    monkeypatch.setattr("shared.adapters.courier._SOON_S", 0.0)
    seconds = itertools.count(int(time.time()))
    monkeypatch.setattr(
        "shared.adapters.courier.time", Clock(time=lambda: next(seconds), monotonic=time.monotonic)
    )
    made = hook(trusting, receiver.url)
    receiver.status = 503
    add(installation, "a.txt")
    queue = EventSource(
        installation.aws.client("sqs"),
        installation.intake.queue_url,
        lambda event, context: handle(event, context, installation.ingest),
    )
    limit = time.monotonic() + 60
    while trusting.get("/v1/webhooks").json()["items"][0]["waiting"]:
        assert time.monotonic() < limit
        queue.poll(wait=2)
        receiver.status = 503 if len(receiver.got) < 3 else 200
    assert [headers["webhook-attempt"] for headers, _ in receiver.got] == ["1", "2", "3", "4"]
    stamps = [int(headers["webhook-timestamp"]) for headers, _ in receiver.got]
    assert stamps == sorted(set(stamps)), "each is signed anew"
    for headers, body in receiver.got:
        Webhook(made["secret"]).verify(body, headers)
    assert (held_back(installation), queue.poll(wait=0)) == (0, 0)


def test_a_reminder_that_comes_early_goes_back_and_asks_no_database(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue holds a message back for a quarter of an hour at most, which is when a database falls asleep."""
    variables = installation.environment("ragzero_ingest") | {
        "DATABASE_URL": f"postgresql://nobody@{HOST}:{free_port()}/nowhere",
        "RAGZERO_QUEUE_URL": installation.intake.queue_url,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    caches = (wiring.alarm, wiring.service, wiring._settings)
    for cache in caches:
        cache.cache_clear()
    record = {"messageId": "1", "body": reminder(int(time.time()) + 3_600)}
    context = LambdaContext("ingest", time.monotonic() + 60)
    assert handler({"Records": [record]}, context) == {"batchItemFailures": []}
    assert held_back(installation) == 1
    for cache in caches:
        cache.cache_clear()


def test_what_the_embedding_job_publishes_is_looked_for_in_time(
    installation: Installation, trusting: TestClient, receiver: Receiver
) -> None:
    """It has no way to tell anybody, or to remind ingest."""
    settings = installation.ingest_settings(
        webhooks_private=True,
        queue_url=installation.intake.queue_url,
        embed_url=f"http://{HOST}:{free_port()}/wake",
        embed_key="a key for the embedding job",
        cpu_lane_chunks=0,
    )
    installation.ingest.close()
    installation.ingest = build(settings, installation.embedder)
    add(installation, "unheard.txt")
    assert held_back(installation) == 0, "nobody wants to be told"
    hook(trusting, receiver.url)
    add(installation, "large.txt", "Another text.")
    assert installation.document("large.txt")["status"] == "processing"
    assert held_back(installation) == 4


def test_messages_that_failed_together_do_not_come_back_together(
    installation: Installation, trusting: TestClient, receiver: Receiver
) -> None:
    hook(trusting, receiver.url)
    receiver.status = 500
    for number in range(3):
        installation.put(f"{number}.txt", f"{TEXT} {number}")
    work_off(installation)
    rows = installation.rows("select distinct due_at from webhook_messages where attempts = 1")
    assert len(rows) == len(receiver.got) == 3


def test_the_signature_is_of_the_time_it_is_sent_at(
    installation: Installation,
    trusting: TestClient,
    receiver: Receiver,
    later: Sweeper,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hook(trusting, receiver.url)
    receiver.status = 500
    add(installation, "a.txt")
    clock = Clock(time=lambda: 2_000_000_000.0, monotonic=time.monotonic)
    monkeypatch.setattr("shared.adapters.courier.time", clock)
    due(installation)
    later.sweep()
    first, second = (headers for headers, _ in receiver.got)
    assert first["webhook-timestamp"] != second["webhook-timestamp"] == "2000000000"
    assert first["webhook-signature"] != second["webhook-signature"]


def test_one_that_does_not_answer_holds_nobody_else_up(
    installation: Installation, trusting: TestClient, receiver: Receiver
) -> None:
    hook(trusting, f"http://{HOST}:{free_port()}/")
    hook(trusting, receiver.url)
    for number in range(3):
        add(installation, f"{number}.txt")
    assert len(receiver.got) == 3
    assert [
        row["attempts"] for row in installation.rows("select attempts from webhook_messages order by 1")
    ] == [0, 0, 1]


def test_a_redirect_is_not_followed(
    installation: Installation, trusting: TestClient, receiver: Receiver
) -> None:
    elsewhere = Receiver(free_port())
    server = elsewhere.start()
    receiver.status, receiver.location = 307, elsewhere.url
    hook(trusting, receiver.url)
    add(installation, "a.txt")
    assert (len(receiver.got), elsewhere.got) == (1, [])
    assert "307" in trusting.get("/v1/webhooks").json()["items"][0]["error"]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::a00:1]/",
        "https://169.254.169.254/latest",
        "https://10.1.2.3:8443/",
        "https://user:pw@example.org/",
        "https://example.org/#x",
        "https://exa mple.org/",
        "https://example.org:0/",
        "https://example.org:99999/",
        "ftp://example.org/",
        "https:///x",
        "x",
    ],
)
def test_an_address_inside_is_refused(installation: Installation, api: TestClient, url: str) -> None:
    answer = api.post("/v1/webhooks", json={"url": url})
    assert (answer.status_code, answer.json()["field"]) == (422, "url")


def test_a_name_that_means_an_address_inside_is_not_connected_to(
    installation: Installation, api: TestClient, receiver: Receiver
) -> None:
    """What a name means is only known when it is looked up."""
    hook(api, f"https://localhost:{receiver.port}/")
    add(installation, "a.txt")
    assert receiver.got == []
    assert "not a public address" in api.get("/v1/webhooks").json()["items"][0]["error"]


def test_a_key_that_does_not_see_every_document_sets_up_none(
    installation: Installation, trusting: TestClient
) -> None:
    installation.rows("update api_keys set acl = '{staff}' where scopes @> '{admin}' returning 1")
    answer = trusting.post(
        "/v1/webhooks", json={"url": "https://example.org"}, headers=bearer(installation.admin_key)
    )
    assert answer.status_code == 403


def test_the_api_cannot_read_a_secret(installation: Installation) -> None:
    import psycopg

    with (
        psycopg.connect(installation.url("ragzero_query"), prepare_threshold=None) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("select secret from webhooks")


def test_a_tenant_has_few_of_them(installation: Installation, api: TestClient) -> None:
    for _ in range(10):
        hook(api, "https://example.org/")
    assert api.post("/v1/webhooks", json={"url": "https://example.org/"}).status_code == 409
    assert api.delete(f"/v1/webhooks/{uuid.uuid4()}").status_code == 404
