"""I3 under fire: eight readers, random publishes and deletes, Redis losing everything or not answering.

A reader notes what was reported before it asks, and may not be told anything older. Only what was published while Redis
could not be told may still be answered from before, and only until the time its receipt names.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
import redis

from functions.query.app import create_app
from scripts.local.process import HOST
from scripts.local.redis_server import RedisServer
from tests.support.access import bearer
from tests.support.api import serving
from tests.support.installation import Installation
from tests.support.servers import revive

READERS, READS, DOCUMENTS = 8, 10_000, 4
GONE = 0
LEASE_S = 3


@dataclass
class History:
    """What was reported, and what was read. Versions of a document only grow; GONE is a version that was deleted."""

    reported: dict[int, int] = field(default_factory=dict)
    deleted: dict[int, int] = field(default_factory=dict)
    excused_until: float = 0.0
    reads: int = 0
    hits: int = 0
    excused: int = 0
    stale: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Reader(threading.Thread):
    def __init__(self, url: str, key: str, history: History, seed: int) -> None:
        super().__init__(daemon=True)
        self._address = urlsplit(url).netloc
        self._headers = bearer(key) | {"Content-Type": "application/json"}
        self._history = history
        self._random = random.Random(seed)
        self.stop = threading.Event()

    def run(self) -> None:
        with closing(http.client.HTTPConnection(self._address, timeout=120)) as connection:
            while not self.stop.is_set():
                self._read(connection)

    def _read(self, connection: http.client.HTTPConnection) -> None:
        document = self._random.randrange(DOCUMENTS)
        before, deleted = self._history.reported[document], self._history.deleted[document]
        asked = time.monotonic()
        body = json.dumps({"question": f"What is the number of crane{document}?"})
        connection.request("POST", "/v1/query", body, self._headers)
        response = connection.getresponse()
        self._note(document, before, deleted, asked, response.status, json.loads(response.read()))

    def _note(
        self,
        document: int,
        before: int,
        deleted: int,
        asked: float,
        status: int,
        answer: dict[str, object],
    ) -> None:
        history = self._history
        with history.lock:
            history.reads += 1
            if status != 200:
                history.errors.append(str(answer))
                return
            history.hits += answer["cached"] == "exact"
            found = re.findall(rf"crane{document} is (\d+)", str(answer["answer"]))
            version = max(map(int, found), default=None)
            if version is None or (version >= before and version > deleted):
                return
            if asked < history.excused_until:
                history.excused += 1
            else:
                history.stale.append(f"crane{document}: {version}, reported {before}, deleted {deleted}")


class Publisher:
    """Puts new versions and deletes, one at a time, each until it is reported."""

    def __init__(self, installed: Installation, history: History, seed: int) -> None:
        self._installed = installed
        self._history = history
        self._random = random.Random(seed)
        self._version = 0

    def publish(self, document: int) -> None:
        self._version += 1
        self._installed.put(
            f"crane{document}.txt", f"The number of crane{document} is {self._version}. It is a crane."
        )
        self._settled()
        self._history.reported[document] = self._version

    def delete(self, document: int) -> None:
        self._installed.delete(f"crane{document}.txt")
        self._settled()
        self._history.deleted[document] = self._version

    def step(self) -> None:
        act = self.delete if self._random.random() < 0.2 else self.publish
        act(self._random.randrange(DOCUMENTS))

    def _settled(self) -> None:
        """What the receipt says about caches counts from before it is given."""
        self._installed.deliver()
        if self._installed.rows("select 1 from epoch_outbox"):
            self._history.excused_until = time.monotonic() + LEASE_S + 10.5


@pytest.fixture
def installed(installation: Installation, redis_server: RedisServer) -> Iterator[Installation]:
    installation.cache = {
        "redis_url": f"redis://{HOST}:{redis_server.port}",
        "epoch_lease_seconds": LEASE_S,
    }
    yield installation
    revive(redis_server)


@pytest.mark.timeout(900)
def test_no_answer_is_older_than_what_was_reported(
    installed: Installation, redis_server: RedisServer
) -> None:
    seed = int(os.environ.get("RAGZERO_SEED") or random.randrange(10**6))
    print(f"RAGZERO_SEED={seed}")
    chance, history = random.Random(seed), History()
    publisher = Publisher(installed, history, seed)
    history.deleted = dict.fromkeys(range(DOCUMENTS), GONE)
    for document in range(DOCUMENTS):
        publisher.publish(document)
    settings = installed.query_settings(key_rate=1e6, key_burst=10**6, tenant_rate=1e6, tenant_burst=10**6)
    with serving(create_app(settings, installed.embedder)) as url:
        readers = [Reader(url, installed.api_key, history, seed + number) for number in range(READERS)]
        for reader in readers:
            reader.start()
        while history.reads < READS and all(reader.is_alive() for reader in readers):
            publisher.step()
            trouble = chance.random()
            if trouble < 0.15:
                with redis.Redis(port=redis_server.port) as client:
                    client.flushall()
            elif trouble < 0.2:
                redis_server.kill()
                revive(redis_server)
            elif trouble < 0.25:
                redis_server.freeze()
                publisher.step()
                redis_server.thaw()
        for reader in readers:
            reader.stop.set()
        for reader in readers:
            reader.join(150)
    print(f"{history.reads} reads, {history.hits} hits, {history.excused} excused")
    assert history.reads >= READS
    assert history.errors == []
    assert history.stale == []
    assert history.hits > READS / 20
