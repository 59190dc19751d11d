"""A twin of the cloud on this machine: the packaged zips, deployed by the same Terraform onto a local AWS.

API Gateway and Lambda before it, S3, SQS and Lambda behind it; PostgreSQL behind PgBouncer, Redis behind Upstash's REST,
the embedding job as a process that is knocked for.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from scripts.deployment.stack import Stack
from scripts.local.aws import REGION, LocalAws, by_path
from scripts.local.founding import DATABASE, Secrets, prepare
from scripts.local.lambda_host import LambdaHost
from scripts.local.pgbouncer import PgBouncer
from scripts.local.postgres import Postgres
from scripts.local.process import Server, free_port
from scripts.local.redis_server import RedisServer
from scripts.local.rest_shim import RestShim
from scripts.local.stack import EmbedWorker
from scripts.packaging.build import build_all
from scripts.packaging.layers import here
from shared.core.errors import Unavailable

FUNCTIONS = ("ingest", "query", "reindex")
PREFIX = "ragzero-twin"
# Small, as the machine is: what is measured against the budget are the rules, not the size.
_SIZES = {"ingest": {"reserved_concurrency": 2}, "query": {"reserved_concurrency": 4}}
_BUDGET = 20
SERVICES = (
    "apigateway",
    "iam",
    "kms",
    "lambda",
    "logs",
    "monitoring",
    "s3",
    "scheduler",
    "sns",
    "sqs",
    "ssm",
    "sts",
)
_PORTS = ("postgres", "pgbouncer", "redis", "shim", "aws", "lambda", "embed")


class Twin:
    """say is told what happens. parameters: more of them for the query function, such as a generator's address.

    What is in the folder lives as long as the AWS does: once that has ended, everything starts anew. tethered: it all
    ends with this process.
    """

    def __init__(
        self,
        folder: Path,
        model_dir: Path,
        say: Callable[[str], None],
        *,
        parameters: Mapping[str, str] | None = None,
        tethered: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.model_dir = model_dir
        self._say = say
        self._parameters = parameters or {}
        self._tethered = tethered
        self._target = here(model_dir)
        self._assemble()

    def _assemble(self) -> None:
        folder, ports, tethered = self.folder, _ports(self.folder / "ports.json"), self._tethered
        host = f"http://127.0.0.1:{ports['lambda']}"
        hosts = {f"{PREFIX}-{name}": f"{host}/{PREFIX}-{name}" for name in FUNCTIONS}
        self.secrets = Secrets.kept_in(folder / "secrets.json")
        self.postgres = Postgres(
            folder / "postgres", port=ports["postgres"], tethered=tethered, durable=not tethered
        )
        self.pgbouncer = PgBouncer(
            folder / "pgbouncer", self.postgres, port=ports["pgbouncer"], tethered=tethered
        )
        self.redis = RedisServer(folder / "redis", port=ports["redis"], tethered=tethered, durable=False)
        self.shim = RestShim(folder / "redis", self.redis, port=ports["shim"], tethered=tethered)
        self.aws = LocalAws(
            folder / "aws",
            port=ports["aws"],
            tethered=tethered,
            durable=False,
            services=SERVICES,
            hosts=hosts,
        )
        self.host = LambdaHost(
            folder / "lambda", self.aws, self._target.python, port=ports["lambda"], tethered=tethered
        )
        told = {"DATABASE_URL": self._database_url("embed"), **self._redis()}
        self.embed = EmbedWorker.of(folder, self.model_dir, told, port=ports["embed"], tethered=tethered)

    @property
    def servers(self) -> Sequence[Server]:
        """In the order they need each other."""
        return [self.postgres, self.redis, self.aws, self.pgbouncer, self.shim, *self.embed, self.host]

    def start(self) -> None:
        """Everything that does not run, the packages as the source is now, and their deployment."""
        if not self.aws.running():
            self._clear()
        with ThreadPoolExecutor() as pool:
            self._say("building the packages; starting PostgreSQL, Redis and AWS")
            built = pool.submit(self._build)
            _start(self.postgres, self.redis, self.aws, self.pgbouncer, self.shim)
            prepare(self.postgres, self.secrets, self.model_dir)
            self._store_parameters()
            _start(*self.embed, self.host)
            stack = self._initialised()
            built.result()
        self._deploy(stack)
        self._write_env()

    def stop(self) -> None:
        for server in reversed(self.servers):
            server.stop()

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """Terraform's, of the app stack."""
        told = json.loads(self._state.read_text())["outputs"]
        return {name: each["value"] for name, each in told.items()}

    @property
    def url(self) -> str:
        return by_path(self.aws.url, self.outputs["url"])

    @property
    def environment(self) -> dict[str, str]:
        """What clients need to know."""
        return {
            "RAGZERO_API_URL": self.url,
            "RAGZERO_API_KEY": self.secrets.api_key,
            "RAGZERO_ADMIN_KEY": self.secrets.admin_key,
            "RAGZERO_TENANT": self.secrets.tenant,
            "RAGZERO_BUCKET": self.outputs["bucket"],
            "RAGZERO_STREAMS": "no",
            **self.aws.variables,
        }

    def _clear(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)
        self.folder.mkdir(mode=0o711)
        self._assemble()

    def _build(self) -> None:
        build_all(FUNCTIONS, self._target, self.folder / "packages")

    @property
    def _state(self) -> Path:
        return self.folder / "app.tfstate"

    def _initialised(self) -> Stack:
        copies = self.folder / "terraform"
        shutil.rmtree(copies, ignore_errors=True)
        copies.mkdir()
        stack = Stack.copied("app", copies, self.aws.variables, self._options())
        return stack.init(f"-backend-config=path={self._state}")

    def _options(self) -> list[str]:
        values = {
            "environment": PREFIX.removeprefix("ragzero-"),
            "region": REGION,
            "zero_idle": "true",
            "disposable": "true",
            "gateway": "http",
            "architecture": self._target.arch,
            "database": "url",
            "connection_budget": str(_BUDGET),
            "functions": json.dumps(_SIZES),
            "default_tenant": self.secrets.tenant,
            "alarms": "false",  # the emulator forgets most of what an alarm is
            "endpoint_url": self.aws.url,
            "package_dir": str(self.folder / "packages"),
        }
        return [f"-var={name}={value}" for name, value in values.items()]

    def _deploy(self, stack: Stack) -> None:
        self._say("terraform apply (queues take a while to settle)")
        began = time.monotonic()
        stack.apply()
        self.__dict__.pop("outputs", None)
        self._say(f"applied in {time.monotonic() - began:.0f} s")
        # what it knew of the functions may have changed
        self.host.stop()
        _start(self.host)
        self._await_answer()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + 60
        while httpx.get(f"{self.url}/readyz", timeout=60).status_code != 200:
            if time.monotonic() > deadline:
                raise Unavailable("twin", f"the API does not answer; see {self.folder}/lambda/*.log")
            time.sleep(0.5)

    def _store_parameters(self) -> None:
        """What Terraform's other stacks, or whoever deploys the models, would leave in SSM."""
        ssm = self.aws.client("ssm")
        for reader in FUNCTIONS:
            for name, value in self._stored(reader).items():
                path = f"/ragzero/twin/{reader}/{name}"
                ssm.put_parameter(Name=path, Value=value, Type="SecureString", Overwrite=True)

    def _stored(self, reader: str) -> dict[str, str]:
        common = {"DATABASE_URL": self._database_url(reader), **self._redis()}
        if reader == "query":
            return {**common, "RAGZERO_KEY_PEPPER": self.secrets.pepper, **self._parameters}
        return common | (self.embed[0].wanted if self.embed else {})

    def _database_url(self, reader: str) -> str:
        return self.pgbouncer.dsn(f"ragzero_{reader}", self.secrets.passwords[reader], DATABASE)

    def _redis(self) -> dict[str, str]:
        return {"UPSTASH_REDIS_REST_URL": self.shim.url, "UPSTASH_REDIS_REST_TOKEN": self.shim.token}

    def _write_env(self) -> None:
        path = self.folder / "env"
        path.touch(mode=0o600)
        path.write_text("".join(f"{name}={value}\n" for name, value in self.environment.items()))


def _start(*servers: Server) -> None:
    """By this thread: what is tethered ends with the thread that started it."""
    for server in servers:
        if not server.running():
            server.start()
    for server in servers:
        server.wait_ready(60)


def _ports(path: Path) -> dict[str, int]:
    """Chosen once, so that another process finds what runs."""
    if not path.exists():
        path.write_text(json.dumps({name: free_port() for name in _PORTS}))
    known: dict[str, int] = json.loads(path.read_text())
    return known
