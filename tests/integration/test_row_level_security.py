"""I5 in the database: no tenant, no rows; through the pooler; the owner too."""

from __future__ import annotations

import uuid

import psycopg
import pytest
from fastapi.testclient import TestClient

from shared.adapters.postgres.migrate import ROLES
from tests.support.installation import Installation

TABLES = [
    "tenants",
    "api_keys",
    "collections",
    "documents",
    "facets",
    "chunks",
    "chunk_terms",
    "lexemes",
    "vectors_1",
    "embed_waiting",
    "embed_work",
]


@pytest.fixture
def filled(installation: Installation) -> Installation:
    installation.put("note.txt", "Rows that nobody without a tenant may see.", {"site": "north"})
    installation.deliver()
    document = installation.document("note.txt")["id"]
    installation.rows(
        "insert into embed_waiting (document_id, tenant_id, generation) values (%s, %s, 1) returning 1",
        document,
        installation.tenant,
    )
    installation.rows(
        "insert into embed_work (tenant_id, document_id, generation, first_ordinal, last_ordinal, chunks) "
        "values (%s, %s, 1, 0, 0, 1) returning 1",
        installation.tenant,
        document,
    )
    for table in TABLES:
        assert installation.rows(f"select count(*) as n from {table}")[0]["n"] > 0
    return installation


@pytest.mark.parametrize("role", ROLES)
def test_a_role_without_a_tenant_sees_no_rows(filled: Installation, role: str) -> None:
    with psycopg.connect(filled.url(role), autocommit=True, prepare_threshold=None) as connection:
        readable = 0
        for table in TABLES:
            try:
                assert connection.execute(f"select count(*) from {table}".encode()).fetchone() == (0,), table
                readable += 1
            except psycopg.errors.InsufficientPrivilege:
                continue
        assert readable > 0


@pytest.mark.parametrize("role", ROLES)
def test_a_role_with_another_tenant_sees_no_rows(filled: Installation, role: str) -> None:
    with psycopg.connect(filled.url(role), prepare_threshold=None) as connection:
        connection.execute("select set_config('app.tenant_id', %s, true)", [str(uuid.uuid4())])
        for table in TABLES:
            try:
                with connection.transaction():
                    assert connection.execute(f"select count(*) from {table}".encode()).fetchone() == (0,), (
                        table
                    )
            except psycopg.errors.InsufficientPrivilege:
                continue


def test_a_role_cannot_write_rows_of_another_tenant(filled: Installation) -> None:
    with psycopg.connect(filled.url("ragzero_ingest"), prepare_threshold=None) as connection:
        connection.execute("select set_config('app.tenant_id', %s, true)", [str(uuid.uuid4())])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                "insert into collections (tenant_id, name) values (%s, 'theirs')", [filled.tenant]
            )


def test_every_table_with_tenant_rows_forces_row_level_security(installation: Installation) -> None:
    open_tables = installation.rows(
        """select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
           where c.relkind = 'r' and not (c.relrowsecurity and c.relforcerowsecurity)"""
    )
    assert open_tables == []


def test_the_setting_of_one_transaction_is_gone_in_the_next(filled: Installation) -> None:
    """What SET LOCAL promises, on one server connection of the pooler."""
    with psycopg.connect(filled.url("ragzero_query"), autocommit=True, prepare_threshold=None) as connection:
        with connection.transaction():
            connection.execute("select set_config('app.tenant_id', %s, true)", [str(filled.tenant)])
            assert connection.execute("select count(*) from documents").fetchone() == (1,)
        assert connection.execute("select count(*) from documents").fetchone() == (0,)


def test_a_document_of_another_tenant_does_not_exist(filled: Installation, api: TestClient) -> None:
    stranger = filled.add_key(uuid.uuid4(), ["query", "ingest"])
    id = filled.document("note.txt")["id"]
    theirs = api.get(f"/v1/documents/{id}", headers={"Authorization": f"Bearer {stranger}"})
    unknown = api.get(f"/v1/documents/{uuid.uuid4()}", headers={"Authorization": f"Bearer {stranger}"})
    assert theirs.status_code == unknown.status_code == 404
    assert theirs.json() == unknown.json()
    assert api.get(f"/v1/documents/{id}").status_code == 200
