"""What a deployment finds in a cloud, on this machine: an AWS that runs packages, a database behind a pooler, a Redis."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from scripts.deployment.stack import SOURCE
from scripts.local.aws import REGION, LocalAws
from scripts.local.founding import DATABASE, Secrets
from scripts.local.lambda_host import LambdaHost
from scripts.local.pgbouncer import PgBouncer
from scripts.local.postgres import Postgres
from scripts.local.process import free_port
from scripts.local.redis_server import RedisServer
from scripts.local.rest_shim import RestShim
from scripts.local.twin import SERVICES
from scripts.packaging.layers import Target
from tests.support.servers import running

_FUNCTIONS = ("ingest", "query", "reindex")
_SERVICES = (*SERVICES, "tagging")
# An emulator has no REST APIs with a body, no alarms to speak of, and a database that somebody else made.
_ENVIRONMENT = """
gateway           = "http"
alarms            = false
disposable        = true
database          = "url"
connection_budget = 30
architecture      = "{arch}"
runtime           = "python{python}"
functions         = {{ ingest = {{ reserved_concurrency = 2 }}, query = {{ reserved_concurrency = 4 }} }}
"""
_BACKEND = """
region                      = "{region}"
use_lockfile                = true
use_path_style              = true
skip_credentials_validation = true
skip_requesting_account_id  = true
skip_metadata_api_check     = true
skip_region_validation      = true
"""


@dataclass(frozen=True)
class Account:
    """terraform: a copy of infra/terraform whose dev is an environment of this machine's."""

    name: str
    terraform: Path
    aws: LocalAws
    host: LambdaHost
    postgres: Postgres
    pgbouncer: PgBouncer
    shim: RestShim
    secrets: Secrets

    def store_parameters(self) -> None:
        """What the stacks of the database and the cache leave in SSM."""
        for reader in _FUNCTIONS:
            for name, value in self._of(reader).items():
                self._put(f"{reader}/{name}", value)
        self._put("query/RAGZERO_KEY_PEPPER", self.secrets.pepper)
        self._put("migrate/DATABASE_ADMIN_URL", self.postgres.dsn(dbname=DATABASE))
        for role, password in self.secrets.passwords.items():
            self._put(f"migrate/RAGZERO_{role.upper()}_PASSWORD", password)

    def parameters(self) -> set[str]:
        pages = self.aws.client("ssm").get_paginator("describe_parameters").paginate()
        return {each["Name"] for page in pages for each in page["Parameters"]}

    def forget_parameters(self) -> None:
        for name in self.parameters():
            self.aws.client("ssm").delete_parameter(Name=name)

    def _of(self, reader: str) -> Mapping[str, str]:
        return {
            "DATABASE_URL": self.pgbouncer.dsn(f"ragzero_{reader}", self.secrets.passwords[reader], DATABASE),
            "UPSTASH_REDIS_REST_URL": self.shim.url,
            "UPSTASH_REDIS_REST_TOKEN": self.shim.token,
        }

    def _put(self, name: str, value: str) -> None:
        path = f"/ragzero/{self.name}/{name}"
        self.aws.client("ssm").put_parameter(Name=path, Value=value, Type="SecureString", Overwrite=True)


@contextmanager
def account(folder: Path, postgres: Postgres, name: str, target: Target) -> Iterator[Account]:
    """For an environment of that name, whose functions are made for that target."""
    port = free_port()
    hosts = {
        f"ragzero-{name}-{each}": f"http://127.0.0.1:{port}/ragzero-{name}-{each}" for each in _FUNCTIONS
    }
    aws = LocalAws(
        folder / "aws", port=free_port(), tethered=True, durable=False, services=_SERVICES, hosts=hosts
    )
    redis = RedisServer(folder / "redis", port=free_port(), tethered=True, durable=False)
    pgbouncer = PgBouncer(folder / "pgbouncer", postgres, port=free_port(), tethered=True)
    shim = RestShim(folder / "redis", redis, port=free_port(), tethered=True)
    host = LambdaHost(folder / "lambda", aws, target.python, port=port, tethered=True)
    with ExitStack() as stack:
        for server in (postgres, aws, redis, pgbouncer, shim, host):
            stack.enter_context(running(server))
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute(f"create database {DATABASE}")
        identity = aws.client("sts").get_caller_identity()
        aws.client("s3").create_bucket(Bucket=f"ragzero-state-{identity['Account']}")
        terraform, secrets = _terraform(folder, target), Secrets.kept_in(folder / "secrets.json")
        yield Account(name, terraform, aws, host, postgres, pgbouncer, shim, secrets)


def _terraform(folder: Path, target: Target) -> Path:
    copy, files = folder / "terraform", folder / "terraform" / "environments"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*"))
    (files / "dev.tfvars").write_text(f'environment = "dev"\nregion      = "{REGION}"\nzero_idle   = true\n')
    (files / "dev.app.tfvars").write_text(_ENVIRONMENT.format(arch=target.arch, python=target.python))
    (files / "dev.tfbackend").write_text(_BACKEND.format(region=REGION))
    return copy
