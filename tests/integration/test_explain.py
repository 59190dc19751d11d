"""Why a document is or is not found: each stage at which it may leave, and the same answer as the search itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.query.app import create_app
from tests.attacks.test_http import refused
from tests.support.access import bearer, new_key, operating
from tests.support.installation import Installation

QUESTION = "Where do otters sleep?"
TEXTS = {
    "otter.txt": "Otters sleep in holts beside the river.",
    "copy.txt": "Otters  sleep in holts beside the river.",
    "heron.txt": "Herons stand on one leg in the shallows.",
}


@pytest.fixture(scope="module")
def filled(shared_installation: Installation) -> Installation:
    return fill(shared_installation)


def fill(installation: Installation) -> Installation:
    for name, text in TEXTS.items():
        installation.put(name, text, {"kind": name[0]})
    installation.put("secret.txt", "Otters sleep in the office.", {"acl": "hr"})
    installation.put("other.txt", "Otters sleep elsewhere.", {"collection": "elsewhere"})
    installation.put("broken.pdf", b"%PDF-1.7 nothing else")
    installation.put("long.txt", "\n\n".join(f"Otters sleep, says chapter {n}. " * 30 for n in range(8)))
    installation.deliver()
    return installation


@pytest.fixture(scope="module", params=[10_000, 0], ids=["exact", "ann"])
def api(request: pytest.FixtureRequest, filled: Installation) -> Iterator[TestClient]:
    app = create_app(filled.query_settings(exact_below=request.param), filled.embedder)
    with TestClient(app, headers=bearer(filled.api_key), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def plain(filled: Installation) -> Iterator[TestClient]:
    with operating(filled) as client:
        yield client


def explain(api: TestClient, filled: Installation, name: str, **more: Any) -> dict[str, Any]:
    asked = {"question": QUESTION, "document_id": str(filled.document(name)["id"]), **more}
    answer = api.get("/v1/explain", params=asked)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["in_result"] == (found["reason"] == "in_result")
    assert found["detail"]
    return found


def test_what_is_found_has_the_place_the_search_gives_it(api: TestClient, filled: Installation) -> None:
    for mode in ("fast", "balanced", "thorough"):
        results = api.post("/v1/search", json={"question": QUESTION, "top_k": 20, "mode": mode}).json()[
            "results"
        ]
        for name in ("heron.txt", "long.txt"):
            id = str(filled.document(name)["id"])
            places = [at for at, one in enumerate(results, 1) if one["document_id"] == id]
            found = explain(api, filled, name, top_k=20, mode=mode)
            assert (found["reason"], found["place"]) == ("in_result", places[0]), (mode, name)
            assert (found["words"] is None) == (mode == "fast"), "which does not look at words"


@pytest.mark.parametrize(
    ("name", "asked", "reason"),
    [
        ("broken.pdf", {}, "not_searchable"),
        ("other.txt", {}, "other_collection"),
        ("secret.txt", {"acl": "sales"}, "acl"),
        ("otter.txt", {"filter": '{"kind": "h"}'}, "filter"),
        ("copy.txt", {}, "duplicate"),
        ("heron.txt", {"top_k": 1, "filter": '{"kind": {"$in": ["o", "h"]}}'}, "top_k"),
        ("long.txt", {"mode": "thorough"}, "in_result"),
    ],
)
def test_it_says_at_which_stage_a_document_left(
    plain: TestClient, filled: Installation, name: str, asked: dict[str, Any], reason: str
) -> None:
    found = explain(plain, filled, name, **asked)
    if name == "copy.txt" and found["reason"] == "in_result":  # either copy may come first
        found = explain(plain, filled, "otter.txt", **asked)
    assert found["reason"] == reason


def test_the_reason_of_a_failed_document_is_told(plain: TestClient, filled: Installation) -> None:
    assert "failed" in explain(plain, filled, "broken.pdf")["detail"]


def test_the_share_of_a_document_is_told(plain: TestClient, filled: Installation) -> None:
    found = explain(plain, filled, "long.txt", per_document=1, top_k=4)
    assert found["passages"]["chosen"] == 1
    assert found["passages"]["share"] > 0


def test_below_what_was_looked_at(installation: Installation) -> None:
    """More passages speak to the question than are chosen from: the rank is still known."""
    many = {f"more-{n}.txt": f"Otters sleep in holts, report {n} says so." for n in range(12)}
    for name, text in many.items():
        installation.put(name, text)
    fill(installation)
    with operating(installation) as plain:
        found = explain(plain, installation, "heron.txt", top_k=1)
        assert found["reason"] == "below_candidates"
        assert found["fused"]["rank"] > found["candidates"]
        assert found["meaning"]["score"] < explain(plain, installation, "otter.txt")["meaning"]["score"]


def test_31_a_document_one_may_not_see_does_not_exist(plain: TestClient, filled: Installation) -> None:
    """Not even its stages: the same answer as for what nobody has."""
    key = new_key(plain, filled.tenant, acl=["sales"])["key"]
    secret = filled.document("secret.txt")["id"]
    bodies = [
        refused(
            plain.get("/v1/explain", params={"question": "q", "document_id": id}, headers=bearer(key)), 404
        )
        for id in (str(secret), "00000000-0000-4000-8000-000000000000")
    ]
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize(
    "asked",
    [{"filter": "{"}, {"filter": "[]"}, {"filter": "{}"}, {"question": " "}, {"mode": "slow"}, {"top_k": 0}],
)
def test_28_what_cannot_be_explained_is_refused(quiet_api: TestClient, asked: dict[str, Any]) -> None:
    usual = {"question": "q", "document_id": "00000000-0000-4000-8000-000000000000"}
    refused(quiet_api.get("/v1/explain", params=usual | asked), 422, 404)
