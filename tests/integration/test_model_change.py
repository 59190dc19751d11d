"""From one embedding model to another: planned, built beside, evaluated, promoted, rolled back, reclaimed."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from functions.embed.service import EmbedJob
from functions.ingest.handler import handle
from functions.ingest.wiring import build as build_ingest
from functions.query.service import KEYWORDS_ONLY
from scripts import rag
from scripts.local.event_source import LambdaContext
from scripts.migrate import space_of
from shared.adapters.onnx_embedder import OnnxEmbedder
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.filling import FillStore
from shared.adapters.postgres.space_tables import build_index, ensure_space, mark_built, reclaim_space
from shared.core.errors import Conflict, SpaceMismatch
from shared.telemetry.checkpoints import set_checkpoint_hook
from tests.faults.test_embed_job import NOBODY, CpuEncoder
from tests.integration.test_embed_job import make_job
from tests.support.api import serving
from tests.support.installation import Installation
from tests.support.model_change import admin_url, build, fill, know_both, operator, promote, retrieval_space
from tests.support.sweeping import work_off
from tests.support.waiting import until

Run = Callable[..., tuple[int, str]]
TEXTS = {
    "cranes.txt": "The harbour crane lifts forty tonnes. It was built in Gdansk.",
    "lights.txt": "The lighthouse keeper lights the lamp at dusk, every day of the year.",
    "bread.txt": "Bread is baked before dawn, with rye flour from the mill.",
}
QUESTION = "When is the lamp lit in the lighthouse?"


@pytest.fixture(scope="session")
def following(next_model_dir: Path) -> OnnxEmbedder:
    return OnnxEmbedder.load(next_model_dir)


@pytest.fixture
def town(installation: Installation, next_model_dir: Path) -> Installation:
    know_both(installation, next_model_dir)
    for key, text in TEXTS.items():
        installation.put(key, text)
    work_off(installation)
    return installation


@pytest.fixture
def api(town: Installation, next_model_dir: Path) -> Iterator[TestClient]:
    with operator(town, next_model_dir) as made:
        yield made


@pytest.fixture
def run(
    town: Installation,
    next_model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Run]:
    monkeypatch.setenv("RAGZERO_ADMIN_KEY", town.admin_key)
    monkeypatch.setenv("DATABASE_ADMIN_URL", admin_url(town))

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["rag", *arguments])
        monkeypatch.setattr(rag.console, "_width", 300)
        printed = io.StringIO()  # of no fixture: loggers made meanwhile keep it
        with redirect_stdout(printed), redirect_stderr(printed):
            status = rag.main()
        return status, printed.getvalue()

    with serving(operator(town, next_model_dir).app) as url:
        monkeypatch.setenv("RAGZERO_API_URL", url)
        yield run


def know_the_old_one_alone(town: Installation) -> None:
    """Ingest was not given the new model's folder: what it stores goes to the old space alone."""
    town.ingest.close()
    town.__dict__["ingest"] = build_ingest(town.ingest_settings(), town.embedder)


