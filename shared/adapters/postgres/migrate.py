"""Brings a database to the current schema: roles, numbered migrations (each once, frozen by hash)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.resources import files

import psycopg
from psycopg import sql

from shared.core.errors import ConfigurationError, RagzeroError, Unavailable

ROLES = ("ragzero_owner", "ragzero_ingest", "ragzero_query", "ragzero_embed", "ragzero_reindex")
_OLDEST_PGVECTOR = (0, 8, 0)
_ANY_LOCK = 7_291_001
_LOCK_TIMEOUT, _PAUSE_S, _TRIES = "500ms", 1.0, 60
_LIMITS = {"ragzero_query": "15s", "ragzero_ingest": "60s", "ragzero_embed": "60s", "ragzero_reindex": "60s"}


def migrate(admin_url: str, passwords: Mapping[str, str]) -> list[str]:
    """The names of the migrations applied now. passwords is by role; needs a role that may create roles.

    Connect straight to the server: the advisory lock that keeps two deployments apart lives on a session.
    """
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s)", [_ANY_LOCK])
        _ensure_roles(connection, passwords)
        _ensure_vector(connection)
        _ensure_ledger(connection)
        return [name for name, text in _shipped() if _apply(connection, name, text)]


def shipped() -> dict[str, str]:
    """The hash of each migration there is, by name."""
    return {name: _digest(text) for name, text in _shipped()}


def _ensure_roles(connection: psycopg.Connection, passwords: Mapping[str, str]) -> None:
    for role in ROLES:
        exists = connection.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone()
        verb = sql.SQL("alter role {} login password {}" if exists else "create role {} login password {}")
        connection.execute(verb.format(sql.Identifier(role), sql.Literal(passwords[role])))
    connection.execute("grant ragzero_owner to current_user")
    connection.execute("grant create, usage on schema public to ragzero_owner")
    for role, limit in _LIMITS.items():
        statement = sql.SQL("alter role {} set {} = {}")
        for name, value in (("statement_timeout", limit), ("idle_in_transaction_session_timeout", "30s")):
            connection.execute(
                statement.format(sql.Identifier(role), sql.Identifier(name), sql.Literal(value))
            )


def _ensure_vector(connection: psycopg.Connection) -> None:
    connection.execute("create extension if not exists vector")
    row = connection.execute("select extversion from pg_extension where extname = 'vector'").fetchone()
    assert row is not None
    if tuple(int(part) for part in row[0].split(".")) < _OLDEST_PGVECTOR:
        raise ConfigurationError("DATABASE_ADMIN_URL", f"pgvector {row[0]} is too old; 0.8.0 is the least")


def _ensure_ledger(connection: psycopg.Connection) -> None:
    connection.execute("""
        create table if not exists migrations
            (name text primary key, hash text not null, applied_at timestamptz not null default now())""")
    connection.execute("grant select on migrations to ragzero_query")


def _shipped() -> Iterable[tuple[str, str]]:
    folder = files(__package__).joinpath("migrations")
    return [
        (f.name, f.read_text())
        for f in sorted(folder.iterdir(), key=lambda f: f.name)
        if f.name.endswith(".sql")
    ]


def _apply(connection: psycopg.Connection, name: str, text: str) -> bool:
    digest = _digest(text)
    row = connection.execute("select hash from migrations where name = %s", [name]).fetchone()
    if row and row[0] != digest:
        raise RagzeroError(f"migration {name} was changed after it had been applied; add a new one instead")
    if row:
        return False
    for _ in range(_TRIES):
        with suppress(psycopg.errors.LockNotAvailable):
            _run(connection, name, text, digest)
            return True
        time.sleep(_PAUSE_S)  # whoever queued behind us goes first
    raise Unavailable(
        "database", f"migration {name} did not get its locks in {_TRIES} tries; nothing was changed"
    )


def _run(connection: psycopg.Connection, name: str, text: str, digest: str) -> None:
    """Whoever comes while it waits for a lock waits behind it, so it waits for moments only."""
    with connection.transaction():
        connection.execute("select set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
        connection.execute("set local role ragzero_owner")
        connection.execute(text)
        connection.execute("reset role")
        connection.execute("insert into migrations (name, hash) values (%s, %s)", [name, digest])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
