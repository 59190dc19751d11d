"""Large documents: handed over by ingest, embedded and published by the job, with the CPU lane's vectors."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from fastapi.testclient import TestClient
from pgvector import HalfVector
from starlette.testclient import TestClient as PlainClient

from functions.embed import wiring
from functions.embed.encoder import CPU_BATCH_TOKENS, MOST_BATCH_TOKENS, TorchEncoder, token_budget
from functions.embed.probe import probe
from functions.embed.service import EmbedJob, Report
from functions.embed.wake import create_app
from functions.ingest.wiring import build as build_ingest
from scripts.local.process import accepts
from scripts.local.stack import EmbedWorker
from scripts.model_build import find_model
from shared.adapters.knock import Knock
from shared.adapters.onnx_embedder import Manifest, OnnxEmbedder
from shared.core.backlog import Pace, containers
from shared.core.errors import BadUpstream, ConfigurationError, SpaceMismatch, Unavailable
from shared.settings import EmbedModelSettings, EmbedSettings, IngestSettings
from tests.integration.test_delivery import send
from tests.support.installation import Installation
from tests.support.waiting import PATIENCE_S, until

KEY = "the-key-of-the-embed-tests"
PATIENT = Pace(500, 120, 4)


class Door:
    """What ingest knocks on: a server that notes the knocks."""

    def __init__(self) -> None:
        self.knocks: list[tuple[str | None, dict[str, Any]]] = []
        self.status = 202
        door = self

        class Answers(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                door.knocks.append((self.headers["Authorization"], json.loads(body)))
                self.send_response(door.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server.server_port}/wake"


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def knocking(installation: Installation, door: Door) -> Installation:
    """An installation whose CPU lane takes four chunks at most."""
    settings = installation.ingest_settings(cpu_lane_chunks=4, embed_url=door.url, embed_key=KEY)
    installation.__dict__["ingest"] = build_ingest(settings, installation.embedder)
    return installation


@pytest.fixture(scope="session")
def manifest(model_dir: Path) -> Manifest:
    return Manifest.read(model_dir)


@pytest.fixture(scope="session")
def encoder(manifest: Manifest) -> TorchEncoder:
    encoder = TorchEncoder.load(manifest, str(find_model("all-MiniLM-L6-v2")))
    encoder.place("cpu")
    return encoder


@pytest.fixture
def broken_encoder(encoder: TorchEncoder) -> TorchEncoder:
    """One of its own, for tests that break it."""
    return copy.deepcopy(encoder)


def make_job(installation: Installation, encoder: Any, **settings: Any) -> EmbedJob:
    made = {"database_url": installation.url("ragzero_embed"), "patience_seconds": 0} | settings
    return wiring.build(EmbedSettings(**made), lambda: encoder)


def run(installation: Installation, encoder: Any, seconds: float = 60, **settings: Any) -> Report:
    job = make_job(installation, encoder, **settings)
    try:
        return job.run(time.monotonic() + seconds)
    finally:
        job.close()


def sections(count: int, subject: str = "crane") -> str:
    return "\n\n".join(
        f"# Section {n}\n\nThe {subject} number {n} lifts {n * 3 + 1} tonnes over the quay."
        for n in range(count)
    )


def hand_over(installation: Installation, key: str, count: int, subject: str = "crane") -> None:
    installation.put(key, sections(count, subject))
    installation.deliver()
    assert work(installation), installation.document(key)


def work(installation: Installation) -> list[dict[str, Any]]:
    return installation.rows("select * from embed_work order by id")


def count(installation: Installation, table: str) -> int:
    return int(installation.rows(f"select count(*) as n from {table}")[0]["n"])


def visible(installation: Installation) -> set[str]:
    rows = installation.rows(
        "select c.text from chunks c join documents d on d.id = c.document_id "
        "and d.published_generation = c.generation join vectors_1 v on v.chunk_id = c.id"
    )
    return {row["text"] for row in rows}


def test_a_large_document_waits_for_the_job_which_publishes_it(
    knocking: Installation, door: Door, encoder: TorchEncoder, api: TestClient
) -> None:
    knocking.put("cranes.md", sections(200), {"site": "north"})
    knocking.deliver()
    document = knocking.document("cranes.md")
    assert document["status"] == "processing"
    assert document["timeline"][-1]["detail"] == "waiting for the embedding job: 200 chunks"
    assert document["lease_until"] is None
    assert door.knocks == [(f"Bearer {KEY}", {"containers": 1})]
    assert visible(knocking) == set()
    epoch = knocking.epoch()
    report = run(knocking, encoder)
    assert (report.chunks, report.published, report.failed, report.lost) == (200, 1, 0, 0)
    assert report.encode_seconds > 0
    assert 0 <= report.padding_waste < 0.5
    assert report.chunks_per_second > 0
    document = knocking.document("cranes.md")
    assert (document["status"], document["chunks"], document["staged"]) == ("searchable", 200, None)
    assert document["metadata"] == {"site": "north"}
    assert knocking.epoch() == epoch + 1
    assert knocking.rows("select documents, chunks from collections") == [{"documents": 1, "chunks": 200}]
    assert count(knocking, "vectors_1") == 200
    assert count(knocking, "embed_waiting") == count(knocking, "embed_work") == 0
    answer = api.post(
        "/v1/query", json={"question": "How much does crane number 77 lift?", "filter": {"site": "north"}}
    ).json()
    assert "232 tonnes" in answer["answer"]


def test_its_vectors_are_those_of_the_cpu_lane(
    knocking: Installation, encoder: TorchEncoder, embedder: OnnxEmbedder
) -> None:
    text = (
        sections(40)
        + "\n\n# Lang\n\n"
        + "Ein längerer Absatz über Kräne, 起重机 und 🏗️. " * 60
        + "\ud83d".encode("utf-8", "replace").decode()
    )
    knocking.put("mixed.md", text)
    knocking.deliver()
    run(knocking, encoder)
    rows = knocking.rows(
        "select c.headings, c.text, v.embedding::text as vector from chunks c join vectors_1 v on v.chunk_id = c.id"
    )
    seen = [
        " > ".join(row["headings"]) + "\n" + row["text"] if row["headings"] else row["text"] for row in rows
    ]
    stored = np.array([HalfVector.from_text(row["vector"]).to_list() for row in rows], np.float32)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    assert len(rows) > 40
    assert (stored * embedder.encode(seen)).sum(axis=1).min() >= 0.999


def test_a_small_document_never_waits(knocking: Installation, door: Door) -> None:
    knocking.put("small.md", sections(4))
    knocking.deliver()
    assert knocking.document("small.md")["status"] == "searchable"
    assert door.knocks == []
    assert work(knocking) == []


def test_a_lost_knock_costs_time_only(knocking: Installation, door: Door, encoder: TorchEncoder) -> None:
    door.status = 503
    hand_over(knocking, "cranes.md", 6)
    assert len(door.knocks) == 1
    assert run(knocking, encoder).published == 1


def test_an_event_that_comes_again_while_the_document_waits_does_nothing(
    knocking: Installation, encoder: TorchEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    knocking.put("cranes.md", sections(6))
    (body,) = [m["Body"] for m in knocking.messages() if "TestEvent" not in m["Body"]]
    assert send(knocking, body) == []
    before, waiting = knocking.document("cranes.md"), work(knocking)
    monkeypatch.setattr(knocking.ingest._parsers, "parse", None)
    assert send(knocking, body, body) == []
    assert (knocking.document("cranes.md"), work(knocking)) == (before, waiting)
    assert run(knocking, encoder).published == 1
    assert send(knocking, body) == []
    assert knocking.document("cranes.md")["generation"] == 1


def test_overwritten_while_it_waits_only_the_newer_text_is_embedded(
    knocking: Installation, encoder: TorchEncoder
) -> None:
    hand_over(knocking, "cranes.md", 8)
    hand_over(knocking, "cranes.md", 6, subject="ferry")
    assert {row["generation"] for row in work(knocking)} == {2}
    report = run(knocking, encoder)
    assert (report.chunks, report.published) == (6, 1)
    assert all("ferry" in text for text in visible(knocking))
    assert len(visible(knocking)) == count(knocking, "chunks") == 6


def test_an_overwritten_document_stays_searchable_until_the_newer_one_is(
    knocking: Installation, encoder: TorchEncoder
) -> None:
    hand_over(knocking, "cranes.md", 8)
    run(knocking, encoder)
    hand_over(knocking, "cranes.md", 6, subject="ferry")
    assert all("crane" in text for text in visible(knocking))
    run(knocking, encoder)
    assert all("ferry" in text for text in visible(knocking))
    assert count(knocking, "chunks") == count(knocking, "vectors_1") == 6


@pytest.mark.parametrize("way", ["put", "version deleted"])
def test_put_back_to_what_is_published_while_the_change_waits(
    knocking: Installation, encoder: TorchEncoder, way: str
) -> None:
    """The newer generation must not be published any more: the object is the older one again."""
    hand_over(knocking, "cranes.md", 8)
    run(knocking, encoder)
    hand_over(knocking, "cranes.md", 6, subject="ferry")
    if way == "put":
        knocking.put("cranes.md", sections(8))
    else:
        where = {"Bucket": knocking.intake.bucket, "Key": "cranes.md"}
        s3 = knocking.aws.client("s3")
        s3.delete_object(**where, VersionId=s3.head_object(**where)["VersionId"])
    knocking.deliver()
    assert work(knocking) == []
    assert run(knocking, encoder).published == 0
    assert all("crane" in text for text in visible(knocking))
    assert knocking.document("cranes.md")["status"] == "searchable"


@pytest.mark.parametrize("way", ["bucket", "api"])
def test_deleted_while_it_waits_it_never_becomes_visible(
    knocking: Installation, encoder: TorchEncoder, api: TestClient, way: str
) -> None:
    hand_over(knocking, "cranes.md", 6)
    if way == "api":
        api.delete(f"/v1/documents/{knocking.document('cranes.md')['id']}")
    else:
        knocking.delete("cranes.md")
    knocking.deliver()
    assert (count(knocking, "embed_waiting"), work(knocking)) == (0, [])
    assert run(knocking, encoder).chunks == 0
    assert visible(knocking) == set()
    assert knocking.document("cranes.md")["status"] == "deleted"


def test_an_event_that_comes_to_nothing_does_not_orphan_what_waits(
    knocking: Installation, encoder: TorchEncoder
) -> None:
    """A worker claimed the document, could not reach the bucket and let go: the job still publishes."""
    hand_over(knocking, "cranes.md", 6)
    store, bucket = knocking.ingest._store, knocking.intake.bucket
    claim = store.observe(knocking.tenant, bucket, [("cranes.md", "")], 60)[0].claim
    assert claim is not None
    store.release(claim)
    assert run(knocking, encoder).published == 1


def test_vectors_of_an_abandoned_generation_are_reused(knocking: Installation, encoder: TorchEncoder) -> None:
    hand_over(knocking, "cranes.md", 8)
    job = make_job(knocking, encoder)
    (claimed,) = job._reading.claim(256, 60, 5)
    rows = job._reading.read(claimed)
    ids = [id for id, _ in rows][:5]
    # a slice half done, as far as the vectors go
    knocking.rows(
        "insert into vectors_1 select id, tenant_id, collection_id, document_id, generation, text_hash, "
        "array_fill(0.1, array[384])::real[]::vector::halfvec from chunks where id = any(%s) returning 1",
        ids,
    )
    job.close()
    knocking.put("cranes.md", sections(9))
    knocking.deliver()
    assert [row["chunks"] for row in work(knocking)] in ([4], []), work(knocking)
    run(knocking, encoder)
    assert len(visible(knocking)) == 9


# --- several jobs ---


class Counting:
    """The real encoder, with a note of all it was asked for."""

    def __init__(self, encoder: TorchEncoder) -> None:
        self._encoder = encoder
        self.texts: list[str] = []
        self._one_at_a_time = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, texts: Sequence[str], between: Callable[[], None]) -> Any:
        with self._one_at_a_time:
            self.texts += texts
            return self._encoder.encode(texts, between)


class Meeting(Counting):
    """Two who use it both have something to embed before either does."""

    def __init__(self, encoder: TorchEncoder) -> None:
        super().__init__(encoder)
        self._met: set[int] = set()
        self._both = threading.Barrier(2)

    def encode(self, texts: Sequence[str], between: Callable[[], None]) -> Any:
        if (me := threading.get_ident()) not in self._met:
            self._met.add(me)
            self._both.wait(PATIENCE_S)
        return super().encode(texts, between)


def test_two_jobs_share_a_backlog_without_meeting(knocking: Installation, encoder: TorchEncoder) -> None:
    for number in range(12):
        knocking.put(f"{number}.md", sections(30, f"crane of yard {number}"))
    knocking.deliver()
    assert sum(row["chunks"] for row in work(knocking)) == 360
    epoch, counting = knocking.epoch(), Meeting(encoder)
    reports: list[Report] = []

    def one() -> None:
        reports.append(run(knocking, counting, patience_seconds=5))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.lost for report in reports] == [0, 0]
    assert sum(report.chunks for report in reports) == len(counting.texts) == len(set(counting.texts)) == 360
    assert sum(report.published for report in reports) == 12
    assert all(report.chunks for report in reports), reports
    assert knocking.epoch() == epoch + 12
    assert len(visible(knocking)) == 360


# --- encoders that are not what they should be (F10) ---


def break_model(encoder: TorchEncoder, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Any], Any]) -> None:
    """Have the model's output pass through spoil."""
    real = encoder._model

    def spoiled(features: Any) -> Any:
        return {"sentence_embedding": spoil(real(features)["sentence_embedding"])}

    monkeypatch.setattr(encoder, "_model", spoiled)


