"""Candidates of one test's collections: made, built, looked at."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from tests.support.installation import Installation
from tests.support.sweeping import work_off

PLACE = "/v1/index/candidates"
SMALL = {"chunk_tokens": 32, "overlap_tokens": 4}
QUESTION = "What does rule number 7 say about the ferry?"


def rules(name: str, count: int = 24) -> str:
    """A text that is one chunk by itself, and several small ones."""
    return " ".join(f"Rule number {n} of {name} holds for each ferry that leaves." for n in range(count))


def made(api: TestClient, collection: str = "default", **settings: Any) -> dict[str, Any]:
    answer = api.post(PLACE, json={"collection": collection} | (settings or SMALL))
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def told(api: TestClient, collection: str = "default") -> int:
    """How many documents ingest was told to look at."""
    total, after = 0, None
    while True:
        answer = api.post(f"{PLACE}/{collection}/build", json={"after": after, "limit": 3})
        assert answer.status_code == 202, answer.text
        total, after = total + answer.json()["told"], answer.json()["next"]
        if after is None:
            return total


def built(
    api: TestClient, installation: Installation, collection: str = "default", **settings: Any
) -> dict[str, Any]:
    """The candidate with all that it is to have."""
    made(api, collection, **settings)
    told(api, collection)
    work_off(installation)
    candidate = seen(api, collection)
    assert candidate["lacking"] == 0, candidate
    return candidate


def seen(api: TestClient, collection: str = "default") -> dict[str, Any]:
    (found,) = (one for one in api.get(PLACE).json() if one["collection"] == collection)
    return dict(found)


def promoted(api: TestClient, collection: str = "default") -> dict[str, Any]:
    answer = api.post(f"{PLACE}/{collection}/promote", json={"force_reason": "a test"})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def rolled_back(api: TestClient, collection: str = "default") -> dict[str, Any]:
    answer = api.post(f"{PLACE}/{collection}/rollback", json={"reason": "a test"})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def reclaimed(api: TestClient, collection: str = "default") -> int:
    answer = api.delete(f"{PLACE}/{collection}")
    assert answer.status_code == 200, answer.text
    return int(answer.json()["documents"])


def answered(api: TestClient, question: str = QUESTION, **more: Any) -> list[dict[str, Any]]:
    """What the passages are, to the last byte."""
    answer = api.post("/v1/search", json={"question": question, "top_k": 10, **more})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


def faulty(installation: Installation) -> list[str]:
    """I1 and I2 with candidates: what is wrong with the database, in words."""
    wrong = {
        "chunks that nobody sees, nor would see": """
            select 1 from chunks c join documents d on d.id = c.document_id
            left join editions e on e.document_id = d.id
            where c.generation is distinct from d.published_generation and c.generation is distinct from e.generation""",
        "chunks of another collection than their document": """
            select 1 from chunks c join documents d on d.id = c.document_id left join editions e on e.document_id = d.id
            where c.collection_id <> case when c.generation = d.published_generation then d.collection_id
                                          else e.collection_id end""",
        "chunks without a vector": """
            select 1 from chunks c left join vectors_1 v on v.chunk_id = c.id where v.chunk_id is null""",
        "vectors of another collection than their chunk": """
            select 1 from chunks c join vectors_1 v on v.chunk_id = c.id
            where (v.collection_id, v.generation) <> (c.collection_id, c.generation)""",
        "documents that miss chunks": """
            select 1 from documents d where d.published_generation is not null
            and d.chunks <> (select count(*) from chunks c
                             where c.document_id = d.id and c.generation = d.published_generation)""",
        "editions that miss chunks": """
            select 1 from editions e where e.status = 'whole'
            and e.chunks <> (select count(*) from chunks c
                             where c.document_id = e.document_id and c.generation = e.generation)""",
        "collections that miscount": """
            select 1 from collections c where (c.documents, c.chunks) <> (
                select count(*), coalesce(sum(one.chunks), 0) from (
                    select d.chunks from documents d
                    where d.collection_id = c.id and d.published_generation is not null
                    union all select e.chunks from editions e where e.collection_id = c.id and e.status = 'whole') as one)""",
        "lexemes that miscount": """
            select 1 from collections c where (select coalesce(sum(l.chunks), 0) from lexemes l where l.collection_id = c.id)
                <> (select coalesce(sum(length(t.terms)), 0) from chunk_terms t join chunks on chunks.id = t.chunk_id
                    where chunks.collection_id = c.id)""",
        "lexemes of no collection": """
            select 1 from lexemes l where not exists (select from collections c where c.id = l.collection_id)""",
        "labels that miscount": """
            select 1 from (select collection_id, acl, count(*) as documents, sum(chunks) as chunks from documents
                           where published_generation is not null and acl is not null group by 1, 2) as real
            full join label_sets l using (collection_id, acl)
            where (real.documents, real.chunks) is distinct from (l.documents, l.chunks)""",
        "leases left": "select 1 from documents where lease_until is not null",
    }
    asked = " union all ".join(f"select %s as name where exists ({one})" for one in wrong.values())
    return [row["name"] for row in installation.rows(asked, *wrong)]
