"""The query function while its database sleeps, moves or has no room (FAULTS.md F5, F6)."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from scripts.local.pgbouncer import PgBouncer
from scripts.local.process import HOST, Server, free_port
from tests.support.installation import PASSWORD, Installation
from tests.support.lambda_events import answer, function_url
from tests.support.lambda_process import LambdaProcess
from tests.support.servers import revive, running, scratch_folder
from tests.support.serving_process import ServingProcess
from tests.support.waiting import until, within

QUESTION = {"question": "What sounds on the fog signal station?"}
_CONNECT_S = 5  # what the function waits for a connection


@pytest.fixture
def filled(installation: Installation) -> Installation:
    installation.put("fog.txt", "The fog signal station sounds every thirty seconds.")
    installation.deliver()
    return installation


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch_folder() as path:
        yield path


def patient(installation: Installation) -> dict[str, str]:
    """A function that has more time than anything here takes."""
    return installation.environment("ragzero_query") | {"RAGZERO_REQUEST_SECONDS": "100"}


@contextmanager
def serving(installation: Installation, folder: Path, **variables: str) -> Iterator[httpx.Client]:
    environment = patient(installation) | variables
    headers = {"Authorization": f"Bearer {installation.api_key}"}
    with (
        running(ServingProcess(folder, environment)) as process,
        httpx.Client(base_url=process.url, headers=headers, timeout=180) as client,
    ):
        yield client


@contextmanager
def asleep(server: Server) -> Iterator[None]:
    """Connects hang: something listens where server did, and says nothing."""
    server.kill()
    with socket.create_server((HOST, server.port)):
        yield
    revive(server)


def left(server: Server) -> bool:
    """Whether no process that we started holds on to a connection to it: one used within the last second is trusted."""
    return not any(
        one.raddr and one.raddr.port == server.port
        for process in psutil.Process().children(recursive=True)
        for one in _connections(process)
        if one.status in (psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT)
    )


def _connections(process: psutil.Process) -> list[Any]:
    with suppress(psutil.Error):
        return list(process.net_connections("tcp4"))
    return []


def come_back_later(answer: httpx.Response) -> bool:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"] == "application/problem+json"
    assert HOST not in answer.text
    return True


def test_f5_a_function_that_starts_while_the_database_sleeps_says_so_and_works_later(
    filled: Installation, lambda_process: Callable[..., LambdaProcess]
) -> None:
    function = lambda_process("functions.query.handler:handler", patient(filled))
    headers = {"Authorization": f"Bearer {filled.api_key}"}
    ask = function_url(
        httpx.Request("POST", "https://ragzero.test/v1/search", headers=headers, json=QUESTION)
    )
    with asleep(filled.databases.pgbouncer):
        late = within(2 * _CONNECT_S, lambda: answer(function.invoke(ask, timeout=100)), function.start)
        assert come_back_later(late)
        assert not late.json()["type"].endswith("deadline-exceeded"), "it knew before its time was up"
    assert answer(function.invoke(ask)).status_code == 200


def test_f5_a_function_whose_database_fell_asleep_says_so_and_works_later(
    filled: Installation, folder: Path
) -> None:
    """Several at once wait together, not one after the other."""
    with serving(filled, folder) as client:
        assert client.post("/v1/search", json=QUESTION).status_code == 200
        with asleep(filled.databases.pgbouncer), ThreadPoolExecutor(12) as pool:
            time.sleep(1.1)  # connections used within the last second are trusted
            late = within(
                2 * _CONNECT_S,
                lambda: list(pool.map(lambda _: client.post("/v1/search", json=QUESTION), range(12))),
            )
            assert all(come_back_later(one) for one in late)
        assert client.post("/v1/search", json=QUESTION).status_code == 200


def test_f6_while_the_pooler_is_restarted_answers_are_right_or_cleanly_refused(
    filled: Installation, folder: Path
) -> None:
    """While it is there, nobody is refused."""
    with serving(filled, folder) as client, ThreadPoolExecutor(4) as pool:
        assert client.post("/v1/search", json=QUESTION).status_code == 200
        done, asked = threading.Event(), list[tuple[float, float, int]]()

        def keep_asking(_: int) -> None:
            while not done.is_set():
                sent = time.monotonic()
                one = client.post("/v1/search", json=QUESTION)
                assert one.status_code == 200 or come_back_later(one)
                if one.status_code == 200:
                    assert one.json()["results"]
                asked.append((sent, time.monotonic(), one.status_code))

        def during(back: float, away: float) -> list[int]:
            return [status for sent, answered, status in list(asked) if back < sent and answered < away]

        asking = [pool.submit(keep_asking, n) for n in range(4)]
        back = time.monotonic()
        try:
            for restart in range(3):
                until(lambda since=back: during(since, math.inf).count(200) > 8)
                away = time.monotonic()
                assert set(during(back, away)) == {200}
                if restart < 2:
                    filled.databases.pgbouncer.kill()
                    until(lambda: left(filled.databases.pgbouncer))
                    revive(filled.databases.pgbouncer)
                    back = time.monotonic()
        finally:
            done.set()
        for one in asking:
            one.result()


def test_f6_after_a_restart_of_the_pooler_idle_connections_are_replaced_at_once(
    filled: Installation, folder: Path
) -> None:
    """However many there are: the first question after it is answered."""
    with serving(filled, folder) as client, ThreadPoolExecutor(8) as pool:

        def restart() -> None:
            asked = [pool.submit(client.post, "/v1/search", json=QUESTION) for _ in range(48)]
            assert {one.result().status_code for one in asked} == {200}
            filled.databases.pgbouncer.kill()
            revive(filled.databases.pgbouncer)
            time.sleep(1.1)  # connections used within the last second are trusted

        first = within(_CONNECT_S / 2, lambda: client.post("/v1/search", json=QUESTION).status_code, restart)
        assert first == 200


def test_f6_requests_beyond_the_pool_wait_their_turn_or_are_cleanly_refused(
    filled: Installation, folder: Path
) -> None:
    """Two connections, and both are held up by a lock."""
    url = filled.databases.postgres.dsn(dbname=filled.database)
    with psycopg.connect(url) as owner:  # the two wait for as long as the others take to give up
        owner.execute(
            f"alter role ragzero_query in database {filled.database} set statement_timeout = '100s'"
        )
    with serving(filled, folder, RAGZERO_DATABASE_CONNECTIONS="2") as client, ThreadPoolExecutor(6) as pool:
        assert client.post("/v1/search", json=QUESTION).status_code == 200
        with psycopg.connect(url) as holder:
            holder.execute("lock table chunks in access exclusive mode")
            asking = [pool.submit(client.post, "/v1/search", json=QUESTION) for _ in range(6)]
            until(lambda: sum(one.done() for one in asking) >= 4)
            assert client.get("/healthz").status_code == 200
            holder.rollback()
        statuses = Counter(one.result().status_code for one in asking)
        assert statuses == {200: 2, 503: 4}
        assert all(come_back_later(one.result()) for one in asking if one.result().status_code == 503)
        assert client.post("/v1/search", json=QUESTION).status_code == 200


def test_f6_a_pooler_without_room_is_a_clean_503(filled: Installation, folder: Path) -> None:
    small = PgBouncer(
        folder / "small", filled.databases.postgres, port=free_port(), tethered=True, max_clients=1
    )
    with running(small):
        url = small.dsn("ragzero_query", PASSWORD, filled.database)
        with serving(filled, folder / "api", DATABASE_URL=url, RAGZERO_DATABASE_CONNECTIONS="1") as client:
            assert client.post("/v1/search", json=QUESTION).status_code == 200
            small.kill()
            revive(small)
            with _alone(url):
                time.sleep(1.1)  # connections used within the last second are trusted
                assert come_back_later(client.post("/v1/search", json=QUESTION))
            until(lambda: client.post("/v1/search", json=QUESTION).status_code == 200)


def _alone(url: str) -> psycopg.Connection:
    """The only connection that there is room for, once whoever looked whether the pooler is there has left it."""
    made: list[psycopg.Connection] = []

    def connected() -> bool:
        with suppress(psycopg.OperationalError):
            made.append(psycopg.connect(url))
        return bool(made)

    until(connected)
    return made[0]
