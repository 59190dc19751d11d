"""How deep a question is searched: by meaning alone, as ever, or with a cross-encoder and the text around."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.query.app import create_app
from functions.query.service import NOT_RERANKED
from scripts.local.process import HOST
from scripts.local.redis_server import RedisServer
from tests.fakes.gpu_server import FakeGpu
from tests.support.access import bearer, names
from tests.support.installation import Installation
from tests.support.waiting import PATIENT, until

QUESTION = "Where do otters sleep?"
Api = Callable[..., TestClient]


@pytest.fixture(scope="module")
def filled(shared_installation: Installation) -> Installation:
    return fill(shared_installation)


@pytest.fixture
def own(installation: Installation) -> Installation:
    """For tests that put more in it."""
    return fill(installation)


def fill(installation: Installation) -> Installation:
    installation.put("otter.txt", "Otters sleep in holts beside the river.")
    for number in range(8):
        installation.put(f"copy-{number}.txt", "Otters sleep well in every copy of this.")
    installation.put("XJ-900.txt", "Part XJ-900 is a gasket.")
    installation.put("heron.txt", "Herons sleep in trees, high above the river, and they stand on one leg.")
    installation.deliver()
    return installation


@pytest.fixture
def make_api(filled: Installation) -> Iterator[Api]:
    with ExitStack() as stack:

        def make(of: Installation = filled, **settings: Any) -> TestClient:
            app = create_app(of.query_settings(**settings), of.embedder)
            headers = bearer(of.api_key)
            return stack.enter_context(TestClient(app, headers=headers, raise_server_exceptions=False))

        yield make


def search(api: TestClient, **more: Any) -> dict[str, Any]:
    answer = api.post("/v1/search", json={"question": QUESTION, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(params=[10_000, 0], ids=["exact", "ann"])
def api(request: pytest.FixtureRequest, make_api: Api) -> TestClient:
    return make_api(exact_below=request.param)


@pytest.mark.parametrize("mode", ["fast", "balanced", "thorough"])
def test_copies_take_one_place_and_no_row_is_lost(api: TestClient, mode: str) -> None:
    """However many there are: what is behind them is fetched."""
    results = search(api, mode=mode, top_k=4)["results"]
    assert len(results) == 4
    assert len({one["text"] for one in results}) == 4


def test_fast_looks_at_the_meaning_alone(api: TestClient) -> None:
    asked = {"question": "XJ-900", "top_k": 11}
    by_words = {one["uri"]: one["score"] for one in search(api, **asked)["results"]}
    by_meaning = {one["uri"]: one["score"] for one in search(api, **asked, mode="fast")["results"]}
    assert set(by_words) == set(by_meaning)
    (part,) = [uri for uri in by_words if "XJ-900" in uri]
    (heron,) = [uri for uri in by_words if "heron" in uri]
    assert by_words[part] - by_words[heron] > by_meaning[part] - by_meaning[heron]


def test_a_cross_encoder_ranks_what_thorough_found(make_api: Api) -> None:
    with FakeGpu() as gpu:
        gpu.relevance = lambda text: 0.9 if "Herons" in text else 0.1
        api = make_api(rerank_url=f"{gpu.url}/v1", rerank_api_key=gpu.key, rerank_model="cross")
        first = search(api, mode="thorough")["results"][0]
        assert (names([first]), first["score"]) == ({"heron"}, 0.9)
        assert names([search(api)["results"][0]]) != {"heron"}
        assert search(api, mode="thorough")["timings_ms"]["rerank"] >= 0
        (asked,) = {one.body["query"] for one in gpu.requests}
        assert asked == QUESTION


@pytest.mark.parametrize("how", ["html", "silent", "refused", "garbage"])
def test_without_its_cross_encoder_thorough_says_so_and_answers(
    make_api: Api, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeGpu() as gpu:
        api = make_api(rerank_url=f"{gpu.url}/v1", rerank_api_key=gpu.key, rerank_model="cross")
        match how:
            case "html":
                gpu.html()
            case "silent":
                gpu.cold_for(60)
            case "refused":
                gpu.key = "another"
            case _:
                gpu.relevance = lambda _: float("nan")
        found = search(api, mode="thorough")
    assert found["warnings"] == [NOT_RERANKED]
    assert names([found["results"][0]]) != {"heron"}


def test_thorough_reads_on_around_its_passages(own: Installation, make_api: Api) -> None:
    """What is cited still stands where the citation says."""
    sentences = " ".join(f"Sentence {number} of the long report speaks of tides." for number in range(120))
    text = sentences.replace("Sentence 60 of", "Sentence 60, where the basilisk rests, of")
    own.put("report.txt", text)
    own.deliver()
    api = make_api(own)
    ask = {"question": "Where does the basilisk rest?", "top_k": 1}
    short, wide = (search(api, **ask, mode=mode)["results"][0] for mode in ("balanced", "thorough"))
    assert short["text"] in wide["text"]
    assert len(wide["text"]) > 2 * len(short["text"])
    answer = api.post("/v1/query", json=ask | {"mode": "thorough"}).json()
    for one in answer["citations"]:
        assert text[one["start"] : one["end"]] == one["quote"]


def test_26_a_stuffed_document_leaves_room_for_others(own: Installation, make_api: Api) -> None:
    page = (
        "Where do otters sleep? Otters sleep here, in this very chapter, number {}, of the stuffed book. "
        * 12
    )
    own.put("stuffed.txt", "\n\n".join(page.replace("{}", str(number)) for number in range(8)))
    own.deliver()
    api = make_api(own)
    capped = search(api, top_k=5, per_document=2)["results"]
    assert sum("stuffed" in one["uri"] for one in capped) == 2
    assert len(capped) == 5
    assert sum("stuffed" in one["uri"] for one in search(api, top_k=5, mode="thorough")["results"]) <= 3


def test_every_mode_has_answers_of_its_own(make_api: Api, redis_server: RedisServer) -> None:
    api = make_api(redis_url=f"redis://{HOST}:{redis_server.port}", **PATIENT)

    def cached(**more: Any) -> str:
        answer = api.post("/v1/query", json={"question": QUESTION, **more}).json()
        return str(answer["cached"])

    until(lambda: cached(question="What is known of the river?") == "exact")  # Redis knows the epoch
    for options in ({}, {"mode": "fast"}, {"mode": "thorough"}, {"per_document": 1}):
        assert cached(**options) == "no"
        assert cached(**options) == "exact"
    assert cached(mode="balanced") == "exact", "the default by its name"


def test_labels_hide_neighbours_too(own: Installation, make_api: Api) -> None:
    """Whoever may not see a document finds nothing of it, and nothing around it."""
    own.put("secret.txt", "The basilisk rests. " + "It is a long tale of tides. " * 100, {"acl": "hr"})
    own.deliver()
    api = make_api(own)
    assert search(api, question="basilisk", mode="thorough", acl=[])["results"]
    assert "basilisk" not in str(search(api, question="basilisk", mode="thorough", acl=[]))
