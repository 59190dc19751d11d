"""What a deployment finds in a cloud, on this machine: an AWS that runs packages, a database behind a pooler, a Redis."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from scripts.deployment.stack import SOURCE
from scripts.local.aws import REGION, LocalAws
from scripts.local.founding import Secrets
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

    terraform: Path
    aws: LocalAws
    host: LambdaHost
    postgres: Postgres
    pgbouncer: PgBouncer
    shim: RestShim
    secrets: Secrets

    def another(self) -> Path:
        """A second copy, made from this one when it is first asked for."""
        copy = self.terraform.with_name("terraform-2")
        if not copy.exists():
            shutil.copytree(self.terraform, copy, ignore=shutil.ignore_patterns(".terraform"))
        return copy

    @staticmethod
    def database(environment: str) -> str:
        """Each has its own, on one server."""
        return f"ragzero_{environment.replace('-', '_')}"

    def pepper(self, environment: str) -> str:
        return f"{self.secrets.pepper}-{environment}"

    def store_parameters(self, environment: str) -> None:
        """What the stacks of the database and the cache leave in SSM."""
        path = f"/ragzero/{environment}"
        for reader in _FUNCTIONS:
            for name, value in self._of(reader, environment).items():
                self._put(f"{path}/{reader}/{name}", value)
        self._put(f"{path}/query/RAGZERO_KEY_PEPPER", self.pepper(environment))
        self._put(f"{path}/migrate/DATABASE_ADMIN_URL", self.postgres.dsn(dbname=self.database(environment)))
        for role, password in self.secrets.passwords.items():
            self._put(f"{path}/migrate/RAGZERO_{role.upper()}_PASSWORD", password)

    def parameters(self, environment: str) -> set[str]:
        pages = self.aws.client("ssm").get_paginator("describe_parameters").paginate()
        names = {each["Name"] for page in pages for each in page["Parameters"]}
        return {name for name in names if name.startswith(f"/ragzero/{environment}/")}

    def forget_parameters(self, environment: str) -> None:
        for name in self.parameters(environment):
            self.aws.client("ssm").delete_parameter(Name=name)

    def _of(self, reader: str, environment: str) -> Mapping[str, str]:
        role, password = f"ragzero_{reader}", self.secrets.passwords[reader]
        return {
            "DATABASE_URL": self.pgbouncer.dsn(role, password, self.database(environment)),
            "UPSTASH_REDIS_REST_URL": self.shim.url,
            "UPSTASH_REDIS_REST_TOKEN": self.shim.token,
        }

    def _put(self, path: str, value: str) -> None:
        self.aws.client("ssm").put_parameter(Name=path, Value=value, Type="SecureString", Overwrite=True)


@contextmanager
def account(folder: Path, postgres: Postgres, names: Sequence[str], target: Target) -> Iterator[Account]:
    """For environments of those names, whose functions are made for that target."""
    port = free_port()
    functions = [f"ragzero-{name}-{each}" for name in names for each in _FUNCTIONS]
    hosts = {function: f"http://127.0.0.1:{port}/{function}" for function in functions}
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
            for name in names:
                connection.execute(
                    sql.SQL("create database {}").format(sql.Identifier(Account.database(name)))
                )
        identity = aws.client("sts").get_caller_identity()
        aws.client("s3").create_bucket(Bucket=f"ragzero-state-{identity['Account']}")
        terraform, secrets = _terraform(folder, target), Secrets.kept_in(folder / "secrets.json")
        yield Account(terraform, aws, host, postgres, pgbouncer, shim, secrets)


def _terraform(folder: Path, target: Target) -> Path:
    copy, files = folder / "terraform", folder / "terraform" / "environments"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*"))
    (files / "dev.tfvars").write_text(f'environment = "dev"\nregion      = "{REGION}"\nzero_idle   = true\n')
    (files / "dev.app.tfvars").write_text(_ENVIRONMENT.format(arch=target.arch, python=target.python))
    (files / "dev.tfbackend").write_text(_BACKEND.format(region=REGION))
    return copy
