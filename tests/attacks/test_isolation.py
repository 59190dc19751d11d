"""What one tenant, one key or one connection must never learn of another (ATTACKS 16, 17, 31-36, 39; API1, API5)."""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import re
import secrets
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from shared.adapters.postgres.catalog import Catalog
from shared.adapters.postgres.migrate import ROLES
from shared.core.credentials import _checksum, mint
from tests.attacks.test_http import refused
from tests.support.access import bearer, made, names, new_key, new_tenant, operating
from tests.support.installation import PEPPER, Installation

ROOT = Path(__file__).resolve().parents[2]
QUESTION = {"question": "What does the crane lift?"}


@pytest.fixture
def operator(installation: Installation) -> Iterator[TestClient]:
    with operating(installation) as client:
        yield client


@pytest.fixture
def stranger(operator: TestClient) -> dict[str, str]:
    """The header of another tenant's key, which may do what a tenant can."""
    tenant = new_tenant(operator, "stranger")
    return bearer(new_key(operator, tenant, scopes=["query", "ingest"])["key"])


@pytest.fixture
def filled(installation: Installation) -> Installation:
    installation.put("crane.txt", "The crane lifts forty tonnes.", {"collection": "cranes", "acl": "hr"})
    installation.put("open.txt", "The crane lifts fifty tonnes.")
    installation.deliver()
    return installation


# Whose is it?


def test_16_a_key_belongs_to_exactly_the_tenant_its_prefix_names(
    filled: Installation, operator: TestClient, stranger: dict[str, str]
) -> None:
    """tenants/<id> beside tenants/<id>0, and whatever else looks alike."""
    theirs = operator.get("/v1/documents", headers=stranger)
    tenant = operator.get("/v1/admin/tenants").json()["items"][0]["id"]
    assert theirs.json()["items"] == []
    alike = [f"tenants/{tenant}0/a.txt", f"tenants/{tenant}", f"tenants//{tenant}/a.txt",
             f"tenants/{tenant.upper()}/a.txt", f"tenants/{tenant}%2Fa.txt", f"tenants/{tenant[:-1]}/a.txt",
             f"tenants/{uuid.uuid4()}/a.txt", f"tenants/../tenants/{tenant}/a.txt"]  # fmt: skip
    for key in alike:
        filled.put(key, "The crane lifts nothing.")
    for key in (f"tenants/{tenant}/a.txt", f"x/tenants/{tenant}/a.txt", f"{tenant}/a.txt"):
        filled.put(key, "The crane lifts sixty tonnes.")
    filled.deliver()
    assert len(operator.get("/v1/documents", headers=stranger).json()["items"]) == 1
    keys = {row["key"] for row in filled.rows("select key from documents")}
    assert keys.isdisjoint(alike)
    assert len(filled.rows("select id from documents where tenant_id = %s", filled.tenant)) == 4


def test_17_events_of_unknown_tenants_and_other_buckets_are_refused(filled: Installation) -> None:
    before = filled.rows("select count(*) as n from documents")
    record = {
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "another"}, "object": {"key": f"tenants/{filled.tenant}/a.txt"}},
    }
    filled.aws.client("sqs").send_message(
        QueueUrl=filled.intake.queue_url, MessageBody=json.dumps({"Records": [record]})
    )
    filled.deliver()
    assert filled.rows("select count(*) as n from documents") == before


def test_31_what_is_anothers_does_not_exist(
    filled: Installation, operator: TestClient, stranger: dict[str, str]
) -> None:
    """API1: the same answer as for what nobody has, whatever is tried."""
    document = filled.document("crane.txt")["id"]
    answer = uuid.uuid4()
    filled.rows(
        "insert into answers (id, tenant_id, request, status, body, lease_until, acl)"
        " values (%s, %s, '{}', 'done', '{}', now(), '{}') returning 1", answer, filled.tenant
    )  # fmt: skip
    assert operator.get(f"/v1/answers/{answer}").status_code == 200
    tries: list[tuple[str, str, str]] = [
        ("GET", f"/v1/documents/{document}", f"/v1/documents/{uuid.uuid4()}"),
        ("DELETE", f"/v1/documents/{document}", f"/v1/documents/{uuid.uuid4()}"),
        ("GET", f"/v1/answers/{answer}", f"/v1/answers/{uuid.uuid4()}"),
        ("GET", "/v1/collections/cranes", "/v1/collections/nowhere"),
        ("DELETE", "/v1/collections/cranes", "/v1/collections/nowhere"),
    ]
    for method, theirs, nobodys in tries:
        foreign = refused(operator.request(method, theirs, headers=stranger), 404)
        unknown = refused(operator.request(method, nobodys, headers=stranger), 404)
        assert {**foreign, "detail": _anonymous(foreign)} == {**unknown, "detail": _anonymous(unknown)}
    for body in (QUESTION, QUESTION | {"collection": "cranes"}):
        answer_ = operator.post("/v1/search", json=body, headers=stranger)
        assert answer_.status_code == 404 or answer_.json()["results"] == []
    assert filled.document("crane.txt")["status"] == "searchable"


