"""Rows out of one database and into another: what the bucket cannot bring back, and with it, if wanted, the whole index.

Tenant by tenant, as the owner, under row-level security like everybody else; on straight connections to the server. A row
travels as the JSON that Postgres itself makes of it and reads again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from shared.adapters.postgres.connection import translate
from shared.adapters.postgres.space_tables import ensure_space
from shared.core.errors import Conflict
from shared.core.models import Space

# Each after what it points to. facets are made of documents' metadata by their trigger.
STATE = (
    "tenants",
    "api_keys",
    "collections",
    "usage_days",
    "evaluations",
    "evaluation_outcomes",
    "answer_feedback",
    "webhooks",
)
INDEX = ("documents", "editions", "chunks", "chunk_terms", "lexemes", "label_sets")
_SPACE_FIELDS = ("name", "fingerprint", "model", "revision", "dimension", "storage")
# Whose identities go on after the restored ones.
_NUMBERED = ("collections", "chunks", "evaluations", "answer_feedback")
_AT_ONCE = 500
Record = tuple[str, list[str]]


def dump(admin_url: str, *, index: bool) -> Iterator[Record]:
    """(table, rows as JSON) in an order in which they can be stored. index: documents, chunks and vectors, too.

    One snapshot: what is published meanwhile is all in it or not at all.
    """
    with _owner(admin_url) as connection, connection.transaction():
        connection.execute("set transaction isolation level repeatable read, read only")
        yield (
            "spaces",
            _json(connection.execute("select to_json(s)::text from spaces s order by id").fetchall()),
        )
        tables = (*STATE, *INDEX, *_vector_tables(connection)) if index else STATE
        for tenant in _tenants(connection):
            connection.execute("select set_config('app.tenant_id', %s, true)", [tenant])
            for table in tables:
                yield from _rows(connection, table, counted=index)


def deleted_since(admin_url: str, moment: datetime) -> int:
    """How many documents that were there at that moment have been deleted."""
    with _owner(admin_url) as connection, connection.transaction():
        # which sees the receipts of all tenants
        connection.execute("set local role ragzero_reindex")
        connection.execute("set local app.sweep = 'on'")
        row = connection.execute(
            "select count(*) from deletions r join documents d on d.id = r.document_id "
            "where r.requested_at > %s and d.created_at <= %s",
            [moment, moment],
        ).fetchone()
    return int(row[0]) if row else 0


def restore(admin_url: str, records: Iterable[Record]) -> dict[str, int]:
    """How many rows went into each table of an empty, migrated database. All or nothing. Raises Conflict."""
    stored: dict[str, int] = {}
    newest = dict.fromkeys(_NUMBERED, 0)
    records = iter(records)
    table, spaces = next(records)
    if table != "spaces":
        raise Conflict(f"a backup begins with its spaces, this one with {table}")
    numbers = _spaces(admin_url, [json.loads(row) for row in spaces])
    with _owner(admin_url) as connection, connection.transaction():
        if _tenants(connection):
            raise Conflict("the database has tenants already; restore into an empty one")
        for table, rows in records:
            _store(connection, _renamed(table, numbers), rows)
            stored[table] = stored.get(table, 0) + len(rows)
            if table in newest:
                newest[table] = max(newest[table], *(json.loads(row)["id"] for row in rows))
        for table, id in newest.items():
            connection.execute(
                "select setval(pg_get_serial_sequence(%s, 'id'), %s, %s)", [table, max(1, id), id > 0]
            )
    return stored


def _spaces(admin_url: str, rows: list[dict[str, Any]]) -> dict[int, int]:
    """Where each space's vectors go: its number then, and its number now. The active one first."""
    numbers = {}
    for row in sorted(rows, key=lambda row: row["state"] != "active"):
        known = {field: row[field] for field in _SPACE_FIELDS}
        numbers[row["id"]] = ensure_space(admin_url, Space(id=0, **known))
    return numbers


def _renamed(table: str, numbers: dict[int, int]) -> str:
    prefix, _, number = table.rpartition("_")
    return f"vectors_{numbers[int(number)]}" if prefix == "vectors" else table


def _rows(connection: psycopg.Connection[Any], table: str, *, counted: bool) -> Iterator[Record]:
    """Read as they are asked for: a large table does not fit into memory. Collections without their documents have none."""
    none = {"documents": 0, "chunks": 0} if table == "collections" and not counted else {}
    statement = sql.SQL("select (to_jsonb(t) || %s::jsonb)::text from {} t").format(sql.Identifier(table))
    with connection.cursor(name="backup") as cursor:
        cursor.execute(statement, [json.dumps(none)])
        while rows := cursor.fetchmany(_AT_ONCE):
            yield table, _json(rows)


def _store(connection: psycopg.Connection[Any], table: str, rows: list[str]) -> None:
    """A tenant's own row says whose all the following are."""
    if table == "tenants":
        connection.execute("select set_config('app.tenant_id', %s::json ->> 'id', true)", [rows[0]])
    name = sql.Identifier(table)
    connection.execute(
        sql.SQL(
            "insert into {} overriding system value select (json_populate_record(null::{}, r::json)).* "
            "from unnest(%s::text[]) as r"
        ).format(name, name),
        [rows],
    )


def _vector_tables(connection: psycopg.Connection[Any]) -> list[str]:
    return [f"vectors_{row[0]}" for row in connection.execute("select id from spaces order by id")]


def _tenants(connection: psycopg.Connection[Any]) -> list[str]:
    """Whoever administers them over the API sees all of them; the owner does not."""
    connection.execute("set local role ragzero_query")
    connection.execute("select set_config('app.operator', 'on', true)")
    found = [str(row[0]) for row in connection.execute("select id from tenants order by id")]
    connection.execute("select set_config('app.operator', '', true)")
    connection.execute("set local role ragzero_owner")
    return found


def _json(rows: list[tuple[str]]) -> list[str]:
    return [row[0] for row in rows]


@contextmanager
def _owner(admin_url: str) -> Iterator[psycopg.Connection[Any]]:
    try:
        with psycopg.connect(admin_url, autocommit=True, row_factory=tuple_row) as connection:
            for role in ("ragzero_owner", "ragzero_query", "ragzero_reindex"):
                connection.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(role)))
            connection.execute("set role ragzero_owner")
            yield connection
    except psycopg.Error as error:
        raise translate(error) from error
