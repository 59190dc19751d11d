"""I5 over random histories: two tenants with the same file names, questions and labels, through pooler and caches."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from functions.ingest.service import IngestService
from functions.ingest.wiring import build
from scripts.local.redis_server import RedisServer
from shared.core.hints import Hint
from tests.support.access import bearer, names, new_key, new_tenant, operating
from tests.support.installation import Installation
from tests.support.waiting import PATIENT

FILES = ["crane", "ferry", "pier"]
LABELS = [None, "red", "blue", "red,blue"]
ACLS: list[list[str] | None] = [None, [], ["red"], ["blue"]]
QUESTION = "What is known of the harbour?"
TENANTS = ["one", "two"]

tenants, files, labels = (st.sampled_from(choices) for choices in (TENANTS, FILES, LABELS))
_numbers = itertools.count(1)


class Histories(RuleBasedStateMachine):
    """What each tenant has is known here; what its keys see has to be that, and never the other's."""

    installation: Installation
    ingest: IngestService
    api: TestClient

    @initialize()
    def begin(self) -> None:
        self.tenants = {name: new_tenant(self.api, f"{name} {uuid.uuid4()}") for name in TENANTS}
        self.keys = {
            (name, number): bearer(
                new_key(self.api, self.tenants[name], name=str(number), scopes=["query", "ingest"], acl=acl)[
                    "key"
                ]
            )
            for name in TENANTS
            for number, acl in enumerate(ACLS)
        }
        # file -> (a word that stands in no other text, its labels)
        self.held: dict[str, dict[str, tuple[str, str | None]]] = {name: {} for name in TENANTS}
        self.words: dict[str, list[str]] = {name: [] for name in TENANTS}

    @rule(tenant=tenants, file=files, label=labels)
    def put(self, tenant: str, file: str, label: str | None) -> None:
        word = f"{tenant}word{next(_numbers):06}"  # none is part of another
        self.words[tenant].append(word)
        self.held[tenant][file] = (word, label)
        self._store(tenant, file)

    @rule(tenant=tenants, file=files, label=labels)
    def relabel(self, tenant: str, file: str, label: str | None) -> None:
        if file in self.held[tenant]:
            self.held[tenant][file] = (self.held[tenant][file][0], label)
            self._store(tenant, file)

    @rule(tenant=tenants, file=files)
    def remove(self, tenant: str, file: str) -> None:
        if self.held[tenant].pop(file, None):
            self.installation.delete(self._key(tenant, file))
            self._notice(tenant, file)

    @rule(tenant=tenants, file=files)
    def delete_over_the_api(self, tenant: str, file: str) -> None:
        """One's own goes, the other's of the same name stays."""
        listed = self._list(tenant, 0)
        for document in listed:
            if names([document]) == {file}:
                other = TENANTS[1 - TENANTS.index(tenant)]
                path = f"/v1/documents/{document['id']}"
                assert self.api.delete(path, headers=self.keys[other, 0]).status_code == 404
                assert self.api.delete(path, headers=self.keys[tenant, 0]).status_code == 200
                del self.held[tenant][file]

    @rule(narrowed=st.sampled_from([None, ["red"], []]))
    def ask(self, narrowed: list[str] | None) -> None:
        """All keys of both tenants at once, on a few connections of the pooler."""
        with ThreadPoolExecutor(8) as pool:
            asked = [(key, pool.submit(self._found, *key, narrowed)) for key in self.keys]
        for (tenant, number), future in asked:
            acl = ACLS[number]
            if narrowed is not None:
                acl = narrowed if acl is None else sorted(set(acl) & set(narrowed))
            text = future.result()
            seen = {word for words in self.words.values() for word in words if word in text}
            assert seen == {word for word, label in self.held[tenant].values() if _open(label, acl)}

    @invariant()
    def lists_show_ones_own(self) -> None:
        for tenant, number in self.keys:
            expected = {file for file, (_, label) in self.held[tenant].items() if _open(label, ACLS[number])}
            assert names(self._list(tenant, number)) == expected

    def _found(self, tenant: str, number: int, acl: list[str] | None) -> str:
        body: dict[str, Any] = {"question": QUESTION, "top_k": 20, "acl": acl}
        answers = [self.api.post(path, json=body, headers=self.keys[tenant, number])
                   for path in ("/v1/search", "/v1/query")]  # fmt: skip
        assert [answer.status_code for answer in answers] == [200, 200], [a.text for a in answers]
        return answers[0].text + answers[1].text

    def _list(self, tenant: str, number: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get("/v1/documents", headers=self.keys[tenant, number]).json()[
            "items"
        ]
        return found

    def _key(self, tenant: str, file: str) -> str:
        return f"tenants/{self.tenants[tenant]}/{file}.txt"

    def _store(self, tenant: str, file: str) -> None:
        word, label = self.held[tenant][file]
        metadata = {} if label is None else {"acl": label}
        self.installation.put(self._key(tenant, file), f"Of the harbour {word} is known.", metadata)
        self._notice(tenant, file)

    def _notice(self, tenant: str, file: str) -> None:
        hint = Hint(self.installation.intake.bucket, self._key(tenant, file), f"{next(_numbers):020}")
        assert self.ingest.process([("message", hint)], time.monotonic() + 60) == set()


def _open(label: str | None, acl: list[str] | None) -> bool:
    return label is None or acl is None or bool(set(label.split(",")) & set(acl))


@pytest.fixture
def histories(installation: Installation, redis_server: RedisServer) -> Iterator[type[Histories]]:
    redis = {"redis_url": f"redis://127.0.0.1:{redis_server.port}", **PATIENT}
    ingest = build(installation.ingest_settings(**redis), installation.embedder)
    with operating(installation, **redis) as api:
        yield type("Of", (Histories,), {"installation": installation, "ingest": ingest, "api": api})
    ingest.close()


def test_tenants_and_labels_never_see_each_others_text(histories: type[Histories]) -> None:
    run_state_machine_as_test(
        histories,
        settings=settings(
            max_examples=6,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