def _anonymous(problem: dict[str, Any]) -> str:
    return re.sub(r"'(cranes|nowhere)'", "'...'", problem["detail"])


@pytest.mark.parametrize("field", ["tenant_id", "tenant", "role", "scopes", "epoch", "id"])
def test_32_fields_that_are_not_the_callers_are_refused(quiet_api: TestClient, field: str) -> None:
    value = {field: str(uuid.uuid4())}
    for path, body in (
        ("/v1/search", QUESTION),
        ("/v1/query", QUESTION),
        ("/v1/collections", {"name": "ferries"}),
    ):
        assert field in refused(quiet_api.post(path, json=body | value), 422)["detail"]
    assert field in refused(quiet_api.patch("/v1/collections/default", json=value), 422)["detail"]


def test_32_odd_names_and_cursors_are_refused(operator: TestClient) -> None:
    for name in ("%00", "a%00", "X", "a%20b", "..", "x" * 64, "%27%3B--"):
        for method in ("GET", "PATCH", "DELETE"):
            body = {"json": {}} if method == "PATCH" else {}
            refused(operator.request(method, f"/v1/collections/{name}", **body), 404, 405, 422)
        refused(operator.get(f"/v1/documents?collection={name}"), 422)
    for last in (b"\x00", b"-1", b"9" * 30, b"1;drop", b"", b"zz"):
        cursor = base64.urlsafe_b64encode(b"2026-01-01T00:00:00+00:00 " + last).decode()
        for path in ("/v1/admin/keys", "/v1/admin/tenants", "/v1/collections", "/v1/documents"):
            status = operator.get(path, params={"cursor": cursor}).status_code
            assert status == 422 or (status == 200 and path == "/v1/admin/keys"), (path, last)


# Keys.


