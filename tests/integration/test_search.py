"""Retrieval through the API: filters mean the same whether the index or a full scan answers, and no row is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.query.app import create_app
from shared.adapters.postgres.catalog import Catalog
from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.search import Searcher, SearchOptions
from shared.core.filters import Filter, parse
from tests.support.documents import pdf_bytes
from tests.support.installation import Installation

ANIMALS = ["otter", "badger", "heron", "lynx", "marten", "osprey", "polecat", "raven", "stoat", "wagtail"]


@pytest.fixture(scope="module")
def filled(shared_installation: Installation) -> Installation:
    installation = shared_installation
    for number, animal in enumerate(ANIMALS):
        metadata = {
            "number": str(number),
            "parity": "even" if number % 2 == 0 else "odd",
            "ok": str(number < 5).lower(),
        }
        installation.put(f"{animal}.txt", f"The {animal} was seen in the reserve on day {number}.", metadata)
    installation.put("pages.pdf", pdf_bytes(["The reserve opens at dawn.", "The reserve closes at dusk."]))
    installation.deliver()
    return installation


@pytest.fixture(scope="module", params=["exact", "ann"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def api(filled: Installation, mode: str) -> Iterator[TestClient]:
    settings = filled.query_settings(exact_below=10_000 if mode == "exact" else 0)
    headers = {"Authorization": f"Bearer {filled.api_key}"}
    with TestClient(create_app(settings, filled.embedder), headers=headers) as client:
        yield client


def found(api: TestClient, filter: dict[str, Any] | None, mode: str | None = None) -> set[str]:
    body: dict[str, Any] = {"question": "what was seen in the reserve?", "top_k": 50}
    answer = api.post("/v1/search", json=body | ({"filter": filter} if filter else {}))
    assert answer.status_code == 200, answer.text
    if mode:
        assert answer.json()["retrieval"] == mode
    return {one["uri"].rsplit("/", 1)[-1].split(".")[0] for one in answer.json()["results"]}


def test_without_a_filter_everything_can_be_found(api: TestClient, mode: str) -> None:
    assert found(api, None, mode) == {*ANIMALS, "pages"}


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"parity": "even"}, ANIMALS[::2]),
        ({"parity": {"$in": ["even", "odd"]}}, ANIMALS),
        ({"number": 3}, ["lynx"]),
        ({"number": "3"}, ["lynx"]),
        ({"number": 3.0}, ["lynx"]),
        ({"ok": True}, ANIMALS[:5]),
        ({"number": {"$gte": 2, "$lt": 4}}, ["heron", "lynx"]),
        ({"number": {"$gt": 8.5}}, ["wagtail"]),
        ({"parity": {"$gt": "even"}}, ANIMALS[1::2]),
        ({"$or": [{"number": 1}, {"number": {"$in": [2, 99]}}]}, ["badger", "heron"]),
        ({"$and": [{"parity": "even"}, {"number": {"$lte": 2}}]}, ["otter", "heron"]),
        ({"$not": {"parity": "even"}}, [*ANIMALS[1::2], "pages"]),
        ({"$not": {"$not": {"number": 7}}}, ["raven"]),
        ({"page": 2}, ["pages"]),
        ({"page": {"$gte": 1}}, ["pages"]),
        ({"$not": {"page": {"$gte": 1}}}, ANIMALS),
        ({"media_type": "application/pdf"}, ["pages"]),
        ({"created_at": {"$gt": "2020-01-01"}}, [*ANIMALS, "pages"]),
        ({"created_at": {"$lt": "2020-01-01T00:00:00Z"}}, []),
        ({"nothing": "here"}, []),
        ({"parity": "even", "number": 4}, ["marten"]),
    ],
    ids=str,
)
def test_a_filter_finds_exactly_what_it_says(
    api: TestClient, mode: str, filter: dict[str, Any], expected: list[str]
) -> None:
    assert found(api, filter) == set(expected)


def test_a_filter_on_the_uri(api: TestClient, filled: Installation) -> None:
    assert found(api, {"uri": f"s3://{filled.intake.bucket}/raven.txt"}) == {"raven"}


def test_keywords_find_what_the_vector_misses(api: TestClient) -> None:
    """A word the encoder does not know is found by its letters."""
    answer = api.post("/v1/search", json={"question": "polecat", "top_k": 1}).json()
    assert "polecat" in answer["results"][0]["text"]


def test_an_encoder_that_does_not_match_leaves_keywords_and_says_so(
    filled: Installation, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(filled.embedder), "fingerprint", property(lambda self: "another"))
    settings = filled.query_settings(exact_below=10_000 if mode == "exact" else 0)
    headers = {"Authorization": f"Bearer {filled.api_key}"}
    with TestClient(create_app(settings, filled.embedder), headers=headers) as api:
        answer = api.post("/v1/query", json={"question": "When was the polecat seen in the reserve?"}).json()
    assert answer["retrieval"] == f"{mode}_keywords"
    assert answer["warnings"]
    assert "polecat" in answer["answer"]


def test_candidates_by_words_are_those_that_pass_the_filter(filled: Installation) -> None:
    """The best two by words would be others, were the documents looked at after the candidates are cut."""
    url = filled.query_settings().database_url.get_secret_value()
    options = SearchOptions(exact_below=0, candidates=2)

    async def answered(wanted: Filter | None) -> list[str]:
        database = AsyncDatabase(url, max_connections=1)
        try:
            searcher = Searcher(database, options)
            space = await Catalog(database).space()
            asked = ("default", "which badger or otter was seen in the reserve?", None, space)
            return [
                passage.uri.rsplit("/", 1)[-1]
                for passage in (await searcher.search(filled.tenant, *asked, limit=1, filter=wanted)).passages
            ]
        finally:
            await database.close()

    assert asyncio.run(answered(None))[0] in {"badger.txt", "otter.txt"}
    assert asyncio.run(answered(parse({"number": "7"}))) == ["raven.txt"]


def test_a_question_of_common_words_only_is_answered_honestly(api: TestClient) -> None:
    answer = api.post("/v1/query", json={"question": "who is it and what was that?"})
    assert answer.status_code == 200
    assert (
        api.post("/v1/query", json={"question": "Who won the chess final in Oslo?"}).json()["supported"]
        is False
    )


def test_pages_of_the_list_cover_every_document_once(api: TestClient) -> None:
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = api.get("/v1/documents", params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["uri"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == len(ANIMALS) + 1
