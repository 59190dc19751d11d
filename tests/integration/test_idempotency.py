"""The same POST twice: one effect, one answer."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import psycopg
import pytest

from functions.query.app import create_app
from tests.support.access import bearer
from tests.support.api import serving
from tests.support.installation import Installation
from tests.support.waiting import PATIENCE_S, until


@pytest.fixture
def make_api(installation: Installation) -> Iterator[Callable[..., httpx.Client]]:
    with ExitStack() as stack:

        def make(**settings: Any) -> httpx.Client:
            app = create_app(installation.query_settings(**settings), installation.embedder)
            url = stack.enter_context(serving(app))
            headers = bearer(installation.admin_key)
            return stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=60))

        yield make


def tenant(api: httpx.Client, name: str, key: str) -> httpx.Response:
    return api.post("/v1/admin/tenants", json={"name": name}, headers={"Idempotency-Key": key})


def test_the_same_answer_again_and_no_second_effect(make_api: Callable[..., httpx.Client]) -> None:
    api = make_api()
    first, again = tenant(api, "acme", "k-1"), tenant(api, "acme", "k-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert tenant(api, "acme", "k-2").status_code == 409  # it was made


def test_37_the_same_key_with_another_body_is_409(make_api: Callable[..., httpx.Client]) -> None:
    api = make_api()
    assert tenant(api, "acme", "k-1").status_code == 201
    other = tenant(api, "other", "k-1")
    assert other.status_code == 409
    assert "another request" in other.json()["detail"]
    elsewhere = api.post("/v1/search", json={"name": "acme"}, headers={"Idempotency-Key": "k-1"})
    assert elsewhere.status_code == 409


def test_concurrent_twins_run_once(installation: Installation, make_api: Callable[..., httpx.Client]) -> None:
    apis = [make_api(), make_api()]
    start = threading.Barrier(12)

    def one(number: int) -> tuple[int, str]:
        start.wait(PATIENCE_S)
        answer = tenant(apis[number % 2], "acme", "twin")
        return answer.status_code, answer.json().get("id", "")

    with ThreadPoolExecutor(12) as pool:
        answers = set(pool.map(one, range(12)))
    assert len(answers) == 1
    assert installation.rows("select count(*) as n from tenants where name = 'acme'")[0]["n"] == 1


def test_uploads_count_by_their_bytes(make_api: Callable[..., httpx.Client]) -> None:
    api = make_api()
    headers = {"Idempotency-Key": "up", "Content-Type": "multipart/form-data; boundary=x"}

    def upload(text: str) -> httpx.Response:
        part = (
            f'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n{text}\r\n--x--\r\n'
        )
        return api.post("/v1/documents", content=part.encode(), headers=headers)

    large = "crane " * 100_000
    first = upload(large)
    assert first.status_code == 202, first.text
    assert upload(large).json() == first.json()
    assert upload("other").status_code == 409


def test_keys_are_the_tenants_own(installation: Installation, make_api: Callable[..., httpx.Client]) -> None:
    api = make_api()
    stranger = bearer(installation.add_key(__import__("uuid").uuid4(), ["query", "ingest"]))
    body = {"name": "papers"}
    mine = api.post("/v1/collections", json=body, headers={"Idempotency-Key": "same"})
    theirs = api.post("/v1/collections", json=body, headers={"Idempotency-Key": "same"} | stranger)
    assert (mine.status_code, theirs.status_code) == (201, 201)
    assert "Idempotency-Replayed" not in theirs.headers


def test_what_says_try_again_is_not_kept(
    installation: Installation, make_api: Callable[..., httpx.Client]
) -> None:
    api = make_api(key_rate=0.01, key_burst=2)
    codes = [
        api.post("/v1/search", json={"question": "q"}, headers={"Idempotency-Key": f"n{n}"}).status_code
        for n in range(4)
    ]
    assert 429 in codes
    assert installation.rows("select count(*) as n from idempotent_requests where status >= 429")[0]["n"] == 0


def rename(installation: Installation, table: str, name: str) -> None:
    url = installation.databases.postgres.dsn(dbname=installation.database)
    with psycopg.connect(url) as connection:
        connection.execute(f"alter table {table} rename to {name}".encode())


def test_an_error_of_ours_is_not_kept(
    installation: Installation, make_api: Callable[..., httpx.Client]
) -> None:
    """What broke may be whole again when the request comes again."""
    api = make_api()
    asked: dict[str, Any] = {"json": {"question": "q"}, "headers": {"Idempotency-Key": "again"}}
    rename(installation, "chunks", "chunks_elsewhere")
    assert api.post("/v1/search", **asked).status_code == 500
    rename(installation, "chunks_elsewhere", "chunks")
    again = api.post("/v1/search", **asked)
    assert (again.status_code, again.headers.get("Idempotency-Replayed")) == (200, None)


def test_a_key_with_other_rights_is_not_given_the_answer(
    installation: Installation, make_api: Callable[..., httpx.Client]
) -> None:
    api = make_api()
    installation.put("board.txt", "The board meets on Monday.", {"acl": "board"})
    installation.deliver()
    asked: dict[str, Any] = {"json": {"question": "When does the board meet?"}}
    once = {"Idempotency-Key": "same"}
    assert "Monday" in api.post("/v1/search", **asked, headers=once).text
    blind = installation.add_key(installation.tenant, ["query", "ingest", "admin"])
    installation.rows("update api_keys set acl = '{}' where id = %s returning 1", blind.split("_")[2])
    writer = installation.add_key(installation.tenant, ["ingest"])
    for key in (blind, writer):
        answer = api.post("/v1/search", **asked, headers=once | bearer(key))
        assert (answer.status_code, "Monday" in answer.text) == (409, False)
    equal = installation.add_key(installation.tenant, ["query", "ingest", "admin"])
    again = api.post("/v1/search", **asked, headers=once | bearer(equal))
    assert again.headers["Idempotency-Replayed"] == "true"


def test_a_request_that_nobody_answers_any_more_is_taken_over(
    installation: Installation, make_api: Callable[..., httpx.Client]
) -> None:
    """By the very same one, once the lease of the process that died is over; a day later the key is free."""
    api = make_api()
    assert tenant(api, "acme", "k-1").status_code == 201
    until(
        lambda: installation.rows("select from idempotent_requests where status is not null")
    )  # kept after it left
    installation.rows("delete from tenants where name = 'acme' returning 1")
    installation.rows(
        "update idempotent_requests set status = null, lease_until = now() - interval '1 s' returning 1"
    )
    assert tenant(api, "other", "k-1").status_code == 409
    taken = tenant(api, "acme", "k-1")
    assert (taken.status_code, taken.headers.get("Idempotency-Replayed")) == (201, None)
    installation.rows("update idempotent_requests set created_at = now() - interval '25 hours' returning 1")
    assert tenant(api, "other", "k-1").status_code == 201


@pytest.mark.parametrize("key", ["", "a b", "ü", "x" * 256])
def test_a_malformed_key_is_422(make_api: Callable[..., httpx.Client], key: str) -> None:
    headers = {b"Idempotency-Key": key.encode()}
    answer = make_api().post("/v1/search", json={"question": "q"}, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 422


async def test_a_body_beyond_the_limit_is_not_spooled(installation: Installation) -> None:
    """It is refused as soon as it is too long, not once all of it has come."""
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        for taken in range(1, 101):  # noqa: B007 - counts what is asked for
            yield b"x" * 65_536

    app = create_app(installation.query_settings(max_upload_bytes=1000), installation.embedder, lazy=True)
    headers = bearer(installation.admin_key) | {"Idempotency-Key": "big"}
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as api,
    ):
        answer = await api.post("/v1/search", content=body(), headers=headers)
    assert answer.status_code == 413
    assert taken <= 3