def test_33_forged_key_ids_never_reach_the_database(
    filled: Installation, operator: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guessing wakes nothing: an id that we did not give out is known by its tag."""
    asked: list[str] = []
    real = Catalog.key_at

    async def counting(self: Catalog, id: str) -> Any:
        asked.append(id)
        return await real(self, id)

    monkeypatch.setattr(Catalog, "key_at", counting)
    own = filled.api_key.split("_")[2]
    forged = [secrets.token_hex(12) for _ in range(200)] + [own[:-1] + ("0" if own[-1] != "0" else "1")]
    for id in forged:
        refused(operator.get("/v1/documents", headers=bearer(_signed(id))), 401)
    assert asked == []
    elsewhere = mint("test", secrets.token_bytes(32), "the pepper of another installation")[1]
    refused(operator.get("/v1/documents", headers=bearer(elsewhere)), 401)
    assert asked == []
    ours_but_gone = mint("test", secrets.token_bytes(32), PEPPER)[1]
    refused(operator.get("/v1/documents", headers=bearer(ours_but_gone)), 401)
    assert len(asked) == 1, "the counter works"


def test_33_a_thousand_wrong_secrets_open_nothing_and_shut_nobody_out(
    filled: Installation, operator: TestClient
) -> None:
    own = filled.api_key.split("_")[2]
    answers = [operator.get("/v1/documents", headers=bearer(_signed(own))) for _ in range(1000)]
    assert {answer.status_code for answer in answers} <= {401, 429}
    assert len({answer.text for answer in answers if answer.status_code == 401}) == 1
    assert operator.get("/v1/documents", headers=bearer(filled.api_key)).status_code == 200


def test_33_unknown_wrong_expired_and_revoked_keys_get_one_answer(
    filled: Installation, operator: TestClient
) -> None:
    revoked, expired = (new_key(operator, filled.tenant, name=name) for name in ("revoked", "expired"))
    operator.delete(f"/v1/admin/keys/{revoked['id']}")
    filled.rows(
        "update api_keys set expires_at = now() - interval '1 s' where id = %s returning 1", expired["id"]
    )
    unknown = mint("test", secrets.token_bytes(32), PEPPER)[1]
    wrong = _signed(filled.api_key.split("_")[2])
    bodies = [
        refused(operator.get("/v1/documents", headers=bearer(key)), 401)
        for key in (revoked["key"], expired["key"], unknown, wrong, "nonsense")
    ]
    assert all(body == bodies[0] for body in bodies)


def _signed(id: str) -> str:
    body = f"rz_test_{id}_{secrets.token_hex(24)}"
    return f"{body}_{_checksum(body)}"


def test_34_only_operators_administer(filled: Installation, operator: TestClient) -> None:
    """API5: every route of the administration, found in the API's own description."""
    keys = [new_key(operator, filled.tenant, name=str(s), scopes=s)["key"]
            for s in (["query"], ["ingest"], ["query", "ingest"])]  # fmt: skip
    routes = [
        (method, path)
        for path, methods in operator.get("/openapi.json").json()["paths"].items()
        if path.startswith("/v1/admin")
        for method in methods
    ]
    assert len(routes) >= 8
    for method, path in routes:
        address = path.replace("{id}", str(filled.tenant) if "tenants" in path else "0" * 24)
        for key in keys:
            refused(operator.request(method, address, headers=bearer(key)), 403)
        refused(operator.request(method, address, headers={"Authorization": ""}), 401)
    override = {"X-HTTP-Method-Override": "DELETE", "X-Method-Override": "DELETE", "X-HTTP-Method": "DELETE"}
    kept = new_key(operator, filled.tenant, name="kept")
    refused(operator.get(f"/v1/admin/keys/{kept['id']}", headers=override), 405)
    assert operator.get("/v1/documents", headers=bearer(kept["key"])).status_code == 200


def test_35_who_asks_is_what_the_key_says_and_nothing_else(
    filled: Installation, operator: TestClient, stranger: dict[str, str]
) -> None:
    spoofed = {
        "X-Forwarded-For": "127.0.0.1",
        "X-Real-IP": "127.0.0.1",
        "Forwarded": "for=127.0.0.1;host=admin",
        "X-Forwarded-Host": "evil.example",
        "Host": "evil.example",
        "X-Tenant": str(filled.tenant),
        "X-Tenant-Id": str(filled.tenant),
        "X-Role": "admin",
        "X-Scopes": "admin",
        "X-Acl": "*",
        "X-Original-URL": "/v1/admin/keys",
    }
    headers = stranger | spoofed
    assert operator.get("/v1/documents", headers=headers).json()["items"] == []
    assert operator.post("/v1/search", json=QUESTION, headers=headers).json()["results"] == []
    refused(operator.get("/v1/admin/keys", headers=headers), 403)
    hr = bearer(new_key(operator, filled.tenant, acl=[])["key"])
    answer = operator.get("/v1/documents", headers=hr | spoofed)
    assert names(answer.json()["items"]) == {"open"}
    assert "evil.example" not in answer.text + str(answer.headers)


def test_36_no_request_names_an_address_to_fetch(operator: TestClient) -> None:
    """API7: no field of any request is an address, so there is nothing to point inward; but for where webhooks go,
    which tests/integration/test_webhooks.py tries with addresses inside."""
    described = operator.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            asked = json.dumps([operation.get("requestBody"), operation.get("parameters")])
            for name in re.findall(r"#/components/schemas/(\w+)", asked):
                asked += json.dumps(schemas[name])
            fields = re.findall(
                r'"(\w*(?:url|uri|href|callback|webhook|endpoint)\w*)": \{', asked, re.IGNORECASE
            )
            assert not fields or path == "/v1/webhooks", (method, path, fields)
            assert '"format": "uri"' not in asked


def test_39_one_question_in_two_tenants_has_two_answers(
    filled: Installation, operator: TestClient, stranger: dict[str, str]
) -> None:
    """Asked in turns, so that anything kept under the question alone would show."""
    tenant = operator.get("/v1/admin/tenants").json()["items"][0]["id"]
    filled.put(f"tenants/{tenant}/crane.txt", "The crane lifts seventy tonnes.")
    filled.deliver()
    for _ in range(3):
        ours = operator.post("/v1/query", json=QUESTION).text
        theirs = operator.post("/v1/query", json=QUESTION, headers=stranger).text
        assert "seventy" not in ours
        assert "seventy" in theirs
        assert not re.search("forty|fifty", theirs)


# The database.


def test_no_role_sees_a_row_before_it_has_said_whose(filled: Installation, operator: TestClient) -> None:
    """Of any table that has a tenant's rows, known or new; the owner neither."""
    made(operator.post("/v1/admin/tenants", json={"name": "another"}))
    tables = [
        row["relname"]
        for row in filled.rows(
            """select distinct c.relname from pg_class c
               left join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
               where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
                 and (a.attname is not null or c.relname = 'tenants')"""
        )
    ]
    assert {"tenants", "api_keys", "documents", "label_sets", "answers"} <= set(tables)
    for role in ROLES:
        with psycopg.connect(filled.url(role), autocommit=True, prepare_threshold=None) as connection:
            for table in tables:
                try:
                    found = connection.execute(f"select count(*) from {table}".encode()).fetchone()
                except psycopg.errors.InsufficientPrivilege:
                    continue
                assert found == (0,), (role, table)


def test_a_transaction_that_does_not_say_who_asks_sees_no_labelled_document(filled: Installation) -> None:
    """What a statement forgot to ask for is not there; the operator's word is about tenants and keys alone."""
    with psycopg.connect(filled.url("ragzero_query"), prepare_threshold=None) as connection:

        def seen(**local: str) -> set[str]:
            with connection.transaction():
                for name, value in local.items():
                    connection.execute("select set_config(%s, %s, true)", [f"app.{name}", value])
                found = connection.execute("select key from documents").fetchall()
            return {str(row[0]) for row in found}

        tenant = str(filled.tenant)
        assert seen() == set()
        assert seen(operator="on") == set()
        assert seen(tenant_id=tenant) == {"open.txt"}
        assert seen(tenant_id=tenant, operator="on") == {"open.txt"}
        assert seen(tenant_id=tenant, acl="sales") == {"open.txt"}
        assert seen(tenant_id=tenant, acl="hr") == {"open.txt", "crane.txt"}
        assert seen(tenant_id=tenant, acl="*") == {"open.txt", "crane.txt"}
        assert seen(acl="*", operator="on") == set()


@pytest.mark.parametrize(
    "statement",
    [
        "insert into tenants (name) values ('x')",
        "insert into api_keys (id, tenant_id, name, digest, scopes) values ('x', '{}', 'x', '', '{{admin}}')",
        "update api_keys set revoked_at = null, expires_at = null returning 1",
        "update api_keys set scopes = '{{admin}}'",
        "update documents set acl = null where acl is not null returning 1",
        "insert into documents (tenant_id, collection_id, bucket, key, acl) values ('{}', 1, 'b', 'k', '{{hr}}')",
        "delete from tenants",
    ],
)
def test_a_tenants_transaction_administers_nothing(filled: Installation, statement: str) -> None:
    """The function's role may, once it says that it acts for an operator."""
    with psycopg.connect(filled.url("ragzero_query"), prepare_threshold=None) as connection:
        connection.execute("select set_config('app.tenant_id', %s, true)", [str(filled.tenant)])
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            assert connection.execute(statement.format(filled.tenant).encode()).fetchall() == []


def test_a_setting_of_a_session_leaks_to_the_next_client_of_the_pooler(filled: Installation) -> None:
    """Why nothing is ever set on a session: the next client, whoever it is, reads this tenant's rows."""
    url = filled.url("ragzero_query")
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as careless:
        careless.execute(f"set app.tenant_id = '{filled.tenant}'".encode())
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as next_client:
        leaked = next_client.execute("select key from documents").fetchall()
        next_client.execute("reset app.tenant_id")
    assert leaked == [("open.txt",)]


_SESSION_SET = re.compile(
    r"(?:^|;)\s*(?i:(?:re)?set)\s+(?!(?i:local|transaction)\b)(?i:session\s+)?[a-z_.\"]+\s*(?:=|\b(?i:to)\b)"
    r"|(?:^|;)\s*(?i:set\s+(?:session\s+)?role)\b"
    r"|(?i:set_config)\((?:[^()]|\([^()]*\))*,\s*(?i:false|'f'|%s|%\(\w+\)s)\s*\)"
)


def test_our_code_sets_nothing_on_a_session() -> None:
    """Every text in functions/ and shared/ that could be SQL, but for what only the owner does, straight at the server and
    behind no pooler."""
    straight = {"migrate.py", "space_tables.py", "backup.py"}
    assert _SESSION_SET.search("set app.tenant_id = 'x'")
    assert _SESSION_SET.search("select set_config(%s, %s, false)")
    assert _SESSION_SET.search("select 1; set role ragzero_owner")
    assert not _SESSION_SET.search("update d set a = 1")
    found = [
        (path.relative_to(ROOT), text)
        for path, text in _texts()
        if path.name not in straight and _SESSION_SET.search(text)
    ]
    assert found == []


def _texts() -> Iterator[tuple[Path, str]]:
    for folder in ("functions", "shared"):
        for path in sorted((ROOT / folder).rglob("*.sql")):
            for statement in re.split(r"^-- name: .*$", path.read_text(), flags=re.MULTILINE):
                yield path, re.sub(r"--.*", "", statement).strip()
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield path, node.value.strip()
