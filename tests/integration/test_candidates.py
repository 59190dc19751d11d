"""Other chunk sizes or another language for a whole collection: built beside it, exchanged at once, and back."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from psycopg import sql

from functions.ingest import editions
from functions.ingest.handler import handle
from functions.ingest.wiring import build as build_ingest
from functions.query import candidates
from scripts import backup, rag, rag_candidate
from scripts.local.event_source import LambdaContext
from shared.adapters.onnx_embedder import OnnxEmbedder
from shared.adapters.postgres import generations
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.documents import DocumentStore
from shared.telemetry.checkpoints import set_checkpoint_hook
from tests.faults.test_embed_job import NOBODY, CpuEncoder
from tests.integration.test_backup import emptied
from tests.integration.test_embed_job import make_job
from tests.support.access import bearer, new_key, new_tenant
from tests.support.api import serving
from tests.support.candidates import (
    PLACE,
    answered,
    built,
    faulty,
    made,
    promoted,
    reclaimed,
    rolled_back,
    rules,
    seen,
    told,
)
from tests.support.installation import Databases, Installation
from tests.support.model_change import admin_url, build, fill, know_both
from tests.support.operating import client
from tests.support.sweeping import sweeping, work_off
from tests.support.waiting import until

NAMES = ("harbour", "market", "island", "bridge")


@pytest.fixture
def town(installation: Installation) -> Installation:
    for name in NAMES:
        labels = {"acl": name} if name in NAMES[:2] else {}
        installation.put(f"{name}.txt", rules(name), labels)
    installation.put("short.txt", "The lamp is lit at dusk.")
    work_off(installation)
    return installation


@pytest.fixture
def api(town: Installation) -> Iterator[TestClient]:
    with client(town) as made:
        yield made


def test_a_collection_is_answered_from_as_it_was_until_it_is_exchanged_at_once_and_back(
    town: Installation, api: TestClient
) -> None:
    before = answered(api)
    rows = town.rows("select * from documents order by id")
    candidate = built(api, town)
    assert answered(api) == before
    keys = ("published_generation", "collection_id", "chunks", "pipeline", "status", "timeline", "updated_at")
    assert [[row[key] for key in keys] for row in town.rows("select * from documents order by id")] == [
        [row[key] for key in keys] for row in rows
    ]
    assert (candidate["documents"], candidate["chunks"] > 3 * candidate["live_chunks"]) == (5, True)
    assert faulty(town) == []

    epoch = town.epoch()
    change = promoted(api)
    assert (change["documents"], change["from_settings"], change["to_settings"]) == (
        5,
        "usual/english",
        "32+4/english",
    )
    assert town.epoch() == epoch + 1
    after = answered(api)
    assert {one["chunk_id"] for one in after}.isdisjoint(one["chunk_id"] for one in before)
    assert max(len(one["text"].split()) for one in after) < 40
    assert api.get("/v1/collections").json()["items"][0]["chunk_tokens"] == 32
    assert faulty(town) == []

    rolled_back(api)
    assert answered(api) == before
    assert faulty(town) == []
    promoted(api)
    assert answered(api) == after
    assert reclaimed(api) == 5
    assert answered(api) == after
    assert faulty(town) == []
    assert len(town.rows("select id from collections where tenant_id = %s", town.tenant)) == 1
    kinds = [one["kind"] for one in api.get("/v1/index/candidates/changes").json()]
    assert kinds == ["promote", "rollback", "promote"]


class Killed(BaseException):
    pass


def cut(installation: Installation, collection: int) -> list[Any]:
    """All that a search of that collection could find, whatever its numbers."""
    return installation.rows(
        "select d.key, c.ordinal, c.text, c.headings, c.start_char, c.end_char, v.embedding::text, c.weights::text"
        " from chunks c join documents d on d.id = c.document_id join vectors_1 v on v.chunk_id = c.id"
        " where c.collection_id = %s order by d.key, c.ordinal",
        collection,
    )


def counting(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that ingest embeds from now on."""
    texts: list[str] = []
    encode = installation.embedder.encode

    def counted(some: Sequence[str]) -> Any:
        texts.extend(some)
        return encode(some)

    monkeypatch.setattr(installation.embedder, "encode", counted)
    return texts