def found(api: TestClient, question: str = QUESTION) -> dict[str, Any]:
    answer = api.post("/v1/search", json={"question": question, "top_k": 3})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_the_whole_change_by_the_commands_people_use(
    town: Installation, run: Run, next_model_dir: Path, tmp_path: Path
) -> None:
    status, printed = run("index", "plan", "--model", str(next_model_dir))
    assert (status, "vectors made         3" in printed) == (0, True), printed
    status, printed = run("index", "apply", "--model", str(next_model_dir))
    assert (status, "3 texts embedded, 0 vectors reused" in printed) == (0, True), printed
    assert "vectors made         0" in run("index", "plan", "--model", str(next_model_dir))[1]

    status, printed = run("index", "promote", "2")
    assert (status, "no evaluation of both spaces" in printed) == (1, True), printed
    (tmp_path / "town.jsonl").write_text(json.dumps({"question": QUESTION, "documents": ["lights.txt"]}))
    for space in ("1", "2"):
        assert run("eval", "run", str(tmp_path / "town.jsonl"), "--space", space)[0] == 0
    assert run("eval", "compare", "1", "2")[0] == 0
    status, printed = run("index", "promote", "2", "--eval", "2:1")
    assert (status, "is not a finished one of space 1" in printed) == (1, True), printed
    assert retrieval_space(town) == 1
    assert run("index", "promote", "2", "--eval", "1:2")[0] == 0
    assert retrieval_space(town) == 2
    assert "the active one already" in run("index", "promote", "2", "--force", "again")[1]

    assert run("index", "rollback", "--reason", "homesick")[0] == 0
    assert retrieval_space(town) == 1
    assert run("index", "promote", "2", "--force", "no time")[0] == 0
    status, printed = run("index", "reclaim", "2")
    assert (status, "is the active one" in printed) == (1, True)
    assert run("index", "reclaim", "1")[0] == 0
    (left,) = town.rows("select to_regclass('vectors_1') as rows, to_regproc('nearest_1') as function")
    assert (left["rows"], left["function"]) == (None, None)
    assert run("index", "rollback", "--reason", "too late")[0] == 1
    changes = town.rows("select kind, to_space, forced_because, evidence from space_changes order by id")
    assert [(one["kind"], one["to_space"], one["forced_because"]) for one in changes] == [
        ("promote", 2, None),
        ("rollback", 1, "homesick"),
        ("promote", 2, "no time"),
    ]
    assert changes[0]["evidence"][0]["changes"]["recall"] == 0


def test_a_running_api_goes_over_to_the_new_space_with_the_next_question(
    town: Installation, api: TestClient, following: OnnxEmbedder
) -> None:
    before = found(api)
    promote(api, build(town, following))
    after = found(api)
    assert [one["uri"] for one in after["results"][:1]] == [one["uri"] for one in before["results"][:1]]
    assert [one["score"] for one in after["results"]] != [one["score"] for one in before["results"]]
    assert not after["warnings"]
    assert api.post("/v1/index/spaces/rollback", json={"reason": "a test"}).status_code == 200
    assert [one["score"] for one in found(api)["results"]] == [one["score"] for one in before["results"]]


def test_an_api_without_the_new_model_searches_keywords_alone_and_says_so(
    town: Installation, api: TestClient, following: OnnxEmbedder
) -> None:
    with operator(town) as left_behind:
        assert not found(left_behind)["warnings"]
        space = build(town, following)
        refused = left_behind.post(
            "/v1/evaluations", json={"name": "x", "questions_digest": "0" * 64, "space": space}
        ).json()
        asked = left_behind.post(
            f"/v1/evaluations/{refused['id']}/questions", json={"number": 0, "question": "x"}
        )
        assert (asked.status_code, "RAGZERO_NEXT_MODEL_DIR" in asked.text) == (409, True)
        promote(api, space)
        body = found(left_behind)
        assert (body["warnings"], body["retrieval"]) == ([KEYWORDS_ONLY], "exact_keywords")


def test_what_came_after_the_build_is_made_before_the_change(
    town: Installation, api: TestClient, following: OnnxEmbedder
) -> None:
    space = build(town, following)
    know_the_old_one_alone(town)
    town.put("new.txt", "The ferry leaves at nine.")
    town.put("cranes.txt", "The crane was sold, and lifts nothing any more.")
    work_off(town)
    assert [one["lacking"] for one in api.get("/v1/index/spaces").json()] == [0, 2]
    refused = api.post(f"/v1/index/spaces/{space}/promote", json={"force_reason": "hurry"})
    assert (refused.status_code, "2 chunks" in refused.text) == (409, True)
    assert retrieval_space(town) == 1
    filled = fill(town, space, following.encode)
    assert (filled.embedded, filled.complete) == (2, True)
    promote(api, space)
    assert found(api, "When does the ferry leave?")["results"][0]["text"] == "The ferry leaves at nine."


