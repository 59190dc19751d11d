"""What happens around every request, on applications of a few lines: time limits, headers, streams, ids."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from functions.query import exchanges
from functions.query.exchanges import Load
from functions.query.observing import Observing
from shared import telemetry
from shared.telemetry import metrics

Message = dict[str, Any]
App = Callable[[Any, Any, Any], Awaitable[None]]
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
STREAM = START | {"headers": [(b"content-type", b"text/event-stream")]}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "_SWEEP_S", 0.01)
    metrics.configure("prometheus", "test")


def part(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


class Clock:
    """Of requests: it stands still until somebody moves it."""

    def __init__(self) -> None:
        self.now = time.perf_counter()

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(exchanges, "time", clock)
    return clock


class Client:
    """Sends one request, keeps what it is answered. pause: before each piece, in seconds of clock."""

    def __init__(
        self,
        *pieces: bytes,
        headers: dict[bytes, bytes] | None = None,
        clock: Clock | None = None,
        pause: float = 0,
        **scope: Any,
    ) -> None:
        self.received: list[Message] = []
        self.arrived = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self._pieces = [*pieces] or [b""]
        self._clock, self._pause = clock, pause
        known = {"type": "http", "method": "POST", "path": "/x", "headers": [*(headers or {}).items()]}
        self.scope = known | scope

    async def ask(self, app: App) -> None:
        await app(self.scope, self._receive, self._send)

    @property
    def status(self) -> int:
        return int(self.received[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.received[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.received[1:])

    async def _receive(self) -> Message:
        if not self._pieces:
            await asyncio.Event().wait()
        if self._clock:
            self._clock.now += self._pause
            await asyncio.sleep(3 * exchanges._SWEEP_S)  # so that requests are looked through meanwhile
        body = self._pieces.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self._pieces)}

    async def _send(self, message: Message) -> None:
        await self.reads.wait()
        self.received.append(message)
        self.arrived.set()


async def plain(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(part(b"{}"))


async def stuck(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(3600)


async def test_an_answer_gets_an_id_headers_and_its_timing() -> None:
    async def timed(scope: Any, receive: Any, send: Any) -> None:
        with telemetry.Timings().stage("embed"):
            pass
        await plain(scope, receive, send)

    client = Client()
    await client.ask(Observing(timed, Load(), 5))
    assert re.fullmatch("[0-9a-f]{24}", client.headers["x-request-id"])
    assert re.fullmatch(r"embed;dur=[\d.]+, total;dur=[\d.]+", client.headers["server-timing"])
    assert client.headers["x-content-type-options"] == "nosniff"
    assert client.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert client.headers["cache-control"] == "no-store"


async def test_what_a_route_says_of_caching_and_of_content_stands() -> None:
    own = [(b"cache-control", b"max-age=60"), (b"content-security-policy", b"default-src 'self'")]

    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send(START | {"headers": own})
        await send(part(b""))

    client = Client()
    await client.ask(Observing(page, Load(), 5))
    names = [name for name, _ in client.received[0]["headers"]]
    assert names.count(b"cache-control") == names.count(b"content-security-policy") == 1
    assert client.headers["cache-control"] == "max-age=60"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (b"client-1.2_3", True),
        (b"short", False),
        (b"x" * 65, False),
        (b"with space", False),
        (b'quote"d-id', False),
        (b"line\r\nbreak-id", False),
        ("ümlaut-id".encode(), False),
        (b"", False),
    ],
)
async def test_a_request_id_is_kept_when_it_is_well_formed(given: bytes, kept: bool) -> None:
    client = Client(headers={b"x-request-id": given})
    await client.ask(Observing(plain, Load(), 5))
    assert (client.headers["x-request-id"].encode() == given) is kept


async def test_a_request_that_takes_too_long_is_a_503_that_says_when_to_come_back() -> None:
    load, client, cancelled = Load(), Client(), asyncio.Event()

    async def hanging(scope: Any, receive: Any, send: Any) -> None:
        try:
            await stuck(scope, receive, send)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    await client.ask(Observing(hanging, load, 0.02))
    assert client.status == 503
    assert client.headers["retry-after"]
    assert client.headers["x-request-id"]
    assert json.loads(client.body)["type"].endswith("deadline-exceeded")
    assert cancelled.is_set()
    assert load.in_flight == 0


async def test_the_503_does_not_wait_for_work_that_is_slow_to_stop() -> None:
    client, released = Client(), asyncio.Event()

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        try:
            await stuck(scope, receive, send)
        except asyncio.CancelledError:
            await released.wait()
            await send(START)  # too late: somebody else answered
            raise

    asking = asyncio.create_task(client.ask(Observing(stubborn, Load(), 0.02)))
    await client.arrived.wait()
    assert client.status == 503
    released.set()
    await asking
    assert len([message for message in client.received if message["type"] == START["type"]]) == 1


class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 540


async def test_on_lambda_work_that_is_slow_to_stop_is_left_behind() -> None:
    """The answer leaves when the application returns, and the process is ended with the call's time."""
    client, released, ended = Client(**{"aws.context": Context()}), asyncio.Event(), asyncio.Event()

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        try:
            await stuck(scope, receive, send)
        finally:
            await released.wait()
            ended.set()

    await client.ask(Observing(stubborn, Load(), 60))
    assert client.status == 503
    assert not ended.is_set()
    released.set()
    await ended.wait()


