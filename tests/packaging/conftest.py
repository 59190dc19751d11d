"""The packages, built as for deployment but for this machine, and what they need to run where no source is."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from scripts.local.aws import LocalAws
from scripts.local.packaged import Packaged, Runtime
from scripts.local.process import free_port
from scripts.packaging.build import Package, build_all
from scripts.packaging.layers import Target, here
from scripts.packaging.recipes import RECIPES
from tests.support.installation import PEPPER, Installation
from tests.support.prompt_aws import PromptAws
from tests.support.servers import running

HANDLERS = {
    "ingest": "functions.ingest.handler.handler",
    "query": "functions.query.handler.handler",
    "reindex": "functions.reindex.handler.handler",
}
_CLIENT = ("awslambdaric", "simplejson", "snapshot-restore-py")
Unpack = Callable[[str], Path]
Environment = Callable[[Installation, str], dict[str, str]]


@pytest.fixture(scope="session")
def aws(state_folder: Path) -> Iterator[LocalAws]:
    """Besides buckets and queues, the parameters that functions read their secrets from."""
    server = PromptAws(
        state_folder / "aws-with-parameters",
        port=free_port(),
        tethered=True,
        durable=False,
        services=("s3", "sqs", "ssm", "kms"),
    )
    with running(server):
        yield server


@pytest.fixture(scope="session")
def target(model_dir: Path) -> Target:
    """This machine, as far as it can be Lambda."""
    return here(model_dir)


@pytest.fixture(scope="session")
def packages(state_folder: Path, target: Target) -> Mapping[str, Package]:
    """Made from the source as it is; their layers are kept in .local/build from one run to the next."""
    made = build_all(RECIPES, target, state_folder / "packages")
    return {package.name: package for package in made}


@pytest.fixture(scope="session")
def unpack(state_folder: Path, packages: Mapping[str, Package]) -> Unpack:
    """unpack("query"): the package in a folder of its own, as Lambda has it in /var/task."""

    @cache
    def unpacked(name: str) -> Path:
        folder = state_folder / "tasks" / name
        with zipfile.ZipFile(packages[name].path) as archive:
            archive.extractall(folder)
            for entry in archive.infolist():
                (folder / entry.filename).chmod(entry.external_attr >> 16)
        return folder

    return unpacked


@pytest.fixture(scope="session")
def runtime(state_folder: Path, target: Target) -> Runtime:
    """A Python without any package, and AWS's runtime client beside it."""
    return Runtime.prepared(state_folder / "runtime", target.python)


@pytest.fixture
def environment(aws: LocalAws, unpack: Unpack) -> Environment:
    """environment(installation, "query"): what Terraform tells the function; secrets are parameters only it reads."""

    def make(installation: Installation, name: str) -> dict[str, str]:
        secrets = {"DATABASE_URL": installation.url(f"ragzero_{RECIPES[name].folder}")}
        if RECIPES[name].folder == "query":
            secrets["RAGZERO_KEY_PEPPER"] = PEPPER
        prefix = f"/ragzero/{installation.database}/{RECIPES[name].folder}"
        for variable, value in secrets.items():
            aws.client("ssm").put_parameter(
                Name=f"{prefix}/{variable}", Value=value, Type="SecureString", Overwrite=True
            )
        return {
            **aws.variables,
            "RAGZERO_SSM_PREFIX": prefix,
            "RAGZERO_BUCKET": installation.intake.bucket,
            "RAGZERO_DEFAULT_TENANT": str(installation.tenant),
            "RAGZERO_MODEL_DIR": str(unpack(name) / "model"),
            "RAGZERO_QUEUE_URL": installation.intake.queue_url,
            "RAGZERO_LEASE_SECONDS": "60",
            "RAGZERO_BASE_PATH": "/prod",
        }

    return make


@pytest.fixture
def packaged(
    state_folder: Path, unpack: Unpack, runtime: Runtime, environment: Environment
) -> Iterator[Callable[..., Packaged]]:
    """packaged(installation, "ingest", memory_mb=1024): the function as Lambda would have it, until the test ends."""
    made: list[Packaged] = []

    def make(
        installation: Installation, name: str, *, memory_mb: int | None = None, **changes: str
    ) -> Packaged:
        env = environment(installation, name) | changes
        log = state_folder / f"packaged-{name}-{len(made)}.log"
        made.append(Packaged(unpack(name), HANDLERS[name], env, runtime, log, memory_mb=memory_mb))
        return made[-1]

    yield make
    for each in made:
        each.kill()
