"""A document read chunk by chunk: in either direction, from any place, and only what queries see of it."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient

from functions.query.app import create_app
from tests.support.documents import pdf_bytes
from tests.support.installation import Installation

PARAGRAPH = "The harbour office keeps a record of every ship that calls at pier {number}, day and night. "
PAGES = [f"# Pier {number}\n\n" + PARAGRAPH.format(number=number) * 4 for number in range(7)]


def stored(installation: Installation, key: str, body: bytes, **metadata: str) -> str:
    installation.put(key, body, metadata)
    installation.deliver()
    document = installation.document(key)
    assert document["status"] == "searchable", document["reason"]
    return f"/v1/documents/{document['id']}/chunks"


@pytest.fixture
def address(installation: Installation) -> str:
    """Of the chunks of a report of seven pages."""
    return stored(installation, "report.pdf", pdf_bytes(PAGES))


def read(api: TestClient, address: str, **query: Any) -> dict[str, Any]:
    answer = api.get(address, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_chunks_are_the_document_in_reading_order(address: str, api: TestClient) -> None:
    page = read(api, address)
    chunks = page["items"]
    assert (page["total"], page["generation"]) == (len(chunks), 1)
    assert [chunk["ordinal"] for chunk in chunks] == list(range(len(chunks)))
    assert [chunk["page"] for chunk in chunks] == [1, 2, 3, 4, 5, 6, 7]
    assert chunks[3]["headings"] == ["Pier 3"]
    assert chunks[3]["text"].startswith(
        "The harbour office keeps a record of every ship that calls at pier 3"
    )
    assert all(chunk["end"] - chunk["start"] == len(chunk["text"]) for chunk in chunks)
    assert all(one["end"] < next["start"] for one, next in itertools.pairwise(chunks))
    assert page["previous_cursor"] is page["next_cursor"] is None


def test_it_is_read_in_pages_and_back(address: str, api: TestClient) -> None:
    pages, cursor = [], None
    while not pages or cursor:
        pages.append(read(api, address, limit=3, **({"cursor": cursor} if cursor else {})))
        cursor = pages[-1]["next_cursor"]
    assert [[chunk["ordinal"] for chunk in page["items"]] for page in pages] == [[0, 1, 2], [3, 4, 5], [6]]
    before = read(api, address, limit=2, cursor=pages[-1]["previous_cursor"])
    assert [chunk["ordinal"] for chunk in before["items"]] == [4, 5]
    first = read(api, address, limit=50, cursor=before["previous_cursor"])
    assert [chunk["ordinal"] for chunk in first["items"]] == [0, 1, 2, 3]
    assert first["previous_cursor"] is None


def test_a_citation_leads_to_its_chunk(address: str, api: TestClient) -> None:
    answer = api.post("/v1/query", json={"question": "Which record is kept at pier 5?"}).json()
    cited = answer["citations"][0]
    page = read(api, address, at=cited["start"], limit=1)
    (chunk,) = page["items"]
    assert chunk["text"][cited["start"] - chunk["start"] : cited["end"] - chunk["start"]] == cited["quote"]
    assert chunk["page"] == cited["page"]
    source = answer["sources"][cited["marker"] - 1]
    assert read(api, address, chunk_id=source["chunk_id"], limit=1)["items"] == [chunk]
    assert read(api, address, cursor=page["previous_cursor"], limit=1)["items"][0]["end"] < chunk["start"]


def test_a_place_beyond_the_end_is_the_end(address: str, api: TestClient) -> None:
    assert [chunk["ordinal"] for chunk in read(api, address, at=10**6)["items"]] == [6]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"cursor": "nonsense"}, 422),
        ({"cursor": "MSAyIDM="}, 422),
        ({"at": 1, "chunk_id": 1}, 422),
        ({"at": -1}, 422),
        ({"limit": 0}, 422),
        ({"limit": 201}, 422),
        ({"chunk_id": 10**12}, 404),
        ({"chunk_id": 10**30}, 422),
    ],
)
def test_a_place_that_is_none_is_refused(
    address: str, api: TestClient, query: dict[str, Any], status: int
) -> None:
    answer = api.get(address, params=query)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_a_cursor_of_an_older_version_is_gone(
    installation: Installation, address: str, api: TestClient
) -> None:
    """Pages of two versions never stand beside each other (I4)."""
    cursor = read(api, address, limit=3)["next_cursor"]
    stored(installation, "report.pdf", pdf_bytes(PAGES[::-1]))
    assert api.get(address, params={"cursor": cursor}).status_code == 410
    page = read(api, address)
    assert (page["generation"], page["items"][0]["headings"]) == (2, ["Pier 6"])


def test_nothing_is_read_of_what_queries_do_not_see(
    installation: Installation, address: str, api: TestClient
) -> None:
    installation.put("locked.pdf", pdf_bytes(["secret"], password="x"))
    installation.deliver()
    failed = installation.document("locked.pdf")["id"]
    nothing = {"generation": None, "total": 0, "items": [], "previous_cursor": None, "next_cursor": None}
    assert read(api, f"/v1/documents/{failed}/chunks") == {"document_id": str(failed)} | nothing
    assert api.delete(address.removesuffix("/chunks")).status_code == 200
    assert read(api, address)["items"] == []
    assert api.get(f"/v1/documents/{uuid.uuid4()}/chunks").status_code == 404


def test_other_tenants_and_labels_do_not_exist(installation: Installation, address: str) -> None:
    """API1: the same answer as for a document that never was (I5)."""
    secret = stored(installation, "salaries.txt", b"The harbour master earns well.", acl="payroll")
    stranger = installation.add_key(uuid.uuid4(), ["query", "ingest"])
    with TestClient(create_app(installation.query_settings(), installation.embedder)) as api:
        operator = {"Authorization": f"Bearer {installation.admin_key}"}
        wanted = {
            "tenant_id": str(installation.tenant),
            "name": "clerk",
            "scopes": ["query"],
            "acl": ["office"],
        }
        clerk = api.post("/v1/admin/keys", json=wanted, headers=operator).json()["key"]

        def status(key: str, address: str) -> int:
            return api.get(address, headers={"Authorization": f"Bearer {key}"}).status_code

        assert status(installation.api_key, secret) == 200
        assert [status(clerk, secret), status(clerk, address)] == [404, 200]
        assert [status(stranger, secret), status(stranger, address)] == [404, 404]