async def test_on_lambda_a_stream_that_is_given_up_ends() -> None:
    client = Client(**{"aws.context": Context()})

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send(STREAM)
        await send(part(b"data: 1\n\n", more=True))
        await stuck(scope, receive, send)

    await client.ask(Observing(endless, Load(), 60))
    assert client.body == b"data: 1\n\n"
    assert client.received[-1].get("more_body", False) is False


async def test_a_stream_goes_on_beyond_the_limit_and_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "_STALLED_S", 0.02)
    load, client, go_on = Load(), Client(), asyncio.Event()

    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        await send(STREAM)
        for _ in range(3):
            await send(part(b"data: 1\n\n", more=True))
            await go_on.wait()
            go_on.clear()
        await send(part(b""))

    asking = asyncio.create_task(client.ask(Observing(streaming, load, 0.02)))
    for pieces in (1, 2, 3):
        await client.arrived.wait()
        client.arrived.clear()
        assert len(client.received) == 1 + pieces
        assert load.streams == 1
        await asyncio.sleep(0.03)
        go_on.set()
    await asking
    assert client.status == 200
    assert load.streams == 0


async def test_38_a_reader_who_does_not_read_loses_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "_STALLED_S", 0.03)
    load, client = Load(), Client()

    async def streaming(scope: Any, receive: Any, send: Any) -> None:
        await send(STREAM)
        client.reads.clear()
        while True:
            await send(part(b"data: 1\n\n", more=True))

    await client.ask(Observing(streaming, load, 5))
    assert load.in_flight == 0


async def uploaded(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["more_body"]:
        pass
    await plain(scope, receive, send)


async def test_an_upload_at_a_fair_pace_gets_the_time_it_takes(clock: Clock) -> None:
    client = Client(*[b"x" * 64 * 1024] * 4, clock=clock, pause=3)
    await client.ask(Observing(uploaded, Load(), 10))
    assert client.status == 200


async def test_an_upload_that_trickles_does_not(clock: Clock) -> None:
    client = Client(*[b"x"] * 100, clock=clock, pause=3)
    await client.ask(Observing(uploaded, Load(), 10))
    assert client.status == 503


async def test_while_the_server_leaves_new_requests_are_turned_away() -> None:
    load, client = Load(), Client()
    load.draining = True
    await client.ask(Observing(plain, load, 5))
    assert client.status == 503
    assert (client.headers["retry-after"], client.headers["connection"]) == ("1", "close")


async def test_whatever_escapes_the_application_is_a_500_without_its_words() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("what the document says")

    client = Client()
    await client.ask(Observing(broken, Load(), 5))
    assert client.status == 500
    assert b"document says" not in client.body


async def test_a_caller_who_cancels_is_not_answered() -> None:
    """A server that stops ends its requests: that must not look like an answer of ours."""
    load, client = Load(), Client()
    asking = asyncio.create_task(client.ask(Observing(stuck, load, 60)))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert client.received == []
    assert load.in_flight == 0


async def test_routes_are_counted_by_template_and_paths_nobody_serves_together() -> None:
    class Route:
        path = "/v1/documents/{id}"

    async def routed(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].startswith("/v1/documents/"):
            scope["route"] = Route
        await plain(scope, receive, send)

    app = Observing(routed, Load(), 5)
    for path in ("/v1/documents/1", "/v1/documents/2", "/a", "/b/what the document says"):
        await Client(path=path, method="MADE-UP").ask(app)
    counted = {
        (labels["route"], labels["method"])
        for (name, pairs) in metrics.recent().counters
        if name == "requests" and (labels := dict(pairs))["method"] == "other"
    }
    assert counted == {("/v1/documents/{id}", "other"), ("unmatched", "other")}
