"""What every test may ask for. The servers are real; each test gets a database, a bucket and a queue of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import create_ssl_context
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from functions.ingest.parsing import ParserPool
from functions.query.app import create_app
from scripts.local.aws import Intake, LocalAws
from scripts.local.pgbouncer import PgBouncer
from scripts.local.postgres import Postgres
from shared.adapters.onnx_embedder import OnnxEmbedder
from tests.support.installation import Databases, Installation
from tests.support.remembering import RememberingEmbedder
from tests.support.second_model import turned
from tests.support.servers import new_intake

# How long an example takes says how busy the machine is.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
pytest_plugins = ["tests.support.fixtures"]

ROOT = Path(__file__).resolve().parents[1]
TORCH = {
    "tests/contract/test_cross_encoder.py",
    "tests/contract/test_model_build.py",
    "tests/infra/test_modal_embed.py",
    "tests/integration/test_embed_job.py",
}


@pytest.fixture(scope="session", autouse=True)
def certificates_read_once() -> Iterator[None]:
    """Each client of httpx reads all authorities' certificates, which takes longer than most tests ask for; and nothing
    here speaks TLS."""
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr("httpx._transports.default.create_ssl_context", cache(create_ssl_context))
        yield


@pytest.fixture(scope="session")
def model_dir() -> Path:
    return ROOT / ".local" / "models" / "all-MiniLM-L6-v2"


@pytest.fixture(scope="session")
def next_model_dir(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose vectors are of another space, with other dimensions."""
    return turned(model_dir, tmp_path_factory.mktemp("models") / "turned")


@pytest.fixture(scope="session")
def embedder(model_dir: Path) -> OnnxEmbedder:
    """On one core, for other workers have the others."""
    return RememberingEmbedder.load(model_dir, threads=1)


@pytest.fixture(scope="session")
def databases(postgres: Postgres, pgbouncer: PgBouncer, model_dir: Path) -> Iterator[Databases]:
    """A migrated template that each test's database is cloned from."""
    prepared = Databases.prepared(postgres, pgbouncer, model_dir)
    yield prepared
    prepared.superuser.close()


class SharedParsers(ParserPool):
    """Outlives the services that use it: its processes take longer to start than to parse what tests upload."""

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def parsers() -> Iterator[SharedParsers]:
    shared = SharedParsers()
    yield shared
    ParserPool.close(shared)


@pytest.fixture
def make_installation(
    databases: Databases,
    aws: LocalAws,
    make_intake: Callable[..., Intake],
    embedder: OnnxEmbedder,
    model_dir: Path,
    parsers: SharedParsers,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Installation]]:
    _surround(monkeypatch, aws, parsers)
    made: list[Installation] = []

    def make(**settings: int) -> Installation:
        made.append(Installation.fresh(databases, aws, make_intake(**settings), embedder, model_dir))
        return made[-1]

    yield make
    for installation in made:
        installation.close()


@pytest.fixture
def installation(make_installation: Callable[..., Installation]) -> Installation:
    """A whole ragzero: tenant, keys, bucket, queue and database, reached through PgBouncer in transaction mode."""
    return make_installation()


@pytest.fixture(scope="module")
def shared_installation(
    databases: Databases, aws: LocalAws, embedder: OnnxEmbedder, model_dir: Path, parsers: SharedParsers
) -> Iterator[Installation]:
    """One for a file whose tests leave it as they found it, or keep to what is their own."""
    with pytest.MonkeyPatch.context() as patching:
        _surround(patching, aws, parsers)
        installation = Installation.fresh(databases, aws, new_intake(aws), embedder, model_dir)
        yield installation
        installation.close()


@pytest.fixture
def api(installation: Installation) -> Iterator[TestClient]:
    """The API with the installation's key."""
    with _client(installation) as client:
        yield client


@pytest.fixture(scope="session")
def quiet_api(
    databases: Databases, aws: LocalAws, embedder: OnnxEmbedder, model_dir: Path
) -> Iterator[TestClient]:
    """An API for requests that store nothing; one for the whole run."""
    installation = Installation.fresh(databases, aws, new_intake(aws), embedder, model_dir)
    with _client(installation) as client:
        yield client
    installation.close()


def _surround(patching: pytest.MonkeyPatch, aws: LocalAws, parsers: SharedParsers) -> None:
    """What an installation's functions find around them."""
    patching.setattr("functions.ingest.wiring.ParserPool", lambda: parsers)
    for name, value in aws.variables.items():
        patching.setenv(name, value)


def _client(installation: Installation) -> TestClient:
    headers = {"Authorization": f"Bearer {installation.api_key}"}
    app = create_app(installation.query_settings(), installation.embedder)
    return TestClient(app, headers=headers, raise_server_exceptions=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", help="the one seed of the tests of faults that have many (RAGZERO_SEED)")
    parser.addoption("--all-seeds", action="store_true", help="twenty where a few are enough from day to day")


class Files(LoadFileScheduling):
    """A file's tests share its fixtures, so one worker runs them; those of TORCH share what takes long to load."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "torch" if file in TORCH else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Files | None:
    return Files(config, log) if config.option.dist == "loadfile" else None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In CI a skipped test is a failure, unless it needs a GPU."""
    if report.skipped and os.environ.get("CI") and "gpu" not in report.keywords:
        report.outcome = "failed"
