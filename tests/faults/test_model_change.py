"""F24: a new embedding model during queries and uploads; killed, resumed, rolled back. `--seed N` replays one of twenty."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from fastapi.testclient import TestClient

from shared.adapters.onnx_embedder import OnnxEmbedder
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.embed_work import embedded_text
from shared.adapters.postgres.space_tables import ensure_space
from shared.core.models import Space
from tests.support.filling_child import AT_ONCE, DIMENSION, meaningless
from tests.support.installation import Installation
from tests.support.lambda_process import LambdaProcess
from tests.support.load import Load
from tests.support.model_change import admin_url, build, fill, know_both, operator, promote, retrieval_space
from tests.support.second_model import turned
from tests.support.sweeping import sweeping, work_off
from tests.support.town import Shared, Town

KILLS, CHUNKS = 10, 40
QUESTION = "Which ship is moored at quay 1?"
FIXED, CHANGING = ["a.md", "b.md", "c.md"], ["d.md", "e.md"]


# Killed and resumed.


@pytest.fixture(scope="module")
def filled(shared_installation: Installation) -> int:
    """A space that a fill left alone has filled with the vectors of all chunks."""
    for number in range(CHUNKS // 10):
        text = "\n\n".join(f"# Part {n}\n\nTide {n} of day {number} rose {n} feet." for n in range(10))
        shared_installation.put(f"{number}.md", text)
    work_off(shared_installation)
    space = new_space(shared_installation, "undisturbed")
    assert fill(shared_installation, space, meaningless).embedded == CHUNKS
    return space


@pytest.fixture(scope="module")
def child(state_folder: Path) -> Iterator[LambdaProcess]:
    with LambdaProcess("tests.support.filling_child:handler", {}, state_folder) as process:
        yield process


def new_space(installation: Installation, name: str) -> int:
    return ensure_space(admin_url(installation), Space(0, name, name, "1", DIMENSION, name))


def test_f24_a_fill_killed_at_ten_random_points_ends_as_if_nothing_had_been(
    shared_installation: Installation, filled: int, child: LambdaProcess, tmp_path: Path, fault_seed: int
) -> None:
    """What was stored before a kill is never embedded again, and the vectors are those of a fill left alone."""
    chance = random.Random(fault_seed)
    space = new_space(shared_installation, f"disturbed {fault_seed}")
    url = shared_installation.url("ragzero_embed")
    event = {"url": url, "space": space, "report": str(tmp_path / "report")}
    embedded: list[str] = []

    def run(name: str, **points: Any) -> dict[str, Any]:
        file = tmp_path / name
        stored = hashes(shared_installation, space)
        report: dict[str, Any] = child.invoke(event | {"embedded": str(file)}, 120, **points)
        now = file.read_text().split()
        assert not stored & set(now), f"run {name} embedded again what was stored"
        embedded.extend(now)
        return report

    for kill in range(KILLS):
        point = chance.choice(["fill_encoded", "fill_stored"])
        assert run(f"{kill}", kill_at=point, occurrence=chance.randint(1, 2)) == {"killed": True}
    assert run("last")["complete"]
    assert vectors(shared_installation, space) == vectors(shared_installation, filled)
    assert len(hashes(shared_installation, space)) == CHUNKS
    lost = len(embedded) - CHUNKS
    assert lost <= AT_ONCE * KILLS, "a kill costs the batch that was in hand, and no more"


def hashes(installation: Installation, space: int) -> set[str]:
    rows = installation.rows(f"select encode(text_hash, 'hex') as h from vectors_{space}")
    return {row["h"] for row in rows}


def vectors(installation: Installation, space: int) -> list[dict[str, Any]]:
    return installation.rows(f"select chunk_id, embedding::text as v from vectors_{space} order by chunk_id")


# Under load.


class Models:
    """The two spaces, with their encoders: of the same dimension, so that nothing but its result tells a mix."""

    def __init__(self, installation: Installation, following: OnnxEmbedder) -> None:
        self._installation = installation
        self.encoders = {1: installation.embedder, build(installation, following): following}

    def other(self) -> int:
        active = retrieval_space(self._installation)
        return next(space for space in self.encoders if space != active)

    def fill_all(self) -> None:
        for space, embedder in self.encoders.items():
            fill(self._installation, space, embedder.encode)


@pytest.fixture(scope="module")
def same_dimension(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return turned(model_dir, tmp_path_factory.mktemp("models") / "alike", dimension=384)


@pytest.fixture(scope="module")
def models(shared_installation: Installation, same_dimension: Path) -> Models:
    know_both(shared_installation, same_dimension)
    return Models(shared_installation, OnnxEmbedder.load(same_dimension))


@pytest.fixture(scope="module")
def changing(shared_installation: Installation, models: Models, same_dimension: Path) -> Iterator[Shared]:
    """With both models at hand, and an ingest that knows them in this very process."""
    with operator(shared_installation, same_dimension) as api, sweeping(shared_installation) as sweeper:
        yield Shared(shared_installation, api, (), sweeper)


@pytest.fixture(scope="module")
def changing_town(changing: Shared) -> Town:
    """One for all seeds: a fill goes through the documents of every tenant."""
    town = Town(changing, 0)
    for name in [*FIXED, *CHANGING]:
        town.upload(name)
    return town


def scores(town: Town, api: TestClient) -> dict[int, float]:
    """By meaning alone, of what stays as it is: how near each chunk is to the question."""
    asked = {"question": QUESTION, "top_k": 50, "mode": "fast"}
    answer = api.post("/v1/search", json=asked, headers=town.headers)
    assert answer.status_code == 200, answer.text
    assert not answer.json()["warnings"], answer.text
    fixed = {town.uri(name) for name in FIXED}
    return {one["chunk_id"]: one["score"] for one in answer.json()["results"] if one["uri"] in fixed}


def expected_scores(town: Town, embedder: OnnxEmbedder) -> dict[int, float]:
    """The same, from the texts themselves."""
    rows = town.installation.rows(
        "select c.id, c.headings, c.text, encode(c.text_hash, 'hex') as text_hash from chunks c "
        "join documents d on d.id = c.document_id where d.key = any(%s)",
        [town.key(name) for name in FIXED],
    )
    nearness = embedder.encode([embedded_text(row) for row in rows]) @ embedder.encode_query(QUESTION)
    return dict(zip([row["id"] for row in rows], map(float, nearness), strict=True))


def spaces_of(found: dict[int, float], expected: dict[int, dict[int, float]]) -> list[int]:
    """Those in which all of these are the scores; float16 rounds."""
    return [
        space
        for space, scores in expected.items()
        if found.keys() == scores.keys()
        and np.allclose([found[id] for id in scores], list(scores.values()), atol=3e-3)
    ]


def test_f24_questions_and_uploads_go_on_while_the_model_changes_and_changes_back(
    changing_town: Town, changing: Shared, models: Models, load_seed: int
) -> None:
    """No question fails, each is answered in one space and from one generation, and every change is seen at once."""
    town, api = changing_town, changing.api
    town.begin(load_seed)
    expected = {space: expected_scores(town, embedder) for space, embedder in models.encoders.items()}
    assert [spaces_of(scores, expected) for scores in expected.values()] == [[space] for space in expected]
    seen: list[dict[int, float]] = []
    names = itertools.cycle(CHANGING)

    def ask() -> None:
        town.look()
        seen.append(scores(town, api))

    def upload() -> None:
        town.upload(next(names))
        time.sleep(0.1)  # or the space that is to come would never be complete

    with Load(ask, upload) as load:
        load.goes_on()
        for _ in range(3):
            space = models.other()
            change(town, api, space, models.encoders[space].encode)
            assert spaces_of(scores(town, api), expected) == [space]
            load.goes_on()
    assert load.trouble == []
    found = [spaces_of(scores, expected) for scores in seen]
    assert all(found), "an answer of no space"
    assert {space for spaces in found for space in spaces} == models.encoders.keys()
    models.fill_all()
    town.end()


def change(town: Town, api: TestClient, space: int, encode: Callable[[Sequence[str]], Any]) -> None:
    """Forwards or back, as often as it takes: what is uploaded in between is made first."""
    rollback = town.dice.random() < 0.5 and _is_back(town, space)
    path = "/v1/index/spaces/rollback" if rollback else f"/v1/index/spaces/{space}/promote"
    body = {"reason": "a test"} if rollback else {"force_reason": "a test"}
    for _ in range(100):
        fill(town.installation, space, encode)
        answer = api.post(path, json=body)
        if answer.status_code == 200:
            return
        assert "lacks the vectors" in answer.text, answer.text
    raise AssertionError("the space was never complete")


def _is_back(town: Town, space: int) -> bool:
    """Whether the newest change was from that space."""
    newest = town.installation.rows("select from_space from space_changes order by id desc limit 1")
    return bool(newest) and newest[0]["from_space"] == space


def test_f24_the_change_waits_for_who_publishes_and_is_seen_by_who_comes_later(
    installation: Installation, next_model_dir: Path
) -> None:
    """A publisher that has not committed holds the change back: it cannot be missed by the count of what is lacking."""
    following = OnnxEmbedder.load(next_model_dir)
    space = build(installation, following)
    publisher = Database(installation.url("ragzero_ingest"))
    done = threading.Event()
    with operator(installation, next_model_dir) as api:

        def changed() -> None:
            promote(api, space)
            done.set()

        thread = threading.Thread(target=changed)
        with publisher.transaction(installation.tenant) as cursor:
            cursor.execute("select hold_spaces()")
            thread.start()
            assert not done.wait(0.3)
        thread.join(60)
        assert done.is_set()
        publisher.close()


def test_f24_a_fill_goes_on_when_a_chunk_goes_away_while_its_vector_is_written(
    installation: Installation,
) -> None:
    """Somebody deletes it and has not committed: the fill waits, and does without it."""
    installation.put("0.md", "# One\n\nA tide.\n\n# Two\n\nAnother tide.")
    work_off(installation)
    space, filled = new_space(installation, "next"), []
    with psycopg.connect(admin_url(installation)) as deleter:
        deleter.execute("delete from chunks where ordinal = 0")
        thread = threading.Thread(target=lambda: filled.append(fill(installation, space, meaningless)))
        thread.start()
        waits = "select 1 from pg_stat_activity where usename = 'ragzero_embed' and wait_event_type = 'Lock'"
        while not installation.rows(waits):
            assert thread.is_alive()
    thread.join(60)
    assert [one.complete for one in filled] == [True]
    assert len(vectors(installation, space)) == 1
