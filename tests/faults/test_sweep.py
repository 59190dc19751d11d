"""Sweeps against everything that goes on meanwhile: uploads, deletes, events lost and late, and their own sudden ends."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from functions.reindex import handler as reindex
from shared.adapters import s3
from tests.integration.test_delivery import bodies, send
from tests.support.installation import Installation
from tests.support.lambda_process import Killed, LambdaProcess
from tests.support.sweeping import Sweeper, drift, repaired, silence, sweeping, texts, unsound, work_off

HANDLER = "tests.faults.test_sweep:handler"


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """The real one, in a child process, with pages of three keys."""
    s3.PAGE_KEYS = 3
    return reindex.handler(event, context)


@pytest.fixture
def process(installation: Installation, lambda_process: Callable[..., LambdaProcess]) -> LambdaProcess:
    environment = installation.environment("ragzero_reindex") | {
        "RAGZERO_QUEUE_URL": installation.intake.queue_url,
        "RAGZERO_SWEEP_GRACE_SECONDS": "0",
        "RAGZERO_SWEEP_PATIENCE_SECONDS": "3600",
        "RAGZERO_SWEEP_LEASE_SECONDS": "3600",
    }
    return lambda_process(HANDLER, environment)


def fill(installation: Installation, count: int) -> None:
    for number in range(count):
        installation.put(f"{number}.txt", f"Quay {number} is dry.")
    work_off(installation)


def expire_lease(installation: Installation) -> None:
    installation.rows(
        "update sweeps set lease_until = now() - interval '1 s' where finished_at is null returning 1"
    )


def swept(process: LambdaProcess, **points: Any) -> dict[str, int]:
    report = process.invoke({"task": "sweep"}, **points)
    assert report["status"] == "done", report
    counts: dict[str, int] = report["counts"]
    return counts


@pytest.mark.parametrize(
    ("point", "occurrence"), [("page_listed", 2), ("hints_sent", 1), ("hints_sent", 3), ("page_swept", 1)]
)
def test_a_sweep_killed_anywhere_is_taken_over_and_counts_each_repair_once(
    installation: Installation, process: LambdaProcess, point: str, occurrence: int
) -> None:
    fill(installation, 7)
    silence(installation)
    installation.put("0.txt", "Quay 0 is flooded.")
    installation.put("5.txt", "Quay 5 is flooded.")
    installation.delete("2.txt")
    with pytest.raises(Killed):
        process.invoke({"task": "sweep"}, kill_at=point, occurrence=occurrence)
    assert process.invoke({"task": "sweep"})["status"] == "busy"
    expire_lease(installation)
    assert repaired(swept(process)) == {"changed": 2, "gone": 1}
    work_off(installation)
    assert drift(installation) == []
    assert unsound(installation) == []
    assert len(installation.rows("select * from sweeps")) == 1


def _upload(installation: Installation) -> None:
    installation.put("00.txt", "Quay 00 was built meanwhile.")


def _overwrite(installation: Installation) -> None:
    installation.put("0.txt", "Quay 0 was rebuilt meanwhile.")


def _delete(installation: Installation) -> None:
    installation.delete("1.txt")


def _replace(installation: Installation) -> None:
    installation.delete("1.txt")
    installation.put("1.txt", "Quay 1 was torn down and built again meanwhile.")


@pytest.mark.parametrize("event", ["handled_at_once", "late", "lost"])
@pytest.mark.parametrize("change", [_upload, _overwrite, _delete, _replace])
def test_f14_f15_what_happens_while_a_sweep_lists_ends_right(
    installation: Installation, process: LambdaProcess, change: Callable[[Installation], None], event: str
) -> None:
    """The page was listed before it happened, and is compared after: on a stale listing nothing is deleted."""
    fill(installation, 7)
    sweep = process.begin({"task": "sweep"}, pause_at="page_listed")
    sweep.wait_paused()
    change(installation)
    waiting = bodies(installation)
    if event == "handled_at_once":
        assert send(installation, *waiting) == []
    sweep.thaw()
    report = sweep.result()
    if event == "handled_at_once":
        assert repaired(report["counts"]) == {}, "what was worked on since the page was listed is not drift"
        assert installation.rows("select * from sweep_findings") == []
    hints = bodies(installation)
    assert send(installation, *hints) == []
    if event == "late":
        assert send(installation, *waiting) == []
    swept(process)
    work_off(installation)
    assert drift(installation) == []
    assert unsound(installation) == []
    assert searchable(installation) == in_bucket(installation)


def in_bucket(installation: Installation) -> dict[str, tuple[str, dict[str, str]]]:
    """(text, metadata) by key."""
    client, bucket = installation.aws.client("s3"), installation.intake.bucket
    keys = [listed["Key"] for listed in client.list_objects_v2(Bucket=bucket).get("Contents", [])]
    answers = {key: client.get_object(Bucket=bucket, Key=key) for key in keys}
    return {key: (answer["Body"].read().decode(), answer["Metadata"]) for key, answer in answers.items()}


def searchable(installation: Installation) -> dict[str, tuple[str, dict[str, str]]]:
    rows = installation.rows("select key, metadata from documents where published_generation is not null")
    described = {row["key"]: {name: str(value) for name, value in row["metadata"].items()} for row in rows}
    return {key: (text, described[key]) for key, text in texts(installation).items()}


def test_f15_a_hint_that_a_delete_overtook_leaves_nothing_visible(
    installation: Installation, process: LambdaProcess
) -> None:
    fill(installation, 3)
    silence(installation)
    installation.put("0.txt", "Seen by the sweep, gone before ingest looks.")
    assert repaired(swept(process)) == {"changed": 1}
    installation.delete("0.txt")
    work_off(installation)
    assert sorted(texts(installation)) == ["1.txt", "2.txt"]
    assert unsound(installation) == []


def test_f15_a_delete_that_an_upload_overtook_deletes_nothing(
    installation: Installation, process: LambdaProcess
) -> None:
    fill(installation, 3)
    silence(installation)
    installation.delete("0.txt")
    assert repaired(swept(process)) == {"gone": 1}
    installation.put("0.txt", "There again before ingest looks.")
    work_off(installation)
    assert searchable(installation) == in_bucket(installation)
    assert unsound(installation) == []


def test_f15_what_came_back_before_the_deletes_are_told_of_is_left_alone(
    installation: Installation, process: LambdaProcess
) -> None:
    fill(installation, 3)
    installation.delete("0.txt")
    installation.messages()
    sweep = process.begin({"task": "sweep"}, pause_at="page_swept")
    sweep.wait_paused()
    installation.put("0.txt", "There again, and worked on.")
    assert send(installation, *bodies(installation)) == []
    sweep.thaw()
    assert repaired(sweep.result()["counts"]) == {}
    assert installation.messages() == []


def test_f13_a_sweep_at_every_place_of_every_order_of_events(installation: Installation) -> None:
    """PUT v1, PUT v2, DELETE, PUT v3 in all 24 orders, with a sweep and its hint somewhere among them."""
    dice = random.Random(13)
    installation.put("other.txt", "So that the bucket is never empty.")
    work_off(installation)
    with sweeping(installation, max_deletes=100) as sweeper:
        for number, order in enumerate(itertools.permutations(range(4))):
            installation.put("x.txt", f"Herons {number}.")
            installation.put("x.txt", f"Storks {number}.")
            installation.delete("x.txt")
            installation.put("x.txt", f"Cranes {number}.")
            events = bodies(installation)
            steps = [events[place] for place in order]
            place = dice.randrange(5)
            assert send(installation, *steps[:place]) == []
            sweeper.sweep()
            rest = bodies(installation) + steps[place:]
            dice.shuffle(rest)
            assert all(send(installation, body) == [] for body in rest)
            assert texts(installation)["x.txt"] == f"Cranes {number}.", order
            assert unsound(installation) == []
    assert drift(installation) == []


class History:
    """Random uploads and deletes whose events are delivered, repeated, reordered, delayed or lost; from a seed."""

    def __init__(self, installation: Installation, sweeper: Sweeper, seed: int) -> None:
        self._installation = installation
        self._sweeper = sweeper
        self._dice = random.Random(seed)
        self._delayed: list[str] = []
        self.steps: list[str] = []

    def step(self) -> None:
        key = f"{self._dice.randrange(5)}.txt"
        act = self._dice.choice(["put", "put", "again", "delete", "sweep", "page"])
        if act == "sweep":
            self._sweeper.sweep()
        elif act == "page":
            self._sweeper.sweep(seconds=0)
        elif act == "delete":
            self._installation.delete(key)
        else:
            body = f"{key} says {self._dice.randrange(3 if act == 'again' else 10**6)}."
            self._installation.put(key, body, {"site": str(self._dice.randrange(2))})
        fate = self._dice.choice(["now", "twice", "late", "lost", "lost"])
        self.steps.append(f"{act} {key} {fate}")
        self._deliver(bodies(self._installation), fate)

    def _deliver(self, events: list[str], fate: str) -> None:
        if fate in ("now", "twice"):
            overdue = self._dice.sample(self._delayed, self._dice.randint(0, len(self._delayed)))
            batch = events * (2 if fate == "twice" else 1) + overdue
            self._dice.shuffle(batch)
            assert send(self._installation, *batch) == [], self.steps
        elif fate == "late":
            self._delayed += events

    def end(self) -> None:
        assert send(self._installation, *self._delayed) == [], self.steps
        for _ in range(2):  # the first may only finish what was begun before the last step
            while self._sweeper.sweep()["status"] != "done":
                pass
            work_off(self._installation)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happened_a_sweep_ends_it_in_the_state_of_the_bucket(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(s3, "PAGE_KEYS", 2)
    installation.put("kept.txt", "So that the bucket is never empty.")
    work_off(installation)
    with sweeping(installation) as sweeper:
        history = History(installation, sweeper, seed)
        for _ in range(12):
            history.step()
        history.end()
        assert drift(installation) == [], (seed, history.steps)
        assert searchable(installation) == in_bucket(installation), (seed, history.steps)
        assert unsound(installation) == [], (seed, history.steps)
        counts = sweeper.settle()
        assert repaired(counts) == {}, (seed, history.steps)