def killed_at(point: str, occasion: int) -> None:
    """The worker is gone when it comes to that point for the so-manieth time."""
    left = occasion

    def kill(reached: str) -> None:
        nonlocal left
        left -= reached == point
        if left == 0:
            raise Killed

    set_checkpoint_hook(kill)


def test_a_build_that_is_killed_again_and_again_ends_like_an_undisturbed_one(
    town: Installation, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is embedded twice, for what was stored before the end is there."""
    monkeypatch.setattr(editions, "_EMBED_AT_ONCE", 2)
    undisturbed = cut(town, built(api, town)["id"])
    reclaimed(api)
    before = answered(api)
    candidate = made(api)
    texts = counting(town, monkeypatch)
    monkeypatch.setattr(town.ingest._editions._store, "release", lambda claim: None)
    context = LambdaContext("ingest", sys.maxsize)
    points = ("edition_begun", "edition_staged", "edition_embedded", "edition_finished")
    for kill in [(point, occasion) for point in points for occasion in (1, 2)]:
        told(api)
        records = [{"messageId": one["MessageId"], "body": one["Body"]} for one in town.messages()]
        killed_at(*kill)
        try:
            handle({"Records": records}, context, town.ingest)
        except Killed:
            pass
        finally:
            set_checkpoint_hook(None)
        town.rows("update documents set lease_until = null where lease_until is not null returning 1")
        assert answered(api) == before
    told(api)
    work_off(town)
    assert seen(api)["lacking"] == 0
    assert cut(town, candidate["id"]) == undisturbed
    assert len(texts) == len(set(texts))
    assert faulty(town) == []


def test_unchanged_texts_are_not_embedded_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(18):
        installation.put(f"{number}.txt", f"The ferry number {number} leaves at nine.")
    installation.put("long.txt", rules("the long one", 8))
    work_off(installation)
    texts = counting(installation, monkeypatch)
    with client(installation) as api:
        candidate = built(api, installation)
        assert texts
        assert all("the long one" in text for text in texts)
        assert candidate["documents"] == 19
        texts.clear()
        assert told(api) == 0
        reclaimed(api)
        built(api, installation, language="german")
        assert texts == [], "the words are other ones, the texts are not"
        promoted(api)
        stems = installation.rows("select count(*) as n from lexemes l join collections c on c.id = l.collection_id "
                                  "where c.name = 'default' and l.lexeme = 'ferri'")  # fmt: skip
        assert stems == [{"n": 0}]


def test_who_asks_while_it_is_exchanged_sees_one_cut_or_the_other(
    town: Installation, api: TestClient
) -> None:
    built(api, town)
    sides = {town.rows("select id from collections where candidate_of is null")[0]["id"]: "before"}
    sides[seen(api)["id"]] = "after"
    cuts = {
        row["id"]: sides[row["collection_id"]] for row in town.rows("select id, collection_id from chunks")
    }
    mixed: list[set[str]] = []
    found: set[str] = set()
    over = threading.Event()

    def ask(reader: TestClient) -> None:
        while not over.is_set():
            seen_now = {cuts[one["chunk_id"]] for one in answered(reader)}
            found.update(seen_now)
            if len(seen_now) != 1:
                mixed.append(seen_now)

    with client(town) as one, client(town) as another:
        readers = [threading.Thread(target=ask, args=(reader,)) for reader in (one, another)]
        for reader in readers:
            reader.start()
        until(lambda: found)
        for _ in range(3):
            promoted(api)
            rolled_back(api)
        over.set()
        for reader in readers:
            reader.join(60)
    assert mixed == []
    assert found <= {"before", "after"}
    assert found


def changed(town: Installation, word: str) -> None:
    """Something new, something else, something gone, something under other labels, something moved away."""
    town.put(f"new {word}.txt", rules(f"the new {word}"))
    town.put("harbour.txt", rules(f"the harbour after {word}"), {"acl": "harbour"})
    town.put("market.txt", rules("market"), {"acl": "island"})
    town.delete("island.txt" if word == "storm" else "short.txt")
    town.put("bridge.txt", rules("bridge"), {"collection": "roads" if word == "storm" else "default"})
    work_off(town)


def both_right(town: Installation, api: TestClient) -> None:
    candidate = seen(api)
    keys = {row["key"] for row in town.rows("select d.key from documents d join collections c on c.id = d.collection_id "
                                            "where d.published_generation is not null and c.name = 'default'")}  # fmt: skip
    assert (candidate["lacking"], candidate["documents"]) == (0, len(keys))
    assert {row["key"] for row in cut(town, candidate["id"])} == keys
    assert faulty(town) == []


def test_what_changes_while_it_is_built_and_until_it_is_reclaimed_goes_to_both(
    town: Installation, api: TestClient
) -> None:
    made(api)
    town.put("harbour.txt", rules("the harbour of old"), {"acl": "harbour"})
    work_off(town)
    told(api)
    work_off(town)
    changed(town, "storm")
    both_right(town, api)
    promoted(api)
    assert any("after storm" in one["text"] for one in answered(api))
    assert answered(api, collection="roads")
    changed(town, "flood")
    both_right(town, api)
    now = answered(api)
    rolled_back(api)
    both_right(town, api)
    assert any("the new flood" in one["text"] for one in answered(api, "What of the new flood?"))
    assert not any("island" in one["text"] for one in answered(api))
    promoted(api)
    assert answered(api) == now
    reclaimed(api)
    assert faulty(town) == []
    changed(town, "storm")
    assert faulty(town) == []


def test_of_a_deleted_document_nothing_is_left_in_the_candidate(town: Installation, api: TestClient) -> None:
    built(api, town)
    document = town.document("harbour.txt")["id"]
    (stored,) = town.rows("select count(*) as n from chunks where document_id = %s", document)
    town.delete("harbour.txt")
    work_off(town)
    (receipt,) = town.rows("select removed from deletions where document_id = %s", document)
    places = receipt["removed"]
    assert places["index.chunks"]["removed"] == stored["n"]
    assert places["index.vectors.all-MiniLM-L6-v2"]["removed"] == stored["n"]
    for table in ("editions", "chunks", "vectors_1"):
        assert town.rows(f"select 1 from {table} where document_id = %s", document) == []
    with sweeping(town, audit_grace_seconds=0) as sweeper:
        sweeper.sweep()
        assert sweeper.task("audit")["clean"]
    assert faulty(town) == []


def test_the_sweep_takes_what_nobody_will_see_and_leaves_editions(
    town: Installation, api: TestClient
) -> None:
    """Also what lies between the generation that is seen and the one that may be."""
    made(api)
    told(api)
    records = [{"messageId": one["MessageId"], "body": one["Body"]} for one in town.messages()]
    killed_at("edition_begun", 1)
    with pytest.raises(Killed):
        handle({"Records": records}, LambdaContext("ingest", sys.maxsize), town.ingest)
    set_checkpoint_hook(None)
    told(api)
    work_off(town)
    stray = town.rows(
        "insert into chunks (tenant_id, collection_id, document_id, generation, ordinal, text, start_char, end_char,"
        " text_hash, weights) select c.tenant_id, c.collection_id, c.document_id, 2, 0, 'stray', 0, 5, '', c.weights"
        " from chunks c join editions e using (document_id, generation) where e.generation = 3 and c.ordinal = 0"
        " returning id"
    )
    assert len(stray) == 1
    town.rows("update documents set updated_at = now() - interval '2 hours' returning 1")
    with sweeping(town) as sweeper:
        assert sum(sweeper.settle()[kind] for kind in ("missing", "changed", "stuck", "gone")) == 0
    assert town.rows("select 1 from chunks where id = %s", stray[0]["id"]) == []
    assert (seen(api)["lacking"], faulty(town)) == (0, [])


def test_what_was_cut_for_the_collection_as_it_was_is_not_published_after_the_exchange(
    town: Installation, api: TestClient
) -> None:
    built(api, town)
    town.put("late.txt", rules("the late one"))
    (message,) = town.messages()
    batch = {"Records": [{"messageId": "1", "body": message["Body"]}]}
    context = LambdaContext("ingest", sys.maxsize)

    def exchange(point: str) -> None:
        if point == "publishing":
            set_checkpoint_hook(None)
            promoted(api)

    set_checkpoint_hook(exchange)
    try:
        assert handle(batch, context, town.ingest)["batchItemFailures"] == [{"itemIdentifier": "1"}]
    finally:
        set_checkpoint_hook(None)
    assert town.document("late.txt")["published_generation"] is None
    (shown,) = (one for one in api.get("/v1/documents").json()["items"] if one["uri"].endswith("late.txt"))
    assert shown["collection"] == "default"
    assert handle(batch, context, town.ingest) == {"batchItemFailures": []}
    both_right(town, api)
    assert all(len(one["text"].split()) < 40 for one in answered(api, "the late one"))


def test_an_exchange_waits_for_whoever_is_publishing(town: Installation, api: TestClient) -> None:
    """Also for a document that is new, of which there is no row that it could wait for."""
    built(api, town)
    done: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: done.append(promoted(api)))
    with (
        closing(Database(town.url("ragzero_ingest"))) as database,
        database.transaction(town.tenant) as cursor,
    ):
        generations.lock(cursor, uuid.uuid4())
        thread.start()
        until(lambda: town.rows("select 1 from pg_stat_activity where wait_event = 'advisory'"))
        assert done == []
    thread.join(60)
    assert done[0]["kind"] == "promote"
    assert faulty(town) == []


def test_an_upload_does_not_wait_for_an_edition_of_what_it_replaces(
    town: Installation, api: TestClient
) -> None:
    made(api)
    told(api)
    other = build_ingest(town.ingest_settings(), town.embedder)

    def replace(point: str) -> None:
        if point == "edition_staged":
            set_checkpoint_hook(None)
            for key in ("harbour.txt", "market.txt", "island.txt", "bridge.txt", "short.txt"):
                town.put(key, rules(f"the new {key}"))
            own, town.__dict__["ingest"] = town.ingest, other
            work_off(town)
            town.__dict__["ingest"] = own

    set_checkpoint_hook(replace)
    try:
        work_off(town)
    finally:
        set_checkpoint_hook(None)
        other.close()
    both_right(town, api)
    assert all("the new" in row["text"] for row in cut(town, seen(api)["id"]))


def test_a_candidate_that_lacks_documents_is_refused_and_one_that_cannot_have_them_says_so(
    town: Installation, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "_PATIENCE_S", 0.0)
    made(api)
    refused = api.post(f"{PLACE}/default/promote", json={"force_reason": "hurry"})
    assert (refused.status_code, "lacks 5 documents" in refused.text) == (409, True), refused.text
    refused = api.post(f"{PLACE}/default/rollback", json={"reason": "hurry"})
    assert (refused.status_code, "is building" in refused.text) == (409, True)
    refused = api.post(PLACE, json={"chunk_tokens": 64})
    assert (refused.status_code, "32+4" in refused.text) == (409, True)
    monkeypatch.setattr(editions, "chunk", lambda document, embedder, options: [])
    told(api)
    work_off(town)
    assert (seen(api)["lacking"], seen(api)["unreadable"]) == (5, 5)
    assert {one["reason"] for one in seen(api)["refused"]} == {"no_text: the file contains no text"}
    refused = api.post(f"{PLACE}/default/promote", json={"force_reason": "hurry"})
    assert (refused.status_code, "5 of them cannot be read" in refused.text) == (409, True)
    assert faulty(town) == []


def test_a_candidate_is_seen_by_its_own_tenant_alone_and_asked_by_nobody(
    town: Installation, api: TestClient
) -> None:
    built(api, town)
    theirs = bearer(new_key(api, new_tenant(api, "acme"), scopes=["query", "ingest", "admin"])["key"])
    assert api.get(PLACE, headers=theirs).json() == []
    for method, place, body in (
        ("POST", "build", {}),
        ("POST", "promote", {"force_reason": "x"}),
        ("POST", "rollback", {"reason": "x"}),
    ):
        assert api.request(method, f"{PLACE}/default/{place}", json=body, headers=theirs).status_code == 404
    assert api.delete(f"{PLACE}/default", headers=theirs).status_code == 404
    evaluation = {"name": "x", "questions_digest": "0" * 64, "candidate": "default"}
    assert api.post("/v1/evaluations", json=evaluation, headers=theirs).status_code == 404
    assert len(api.get("/v1/collections").json()["items"]) == 1
    assert api.get("/v1/collections/default~").status_code == 422
    asked = api.post("/v1/search", json={"question": "x", "collection": "default~"})
    assert asked.status_code == 422
    writer = bearer(town.api_key)
    assert api.get(PLACE, headers=writer).status_code == 403
    with closing(Database(town.url("ragzero_query"))) as database:
        with database.transaction(town.tenant, local={"app.acl": "island"}) as cursor:
            rows = cursor.execute("select key from candidate_documents order by key").fetchall()
            assert [row["key"] for row in rows] == ["bridge.txt", "island.txt", "short.txt"]
        with database.transaction(uuid.uuid4()) as cursor:
            for table in ("candidate_documents", "editions", "collections", "collection_changes"):
                assert (
                    cursor.execute(sql.SQL("select 1 from {}").format(sql.Identifier(table))).fetchall() == []
                )


def test_a_collection_goes_with_its_candidate(town: Installation, api: TestClient) -> None:
    town.put("ferry.txt", rules("the ferry"), {"collection": "ferries"})
    work_off(town)
    built(api, town, "ferries")
    assert api.delete("/v1/collections/ferries").json()["status"] == "deleted"
    work_off(town)
    assert town.rows("select name from collections") == [{"name": "default"}]
    assert faulty(town) == []


def test_large_documents_go_to_the_embedding_job_which_publishes_nothing(
    town: Installation, api: TestClient, embedder: OnnxEmbedder
) -> None:
    """An event that changes nothing does not take them from it; a delete and a replacement do."""
    before = answered(api)
    lane = town.ingest_settings(cpu_lane_chunks=4, embed_url=NOBODY, embed_key="k" * 16)
    town.ingest.close()
    town.__dict__["ingest"] = build_ingest(lane, embedder)
    made(api)
    assert told(api) == 5
    work_off(town)
    assert (seen(api)["lacking"], seen(api)["documents"]) == (4, 1)
    assert told(api) == 0, "they wait"
    why = api.get("/v1/index/why", params={"key": "harbour.txt"}).json()
    assert (why["code"], answered(api) == before) == ("searchable", True)
    (begun,) = town.rows("select generation from documents where key = 'harbour.txt'")
    town.put("harbour.txt", rules("harbour"), {"acl": "harbour"})
    town.put("market.txt", "The market is closed.")
    town.delete("island.txt")
    work_off(town)
    documents = town.rows(
        "select d.key from embed_waiting w join documents d on d.id = w.document_id order by 1"
    )
    assert [row["key"] for row in documents] == ["bridge.txt", "harbour.txt"]
    assert town.document("harbour.txt")["generation"] == begun["generation"], "it is not made anew"
    with closing(DocumentStore(Database(town.url("ragzero_embed")))) as store:
        waiting = town.document("bridge.txt")["id"]
        (edition,) = town.rows("select generation from editions where document_id = %s", waiting)
        assert store.fail_waiting(town.tenant, waiting, edition["generation"], "embedding_failed", "no power")
    assert (town.document("bridge.txt")["status"], seen(api)["unreadable"]) == ("searchable", 1)
    now = answered(api)
    job = make_job(town, CpuEncoder(embedder))
    assert job.run(sys.maxsize).published == 1
    job.close()
    assert answered(api) == now
    assert (seen(api)["lacking"], seen(api)["documents"]) == (1, 3)
    town.put("bridge.txt", rules("the new bridge"))
    work_off(town)
    job = make_job(town, CpuEncoder(embedder))
    assert job.run(sys.maxsize).published == 1
    job.close()
    both_right(town, api)
    promoted(api)
    assert any("new bridge" in one["text"] for one in answered(api, "the new bridge"))
    assert faulty(town) == []


def evaluated(api: TestClient, questions: dict[str, str], **where: str) -> int:
    """The evaluation of these questions, each with the document that is expected first."""
    new = {"name": "x", "questions_digest": "0" * 64, "k": 1} | where
    run = api.post("/v1/evaluations", json=new)
    assert run.status_code == 201, run.text
    place = f"/v1/evaluations/{run.json()['id']}"
    for number, (question, document) in enumerate(questions.items()):
        asked = {"number": number, "question": question, "documents": [document]}
        assert api.post(f"{place}/questions", json=asked).status_code == 200
    assert api.post(f"{place}/finish").status_code == 200
    return int(run.json()["id"])


TALES = {
    "ada.txt": "Ada looks after the lighthouse on the northern cape, and has done so for the better part of her life."
    " She sweeps the lighthouse stairs every morning before she has had anything to eat herself at all. The lighthouse"
    " lamp is hers to trim, to fill and to wind, whatever the weather and whoever comes to visit. In the evening her"
    " cat sits down on the sill and looks at the gulls that settle on the rocks below. That cat has one white paw and"
    " will not be touched by anybody but her, not even when it is given fish. Once the cat was lost for a week.",
    "market.txt": "The market opens at seven, and whoever comes late finds the best of the apples and the pears sold."
    " There is cheese from the valley, honey from the heath, and rope and nails for those who mend their own boats."
    " In a window: a tin cat and a toy lighthouse. Knives are ground at the corner, umbrellas are mended, and in"
    " autumn a man sells chestnuts from a brazier that he pulls along behind him on two wheels. At noon all is over,"
    " the stalls are folded up, and the square is swept by the boys who are given what could not be sold that day.",
}
TALE = {"The cat and the lighthouse": "ada.txt"}


def test_a_candidate_that_answers_worse_is_refused_and_told_by_how_much(installation: Installation) -> None:
    """In pieces so small that none of them knows what the others are about."""
    for key, text in TALES.items():
        installation.put(key, text)
    work_off(installation)
    with client(installation) as api:
        built(api, installation, chunk_tokens=32, overlap_tokens=0)
        runs = evaluated(api, TALE), evaluated(api, TALE, candidate="default")
        place = f"{PLACE}/default/promote"
        refused = api.post(place, json={"evaluations": [{"before": runs[1], "after": runs[0]}]})
        assert (refused.status_code, "is not a finished one of" in refused.text) == (409, True)
        pair = {"evaluations": [{"before": runs[0], "after": runs[1]}]}
        refused = api.post(place, json=pair)
        assert refused.status_code == 409, refused.text
        assert "recall -1.000, ndcg -1.000" in refused.text
        assert api.post(place, json=pair | {"force_reason": "I know better"}).status_code == 200
        assert api.get(f"{PLACE}/changes").json()[0]["evidence"][0]["worse"] == ["recall", "ndcg"]
        found = api.get(f"/v1/evaluations/{evaluated(api, TALE)}").json()
        assert found["summary"]["recall"] == 0.0, "as the candidate was judged, so the collection is now"


def test_the_whole_change_by_the_commands_people_use(
    town: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAGZERO_ADMIN_KEY", town.admin_key)
    monkeypatch.setattr(rag.console, "_width", 300)
    monkeypatch.setattr(rag_candidate, "sleep", lambda seconds: work_off(town))
    golden = {"question": "Which rules of the harbour are there?", "documents": ["harbour.txt"]}
    (tmp_path / "town.jsonl").write_text(json.dumps(golden))

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["rag", *arguments])
        printed = io.StringIO()  # of no fixture: loggers made meanwhile keep it
        with redirect_stdout(printed), redirect_stderr(printed):
            return rag.main(), printed.getvalue()

    with serving(client(town).app) as url:
        monkeypatch.setenv("RAGZERO_API_URL", url)
        of = ("--collection", "default")
        status, printed = run("index", "plan", *of, "--chunk-tokens", "32")
        assert (status, "rereads documents    yes" in printed, "at most              yes" in printed) == (
            0,
            True,
            True,
        ), printed
        assert "vectors made         0" in run("index", "plan", *of, "--language", "german")[1]
        assert "documents            0" in run("index", "plan", "--collection", "nothing")[1]
        assert run("index", "apply", *of)[0] == 1
        status, printed = run("index", "apply", *of, "--chunk-tokens", "32")
        assert (status, "5 documents" in printed) == (0, True), printed
        assert "32+5/english" in run("index", "candidates")[1]
        assert run("eval", "run", str(tmp_path / "town.jsonl"))[0] == 0
        status, printed = run("eval", "run", str(tmp_path / "town.jsonl"), "--candidate", "default")
        assert (status, "candidate of default" in printed) == (0, True), printed
        assert "no evaluation of both cuts" in run("index", "promote", *of)[1]
        assert "say which" in run("index", "promote", "--force", "x")[1]
        status, printed = run("index", "promote", *of, "--eval", "1:2")
        assert (status, "default is 32+5/english now, it was usual/english" in printed) == (0, True), printed
        assert run("index", "rollback", *of, "--reason", "homesick")[0] == 0
        assert run("index", "promote", *of, "--force", "no time")[0] == 0
        assert "the chunks of 5 documents" in run("index", "reclaim", *of)[1]
        assert run("index", "rollback", *of, "--reason", "too late")[0] == 1
    assert faulty(town) == []


def test_a_change_of_the_model_takes_candidates_along(town: Installation, next_model_dir: Path) -> None:
    """A space that lacks what an exchange would show is not complete."""
    know_both(town, next_model_dir)
    following = OnnxEmbedder.load(next_model_dir)
    with client(town, next_model_dir=next_model_dir) as api:
        built(api, town)
        space = build(town, following)
        town.rows(
            f"delete from vectors_{space} v using editions e where e.document_id = v.document_id"
            " and e.generation = v.generation returning 1"
        )
        refused = api.post(f"/v1/index/spaces/{space}/promote", json={"force_reason": "hurry"})
        assert (refused.status_code, "lacks the vectors" in refused.text) == (409, True), refused.text
        fill(town, space, following.encode)
        town.put("late.txt", rules("the late one"))
        work_off(town)
        assert api.post(f"/v1/index/spaces/{space}/promote", json={"force_reason": "x"}).status_code == 200
        promoted(api)
        assert answered(api, "the late one")
    (lacking,) = town.rows(
        f"select count(*) as n from chunks c where not exists (select from vectors_{space} v where v.chunk_id = c.id)"
    )
    assert (lacking["n"], faulty(town)) == (0, [])


def test_a_backup_brings_back_what_a_collection_was_and_is(
    town: Installation, api: TestClient, databases: Databases, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = answered(api)
    built(api, town)
    promoted(api)
    after = answered(api)
    monkeypatch.setenv("RAGZERO_BACKUP_KEY", "ab" * 32)
    for name, options in (("whole", ["--index"]), ("small", [])):
        monkeypatch.setenv("DATABASE_ADMIN_URL", admin_url(town))
        (tmp_path / name).mkdir()
        assert backup.main(["make", str(tmp_path / name), *options]) == 0
        (file,) = (tmp_path / name).glob("*.backup")
        restored = dataclasses.replace(town, database=databases.create())
        try:
            monkeypatch.setenv("DATABASE_ADMIN_URL", emptied(databases, restored.database))
            assert backup.main(["restore", str(file)]) == 0
            assert faulty(restored) == []
            with client(restored) as theirs:
                if options:
                    assert answered(theirs) == after
                    rolled_back(theirs)
                    assert answered(theirs) == before
                assert seen(theirs)["documents"] == (5 if options else 0)
        finally:
            restored.close()
