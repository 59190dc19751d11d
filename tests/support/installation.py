"""A ragzero installation for one test: everything real, everything its own."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from functions.ingest.handler import handle
from functions.ingest.service import IngestService
from functions.ingest.wiring import build
from scripts.local.aws import Intake, LocalAws
from scripts.local.event_source import EventSource, MappingSettings
from scripts.local.pgbouncer import PgBouncer
from scripts.local.postgres import Postgres
from scripts.migrate import space_of
from shared.adapters.onnx_embedder import Manifest, OnnxEmbedder
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.migrate import ROLES, migrate
from shared.adapters.postgres.space_tables import ensure_space
from shared.adapters.postgres.tenants import TenantStore
from shared.core.credentials import digest, mint
from shared.settings import IngestSettings, QuerySettings

PEPPER = "a pepper for tests only"
PASSWORD = "a-password-for-tests"
_TEMPLATE = "ragzero_template"


class Superuser:
    """A connection past the pooler, kept because a test looks often, and signing in takes longer than looking."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[dict[str, Any]] | None = None

    def execute(self, statement: str, values: Sequence[Any] = ()) -> psycopg.Cursor[dict[str, Any]]:
        try:
            return self._connected().execute(statement.encode(), values)
        except psycopg.OperationalError:
            if not self._connected().closed:
                raise
            self.close()  # a test restarted the server
            return self._connected().execute(statement.encode(), values)

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection[dict[str, Any]]:
        self._connection = self._connection or psycopg.connect(
            self._url, row_factory=dict_row, autocommit=True
        )
        return self._connection


@dataclass(frozen=True)
class Databases:
    postgres: Postgres
    pgbouncer: PgBouncer
    superuser: Superuser

    @classmethod
    def prepared(cls, postgres: Postgres, pgbouncer: PgBouncer, model_dir: Path) -> Databases:
        databases = cls(postgres, pgbouncer, Superuser(postgres.dsn()))
        databases.superuser.execute(f"create database {_TEMPLATE}")
        url = postgres.dsn(dbname=_TEMPLATE)
        migrate(url, dict.fromkeys(ROLES, PASSWORD))
        ensure_space(url, space_of(Manifest.read(model_dir)))
        return databases

    def create(self) -> str:
        name = f"t_{uuid.uuid4().hex[:12]}"
        # Copied file by file instead of logged page by page, which takes half the time where nothing is synced.
        self.superuser.execute(f"create database {name} template {_TEMPLATE} strategy file_copy")
        return name

    def drop(self, name: str) -> None:
        self.superuser.execute(f"drop database {name} with (force)")

    def url(self, name: str, role: str) -> str:
        """Through the pooler, as every function connects."""
        return self.pgbouncer.dsn(role, PASSWORD, name)


