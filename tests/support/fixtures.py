"""Real servers for tests: each is started once per run, on a free port, in a folder that goes away.

A test that kills or freezes one calls `revive(server)` afterwards (it keeps its port). Databases, migrations and
tenants are built on top of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from scripts.local.aws import Intake, LocalAws
from scripts.local.pgbouncer import PgBouncer
from scripts.local.postgres import Postgres
from scripts.local.process import free_port
from scripts.local.redis_server import RedisServer
from scripts.local.rest_shim import RestShim
from tests.support.lambda_process import LambdaProcess
from tests.support.prompt_aws import PromptAws
from tests.support.servers import new_intake, running, scratch_folder


@pytest.fixture(scope="session")
def state_folder() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def postgres(state_folder: Path) -> Iterator[Postgres]:
    """Making and dropping a database looks through all buffers, so there are few."""
    folder = state_folder / "postgres"
    server = Postgres(folder, port=free_port(), tethered=True, durable=False, shared_buffers="128MB")
    with running(server):
        yield server


@pytest.fixture(scope="session")
def pgbouncer(state_folder: Path, postgres: Postgres) -> Iterator[PgBouncer]:
    with running(PgBouncer(state_folder / "pgbouncer", postgres, port=free_port(), tethered=True)) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(state_folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(state_folder / "redis", port=free_port(), tethered=True, durable=False)
    with running(server):
        yield server


@pytest.fixture(scope="session")
def rest_shim_process(state_folder: Path, redis_server: RedisServer) -> Iterator[RestShim]:
    with running(
        RestShim(state_folder / "rest_shim", redis_server, port=free_port(), tethered=True)
    ) as server:
        yield server


@pytest.fixture
def rest_shim(rest_shim_process: RestShim) -> Iterator[RestShim]:
    """The shim without faults; `rest_shim.control` switches them on for this test."""
    rest_shim_process.control.clear()
    yield rest_shim_process
    rest_shim_process.control.clear()


@pytest.fixture
def empty_redis(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A plain client of the Redis behind the shim, emptied first."""
    with redis.Redis(port=redis_server.port) as client:
        client.flushall()
        yield client


@pytest.fixture(scope="session")
def aws(state_folder: Path) -> Iterator[LocalAws]:
    with running(PromptAws(state_folder / "aws", port=free_port(), tethered=True, durable=False)) as server:
        yield server


@pytest.fixture
def make_intake(aws: LocalAws) -> Callable[..., Intake]:
    """make_intake(visibility=30, max_receive_count=5): a fresh bucket with its queues."""

    def make(**settings: int) -> Intake:
        return new_intake(aws, **settings)

    return make


@pytest.fixture
def intake(make_intake: Callable[..., Intake]) -> Intake:
    return make_intake()


@pytest.fixture
def lambda_process(state_folder: Path) -> Iterator[Callable[..., LambdaProcess]]:
    """lambda_process("package.module:handler", env): an execution environment that ends with the test."""
    made: list[LambdaProcess] = []

    def make(handler: str, env: dict[str, str] | None = None, *, freezes: bool = True) -> LambdaProcess:
        made.append(LambdaProcess(handler, env or {}, state_folder, freezes=freezes))
        return made[-1]

    yield make
    for each in made:
        each.kill()