def test_what_is_uploaded_during_a_change_goes_to_both_spaces_by_itself(
    town: Installation, api: TestClient, following: OnnxEmbedder, next_model_dir: Path
) -> None:
    """Small and large, new and replaced; and to the old space after the change, so that there is a way back."""
    lane = town.ingest_settings(
        cpu_lane_chunks=4, embed_url=NOBODY, embed_key="k" * 16, next_model_dir=next_model_dir
    )
    town.ingest.close()
    town.__dict__["ingest"] = build_ingest(lane, town.embedder)
    space = build(town, following)
    for promoted in (False, True):
        town.put("new.txt", f"The ferry leaves at nine. {promoted}")
        town.put("cranes.txt", f"The crane was sold, and lifts nothing any more. {promoted}")
        text = "\n\n".join(f"# Part {n}\n\nTide {n} rose {n} feet. {promoted}" for n in range(8))
        town.put("tides.md", text)
        work_off(town)
        job = make_job(town, CpuEncoder(following if promoted else town.embedder))
        assert job.run(sys.maxsize).published == 1
        job.close()
        assert [one["lacking"] for one in api.get("/v1/index/spaces").json()] == [0, 0]
        if not promoted:
            promote(api, space)
    assert api.post("/v1/index/spaces/rollback", json={"reason": "a test"}).status_code == 200
    assert found(api, "When does the ferry leave?")["results"][0]["uri"].endswith("new.txt")


def test_a_space_that_answers_worse_is_refused_unless_somebody_says_why(
    town: Installation, api: TestClient, following: OnnxEmbedder
) -> None:
    space = build(town, following)
    for key in ("a", "b", "c"):
        town.put(f"{key}.txt", f"Nothing of note was seen on day {key}.")
    work_off(town)
    fill(town, space, following.encode)
    _spoil(town, space)
    questions = {
        "Who illuminates a beacon at nightfall?": ["lights.txt"],
        "What do bakers use?": ["bread.txt"],
    }
    runs = [evaluated(api, where, questions) for where in (1, space)]
    body: dict[str, Any] = {"evaluations": [{"before": runs[0], "after": runs[1]}]}
    refused = api.post(f"/v1/index/spaces/{space}/promote", json=body)
    assert (refused.status_code, "recall, ndcg" in refused.text) == (409, True), refused.text
    assert api.post(f"/v1/index/spaces/{space}/promote", json=body | {"margin": 1.0}).status_code == 200
    assert api.post("/v1/index/spaces/rollback", json={"reason": "as was said"}).status_code == 200
    forced = api.post(f"/v1/index/spaces/{space}/promote", json=body | {"force_reason": "I know better"})
    assert forced.json()["forced_because"] == "I know better"
    assert forced.json()["evidence"][0]["worse"] == ["recall", "ndcg"]


def evaluated(api: TestClient, space: int, questions: dict[str, list[str]]) -> int:
    """The evaluation of these questions, each with the documents that are expected."""
    new = {"name": "x", "questions_digest": "0" * 64, "space": space, "k": 1}
    id = int(api.post("/v1/evaluations", json=new).json()["id"])
    for number, (question, documents) in enumerate(questions.items()):
        asked = {"number": number, "question": question, "documents": documents}
        assert api.post(f"/v1/evaluations/{id}/questions", json=asked).status_code == 200
    assert api.post(f"/v1/evaluations/{id}/finish").json()["summary"]["questions"] == len(questions)
    return id