@dataclass
class Installation:
    databases: Databases
    database: str
    aws: LocalAws
    intake: Intake
    embedder: OnnxEmbedder
    model_dir: Path
    tenant: uuid.UUID = field(default_factory=uuid.uuid4)
    api_key: str = ""
    admin_key: str = ""
    # settings of every function: where Redis is, when there is one
    cache: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def fresh(
        cls, databases: Databases, aws: LocalAws, intake: Intake, embedder: OnnxEmbedder, model_dir: Path
    ) -> Installation:
        installation = cls(databases, databases.create(), aws, intake, embedder, model_dir)
        installation.api_key, installation.admin_key = installation._add_keys(
            installation.tenant, ["query", "ingest"], ["query", "ingest", "admin"]
        )
        return installation

    def add_key(self, tenant: uuid.UUID, scopes: list[str]) -> str:
        """A key of a tenant, which is made when it is new."""
        (text,) = self._add_keys(tenant, scopes)
        return text

    def _add_keys(self, tenant: uuid.UUID, *all_scopes: list[str]) -> list[str]:
        with closing(Database(self.url("ragzero_owner"))) as owner:
            tenants = TenantStore(owner)
            tenants.ensure_tenant(tenant, str(tenant))
            return [self._add_key(tenants, tenant, scopes) for scopes in all_scopes]

    def _add_key(self, tenants: TenantStore, tenant: uuid.UUID, scopes: list[str]) -> str:
        key, text = mint("test", secrets.token_bytes(32), PEPPER)
        tenants.ensure_key(tenant, key.id, "test", digest(key.secret, PEPPER), scopes)
        return text

    def close(self) -> None:
        self.disconnect()
        self.databases.drop(self.database)

    def disconnect(self) -> None:
        for name in ("ingest", "_superuser"):
            if name in self.__dict__:
                getattr(self, name).close()

    def url(self, role: str) -> str:
        return self.databases.url(self.database, role)

    # The functions.

    @cached_property
    def ingest(self) -> IngestService:
        return build(self.ingest_settings(), self.embedder)

    def ingest_settings(self, **changes: Any) -> IngestSettings:
        return IngestSettings(**self._common("ragzero_ingest") | {"lease_seconds": 60} | changes)

    def query_settings(self, **changes: Any) -> QuerySettings:
        return QuerySettings(
            **self._common("ragzero_query") | {"pepper": PEPPER, "log_level": "WARNING"} | changes
        )

    def _common(self, role: str) -> dict[str, Any]:
        return {
            "database_url": self.url(role),
            "bucket": self.intake.bucket,
            "aws_endpoint_url": self.aws.url,
            "default_tenant": self.tenant,
            "model_dir": self.model_dir,
            "encoder_threads": 1,
            **self.cache,
        }

    def environment(self, role: str) -> dict[str, str]:
        """What a function in a process of its own finds in its environment."""
        return {
            **self.aws.variables,
            "DATABASE_URL": self.url(role),
            "RAGZERO_BUCKET": self.intake.bucket,
            "RAGZERO_DEFAULT_TENANT": str(self.tenant),
            "RAGZERO_MODEL_DIR": str(self.model_dir),
            "RAGZERO_ENCODER_THREADS": "1",
            "RAGZERO_LEASE_SECONDS": "60",
            "RAGZERO_KEY_PEPPER": PEPPER,
        }

    # The bucket and its events.

    def put(self, key: str, body: bytes | str, metadata: Mapping[str, str] | None = None) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.aws.client("s3").put_object(
            Bucket=self.intake.bucket, Key=key, Body=data, Metadata=dict(metadata or {})
        )

    def delete(self, key: str) -> None:
        self.aws.client("s3").delete_object(Bucket=self.intake.bucket, Key=key)

    def deliver(self, **mapping: Any) -> int:
        """Hands all waiting events to the handler, in batches; the number of messages handled."""
        source = EventSource(
            self.aws.client("sqs"),
            self.intake.queue_url,
            lambda event, context: handle(event, context, self.ingest),
            MappingSettings(retry_delay=1, **mapping),
        )
        handled = count = source.poll(wait=2)
        while count:
            count = source.poll(wait=0)
            handled += count
        return handled

    def messages(self) -> list[dict[str, Any]]:
        """All waiting messages, taken off the queue."""
        sqs, found = self.aws.client("sqs"), []
        while batch := sqs.receive_message(
            QueueUrl=self.intake.queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=0, AttributeNames=["All"]
        ).get("Messages"):
            for message in batch:
                sqs.delete_message(QueueUrl=self.intake.queue_url, ReceiptHandle=message["ReceiptHandle"])
            found += batch
        return found

    # What is in the database, seen by a superuser.

    def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        return self._superuser.execute(statement, values).fetchall()

    @cached_property
    def _superuser(self) -> Superuser:
        return Superuser(self.databases.postgres.dsn(dbname=self.database))

    def document(self, key: str) -> dict[str, Any]:
        (row,) = self.rows("select * from documents where key = %s", key)
        return row

    def epoch(self) -> int:
        return int(self.rows("select epoch from tenants where id = %s", self.tenant)[0]["epoch"])
