"""F24: a new embedding model during queries and uploads; killed, resumed, rolled back."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.onnx_embedder import OnnxEmbedder
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.space_tables import ensure_space
from shared.core.models import Space
from tests.support.filling_child import AT_ONCE, DIMENSION, meaningless
from tests.support.installation import Installation
from tests.support.lambda_process import Killed, LambdaProcess
from tests.support.model_change import admin_url, build, fill, know_both, operator, promote, retrieval_space
from tests.support.sweeping import unsound, work_off

HANDLER = "tests.support.filling_child:handler"
SEEDS = [1]


@pytest.mark.parametrize("seed", SEEDS)
def test_f24_a_fill_killed_at_ten_random_points_ends_as_if_nothing_had_been(
    installation: Installation, lambda_process: Callable[..., LambdaProcess], tmp_path: Path, seed: int
) -> None:
    """What was stored before a kill is never embedded again, and the vectors are those of a fill left alone."""
    chance = random.Random(seed)
    for number in range(12):
        text = "\n\n".join(f"# Part {n}\n\nTide {n} of day {number} rose {n} feet." for n in range(10))
        installation.put(f"{number}.md", text)
    work_off(installation)
    admin = admin_url(installation)
    spaces = [
        ensure_space(admin, Space(0, name, name, "1", DIMENSION, name))
        for name in ("disturbed", "undisturbed")
    ]
    file = tmp_path / "embedded"
    event = {"file": str(file), "url": installation.url("ragzero_embed"), "space": spaces[0]}
    kills, embedded = 0, []
    child = lambda_process(HANDLER)
    while kills < 10:
        stored = hashes(installation, spaces[0])
        file.write_text("")
        point = chance.choice(["fill_encoded", "fill_stored"])
        with pytest.raises(Killed):
            child.invoke(event, kill_at=point, occurrence=chance.randint(1, 2))
        kills += 1
        now = file.read_text().split()
        assert not stored & set(now), f"seed {seed}, kill {kills}: embedded again what was stored"
        embedded += now
    file.write_text("")
    report = child.invoke(event)
    assert report["complete"]
    embedded += file.read_text().split()
    fill(installation, spaces[1], meaningless)
    one, other = ({(row["chunk_id"], row["v"]) for row in vectors(installation, space)} for space in spaces)
    assert one == other
    assert len(one) == len(hashes(installation, spaces[0])) == 120
    lost = len(embedded) - len(set(embedded))
    assert lost <= AT_ONCE * kills, "a kill costs the batch that was in hand, and no more"


def hashes(installation: Installation, space: int) -> set[str]:
    rows = installation.rows(f"select encode(text_hash, 'hex') as h from vectors_{space}")
    return {row["h"] for row in rows}


def vectors(installation: Installation, space: int) -> list[dict[str, Any]]:
    return installation.rows(f"select chunk_id, embedding::text as v from vectors_{space}")


def test_f24_questions_and_uploads_go_on_while_the_model_changes_and_changes_back(
    installation: Installation, next_model_dir: Path
) -> None:
    """No question fails, and each is answered in one space: a vector of the other would not fit into the statement."""
    following = OnnxEmbedder.load(next_model_dir)
    know_both(installation, next_model_dir)
    for number in range(10):
        put(installation, number)
    over, answers, trouble = threading.Event(), [], []
    with operator(installation, next_model_dir) as api:

        def ask() -> None:
            chance = random.Random(threading.get_ident())
            while not over.is_set():
                number = chance.randrange(10)
                question = f"When does the ferry number {number} leave? {chance.random()}"
                answer = api.post("/v1/search", json={"question": question, "top_k": 20})
                if answer.status_code != 200 or answer.json()["warnings"]:
                    trouble.append(answer.text)
                    return
                answers.append(len(answer.json()["results"]))

        def upload() -> None:
            for number in range(10, 200):
                if over.is_set():
                    return
                put(installation, number)

        threads = [threading.Thread(target=one) for one in (ask, ask, upload)]
        for thread in threads:
            thread.start()
        try:
            space = build(installation, following)
            change(installation, api, space, following.encode, promoted=True)
            change(installation, api, 1, installation.embedder.encode, promoted=False)
            change(installation, api, space, following.encode, promoted=True)
        finally:
            over.set()
            for thread in threads:
                thread.join(30)
        assert trouble == []
        assert answers
        assert retrieval_space(installation) == space
        work_off(installation)
        visible = installation.rows(
            "select count(*) as n from documents where published_generation is not null"
        )
        found = api.post("/v1/search", json={"question": "ferry", "top_k": 50}).json()["results"]
        assert len(found) == min(50, visible[0]["n"])
    fill(installation, 1, installation.embedder.encode)
    assert unsound(installation) == []


def put(installation: Installation, number: int) -> None:
    """What was made for a space that was the active one a moment ago comes back, as it would from the queue."""
    for _ in range(20):
        installation.put(f"{number}.txt", f"The ferry number {number} leaves at {number} past nine.")
        with suppress(AssertionError):
            return work_off(installation)
    raise AssertionError(f"{number}.txt was never published")


def change(
    installation: Installation,
    api: Any,
    space: int,
    encode: Callable[[Sequence[str]], Any],
    *,
    promoted: bool,
) -> None:
    """As often as it takes: what is uploaded in between is made first."""
    for _ in range(50):
        fill(installation, space, encode)
        path = f"/v1/index/spaces/{space}/promote" if promoted else "/v1/index/spaces/rollback"
        body = {"force_reason": "a test"} if promoted else {"reason": "a test"}
        answer = api.post(path, json=body)
        if answer.status_code == 200:
            return
        assert "lacks the vectors" in answer.text, answer.text
    raise AssertionError("the space was never complete")


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
        thread.join(10)
        assert done.is_set()
        publisher.close()
