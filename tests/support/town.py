"""A tenant of an installation that several tests share: its corner of the bucket, its events, and its questions.

What is done and seen is written down, so that a failure says how it came about, and is checked at the end.
"""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi.testclient import TestClient

from functions.ingest.handler import handle
from scripts.local.lambda_runtime import LambdaContext
from tests.support.history import History, Passage
from tests.support.installation import Installation
from tests.support.lambda_process import Invocation, LambdaProcess
from tests.support.sweeping import Sweeper, drift, unsound

PARTS = 2
_PATIENCE_S = 120.0
_BATCH = 10
_TRIES = 20
_VERSION = re.compile(r"ship (\d+) is moored")

_FOOTPRINT = """
select 'tenant' as what, epoch::text as state from tenants where id = %s
union all select 'document', row(id, attempt, status, generation, published_generation, etag, done_sequencer,
                                 lease_until, updated_at)::text from documents where tenant_id = %s
union all select 'chunk', id || ' ' || xmin::text from chunks where tenant_id = %s
union all select 'vector', chunk_id || ' ' || xmin::text from vectors_1 where tenant_id = %s
order by 1, 2
"""


@dataclass(frozen=True)
class Shared:
    """An installation with two workers of ingest in processes of their own, and a sweeper."""

    installation: Installation
    api: TestClient
    workers: Sequence[LambdaProcess]
    sweeper: Sweeper