def test_questions_without_expectations_are_no_reason_to_promote(
    town: Installation, api: TestClient, following: OnnxEmbedder
) -> None:
    """A replay tells how much is found by both. Together with a golden set, both have to be good enough."""
    space = build(town, following)
    recent: dict[str, list[str]] = {"Who illuminates a beacon at nightfall?": [], "What do bakers use?": []}
    replay, golden = (
        {"before": evaluated(api, 1, asked), "after": evaluated(api, space, asked)}
        for asked in (recent, {QUESTION: ["lights.txt"]})
    )
    path = f"/v1/index/spaces/{space}/promote"
    refused = api.post(path, json={"evaluations": [replay]})
    assert (refused.status_code, "which documents were expected" in refused.text) == (409, True)
    _spoil(town, space)
    replay["after"] = evaluated(api, space, recent)
    refused = api.post(path, json={"evaluations": [replay, golden], "least_overlap": 0.5})
    assert (refused.status_code, "overlap (evaluations" in refused.text) == (409, True), refused.text
    assert api.post(path, json={"evaluations": [replay, golden]}).status_code == 200


def _spoil(town: Installation, space: int) -> None:
    """Each chunk gets the vector of another one."""
    town.rows(
        f"""with shifted as (
                select chunk_id, lead(embedding, 1, (select embedding from vectors_{space} order by chunk_id limit 1))
                       over (order by chunk_id) as embedding
                from vectors_{space})
            update vectors_{space} v set embedding = s.embedding from shifted s where s.chunk_id = v.chunk_id
            returning 1"""
    )


def test_what_was_made_for_the_old_space_is_not_published_after_the_change(
    town: Installation, api: TestClient, following: OnnxEmbedder
) -> None:
    """Ingest is about to publish when another space becomes the active one: it does the work again with its vectors."""
    space = build(town, following)
    town.put("late.txt", "The tide turned at noon.")
    (message,) = town.messages()

    def change(point: str) -> None:
        if point == "publishing":
            set_checkpoint_hook(None)
            promote(api, space)

    batch = {"Records": [{"messageId": "1", "body": message["Body"]}]}
    context = LambdaContext("ingest", sys.maxsize)
    set_checkpoint_hook(change)
    try:
        assert handle(batch, context, town.ingest)["batchItemFailures"] == [{"itemIdentifier": "1"}]
    finally:
        set_checkpoint_hook(None)
    assert town.document("late.txt")["published_generation"] is None
    assert handle(batch, context, town.ingest) == {"batchItemFailures": []}
    assert found(api, "When did the tide turn?")["results"][0]["text"] == "The tide turned at noon."
    assert town.rows(
        f"select 1 from vectors_{space} v join documents d on d.id = v.document_id where d.key = 'late.txt'"
    )


def test_an_embedding_job_of_the_old_model_takes_and_stores_nothing_after_the_change(
    town: Installation, api: TestClient, following: OnnxEmbedder, embedder: OnnxEmbedder
) -> None:
    """What waits is embedded by a job of the new model; what the fill made of it already, not once more."""
    lane = town.ingest_settings(cpu_lane_chunks=0, embed_url=NOBODY, embed_key="k" * 16)
    town.ingest.close()
    town.__dict__["ingest"] = build_ingest(lane, embedder)
    town.put("tides.md", "\n\n".join(f"# Part {n}\n\nTide {n} rose {n} feet." for n in range(12)))
    work_off(town)
    space = build(town, following)
    old: EmbedJob = make_job(town, CpuEncoder(embedder))
    assert old._reading.space() == old._writing.space()
    (claimed,) = old._reading.claim(256, 60, 5)
    rows = old._reading.read(claimed)
    promote(api, space)
    with pytest.raises(SpaceMismatch):
        old._writing.store(claimed, [id for id, _ in rows], embedder.encode([text for _, text in rows]))
    assert old._reading.claim(256, 60, 5) == []
    old._reading.give_back([claimed])
    old.close()
    new = make_job(town, CpuEncoder(following))
    report = new.run(sys.maxsize)
    new.close()
    assert (report.chunks, report.published, report.failed) == (0, 1, 0)
    assert town.document("tides.md")["status"] == "searchable"


