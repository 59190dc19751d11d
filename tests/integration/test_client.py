"""The Python client against a live API, in both colours, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType, SimpleNamespace
from typing import Any, get_args, get_type_hints, is_typeddict

import httpx
import pytest

from functions.query.app import create_app
from shared.client import ApiError, AsyncRagzero, Progress, Ragzero, StreamBroken, Unreachable, Upload
from shared.client import calls as client_calls
from shared.client import sync as client_sync
from shared.client import types as client_types
from shared.client.calls import Call, delay_s
from tests.support.api import serving
from tests.support.installation import Installation
from tests.support.sweeping import work_off

TEXT = "The lighthouse on the eastern mole was built in 1911 by Ada Lindqvist."
QUESTION = "Who built the lighthouse?"
ID = "0191d5a0-0000-7000-8000-000000000000"


@pytest.fixture
def url(installation: Installation) -> Iterator[str]:
    with serving(create_app(installation.query_settings(), installation.embedder)) as address:
        yield address


@pytest.fixture
def rag(installation: Installation, url: str) -> Iterator[Ragzero]:
    with Ragzero(url, installation.api_key, timeout=30) as client:
        yield client


@pytest.fixture
def searchable(installation: Installation) -> str:
    installation.put("light.txt", TEXT, {"year": "1911"})
    installation.deliver()
    return str(installation.document("light.txt")["id"])


# The contract: what the client asks for and what it says comes back, held against what the API says of itself.

CALLS: dict[str, Call[Any]] = {
    "ask": client_calls.ask(
        "x",
        collection="a",
        top_k=1,
        filter={"a": 1},
        acl=["a"],
        on_cold="wait",
        deadline_ms=100,
        generate=True,
        cache="read",
        mode="fast",
        per_document=1,
        earlier=["y"],
    ),
    "search": client_calls.search(
        "x", collection="a", top_k=1, filter={"a": 1}, acl=["a"], mode="fast", per_document=1
    ),
    "documents": client_calls.documents(limit=1, cursor="x", status="failed", collection="a"),
    "document": client_calls.document(ID),
    "chunks": client_calls.chunks(ID, limit=1, cursor="x"),
    "source": client_calls.source(ID),
    "describe": client_calls.describe(ID, {"a": 1}),
    "delete": client_calls.delete(ID),
    "deletion": client_calls.deletion(ID),
    "delete_matching": client_calls.delete_matching({"a": 1}, collection="a", dry_run=True),
    "job": client_calls.job(ID),
    "resume": client_calls.resume(ID),
    "begin_uploads": client_calls.begin_uploads([{"name": "a", "size": 1}], collection="a", job_id=ID),
    "complete_upload": client_calls.complete_upload("x", ["y"]),
}


@pytest.fixture(scope="module")
def document(quiet_api: Any) -> dict[str, Any]:
    return dict(quiet_api.get("/openapi.json").json())


def schema(document: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    return dict(document["components"]["schemas"][reference["$ref"].rpartition("/")[2]])


@pytest.mark.parametrize("name", CALLS)
def test_what_the_client_asks_for_is_what_the_api_takes(document: dict[str, Any], name: str) -> None:
    call = CALLS[name]
    operation = document["paths"][call.path.replace(ID, "{id}")][call.method.lower()]
    known = {one["name"] for one in operation.get("parameters", []) if one["in"] == "query"}
    assert set(call.params) <= known
    if call.body is not None:
        body = schema(document, operation["requestBody"]["content"]["application/json"]["schema"])
        assert set(call.body) <= set(body["properties"])
        assert set(body.get("required", [])) <= set(call.body)
    good = next(operation["responses"][code] for code in sorted(operation["responses"]) if code[0] == "2")
    if is_typeddict(call.type):
        reference = good["content"]["application/json"]["schema"]
        assert reference["$ref"].rpartition("/")[2] == call.type.__name__


TYPED = [one for one in vars(client_types).values() if is_typeddict(one) and one.__name__ != "StreamEvent"]


@pytest.mark.parametrize("typed", TYPED, ids=lambda typed: typed.__name__)
def test_what_the_client_says_comes_back_is_what_the_api_answers(
    document: dict[str, Any], typed: Any
) -> None:
    shape = document["components"]["schemas"][typed.__name__]
    hints = get_type_hints(typed)
    assert set(hints) == set(shape["properties"])
    for name, property in shape["properties"].items():
        nullable = any(one.get("type") == "null" for one in property.get("anyOf", []))
        assert (NoneType in get_args(hints[name])) == nullable, f"{typed.__name__}.{name}"


def test_every_call_is_in_the_contract() -> None:
    public = {name for name, one in vars(client_sync.Ragzero).items() if hasattr(one, "__wrapped__")}
    assert public - {"request"} == set(CALLS)
    assert {name for name, one in vars(AsyncRagzero).items() if hasattr(one, "__wrapped__")} == public


# Questions.


def test_questions_and_documents(rag: Ragzero, searchable: str) -> None:
    answer = rag.ask(QUESTION, top_k=3)
    assert "Ada Lindqvist" in answer["answer"]
    assert answer["citations"][0]["document_id"] == searchable
    assert rag.search(QUESTION, filter={"year": 1911})["results"][0]["text"] == TEXT
    assert [one["id"] for one in rag.everything(status="searchable")] == [searchable]
    assert rag.chunks(searchable)["total"] == 1
    assert rag.describe(searchable, {"year": 1912})["document"]["metadata"] == {"year": 1912}
    assert httpx.get(rag.source(searchable)["url"], timeout=60).text == TEXT
    assert rag.delete_matching({"year": 1912}, dry_run=True)["matched"] == 1
    assert rag.delete(searchable)["coherent"]
    assert rag.deletion(searchable)["status"] == "removing"


def test_a_stream_comes_as_it_is_written(rag: Ragzero, searchable: str) -> None:
    events = list(rag.stream(QUESTION))
    names = [event["event"] for event in events]
    assert names[-1] == "done"
    assert names.index("sources") < names.index("token") < names.index("citations")
    assert "Ada" in "".join(event["data"]["text"] for event in events if event["event"] == "token")


async def test_the_same_without_waiting(installation: Installation, url: str, searchable: str) -> None:
    async with AsyncRagzero(url, installation.api_key, timeout=30) as rag:
        answers = await asyncio.gather(*(rag.ask(QUESTION) for _ in range(3)))
        assert all("Ada Lindqvist" in one["answer"] for one in answers)
        assert [event["event"] async for event in rag.stream(QUESTION)][-1] == "done"
        assert [one["id"] async for one in rag.everything()] == [searchable]
        with pytest.raises(ApiError, match="no such document") as refused:
            await rag.document(ID)
        assert (refused.value.status, refused.value.type) == (404, "not-found")


def test_a_refusal_says_what_is_wrong(rag: Ragzero) -> None:
    with pytest.raises(ApiError) as refused:
        rag.ask("x", filter={"$nor": 1})
    assert (refused.value.status, refused.value.type) == (422, "invalid-input")
    assert refused.value.problem["field"] == "filter"
    with pytest.raises(ApiError, match="422"):
        list(rag.stream(" "))


# Trouble on the way.


@pytest.fixture
def answering(rag: Ragzero, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """answering(a, b): the next requests are answered with these; slept seconds are kept, not slept."""
    slept: list[Any] = []
    monkeypatch.setattr(client_sync, "time", SimpleNamespace(sleep=slept.append, monotonic=time.monotonic))

    def answer(*answers: httpx.Response | Exception) -> list[Any]:
        left = list(answers)

        def handle(request: httpx.Request) -> httpx.Response:
            slept.append(request.headers.get("idempotency-key"))
            found = left.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

        rag._http = httpx.Client(transport=httpx.MockTransport(handle), base_url="http://x")
        return slept

    return answer


def test_it_tries_again_when_it_may_and_as_late_as_it_was_told(
    rag: Ragzero, answering: Callable[..., list[Any]]
) -> None:
    busy = httpx.Response(429, headers={"Retry-After": "7"}, json={})
    slept = answering(
        busy, httpx.ConnectError("gone"), httpx.Response(503), httpx.Response(200, json={"a": 1})
    )
    assert rag.request("POST", "/v1/x", json={}) == {"a": 1}
    keys, pauses = slept[::2], slept[1::2]
    assert len(set(keys)) == 1, "sent again, it is the same request"
    assert 7 <= pauses[0] <= 7.5
    assert 0.25 <= pauses[1] <= 0.5 <= pauses[2] <= 1.0


def test_it_gives_up(rag: Ragzero, answering: Callable[..., list[Any]]) -> None:
    answering(*[httpx.ConnectError("gone")] * 4)
    with pytest.raises(Unreachable, match="does not answer"):
        rag.job(ID)
    answering(*[httpx.Response(503, json={"detail": "asleep"})] * 4)
    with pytest.raises(ApiError, match="503: asleep"):
        rag.job(ID)


def test_a_busy_api_is_waited_for_as_long_as_a_minute(
    rag: Ragzero, answering: Callable[..., list[Any]]
) -> None:
    """Others with the same key may be served first, again and again."""
    busy = httpx.Response(429, headers={"Retry-After": "1"}, json={"detail": "too many"})
    slept = answering(*[busy] * 20, httpx.ConnectError("gone"), httpx.Response(200, json={"a": 1}))
    assert rag.request("GET", "/v1/x") == {"a": 1}
    assert all(1 <= pause <= 1.5 for pause in slept[1:40:2])
    slept = answering(*[busy] * 61)
    with pytest.raises(ApiError, match="429: too many"):
        rag.request("GET", "/v1/x")
    answering(httpx.Response(429, headers={"Retry-After": "61"}, json={"detail": "come tomorrow"}))
    with pytest.raises(ApiError, match="come tomorrow"):
        rag.request("GET", "/v1/x")


def test_an_answer_that_takes_its_time_is_waited_for(
    rag: Ragzero, answering: Callable[..., list[Any]]
) -> None:
    headers = {"Location": f"/v1/answers/{ID}", "Retry-After": "2"}
    later = httpx.Response(202, headers=headers, json={})
    answering(later, later, httpx.Response(200, json={"answer": "42"}))
    assert rag.ask("x")["answer"] == "42"


def test_a_stream_that_ends_early_is_noticed(rag: Ragzero, answering: Callable[..., list[Any]]) -> None:
    token = b'event: token\ndata: {"text": "T"}\n\n'
    answering(httpx.Response(200, content=token))
    with pytest.raises(StreamBroken):
        list(rag.stream("x"))
    problem = b'event: error\ndata: {"status": 503, "detail": "gone", "type": "a/unavailable"}\n\n'
    answering(httpx.Response(200, content=token + problem))
    with pytest.raises(ApiError, match="gone"):
        list(rag.stream("x"))


def test_a_pause_grows_and_ends() -> None:
    assert [delay_s(failures, None, 1.0) for failures in range(1, 7)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert (delay_s(0, 10.0, 0.0), delay_s(0, 1e9, 0.0), delay_s(0, 1.0, 1.0)) == (10.0, 60.0, 1.5)


# Uploads.


def settling(installation: Installation, states: list[Progress]) -> Callable[[Progress], None]:
    """Works the queue off whenever the client looks."""

    def look(progress: Progress) -> None:
        states.append(progress)
        if progress.uploaded == progress.files:
            work_off(installation)

    return look


def test_a_folder_is_uploaded_with_progress_that_is_true(
    installation: Installation, rag: Ragzero, tmp_path: Path
) -> None:
    folder = tmp_path / "notes"
    (folder / "deep").mkdir(parents=True)
    for number in range(130):
        (folder / "deep" / f"{number}.txt").write_text(f"{TEXT} Number {number}.")
    (folder / "bad.txt").write_bytes(b"\x00\xff\xd8" * 9)
    states: list[Progress] = []
    metadata = {"year": 1911}
    job = rag.upload(
        [folder], collection="harbour", metadata=metadata, on_progress=settling(installation, states)
    )
    assert (job["total"], job["counts"]["searchable"], job["counts"]["failed"]) == (131, 130, 1)
    assert job["failed"][0]["uri"].endswith("notes/bad.txt")
    uploaded = [state.uploaded for state in states]
    assert uploaded == sorted(uploaded)
    assert {state.files for state in states} == {131}
    assert (states[-1].settled, states[-1].failed) == (131, 1)
    stored = installation.rows("select count(*) as n from documents where metadata ->> 'year' = '1911'")
    assert stored[0]["n"] == 131


async def test_uploads_without_waiting_and_a_large_file_in_little_memory(
    installation: Installation, url: str, tmp_path: Path
) -> None:
    large, small = tmp_path / "large.bin", tmp_path / "small.txt"
    with large.open("wb") as file:
        file.truncate(60 * 2**20)
    small.write_text(TEXT)
    states: list[Progress] = []
    files = [Upload(large, "a/large.bin"), Upload(small, "a/small.txt", {"acl": "hr"})]
    async with AsyncRagzero(url, installation.api_key) as rag:
        tracemalloc.start()
        job = await rag.upload(files, on_progress=states.append, timeout=0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (job["total"], states[1].uploaded) == (2, 2)
    s3 = installation.aws.client("s3")
    assert s3.head_object(Bucket=installation.intake.bucket, Key="a/large.bin")["ContentLength"] == 60 * 2**20
    assert s3.head_object(Bucket=installation.intake.bucket, Key="a/small.txt")["Metadata"] == {"acl": "hr"}
    assert peak < 30 * 2**20


def test_a_file_that_is_not_there_is_said_before_anything_is_sent(rag: Ragzero, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        rag.upload([tmp_path / "none.txt"])
    with pytest.raises(FileNotFoundError, match="no file"):
        rag.upload([])