class Town:
    def __init__(self, shared: Shared, seed: int) -> None:
        self.installation = shared.installation
        self.sweeper = shared.sweeper
        self.tenant = uuid.uuid4()
        self._api = shared.api
        self._workers = shared.workers
        self.headers = {
            "Authorization": f"Bearer {self.installation.add_key(self.tenant, ['query', 'ingest'])}"
        }
        self._versions = 0
        self._newest: dict[str, int] = {}
        self._untold = 0  # changes whose events are on their way
        self.deaf = False  # the bucket tells of nothing
        self.begin(seed)

    def begin(self, seed: int) -> None:
        """A new history, of what is there and what will be."""
        self.dice = random.Random(seed)
        self.steps: list[str] = []
        self.history = History(self.uri(""), PARTS)
        for name, version in self._newest.items():
            self.history.put(self.uri(name), version)

    def key(self, name: str) -> str:
        return f"tenants/{self.tenant}/{name}"

    def uri(self, name: str) -> str:
        return f"s3://{self.installation.intake.bucket}/{self.key(name)}"

    # The bucket and its events.

    def put(self, name: str) -> int:
        """A new version, whose number stands in every part of its text."""
        self._versions += 1
        self.steps.append(f"put {name} {self._versions}")
        self.history.put(self.uri(name), self._versions)
        parts = [
            f"# Quay {n}\n\nAt quay {n} ship {self._versions} is moored, says {name}." for n in range(PARTS)
        ]
        self.installation.put(self.key(name), "\n\n".join(parts))
        self._newest[name] = self._versions
        self._untold += not self.deaf
        return self._versions

    def upload(self, name: str) -> None:
        """Put, and worked on in this process; what comes back, as it does when the model changes, is tried again."""
        self.put(name)
        waiting = self.events()
        for _ in range(_TRIES):
            context = LambdaContext("ingest", time.monotonic() + _PATIENCE_S)
            answer = handle(_event(waiting), context, self.installation.ingest)
            waiting = _wanted_back(waiting, answer)
            if not waiting:
                return
        raise AssertionError(f"{name} was never published")

    def delete(self, name: str, version: str | None = None) -> None:
        """One that is there; for good, where a version is named."""
        self.steps.append(f"delete {name} {version}")
        named = {"VersionId": version} if version else {}
        s3, bucket = self.installation.aws.client("s3"), self.installation.intake.bucket
        s3.delete_object(Bucket=bucket, Key=self.key(name), **named)
        if version is None:
            del self._newest[name]
        self._untold += not self.deaf

    def change(self, name: str) -> None:
        """Put, or deleted one time in four, when it is there."""
        self.delete(name) if name in self._newest and self.dice.random() < 0.25 else self.put(name)

    def events(self) -> list[str]:
        """Those that wait, off the queue; the bucket tells of a change a moment after it happened."""
        found, deadline = self._messages(), time.monotonic() + _PATIENCE_S
        while len(found) < self._untold:
            assert time.monotonic() < deadline, self.steps
            time.sleep(0.005)
            found += self._messages()
        self._untold = 0
        return found

    def _messages(self) -> list[str]:
        return [m["Body"] for m in self.installation.messages() if "TestEvent" not in m["Body"]]

    # The workers.

    def hand(self, *bodies: str, worker: int = 0, skew: int = 0) -> list[str]:
        """In batches; the ones it wants back."""
        self.steps.append(f"hand {len(bodies)} to {worker}")
        back: list[str] = []
        for first in range(0, len(bodies), _BATCH):
            batch = bodies[first : first + _BATCH]
            answer = self._workers[worker].invoke(_event(batch) | {"skew": skew}, _PATIENCE_S)
            back += _wanted_back(batch, answer)
        return back

    def deliver(self, bodies: Sequence[str]) -> None:
        """As the queue does, until none comes back."""
        for _ in range(_TRIES):
            if not bodies:
                return
            bodies = self.hand(*bodies)
        raise AssertionError(f"still not done: {bodies}; {self.steps}")

    def pause(self, point: str, *bodies: str, worker: int = 0, skew: int = 0) -> Invocation:
        """A call that has stopped there."""
        self.steps.append(f"pause {worker} at {point}")
        call = self._workers[worker].begin(_event(bodies) | {"skew": skew}, _PATIENCE_S, pause_at=point)
        call.wait_paused(_PATIENCE_S)
        return call

    def thaw(self, call: Invocation, *bodies: str) -> list[str]:
        """To its end; which of its messages it wants back."""
        self.steps.append("thaw")
        call.thaw()
        return _wanted_back(bodies, call.result())

    def expire_leases(self) -> None:
        self.steps.append("leases expire")
        self.installation.rows(
            "update documents set lease_until = now() - interval '1 s' where tenant_id = %s and lease_until is not null "
            "returning 1",
            self.tenant,
        )

    def settle(self) -> dict[str, int]:
        """A sweep to its end, and what it told ingest done; its counts."""
        self.steps.append("sweep")
        report = self.sweeper.sweep()
        assert report["status"] == "done", report
        self.deliver(self.events())
        counts: dict[str, int] = report["counts"]
        return counts

    # What is seen, and what is there.

    def look(self) -> dict[str, int]:
        """What is reported, and then what a question is shown: versions by name."""
        self._read_reports()
        began = self.history.now()
        passages = [_passage(one) for one in self._asked()]
        self.history.asked(began, passages)
        return {one.uri.removeprefix(self.uri("")): one.version for one in passages}

    def in_bucket(self) -> dict[str, int]:
        s3, bucket = self.installation.aws.client("s3"), self.installation.intake.bucket
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=self.key("")).get("Contents", [])
        bodies = {one["Key"]: s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in listed}
        return {key.removeprefix(self.key("")): _version(body.decode()) for key, body in bodies.items()}

    def footprint(self) -> list[dict[str, Any]]:
        """All that is stored of the tenant; the same only while nobody wrote anything but which events were seen."""
        return self.installation.rows(_FOOTPRINT, *[self.tenant] * 4)

    def epoch(self) -> int:
        return int(self.installation.rows("select epoch from tenants where id = %s", self.tenant)[0]["epoch"])

    def documents(self, columns: str) -> list[dict[str, Any]]:
        return self.installation.rows(
            f"select {columns} from documents where tenant_id = %s order by key", self.tenant
        )

    def end(self) -> None:
        """The invariants, when all is quiet: by what questions see, by SQL, and by the recorded history."""
        assert self.look() == self.in_bucket(), self.steps
        self._read_reports()
        assert self.history.violations() == [], self.steps
        assert drift(self.installation) == [], self.steps
        assert unsound(self.installation) == [], self.steps

    def _read_reports(self) -> None:
        began, told = self.history.now(), []
        for status in ({}, {"status": "deleted"}):
            page = self._get("/v1/documents", limit=200, **status)
            told += [(one["id"], one["status"], one["generation"]) for one in page["items"]]
        self.history.reported(began, told)

    def _get(self, path: str, **params: Any) -> Any:
        answer = self._api.get(path, params=params, headers=self.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _asked(self) -> list[dict[str, Any]]:
        asked = {"question": "Which ship is moored at the quay?", "top_k": 50}
        answer = self._api.post("/v1/search", json=asked, headers=self.headers)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["results"]
        return found


def _event(bodies: Sequence[str]) -> dict[str, Any]:
    return {"Records": [{"messageId": str(number), "body": body} for number, body in enumerate(bodies)]}


def _wanted_back(bodies: Sequence[str], answer: dict[str, Any]) -> list[str]:
    return [bodies[int(failure["itemIdentifier"])] for failure in answer["batchItemFailures"]]


def _passage(one: dict[str, Any]) -> Passage:
    return Passage(one["document_id"], one["uri"], one["generation"], _version(one["text"]))


def _version(text: str) -> int:
    found = _VERSION.search(text)
    assert found, text
    return int(found[1])