def not_a_number(output: Any) -> Any:
    output[0, 7] = float("nan")
    return output


FAULTS: dict[str, Callable[[Any], Any]] = {
    "too few": lambda output: output[:-1],
    "too many": lambda output: output.repeat(2, 1),
    "not a number": not_a_number,
    "wrong dimension": lambda output: output[:, :-1],
    "zero": lambda output: output * 0,
    "another order": lambda output: output.flip(0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_f10_a_batch_with_a_fault_is_refused_whole(
    knocking: Installation, broken_encoder: TorchEncoder, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """An encoder that fails on its probes, too, ends the run; nobody's document is blamed."""
    hand_over(knocking, "cranes.md", 12)
    break_model(broken_encoder, monkeypatch, FAULTS[fault])
    with pytest.raises(SpaceMismatch):
        run(knocking, broken_encoder)
    assert count(knocking, "vectors_1") == 0
    (slice,) = work(knocking)
    assert (slice["attempts"], slice["lease_until"], slice["last_error"]) == (0, None, None)
    assert knocking.document("cranes.md")["status"] == "processing"


@pytest.mark.parametrize("fault", FAULTS)
def test_f10_the_encoder_notices_each_fault_itself(
    broken_encoder: TorchEncoder, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    break_model(broken_encoder, monkeypatch, FAULTS[fault])
    with pytest.raises(BadUpstream):
        broken_encoder.encode([f"text number {n}" for n in range(9)])


def test_a_text_that_always_fails_fails_its_document_alone(
    knocking: Installation, encoder: TorchEncoder, api: TestClient
) -> None:
    """I6: five tries, then a reason; the others, taken together with it at first, are published."""

    class Picky(Counting):
        def encode(self, texts: Sequence[str], between: Callable[[], None]) -> Any:
            if any("anvil" in text for text in texts):
                self.texts += texts
                raise BadUpstream("encoder", "cannot take the word anvil")
            return super().encode(texts, between)

    for key, subject in (("good.md", "crane"), ("bad.md", "anvil"), ("fine.md", "ferry")):
        knocking.put(key, sections(6, subject))
    knocking.deliver()
    picky = Picky(encoder)
    report = run(knocking, picky, max_attempts=3)
    assert (report.published, report.failed, report.chunks) == (2, 1, 12)
    assert sum("anvil number 0 " in text for text in picky.texts) == 3
    bad = knocking.document("bad.md")
    assert (bad["status"], bad["reason_code"]) == ("failed", "embedding_failed")
    assert bad["reason"] == "embedding failed 3 times; the last time: cannot take the word anvil"
    assert count(knocking, "chunks") == 12
    assert (count(knocking, "embed_waiting"), work(knocking)) == (0, [])


def test_an_encoder_of_another_space_refuses_before_it_claims(
    knocking: Installation, encoder: TorchEncoder, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over(knocking, "cranes.md", 6)
    monkeypatch.setattr(encoder, "manifest", replace(manifest, max_tokens=128))
    with pytest.raises(SpaceMismatch, match="the active one is"):
        run(knocking, encoder)
    assert [row["token"] for row in work(knocking)] == [0]


def test_a_model_that_misses_the_probes_is_not_placed(manifest: Manifest) -> None:
    import torch

    encoder = TorchEncoder.load(manifest, str(find_model("all-MiniLM-L6-v2")))
    weights: Any = encoder._model[0].auto_model.encoder.layer[5].output.dense.weight
    with torch.no_grad():
        weights.add_(torch.randn(weights.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    with pytest.raises(SpaceMismatch, match="no precision on cpu"):
        encoder.place("cpu")


def test_out_of_memory_halves_the_batch_and_changes_no_vector(
    encoder: TorchEncoder, broken_encoder: TorchEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    texts = [f"crane number {n} " * (n % 20 + 1) for n in range(64)]
    real, sizes = broken_encoder._model, []

    def small_memory(features: Any) -> Any:
        sizes.append(features["input_ids"].numel())
        if sizes[-1] > 200:
            raise torch.OutOfMemoryError("no memory left")
        return real(features)

    monkeypatch.setattr(broken_encoder, "_model", small_memory)
    found = broken_encoder.encode(texts)
    assert (found * encoder.encode(texts)).sum(axis=1).min() > 0.9995
    assert sum(size > 200 for size in sizes) <= 6
    assert broken_encoder.batch_tokens < CPU_BATCH_TOKENS


def test_a_text_that_does_not_fit_at_all_is_an_error(
    broken_encoder: TorchEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_features: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(broken_encoder, "_model", full)
    with pytest.raises(BadUpstream, match="does not fit into the memory of cpu"):
        broken_encoder.encode(["crane"])


@pytest.mark.parametrize(
    ("free", "per_token", "tokens"),
    [(16 * 2**30, 50_000, MOST_BATCH_TOKENS), (2**30, 50_000, 10_737), (0, 50_000, CPU_BATCH_TOKENS)],
)
def test_the_first_batch_is_as_large_as_half_of_the_memory(free: int, per_token: float, tokens: int) -> None:
    assert token_budget(free, per_token) == tokens


# --- an end that comes early ---


def test_after_its_deadline_a_job_claims_nothing(knocking: Installation, encoder: TorchEncoder) -> None:
    hand_over(knocking, "cranes.md", 6)
    assert run(knocking, encoder, seconds=-1).chunks == 0
    assert [(row["token"], row["attempts"]) for row in work(knocking)] == [(0, 0)]


def test_a_job_that_is_stopped_hands_its_leases_back(knocking: Installation, encoder: TorchEncoder) -> None:
    hand_over(knocking, "cranes.md", 40)

    class Interrupting(Counting):
        def encode(self, texts: Sequence[str], between: Callable[[], None]) -> Any:
            job.stop()
            return super().encode(texts, between)

    job = make_job(knocking, Interrupting(encoder))
    report = job.run(time.monotonic() + 60)
    job.close()
    assert report.chunks == 0
    assert [(row["attempts"], row["lease_until"]) for row in work(knocking)] == [(0, None)]
    assert run(knocking, encoder).published == 1


def test_a_job_without_work_needs_no_encoder(knocking: Installation) -> None:
    assert run(knocking, None, seconds=600, patience_seconds=600).seconds < 60


# --- the role ---


def test_the_jobs_role_can_do_just_its_work(knocking: Installation, encoder: TorchEncoder) -> None:
    hand_over(knocking, "cranes.md", 6)
    forbidden = [
        "select * from api_keys",
        "insert into documents (tenant_id, collection_id, bucket, key) values (gen_random_uuid(), 1, 'b', 'k')",
        "insert into embed_work (tenant_id, document_id, generation, first_ordinal, last_ordinal, chunks)"
        " values (gen_random_uuid(), gen_random_uuid(), 1, 0, 0, 1)",
        "update documents set key = 'other'",
        "update chunks set text = 'other'",
        "delete from documents",
        "insert into spaces (name, fingerprint, model, revision, dimension) values ('n', 'f', 'm', 'r', 1)",
        "create table mine (id int)",
    ]
    with psycopg.connect(
        knocking.url("ragzero_embed"), autocommit=True, prepare_threshold=None
    ) as connection:
        for statement in forbidden:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
        for table in ("embed_work", "embed_waiting", "documents", "chunks"):
            assert connection.execute(f"select count(*) from {table}".encode()).fetchone() == (0,)
        with connection.transaction():
            connection.execute("set local app.embed_job = 'on'")
            assert connection.execute("select count(*) from embed_work").fetchone() == (1,)
            assert connection.execute("select count(*) from chunks").fetchone() == (0,)
        assert connection.execute("select count(*) from embed_work").fetchone() == (0,)


@pytest.mark.parametrize("role", ["ragzero_ingest", "ragzero_query"])
def test_no_other_role_sees_the_work_of_all_tenants(knocking: Installation, role: str) -> None:
    hand_over(knocking, "cranes.md", 6)
    with psycopg.connect(knocking.url(role), prepare_threshold=None) as connection:
        connection.execute("set local app.embed_job = 'on'")
        assert connection.execute("select count(*) from embed_waiting").fetchone() == (0,)


# --- the knock ---


@pytest.mark.parametrize(
    ("backlog", "wanted"), [(0, 0), (1, 1), (60_000, 1), (60_001, 2), (180_000, 3), (10**9, 4)]
)
def test_containers_follow_from_the_backlog_and_the_goal(backlog: int, wanted: int) -> None:
    assert containers(backlog, PATIENT) == wanted


def test_the_door_takes_a_key_and_a_number() -> None:
    woken: list[int] = []
    client = PlainClient(create_app(lambda: woken.append(1), KEY, 4))
    allowed = {"Authorization": f"Bearer {KEY}"}
    assert client.get("/health").status_code == 200
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer schlüssel".encode("latin-1")},
    ):
        assert client.post("/wake", json={"containers": 1}, headers=headers).status_code == 401
    for body in (
        b"",
        b"[]",
        b'{"containers": 0}',
        b'{"containers": true}',
        b'{"containers": "2"}',
        b"[" * 5_000,
    ):
        assert client.post("/wake", content=body, headers=allowed).status_code == 422
    assert woken == []
    assert client.post("/wake", json={"containers": 3}, headers=allowed).json() == {"woken": 3}
    assert client.post("/wake", json={"containers": 99}, headers=allowed).status_code == 202
    assert len(woken) == 3 + 4


def test_a_knock_names_what_went_wrong(door: Door) -> None:
    door.status = 401
    with pytest.raises(BadUpstream, match="401"):
        Knock(door.url, KEY, PATIENT).wake(1)
    with pytest.raises(Unavailable, match="not answered"):
        Knock("http://127.0.0.1:9/wake", KEY, PATIENT).wake(1)


@pytest.mark.timeout(300)
def test_the_local_worker_wakes_works_and_goes_back_to_sleep(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real process, as `scripts/up` runs it: a knock from ingest, torch, published, ended on SIGTERM."""
    key = {"RAGZERO_EMBED_KEY": KEY}
    source = {"RAGZERO_EMBED_MODEL": str(find_model("all-MiniLM-L6-v2")), "HF_HUB_OFFLINE": "1"}
    variables = installation.environment("ragzero_embed") | source | key
    worker = EmbedWorker(
        "embed", tmp_path, lambda port: ["-m", "scripts.local.embed_worker", "--port", str(port)], variables
    )
    with worker:
        settings = installation.ingest_settings(cpu_lane_chunks=4, embed_url=worker.url, embed_key=KEY)
        installation.__dict__["ingest"] = build_ingest(settings, installation.embedder)
        until(lambda: accepts(worker.port))
        monkeypatch.setenv("RAGZERO_EMBED_KEY", KEY)
        assert "takes the key" in probe(worker.url.removesuffix("/wake"))
        monkeypatch.setenv("RAGZERO_EMBED_KEY", "a key that is not ours")
        with pytest.raises(Unavailable, match="401"):
            probe(worker.url.removesuffix("/wake"))
        hand_over(installation, "cranes.md", 30)
        until(lambda: installation.document("cranes.md")["status"] == "searchable", 180)
        assert len(visible(installation)) == 30


def test_an_address_without_a_key_is_refused_by_name(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="RAGZERO_EMBED_KEY"):
        installation.ingest_settings(embed_url="https://example.org/wake")
    with pytest.raises(ConfigurationError, match="RAGZERO_EMBED_URL"):
        installation.ingest_settings(embed_url="example.org/wake", embed_key=KEY)
    for name, value in installation.environment("ragzero_ingest").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAGZERO_EMBED_KEY", "short")
    with pytest.raises(ConfigurationError, match="RAGZERO_EMBED_KEY"):
        IngestSettings.load()


def test_a_model_that_is_no_folder_needs_its_commit(model_dir: Path) -> None:
    with pytest.raises(ConfigurationError, match="RAGZERO_EMBED_REVISION"):
        EmbedModelSettings(model_dir=model_dir, model="org/model")
