"""Many questions at once, each as if it had come alone; and what people thought of the answers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from functions.query.app import create_app
from tests.attacks.test_http import refused
from tests.fakes.gpu_server import FakeGpu
from tests.support.access import bearer, new_key, operating
from tests.support.api import serving
from tests.support.installation import Installation

QUESTION = "How much does the harbour crane lift?"
Api = Callable[..., httpx.Client]


@pytest.fixture(scope="module")
def filled(shared_installation: Installation) -> Installation:
    return fill(shared_installation)


@pytest.fixture
def own(installation: Installation) -> Installation:
    """For tests that look at all that was counted or kept."""
    return fill(installation)


def fill(installation: Installation) -> Installation:
    installation.put("crane.txt", "The harbour crane lifts forty tonnes. It was built in 1958.")
    installation.put("secret.txt", "The harbour crane is broken.", {"acl": "hr"})
    installation.deliver()
    return installation


@pytest.fixture
def make_api(filled: Installation) -> Iterator[Api]:
    with ExitStack() as stack:

        def make(key: str | None = None, of: Installation = filled, **settings: Any) -> httpx.Client:
            app = create_app(of.query_settings(**settings), of.embedder)
            url = stack.enter_context(serving(app))
            headers = bearer(key or of.api_key)
            return stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=60))

        yield make


@pytest.fixture
def gpu() -> Iterator[FakeGpu]:
    with FakeGpu() as server:
        server.reply("The harbour crane lifts forty tonnes [1].")
        yield server


def with_model(gpu: FakeGpu) -> dict[str, Any]:
    known = {"generator_url": gpu.url, "generator_api_key": gpu.key, "generator_model": gpu.model}
    return known | {"semantic_similarity": 1.01}


def ask(api: httpx.Client, *questions: Any, **more: Any) -> dict[str, Any]:
    asked = [one if isinstance(one, dict) else {"question": one} for one in questions]
    answer = api.post("/v1/query/batch", json={"questions": asked, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_hundred_questions_are_answered_in_their_order(make_api: Api) -> None:
    questions = [f"{QUESTION} Asked for the {number}. time." for number in range(100)]
    found = ask(make_api(), *questions)
    assert found["answered"] == len(found["items"]) == 100
    assert all("forty" in item["answer"]["answer"] for item in found["items"])
    alone = make_api().post("/v1/query", json={"question": questions[3]}).json()
    assert found["items"][3]["answer"]["answer"] == alone["answer"]


def test_what_goes_wrong_with_one_question_is_said_in_its_place(make_api: Api) -> None:
    nowhere = {"question": QUESTION, "collection": "nowhere"}
    found = ask(make_api(), nowhere, QUESTION, {"question": QUESTION, "filter": {"$where": "x"}})
    assert [item["status"] for item in found["items"]] == [404, 200, 422]
    assert found["answered"] == 1
    assert found["items"][0]["problem"]["type"].endswith("/not-found")
    assert found["items"][1]["problem"] is None


def test_each_question_counts(make_api: Api, own: Installation) -> None:
    """A batch is no way around a key's rate."""
    api = make_api(of=own, key_rate=0.01, key_burst=3)
    items = ask(api, *[f"{QUESTION} {number}" for number in range(5)])["items"]
    assert sorted(item["status"] for item in items) == [200, 200, 200, 429, 429]
    late = next(item for item in items if item["status"] == 429)
    assert late["retry_after_s"] > 1
    assert api.get("/v1/documents").status_code == 429
    used = make_api(of=own).get("/v1/usage").json()["days"]
    assert sum(day["questions"] for day in used) == 3


def test_what_is_not_written_in_time_can_be_fetched_later(make_api: Api, gpu: FakeGpu) -> None:
    api = make_api(**with_model(gpu))
    gpu.slow(0.3)
    (item,) = ask(api, QUESTION, deadline_ms=300)["items"]
    assert item["status"] == 202
    assert api.get(item["pending"]["status_url"]).status_code in (200, 202)