def test_filling_embeds_each_text_once_and_reuses_what_the_space_has(
    town: Installation, following: OnnxEmbedder
) -> None:
    """Nine of ten sections are what they were: a tenth is embedded, by ingest and by the fill."""
    seen: list[str] = []

    def encode(texts: Sequence[str]) -> Any:
        seen.extend(texts)
        return following.encode(texts)

    def sections(changed: str) -> str:
        return "\n\n".join(
            f"# Section {n}\n\n" + f"The {changed if n == 3 else 'old'} rule number {n} holds. " * 40
            for n in range(10)
        )

    town.put("rules.md", sections("old"))
    town.put("copy.md", sections("old"))
    work_off(town)
    space = build(town, following)
    chunks = town.rows("select count(distinct text_hash) as n from chunks")[0]["n"]
    stored = town.rows(f"select count(distinct text_hash) as n from vectors_{space}")[0]["n"]
    assert chunks == stored
    know_the_old_one_alone(town)
    town.put("rules.md", sections("new"))
    work_off(town)
    fill(town, space, encode)
    assert 0 < len(seen) <= 0.15 * chunks + 1
    assert all("new rule" in text for text in seen)


def test_a_document_deleted_while_its_vectors_are_stored_is_left_out(
    town: Installation, following: OnnxEmbedder
) -> None:
    """The insert waits for the delete that came first; its row is gone then, and the others' vectors are stored."""
    space = ensure_space(admin_url(town), space_of(following.manifest))
    ids = [row["id"] for row in town.rows("select id from chunks order by id")]
    storing: dict[str, int] = {}

    def store() -> None:
        with closing(FillStore(Database(town.url("ragzero_embed")), space)) as fills:
            storing["new"] = fills.store(town.tenant, ids, following.encode(["a text"] * len(ids)))

    with psycopg.connect(admin_url(town)) as deleting:
        deleting.execute("delete from chunks where id = %s", (ids[0],))
        thread = threading.Thread(target=store)
        thread.start()
        until(lambda: town.rows("select 1 from pg_stat_activity where wait_event_type = 'Lock'"), 60)
        deleting.commit()
    thread.join(60)
    assert storing == {"new": len(ids) - 1}


def test_an_index_whose_build_was_interrupted_is_built_anew(
    town: Installation, following: OnnxEmbedder
) -> None:
    admin = admin_url(town)
    space = ensure_space(admin, space_of(following.manifest))
    fill(town, space, following.encode)
    build_index(admin, space)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(
            "update pg_index set indisvalid = false where indexrelid = %s::regclass",
            [f"vectors_{space}_hnsw"],
        )
    build_index(admin, space)
    (row,) = town.rows(
        "select indisvalid from pg_index where indexrelid = %s::regclass", f"vectors_{space}_hnsw"
    )
    assert row["indisvalid"]
    assert ensure_space(admin, space_of(following.manifest)) == space


def test_a_space_that_is_not_built_cannot_become_the_active_one(
    installation: Installation, following: OnnxEmbedder
) -> None:
    space = ensure_space(admin_url(installation), space_of(following.manifest))
    with operator(installation) as api:
        refused = api.post(f"/v1/index/spaces/{space}/promote", json={"force_reason": "hurry"})
        assert (refused.status_code, "not built" in refused.text) == (409, True)
        assert api.post("/v1/index/spaces/9/promote", json={"force_reason": "x"}).status_code == 404
        mark_built(admin_url(installation), space)
        promote(api, space)
    with pytest.raises(Conflict):
        reclaim_space(admin_url(installation), space)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/index/spaces"),
        ("GET", "/v1/index/plan"),
        ("GET", "/v1/index/spaces/changes"),
        ("POST", "/v1/index/spaces/1/promote"),
        ("POST", "/v1/index/spaces/rollback"),
    ],
)
def test_spaces_are_for_admins(quiet_api: TestClient, method: str, path: str) -> None:
    assert (
        quiet_api.request(method, path, json={"reason": "x"} if method == "POST" else None).status_code == 403
    )
