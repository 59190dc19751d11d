"""What the seeded tests of faults share: one installation for a file of tests, and a tenant of its own for each seed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from functions.query.app import create_app
from tests.support.installation import Installation
from tests.support.lambda_process import LambdaProcess
from tests.support.sweeping import sweeping
from tests.support.town import Shared, Town

SEEDS = 20
FEW = {"fault_seed": 5, "load_seed": 2}
_UNLIMITED = {"key_rate": 1e6, "key_burst": 10**6, "tenant_rate": 1e6, "tenant_burst": 10**6}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One of a few, of twenty with --all-seeds, or the one that --seed or RAGZERO_SEED names. load_seed: of tests that take
    seconds."""
    one = metafunc.config.getoption("seed") or os.environ.get("RAGZERO_SEED")
    every = metafunc.config.getoption("all_seeds")
    for name in FEW.keys() & set(metafunc.fixturenames):
        count = SEEDS if every else FEW[name]
        metafunc.parametrize(name, range(count) if one is None else [int(one)])


@pytest.fixture(scope="module")
def shared(shared_installation: Installation, state_folder: Path) -> Iterator[Shared]:
    """Nobody's lease runs out by itself here, however slow the machine is."""
    environment = shared_installation.environment("ragzero_ingest") | {"RAGZERO_LEASE_SECONDS": "3600"}
    intake = shared_installation.intake
    queues = {"queue_url": intake.queue_url, "dead_letter_url": intake.dead_letter_url}
    app = create_app(shared_installation.query_settings(**_UNLIMITED | queues), shared_installation.embedder)
    with ExitStack() as stack:
        workers = [
            stack.enter_context(LambdaProcess("tests.support.skewed:handler", environment, state_folder))
            for _ in range(2)
        ]
        api = stack.enter_context(TestClient(app, raise_server_exceptions=False))
        sweeper = stack.enter_context(sweeping(shared_installation))
        yield Shared(shared_installation, api, workers, sweeper)


@pytest.fixture
def town(shared: Shared, fault_seed: int) -> Town:
    """A tenant that nobody knows yet, and dice of that seed."""
    return Town(shared, fault_seed)


@pytest.fixture
def busy_town(shared: Shared, load_seed: int) -> Town:
    """One that is asked and uploaded to in threads."""
    return Town(shared, load_seed)
