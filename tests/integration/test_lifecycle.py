"""One document, from the bucket to the answer and out again."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.support.documents import docx_bytes, pdf_bytes
from tests.support.installation import Installation

V1 = "The harbour crane lifts forty tonnes."
V2 = "The harbour crane lifts sixty tonnes since its rebuild."


def ask(api: TestClient, question: str) -> dict:
    answer = api.post("/v1/query", json={"question": question})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_uploaded_pdf_is_cited_by_page(installation: Installation, api: TestClient) -> None:
    installation.put(
        "report.pdf", pdf_bytes(["Nothing much here.", "The lighthouse keeper retired in 1987."])
    )
    installation.deliver()
    answer = ask(api, "When did the lighthouse keeper retire?")
    assert answer["supported"], installation.rows("select status, reason, reason_code from documents")
    assert "1987" in answer["answer"]
    assert answer["citations"][0]["page"] == 2
    assert answer["citations"][0]["uri"] == f"s3://{installation.intake.bucket}/report.pdf"


def test_an_overwritten_document_never_shows_its_old_text(
    installation: Installation, api: TestClient
) -> None:
    installation.put("crane.txt", V1)
    installation.deliver()
    assert "forty" in ask(api, "How much does the harbour crane lift?")["answer"]
    installation.put("crane.txt", V2)
    installation.deliver()
    answer = ask(api, "How much does the harbour crane lift?")
    assert "sixty" in answer["answer"]
    assert "forty" not in str(answer)
    assert len(installation.rows("select distinct generation from chunks")) == 1


def test_a_deleted_object_is_gone_from_the_next_query(installation: Installation, api: TestClient) -> None:
    installation.put("crane.txt", V1)
    installation.deliver()
    installation.delete("crane.txt")
    installation.deliver()
    answer = ask(api, "How much does the harbour crane lift?")
    assert not answer["supported"]
    assert answer["sources"] == []
    assert installation.document("crane.txt")["status"] == "deleted"
    assert installation.rows("select count(*) as n from chunks")[0]["n"] == 0
    assert installation.rows("select count(*) as n from vectors_1")[0]["n"] == 0
    assert installation.rows("select coalesce(sum(chunks), 0) as n from lexemes")[0]["n"] == 0
    assert installation.rows("select documents, chunks from collections")[0] == {"documents": 0, "chunks": 0}


def test_an_api_delete_is_effective_when_it_has_answered(installation: Installation, api: TestClient) -> None:
    installation.put("crane.txt", V1)
    installation.deliver()
    id = installation.document("crane.txt")["id"]
    receipt = api.delete(f"/v1/documents/{id}").json()
    assert (receipt["id"], receipt["status"]) == (str(id), "deleted")
    assert ask(api, "How much does the harbour crane lift?")["sources"] == []
    installation.deliver()
    assert installation.document("crane.txt")["status"] == "deleted"
    assert installation.rows("select count(*) as n from chunks")[0]["n"] == 0


def test_an_upload_is_pending_until_it_was_worked_on(installation: Installation, api: TestClient) -> None:
    files = {"file": ("crane.docx", docx_bytes([V1]))}
    answer = api.post("/v1/documents", files=files, data={"metadata": '{"site": "north", "year": 1999}'})
    assert answer.status_code == 202, answer.text
    url = answer.json()["status_url"]
    assert api.get(url).json()["status"] == "pending"
    installation.deliver()
    document = api.get(url).json()
    assert document["status"] == "searchable"
    assert document["metadata"] == {"site": "north", "year": 1999}
    assert [event["status"] for event in document["timeline"]] == ["pending", "processing", "searchable"]


def test_the_same_text_is_never_embedded_twice(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    real = type(installation.embedder).encode
    monkeypatch.setattr(
        type(installation.embedder), "encode", lambda self, texts: encoded.extend(texts) or real(self, texts)
    )
    for key in ("one.txt", "two.txt"):
        installation.put(key, V1)
        installation.deliver()
    assert len(encoded) == 1
    assert installation.rows("select count(*) as n from vectors_1")[0]["n"] == 2


def test_changed_metadata_is_searchable_without_parsing_again(
    installation: Installation, api: TestClient
) -> None:
    installation.put("crane.txt", V1, {"site": "north"})
    installation.deliver()
    installation.put("crane.txt", V1, {"site": "south"})
    installation.deliver()
    assert installation.document("crane.txt")["generation"] == 1
    body = {"question": "harbour crane", "filter": {"site": "south"}}
    assert len(api.post("/v1/search", json=body).json()["results"]) == 1


def test_chunks_are_the_pure_function_of_the_bytes(installation: Installation) -> None:
    """I2: as many chunks as chunk(parse(bytes)), one vector each, numbered without gaps."""
    from functions.ingest.parsing import parse
    from shared.core.chunking import chunk

    text = "\n\n".join(
        f"# Section {n}\n\nParagraph {n} tells of crane number {n}. " * 20 for n in range(8)
    ).encode()
    installation.put("long.md", text)
    installation.deliver()
    expected = chunk(parse(text, name="long.md"), installation.embedder)
    rows = installation.rows("select ordinal, text from chunks order by ordinal")
    assert [(row["ordinal"], row["text"]) for row in rows] == [(c.ordinal, c.text) for c in expected]
    assert installation.rows("select count(*) as n from vectors_1")[0]["n"] == len(expected)