def test_a_key_that_may_not_ask_is_told_so_once(make_api: Api, filled: Installation) -> None:
    refused(
        make_api(filled.add_key(filled.tenant, ["ingest"])).post(
            "/v1/query/batch", json={"questions": [{"question": "q"}]}
        ),
        403,
    )
    refused(make_api("nonsense").post("/v1/query/batch", json={"questions": [{"question": "q"}]}), 401)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"questions": []},
        {"questions": [{"question": "q"}] * 101},
        {"questions": [{"question": "q", "stream": True}]},
        {"questions": [{"question": "q"}], "deadline_ms": 30_000},
    ],
)
def test_28_32_a_batch_that_is_none_is_refused(make_api: Api, body: dict[str, Any]) -> None:
    refused(make_api().post("/v1/query/batch", json=body), 422)


# Feedback.


def test_what_people_thought_of_answers_is_there_for_golden_sets(
    make_api: Api, own: Installation, gpu: FakeGpu
) -> None:
    api = make_api(of=own, **with_model(gpu))
    written = api.post("/v1/query", json={"question": QUESTION}).json()["id"]
    path = f"/v1/answers/{written}/feedback"
    assert api.post(path, json={"rating": "bad", "comment": "no"}).status_code == 204
    assert api.post(path, json={"rating": "good", "expected": "Forty tonnes."}).status_code == 204
    quoted = api.post("/v1/query", json={"question": "When was it built?", "generate": False}).json()["id"]
    said = {"rating": "bad", "question": "When was it built?"}
    assert api.post(f"/v1/answers/{quoted}/feedback", json=said).status_code == 204
    with operating(own) as operator:
        page = operator.get("/v1/admin/feedback").json()
        assert [(one["question"], one["rating"]) for one in page["items"]] == [
            ("When was it built?", "bad"),
            (QUESTION, "good"),
        ]
        assert page["items"][1]["expected"] == "Forty tonnes."
        assert page["items"][1]["comment"] is None, "the last word counts"
        first = operator.get("/v1/admin/feedback", params={"limit": 1}).json()
        then = operator.get("/v1/admin/feedback", params={"limit": 1, "cursor": first["next_cursor"]}).json()
        assert [first["items"][0]["id"], then["items"][0]["id"]] == [one["id"] for one in page["items"]]
        good = operator.get("/v1/admin/feedback", params={"rating": "good"}).json()["items"]
        assert [one["question"] for one in good] == [QUESTION]


def test_31_an_answer_that_is_anothers_or_nobodys_is_not_there(
    make_api: Api, own: Installation, gpu: FakeGpu
) -> None:
    """Nor one made of documents with labels that the key does not see."""
    api = make_api(own.admin_key, of=own, **with_model(gpu))
    written = api.post("/v1/query", json={"question": QUESTION}).json()["id"]
    with operating(own) as operator:
        narrow = new_key(operator, own.tenant, acl=["sales"])["key"]
        stranger = new_key(operator, made_tenant(operator), scopes=["query"])["key"]
    for id, key in ((written, narrow), (written, stranger), (uuid.uuid4(), own.api_key)):
        answer = api.post(f"/v1/answers/{id}/feedback", json={"rating": "bad"}, headers=bearer(key))
        refused(answer, 404)
    assert own.rows("select id from answer_feedback") == []


def made_tenant(operator: Any) -> str:
    return str(operator.post("/v1/admin/tenants", json={"name": "stranger"}).json()["id"])


def test_feedback_keeps_nothing_of_the_documents(make_api: Api, own: Installation, gpu: FakeGpu) -> None:
    """What a document said must go away with it."""
    api = make_api(of=own, **with_model(gpu))
    written = api.post("/v1/query", json={"question": QUESTION}).json()["id"]
    api.post(f"/v1/answers/{written}/feedback", json={"rating": "good"})
    kept = str(own.rows("select * from answer_feedback"))
    assert QUESTION in kept
    assert "forty" not in kept
    assert str(own.document("crane.txt")["id"]) not in kept


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"rating": "great"},
        {"rating": "good", "comment": "x" * 4001},
        {"rating": "good", "comment": "\x00"},
        {"rating": "good", "tenant_id": "x"},
        {"rating": "good", "question": "?!a", "collection": "Not a name"},
        {"rating": "good", "question": "?!a", "filter": {"$nor": 1}},
    ],
)
def test_28_32_feedback_that_is_none_is_refused(make_api: Api, body: dict[str, Any]) -> None:
    refused(make_api().post(f"/v1/answers/{uuid.uuid4()}/feedback", json=body), 422)
