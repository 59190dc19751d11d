"""Embedding jobs in processes of their own, frozen and killed at named points (FAULTS.md F1, F8, F9, F20).

They encode with the CPU lane's encoder, which starts faster; the vectors are the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from functions.embed import wiring
from functions.ingest.wiring import build as build_ingest
from shared.adapters.onnx_embedder import OnnxEmbedder
from shared.settings import EmbedSettings
from tests.support.installation import Installation
from tests.support.lambda_process import Killed, LambdaProcess

HANDLER = "tests.faults.test_embed_job:handler"
NOBODY = "http://127.0.0.1:9/wake"


class CpuEncoder:
    device, dtype, padding_waste = "cpu", "float32", 0.0

    def __init__(self, embedder: OnnxEmbedder) -> None:
        self._embedder = embedder
        self.fingerprint = embedder.fingerprint
        self.prove = embedder.prove

    def encode(self, texts: Sequence[str], between: Callable[[], None]) -> Any:
        between()
        return self._embedder.encode(texts)


def handler(event: dict[str, float], _context: Any) -> dict[str, Any]:
    """One run, in a child process."""
    embedder = OnnxEmbedder.load(Path(os.environ["RAGZERO_MODEL_DIR"]))
    job = wiring.build(EmbedSettings.load(), lambda: CpuEncoder(embedder))
    try:
        return asdict(job.run(time.monotonic() + event["seconds"]))
    finally:
        job.close()


@pytest.fixture
def waiting(installation: Installation) -> Installation:
    """An installation whose ingest hands everything over."""
    settings = installation.ingest_settings(cpu_lane_chunks=0, embed_url=NOBODY, embed_key="k" * 16)
    installation.__dict__["ingest"] = build_ingest(settings, installation.embedder)
    return installation


@pytest.fixture
def make_job(
    installation: Installation, lambda_process: Callable[..., LambdaProcess]
) -> Callable[[], LambdaProcess]:
    environment = installation.environment("ragzero_embed") | {
        "RAGZERO_EMBED_PATIENCE_SECONDS": "0",
        "RAGZERO_EMBED_LEASE_SECONDS": "3600",
    }
    return lambda: lambda_process(HANDLER, environment)


def hand_over(installation: Installation, key: str, chunks: int) -> None:
    text = "\n\n".join(f"# Part {n}\n\nTide {n} of {key} rose {n} feet." for n in range(chunks))
    installation.put(key, text)
    installation.deliver()
    assert installation.document(key)["status"] == "processing"


def run(job: LambdaProcess, **points: Any) -> dict[str, Any]:
    report: dict[str, Any] = job.invoke({"seconds": 100}, **points)
    return report


def visible(installation: Installation) -> int:
    (row,) = installation.rows(
        "select count(distinct c.text) as n from chunks c join documents d on d.id = c.document_id "
        "and d.published_generation = c.generation join vectors_1 v on v.chunk_id = c.id"
    )
    return int(row["n"])


def count(installation: Installation, table: str) -> int:
    return int(installation.rows(f"select count(*) as n from {table}")[0]["n"])


def expire_leases(installation: Installation) -> None:
    """Rather than wait for it: every lease's end lies in the past now."""
    installation.rows("update embed_work set lease_until = now() - interval '1 s' returning id")


@pytest.mark.parametrize("point", ["slices_claimed", "embedded", "storing", "slice_stored", "publishing"])
def test_f1_killed_before_publishing_nothing_is_visible_and_the_next_job_publishes_once(
    waiting: Installation, make_job: Callable[[], LambdaProcess], point: str
) -> None:
    hand_over(waiting, "tides.md", 12)
    epoch, job = waiting.epoch(), make_job()
    with pytest.raises(Killed):
        run(job, kill_at=point)
    assert visible(waiting) == 0
    expire_leases(waiting)
    assert run(job)["published"] == 1
    assert visible(waiting) == count(waiting, "vectors_1") == 12
    assert waiting.epoch() == epoch + 1
    assert waiting.rows("select documents, chunks from collections")[0] == {"documents": 1, "chunks": 12}
    assert count(waiting, "embed_waiting") == 0


def test_f2_killed_after_publishing_the_next_job_changes_nothing(
    waiting: Installation, make_job: Callable[[], LambdaProcess]
) -> None:
    hand_over(waiting, "tides.md", 6)
    job = make_job()
    with pytest.raises(Killed):
        run(job, kill_at="published")
    epoch = waiting.epoch()
    assert run(job)["published"] == 0
    assert waiting.epoch() == epoch
    assert visible(waiting) == 6


def test_f9_two_jobs_of_which_one_is_killed_lose_nothing_and_store_nothing_twice(
    waiting: Installation, make_job: Callable[[], LambdaProcess]
) -> None:
    """The first stores one document's vectors, reads ahead and dies; the second meets what is left of it."""
    for number in range(8):
        hand_over(waiting, f"{number}.md", 70)
    epoch, doomed, other = waiting.epoch(), make_job(), make_job()
    held = doomed.begin({"seconds": 100}, pause_at="slice_stored")
    held.wait_paused()
    stored = count(waiting, "vectors_1")
    assert stored > 0
    beside = run(other)
    assert beside["lost"] == 0
    assert count(waiting, "vectors_1") == stored + beside["chunks"] < 560
    doomed.kill()
    expire_leases(waiting)
    rest = run(other)
    assert (
        stored + beside["chunks"] + rest["chunks"] == count(waiting, "vectors_1") == visible(waiting) == 560
    )
    assert waiting.epoch() == epoch + 8
    assert waiting.rows("select documents, chunks from collections")[0] == {"documents": 8, "chunks": 560}
    assert count(waiting, "embed_waiting") == 0


