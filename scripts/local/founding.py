"""What a local ragzero is founded on: its secrets, its database, the first tenant and that tenant's keys."""

from __future__ import annotations

import json
import os
import secrets
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from scripts.local.postgres import Postgres
from scripts.migrate import run as migrate
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.tenants import TenantStore
from shared.core.credentials import digest, mint, present
from shared.settings import MigrateSettings

DATABASE = "ragzero"
_ROLES = ("owner", "ingest", "query", "embed", "reindex")


@dataclass(frozen=True)
class Secrets:
    """Made at the first start and kept in a file only its owner can read."""

    tenant: str
    pepper: str = field(repr=False)
    api_key: str = field(repr=False)
    admin_key: str = field(repr=False)
    passwords: dict[str, str] = field(repr=False)

    @classmethod
    def kept_in(cls, path: Path) -> Secrets:
        if not path.exists():
            pepper = secrets.token_hex(32)
            made = cls(
                tenant=str(uuid.uuid4()),
                pepper=pepper,
                api_key=mint("local", secrets.token_bytes(32), pepper)[1],
                admin_key=mint("local", secrets.token_bytes(32), pepper)[1],
                passwords={role: secrets.token_hex(16) for role in _ROLES},
            )
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(made.__dict__, file)
        known = json.loads(path.read_text())
        missing = {role: secrets.token_hex(16) for role in _ROLES if role not in known["passwords"]}
        if missing:  # of a release that had fewer roles
            known["passwords"] |= missing
            _replace(path, json.dumps(known))
        return cls(**known)


def prepare(postgres: Postgres, known: Secrets, model_dir: Path) -> None:
    """The database at the current schema, and the tenant with its keys. Does no harm when they are there."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        if not connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone():
            connection.execute(f"create database {DATABASE}")
    passwords: dict[str, Any] = {f"{role}_password": value for role, value in known.passwords.items()}
    migrate(MigrateSettings(admin_url=postgres.dsn(dbname=DATABASE), **passwords), model_dir)
    _ensure_tenant(postgres.dsn("ragzero_owner", known.passwords["owner"], DATABASE), known)


def _ensure_tenant(url: str, known: Secrets) -> None:
    database = Database(url)
    tenants, tenant = TenantStore(database), uuid.UUID(known.tenant)
    tenants.ensure_tenant(tenant, "local")
    for name, text, scopes in (
        ("api", known.api_key, ["query", "ingest"]),
        ("admin", known.admin_key, ["query", "ingest", "admin"]),
    ):
        key = present(text, known.pepper)
        tenants.ensure_key(tenant, key.id, name, digest(key.secret, known.pepper), scopes)
    database.close()


def _replace(path: Path, text: str) -> None:
    """Whole or not at all, and readable by its owner only."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    fresh.rename(path)
