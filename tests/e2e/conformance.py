"""What every ragzero does, whatever it runs on: spoken to over HTTP and S3 only.

A module of tests subclasses Conformance and has a fixture `target`. Everything lies in tenants of the run's own.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest

from tests.e2e.target import Json, Target, Tenant

LOGBOOK = [
    "# Logbook\n\nThe cutter Marigold left the shipyard in the summer of 1962.",
    "# Refit\n\nThe engine of the Marigold was replaced in Bergen for ninety thousand crowns.",
    "# Crew\n\nSix sailors and a cook lived aboard during the winter.",
]
ENGINE = "Where was the engine of the Marigold replaced?"
"""Answered on the logbook's second page."""
TARIFF = "A day ticket for the harbour ferry costs {price} euros and is sold at the office on the quay."
TICKET = "What does a day ticket for the harbour ferry cost?"


def problem(answer: httpx.Response, status: int) -> Json:
    """RFC 9457: what is wrong, in a form that programs read."""
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    assert answer.headers["content-type"] == "application/problem+json"
    told: Json = answer.json()
    assert {"type", "title", "status", "detail"} <= told.keys()
    assert told["status"] == status
    assert "Traceback" not in answer.text
    return told


class Conformance:
    """Tests share the tenant, and each has documents of its own in it."""

    # health

    def test_it_is_healthy_and_ready(self, target: Target) -> None:
        with target.api(None) as anybody:
            assert anybody.get("/healthz").json() == {"status": "ok"}
            assert anybody.get("/readyz").json()["status"] == "ready"
            assert "/v1/query" in anybody.get("/openapi.json").json()["paths"]
            assert anybody.get("/").headers["content-type"].startswith("text/html")

    # documents

    def test_an_object_in_the_bucket_is_answered_from_with_its_page(
        self, tenant: Tenant, logbook: Json
    ) -> None:
        assert logbook["pages"] == len(LOGBOOK)
        assert logbook["chunks"] > 0
        answer = tenant.ask(ENGINE)
        assert answer["supported"]
        assert "Bergen" in answer["answer"]
        cited = answer["citations"][0]
        assert (cited["document_id"], cited["page"]) == (logbook["id"], 2)
        assert f"[{cited['marker']}]" in answer["answer"]
        source = answer["sources"][cited["marker"] - 1]
        assert cited["quote"] in source["text"]

    def test_a_file_uploaded_through_the_api_is_found(self, tenant: Tenant) -> None:
        told = tenant.upload("lamp.md", "# Lamp\n\nThe lamp of Skerry Rock was automated in 1987.")
        assert told["uri"].endswith("/lamp.md")
        document = tenant.searchable("lamp.md")
        assert document["id"] == told["id"]
        assert tenant.api.get(told["status_url"]).json()["status"] == "searchable"
        assert [event["status"] for event in document["timeline"]][-1] == "searchable"
        assert "1987" in tenant.ask("When was the lamp of Skerry Rock automated?")["answer"]

    def test_what_was_overwritten_is_never_said_again(self, tenant: Tenant) -> None:
        """From the moment the new generation is reported; answers kept in caches included."""
        tenant.put("tariff.txt", TARIFF.format(price="eleven"))
        first = tenant.searchable("tariff.txt")
        for _ in range(2):
            assert "eleven" in tenant.ask(TICKET)["answer"]
        tenant.put("tariff.txt", TARIFF.format(price="twelve"))
        second = tenant.searchable("tariff.txt", after=first["generation"])
        assert second["id"] == first["id"]
        for _ in range(2):
            answer = tenant.ask(TICKET)
            assert "twelve" in answer["answer"]
            assert "eleven" not in json.dumps(answer)

    def test_a_deleted_document_is_gone_at_once(self, tenant: Tenant) -> None:
        document = tenant.upload("buoy.txt", "The buoy off Gull Point is painted violet every third year.")
        tenant.searchable("buoy.txt")
        question = "Which colour is the buoy off Gull Point?"
        assert "violet" in tenant.ask(question)["answer"]
        receipt = tenant.api.delete(f"/v1/documents/{document['id']}").json()
        assert (receipt["status"], receipt["coherent"]) == ("deleted", True)
        assert "violet" not in json.dumps(tenant.ask(question))
        assert "buoy.txt" not in tenant.found(question)
        listed = tenant.target.s3.list_objects_v2(
            Bucket=tenant.target.bucket, Prefix=tenant.object("buoy.txt")
        )
        assert listed["KeyCount"] == 0

    def test_an_object_removed_from_the_bucket_is_forgotten(self, tenant: Tenant) -> None:
        tenant.put("kelp.txt", "Kelp is cut near Thorn Ness between May and July.")
        document = tenant.searchable("kelp.txt")
        tenant.target.s3.delete_object(Bucket=tenant.target.bucket, Key=tenant.object("kelp.txt"))
        path = f"/v1/documents/{document['id']}"
        tenant.target.eventually(
            lambda: True if tenant.api.get(path).json()["status"] == "deleted" else None,
            "it is not deleted",
        )
        assert "kelp.txt" not in tenant.found("When is kelp cut near Thorn Ness?")

    def test_documents_are_listed_page_by_page(self, tenant: Tenant, logbook: Json) -> None:
        names = [f"list-{number}.txt" for number in range(3)]
        for name in names:
            tenant.put(name, f"The {name} says that the tide was high.")
        for name in names:
            tenant.searchable(name)
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            page = tenant.api.get(
                "/v1/documents", params={"limit": 2} | ({"cursor": cursor} if cursor else {})
            )
            seen += [each["id"] for each in page.json()["items"]]
            cursor = page.json()["next_cursor"]
        assert len(seen) == len(set(seen))
        assert logbook["id"] in seen
        assert seen == [each["id"] for each in tenant.documents()]
        assert {each["status"] for each in tenant.documents(status="searchable")} == {"searchable"}

    def test_what_cannot_be_read_says_why(self, tenant: Tenant) -> None:
        tenant.put("broken.pdf", b"%PDF-1.7 and then nothing that a reader could use")
        document = tenant.settled("broken.pdf")
        assert document["status"] == "failed"
        assert document["reason"]
        assert document["reason_code"]

    def test_a_document_of_many_chunks_is_searchable_too(self, tenant: Tenant) -> None:
        """More than the CPU lane takes: the job that was knocked for does it, where there is one."""
        pages = [
            f"# Station {number}\n\n" + f"The gauge at station {number} read {number * 7} millimetres. " * 12
            for number in range(80)
        ]
        tenant.put("gauges.md", "\n\n".join(pages))
        assert tenant.searchable("gauges.md")["chunks"] > 64
        assert "gauges.md" in tenant.found("What did the gauge at station 41 read?")

    # questions

    def test_filters_narrow_what_is_looked_at(self, tenant: Tenant, logbook: Json) -> None:
        tenant.put("diary.txt", "The engine of the Marigold was never replaced, says the diary.", year="1999")
        tenant.searchable("diary.txt")
        assert tenant.found(ENGINE) >= {"logbook.pdf", "diary.txt"}
        assert tenant.found(ENGINE, filter={"vessel": "marigold"}) == {"logbook.pdf"}
        assert tenant.found(ENGINE, filter={"year": {"$gt": 1980}}) == {"diary.txt"}
        assert tenant.found(ENGINE, filter={"$and": [{"year": {"$in": [1962]}}, {"page": 2}]}) == {
            "logbook.pdf"
        }
        assert tenant.found(ENGINE, filter={"vessel": "nobody's"}) == set()
        assert not tenant.ask(ENGINE, filter={"vessel": "nobody's"})["supported"]

    def test_a_question_that_nothing_answers_is_not_answered(self, tenant: Tenant, logbook: Json) -> None:
        answer = tenant.ask("Which enzyme splits lactose?", filter={"vessel": "marigold"})
        assert not answer["supported"]
        assert answer["citations"] == []

    def test_an_answer_comes_as_events(self, tenant: Tenant, logbook: Json) -> None:
        """Sources before words; piece by piece where the gateway hands them on, at once where it does not."""
        only = {"vessel": "marigold"}
        body = {"question": ENGINE, "generate": False, "stream": True, "cache": "bypass", "filter": only}
        with tenant.api.stream("POST", "/v1/query", json=body) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert ("content-length" in answer.headers) is not tenant.target.streams
            events = events_of(answer.read())
        names = [name for name, _ in events]
        assert names.index("sources") < names.index("token") < names.index("citations")
        assert names[-1] == "done"
        told = dict(events)
        assert "Bergen" in told["token"]["text"]
        assert told["citations"]["citations"][0]["page"] == 2

    # who may do what

    def test_tenants_never_see_each_other(self, target: Target, tenant: Tenant, logbook: Json) -> None:
        other = Tenant.made(target)
        try:
            other.put("logbook.txt", "The engine of the Marigold was replaced in Lisbon.")
            theirs = other.searchable("logbook.txt")
            assert "Lisbon" in other.ask(ENGINE)["answer"]
            assert "Lisbon" not in json.dumps(tenant.ask(ENGINE))
            assert "Bergen" not in json.dumps(other.ask(ENGINE))
            assert [each["id"] for each in other.documents()] == [theirs["id"]]
            problem(tenant.api.get(f"/v1/documents/{theirs['id']}"), 404)
            problem(tenant.api.delete(f"/v1/documents/{theirs['id']}"), 404)
            assert other.searchable("logbook.txt") == theirs
        finally:
            other.close()

    def test_a_key_does_what_it_is_for(self, tenant: Tenant, logbook: Json) -> None:
        with tenant.target.api(tenant.key_for("query")) as reader:
            told = reader.get("/v1/key").json()
            assert (told["tenant_id"], told["scopes"]) == (tenant.id, ["query"])
            assert reader.post("/v1/search", json={"question": ENGINE}).status_code == 200
            problem(reader.delete(f"/v1/documents/{logbook['id']}"), 403)
        problem(tenant.api.get("/v1/admin/tenants"), 403)

    def test_labels_keep_documents_from_keys_without_them(self, tenant: Tenant) -> None:
        tenant.put("salaries.txt", "The harbour master earns sixty thousand a year.", acl="board")
        tenant.searchable("salaries.txt")
        question = {"question": "What does the harbour master earn?"}
        shown = {}
        for label in ("board", "crew"):
            with tenant.target.api(tenant.key_for("query", acl=[label])) as reader:
                shown[label] = "sixty thousand" in reader.post("/v1/search", json=question).text
        assert shown == {"board": True, "crew": False}

    def test_the_key_of_the_deployment_works(self, target: Target) -> None:
        with target.api(target.key) as api:
            assert api.post("/v1/search", json={"question": ENGINE}).status_code == 200

    # errors

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "question"),
            ({"question": ""}, "question"),
            ({"question": "q", "top_k": 0}, "top_k"),
            ({"question": "q", "filter": {"$where": "1=1"}}, "filter"),
            ({"question": "q", "colour": "blue"}, "colour"),
        ],
    )
    def test_a_bad_question_is_refused_by_name(self, tenant: Tenant, body: Json, field: str) -> None:
        assert field in json.dumps(problem(tenant.api.post("/v1/query", json=body), 422))

    def test_errors_are_problem_documents(self, target: Target, tenant: Tenant) -> None:
        with target.api(None) as anybody:
            refused = anybody.post("/v1/query", json={"question": ENGINE})
            problem(refused, 401)
            assert refused.headers["www-authenticate"] == "Bearer"
        with target.api("rz_test_" + "0" * 24 + "_" + "A" * 43) as stranger:
            problem(stranger.get("/v1/documents"), 401)
        problem(tenant.api.get(f"/v1/documents/{uuid.uuid4()}"), 404)
        problem(tenant.api.get("/v1/documents/no-uuid"), 422)
        problem(tenant.api.get("/v1/nothing/here"), 404)
        problem(tenant.api.put("/v1/query", json={}), 405)
        problem(tenant.api.post("/v1/query", content=b"{", headers={"Content-Type": "application/json"}), 422)
        problem(tenant.api.post("/v1/query", json={"question": "q" * 100_000}), 413)

    # once

    def test_a_request_sent_twice_has_one_effect(self, tenant: Tenant) -> None:
        key = {"Idempotency-Key": uuid.uuid4().hex}
        body = {"name": "sent-twice", "language": "german"}
        first, again = (tenant.api.post("/v1/collections", json=body, headers=key) for _ in range(2))
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        assert again.headers["idempotency-replayed"] == "true"
        problem(tenant.api.post("/v1/collections", json=body | {"name": "other"}, headers=key), 409)
        assert tenant.api.delete("/v1/collections/sent-twice").status_code == 200

    # collections

    def test_a_collection_is_asked_by_itself(self, tenant: Tenant, logbook: Json) -> None:
        made = tenant.api.post("/v1/collections", json={"name": "minutes"})
        assert made.status_code == 201
        tenant.upload("council.txt", "The council met in May and sold the Marigold.", collection="minutes")
        tenant.searchable("council.txt")
        assert tenant.found("What became of the Marigold?", collection="minutes") == {"council.txt"}
        assert "council.txt" not in tenant.found("What became of the Marigold?")
        tenant.target.eventually(
            lambda: True if tenant.api.delete("/v1/collections/minutes").status_code == 200 else None,
            "the collection is not deleted",
        )
        problem(tenant.api.get("/v1/collections/minutes"), 404)
        assert tenant.document("council.txt") is None


def events_of(body: bytes) -> list[tuple[str, Any]]:
    """(name, data) of server-sent events."""
    blocks = [block.split("\n") for block in body.decode().split("\n\n") if block.startswith("event: ")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]