@pytest.mark.parametrize("point", ["slices_claimed", "storing"])
def test_f20_a_zombie_job_writes_nothing(
    waiting: Installation, make_job: Callable[[], LambdaProcess], point: str
) -> None:
    """Its lease ran out while it was frozen, and another job did the work."""
    hand_over(waiting, "tides.md", 12)
    zombie = make_job().begin({"seconds": 100}, pause_at=point)
    zombie.wait_paused()
    expire_leases(waiting)
    assert run(make_job())["published"] == 1
    epoch = waiting.epoch()
    vectors = waiting.rows("select xmin::text, chunk_id from vectors_1 order by chunk_id")
    zombie.thaw()
    report = zombie.result()
    assert (report["chunks"], report["published"]) == (0, 0)
    assert waiting.rows("select xmin::text, chunk_id from vectors_1 order by chunk_id") == vectors
    assert waiting.epoch() == epoch


def test_f20_a_zombie_job_cannot_finish_what_another_has_taken_over(
    waiting: Installation, make_job: Callable[[], LambdaProcess]
) -> None:
    hand_over(waiting, "tides.md", 12)
    zombie = make_job().begin({"seconds": 100}, pause_at="storing")
    zombie.wait_paused()
    expire_leases(waiting)
    heir = make_job().begin({"seconds": 100}, pause_at="storing")
    heir.wait_paused()
    zombie.thaw()
    report = zombie.result()
    assert (report["lost"], report["published"], count(waiting, "vectors_1")) == (12, 0, 0)
    heir.thaw()
    assert heir.result()["published"] == 1
    assert visible(waiting) == 12


@pytest.mark.parametrize("change", ["overwritten", "deleted"])
def test_f20_a_job_whose_document_changed_under_it_writes_nothing(
    waiting: Installation, make_job: Callable[[], LambdaProcess], change: str
) -> None:
    hand_over(waiting, "tides.md", 12)
    slow = make_job().begin({"seconds": 100}, pause_at="storing")
    slow.wait_paused()
    if change == "deleted":
        waiting.delete("tides.md")
        waiting.deliver()
    else:
        hand_over(waiting, "tides.md", 5)
    slow.thaw()
    report = slow.result()
    assert report["lost"] == 12
    expected = 0 if change == "deleted" else 5
    run(make_job())
    assert visible(waiting) == count(waiting, "vectors_1") == count(waiting, "chunks") == expected


def test_f1_published_by_two_jobs_at_once_it_is_published_once(
    waiting: Installation, make_job: Callable[[], LambdaProcess]
) -> None:
    hand_over(waiting, "tides.md", 6)
    epoch = waiting.epoch()
    slow = make_job().begin({"seconds": 100}, pause_at="publishing")
    slow.wait_paused()
    assert run(make_job())["published"] == 1
    slow.thaw()
    assert slow.result()["published"] == 0
    assert waiting.epoch() == epoch + 1


def test_f1_killed_between_staging_and_handing_over_the_event_does_it_again(
    waiting: Installation, make_job: Callable[[], LambdaProcess], lambda_process: Callable[..., LambdaProcess]
) -> None:
    environment = waiting.environment("ragzero_ingest") | {
        "RAGZERO_CPU_LANE_CHUNKS": "0",
        "RAGZERO_EMBED_URL": NOBODY,
        "RAGZERO_EMBED_KEY": "k" * 16,
    }
    ingest = lambda_process("functions.ingest.handler:handler", environment)
    waiting.put("tides.md", "# Tides\n\nThe tide rose three feet.")
    bodies = [m["Body"] for m in waiting.messages() if "TestEvent" not in m["Body"]]
    batch = {"Records": [{"messageId": "0", "body": bodies[0]}]}
    for point, work in (("staged", 0), ("handed_over", 1)):
        with pytest.raises(Killed):
            ingest.invoke(batch, kill_at=point)
        assert count(waiting, "embed_work") == work
        waiting.rows(
            "update documents set lease_until = now() - interval '1 s' where lease_until is not null returning id"
        )
    assert ingest.invoke(batch) == {"batchItemFailures": []}
    assert waiting.document("tides.md")["generation"] == 2
    assert run(make_job())["published"] == 1
    assert visible(waiting) == count(waiting, "chunks") == 1


def test_a_slice_that_kills_every_job_fails_its_document_and_no_other(
    waiting: Installation, make_job: Callable[[], LambdaProcess]
) -> None:
    """I6: claimed with others once, then alone; after five deaths the document says why it is not searchable."""
    hand_over(waiting, "deadly.md", 3)
    hand_over(waiting, "good.md", 3)
    job = make_job()
    with pytest.raises(Killed):
        run(job, kill_at="slices_claimed")
    expire_leases(waiting)
    waiting.rows(
        "update embed_work set attempts = 5 where id = (select min(id) from embed_work) returning id"
    )
    report = run(job)
    assert (report["published"], report["failed"]) == (1, 1)
    failed = waiting.document("deadly.md")
    assert failed["status"] == "failed"
    assert failed["reason"].startswith("embedding failed 5 times")
    assert count(waiting, "chunks") == 3
