"""Keys, tenants and labels through the API: what an operator gives, what it allows, and when it ends."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from shared.core.labels import document_labels
from shared.telemetry import set_checkpoint_hook
from tests.attacks.test_http import refused
from tests.fakes.gpu_server import FakeGpu
from tests.support import access
from tests.support.access import bearer, made, names, operating
from tests.support.installation import Installation
from tests.support.sweeping import sweeping, work_off

CRANE = "The harbour crane lifts forty tonnes."
WAGES = "The harbour crane driver earns ninety crowns."


NewKey = Callable[..., dict[str, Any]]


@pytest.fixture
def operator(installation: Installation) -> Iterator[TestClient]:
    with operating(installation) as client:
        yield client


@pytest.fixture
def new_key(operator: TestClient, installation: Installation) -> NewKey:
    """new_key(name=..., scopes=..., acl=..., ...) of the installation's tenant."""
    return partial(access.new_key, operator, installation.tenant)


def test_a_key_is_shown_once_and_works_at_once(
    operator: TestClient, installation: Installation, new_key: NewKey
) -> None:
    key = new_key(scopes=["query", "ingest"], ttl_days=30, limits={"rate": 5.5, "burst": 10})
    assert key["key"].startswith(f"rz_local_{key['id']}_")
    assert key["limits"] == {"rate": 5.5, "burst": 10}
    assert operator.get("/v1/documents", headers=bearer(key["key"])).status_code == 200
    listed = operator.get("/v1/admin/keys", params={"tenant_id": str(installation.tenant)}).json()["items"]
    assert listed[0]["id"] == key["id"]
    assert {"last_used_at", "revoked_at"} <= listed[0].keys()
    secret = key["key"].split("_")[3]
    assert all(part not in str(listed) for part in (secret, "digest", "'key'"))
    left = datetime.fromisoformat(listed[0]["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=29) < left <= timedelta(days=30)


def test_two_keys_of_one_name_work_at_a_time(
    operator: TestClient, installation: Installation, new_key: NewKey
) -> None:
    """For rotation: make the second, move over, revoke the first."""
    old, new = new_key(), new_key()
    third = {"tenant_id": str(installation.tenant), "name": "app", "scopes": ["query"]}
    assert "2 active keys named 'app'" in refused(operator.post("/v1/admin/keys", json=third), 409)["detail"]
    made(operator.post("/v1/admin/keys", json=third | {"name": "another"}))
    assert operator.delete(f"/v1/admin/keys/{old['id']}").status_code == 200
    assert made(operator.post("/v1/admin/keys", json=third))["id"] != new["id"]


def test_a_revoked_key_is_refused_from_the_next_request_on(
    operator: TestClient, installation: Installation, new_key: NewKey
) -> None:
    key, epoch = new_key(), installation.epoch()
    assert operator.get("/v1/documents", headers=bearer(key["key"])).status_code == 200
    first = operator.delete(f"/v1/admin/keys/{key['id']}").json()
    refused(operator.get("/v1/documents", headers=bearer(key["key"])), 401)
    again = operator.delete(f"/v1/admin/keys/{key['id']}").json()
    assert first["revoked_at"] == again["revoked_at"] is not None
    assert installation.epoch() > epoch
    refused(operator.patch(f"/v1/admin/keys/{key['id']}", json={"name": "x"}), 409)


def test_a_key_ends_when_it_expires(
    operator: TestClient, installation: Installation, new_key: NewKey
) -> None:
    key = new_key(expires_at=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    assert operator.get("/v1/documents", headers=bearer(key["key"])).status_code == 200
    installation.rows(
        "update api_keys set expires_at = now() - interval '1 s' where id = %s returning 1", key["id"]
    )
    refused(operator.get("/v1/documents", headers=bearer(key["key"])), 401)
    never = operator.patch(f"/v1/admin/keys/{key['id']}", json={"expires_at": None})
    assert never.json()["expires_at"] is None
    assert operator.get("/v1/documents", headers=bearer(key["key"])).status_code == 200


def test_changes_of_a_key_keep_what_they_do_not_name(operator: TestClient, new_key: NewKey) -> None:
    key = new_key(acl=["HR", "hr", "finance"], limits={"rate": 3})
    assert key["acl"] == ["finance", "hr"]
    changed = operator.patch(f"/v1/admin/keys/{key['id']}", json={"limits": {"burst": 7}}).json()
    assert (changed["acl"], changed["limits"]) == (["finance", "hr"], {"rate": 3.0, "burst": 7})
    changed = operator.patch(
        f"/v1/admin/keys/{key['id']}", json={"acl": None, "limits": {"rate": None}}
    ).json()
    assert (changed["acl"], changed["limits"]) == (None, {"rate": None, "burst": 7})


def test_the_last_use_is_noted_once_a_minute(
    operator: TestClient, installation: Installation, new_key: NewKey
) -> None:
    """Behind the request's back; another process does not write it again."""
    key = new_key()

    def noted() -> dict[str, Any]:
        return installation.rows("select last_used_at, xmin::text from api_keys where id = %s", key["id"])[0]

    def use(client: TestClient) -> None:
        assert client.get("/v1/documents", headers=bearer(key["key"])).status_code == 200

    use(operator)
    while noted()["last_used_at"] is None:
        time.sleep(0.01)
    first = noted()
    for _ in range(3):
        use(operator)
    with operating(installation) as another_process:
        use(another_process)
    assert noted() == first


def test_lists_come_in_pages_that_cover_every_row_once(
    operator: TestClient, installation: Installation, new_key: NewKey
) -> None:
    for number in range(5):
        new_key(name=f"app {number}")
        made(operator.post("/v1/admin/tenants", json={"name": f"tenant {number}"}))
        made(operator.post("/v1/collections", json={"name": f"c{number}"}))
    for path, table in (
        ("/v1/admin/keys", "api_keys"),
        ("/v1/admin/tenants", "tenants"),
        ("/v1/collections", f"collections where tenant_id = '{installation.tenant}'"),
    ):
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = operator.get(path, params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
            assert len(page["items"]) <= 2
            seen += [item.get("id", item["name"]) for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == installation.rows(f"select count(*) as n from {table}")[0]["n"]


BAD_KEYS: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"name": "x" * 101}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"scopes": []}, "scopes"),
    ({"scopes": ["root"]}, "scopes"),
    ({"scopes": "query"}, "scopes"),
    ({"ttl_days": 0}, "ttl_days"),
    ({"ttl_days": 10**9}, "ttl_days"),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "2020-01-01"),
    ({"expires_at": "tomorrow"}, "expires_at"),
    ({"expires_at": "2099-01-01T00:00:00"}, "expires_at"),
    ({"expires_at": "2099-01-01T00:00:00Z", "ttl_days": 3}, "ttl_days"),
    ({"acl": ["no spaces"]}, "no spaces"),
    ({"acl": ["*"]}, "acl"),
    ({"acl": ["a,b"]}, "acl"),
    ({"acl": [f"l{n}" for n in range(33)]}, "acl"),
    ({"acl": ["hr"], "scopes": ["admin"]}, "acl"),
    ({"limits": {"rate": -1}}, "rate"),
    ({"limits": {"rate": 1e300}}, "rate"),
    ({"limits": {"streams": 3}}, "streams"),
    ({"tenant_id": "nobody"}, "tenant_id"),
    ({"digest": "00"}, "digest"),
]


def test_a_bad_key_is_refused_and_the_field_is_named(
    operator: TestClient, installation: Installation
) -> None:
    usual = {"tenant_id": str(installation.tenant), "name": "app", "scopes": ["query"]}
    for fields, named in BAD_KEYS:
        answer = refused(operator.post("/v1/admin/keys", json=usual | fields), 422)
        assert named in answer["detail"], fields
    assert installation.rows("select count(*) as n from api_keys")[0]["n"] == 2


def test_unknown_tenants_and_keys_are_404(operator: TestClient) -> None:
    nobody = str(uuid.uuid4())
    refused(
        operator.post("/v1/admin/keys", json={"tenant_id": nobody, "name": "a", "scopes": ["query"]}), 404
    )
    refused(operator.get(f"/v1/admin/tenants/{nobody}"), 404)
    refused(operator.patch(f"/v1/admin/tenants/{nobody}", json={"limits": {}}), 404)
    refused(operator.delete(f"/v1/admin/tenants/{nobody}", params={"confirm": "x"}), 404)
    refused(operator.delete("/v1/admin/keys/" + "0" * 24), 404)
    refused(operator.patch("/v1/admin/keys/" + "0" * 24, json={}), 404)
    refused(operator.delete("/v1/admin/keys/nonsense"), 422)


def test_an_operator_cannot_lock_itself_out(operator: TestClient, installation: Installation) -> None:
    own = installation.admin_key.split("_")[2]
    refused(operator.delete(f"/v1/admin/keys/{own}"), 409)
    confirm = {"confirm": str(installation.tenant)}
    refused(operator.delete(f"/v1/admin/tenants/{installation.tenant}", params=confirm), 409)


# Tenants.


def test_a_tenant_is_made_limited_and_closed(operator: TestClient, installation: Installation) -> None:
    tenant = made(operator.post("/v1/admin/tenants", json={"name": "acme", "limits": {"streams": 4}}))
    assert tenant["limits"] == {"rate": None, "burst": None, "streams": 4, "budget_usd": None}
    assert "'acme'" in refused(operator.post("/v1/admin/tenants", json={"name": "acme"}), 409)["detail"]
    limits = {"budget_usd": 12.5, "rate": 100}
    changed = operator.patch(f"/v1/admin/tenants/{tenant['id']}", json={"limits": limits}).json()
    assert changed["limits"] == {"rate": 100.0, "burst": None, "streams": 4, "budget_usd": 12.5}
    fields = {"tenant_id": tenant["id"], "name": "app", "scopes": ["query", "ingest"]}
    key = made(operator.post("/v1/admin/keys", json=fields))["key"]
    sent = operator.post("/v1/documents", files={"file": ("a.txt", CRANE.encode())}, headers=bearer(key))
    assert f"tenants/{tenant['id']}/a.txt" in sent.json()["uri"]
    installation.deliver()
    shown = operator.get(f"/v1/admin/tenants/{tenant['id']}").json()
    assert (shown["documents"], shown["chunks"]) == (1, 1)
    assert "confirm" in refused(operator.delete(f"/v1/admin/tenants/{tenant['id']}"), 422)["detail"]
    path = f"/v1/admin/tenants/{tenant['id']}"
    assert "'acme'" in refused(operator.delete(path, params={"confirm": "acne"}), 409)["detail"]
    closed = operator.delete(path, params={"confirm": "acme"}).json()
    assert closed["closed_at"]
    assert "still stored" in closed["detail"]
    refused(operator.get("/v1/documents", headers=bearer(key)), 401)
    assert operator.delete(path, params={"confirm": "acme"}).json()["closed_at"] == closed["closed_at"]
    refused(operator.post("/v1/admin/keys", json=fields), 409)
    refused(operator.patch(path, json={"limits": {}}), 409)


def test_events_of_a_closed_tenant_are_refused(operator: TestClient, installation: Installation) -> None:
    """By a process that saw the tenant open before, too."""
    tenant = made(operator.post("/v1/admin/tenants", json={"name": "acme"}))["id"]
    installation.put(f"tenants/{tenant}/one.txt", CRANE)
    installation.deliver()
    assert installation.document(f"tenants/{tenant}/one.txt")["status"] == "searchable"
    operator.delete(f"/v1/admin/tenants/{tenant}", params={"confirm": "acme"})
    installation.put(f"tenants/{tenant}/two.txt", CRANE)
    installation.deliver()
    assert len(installation.rows("select id from documents where tenant_id = %s", tenant)) == 1


def test_what_a_closed_tenant_had_is_removed_and_has_receipts(
    operator: TestClient, installation: Installation
) -> None:
    """Once its time is over; nobody else loses anything."""
    tenant = made(operator.post("/v1/admin/tenants", json={"name": "acme"}))["id"]
    for name in ("one.txt", "two.txt"):
        installation.put(f"tenants/{tenant}/{name}", CRANE)
    installation.put("ours.txt", CRANE)
    installation.deliver()
    operator.delete(f"/v1/admin/tenants/{tenant}", params={"confirm": "acme"})
    with sweeping(installation, erase_after_seconds=0) as early:
        early.settle()
    assert len(installation.rows("select id from documents where published_generation is not null")) == 3
    with sweeping(
        installation, closed_tenant_days=0, erase_after_seconds=0, audit_grace_seconds=0
    ) as sweeper:
        assert sweeper.sweep()["upkeep"]["of_closed_tenants"] == 2
        work_off(installation)
        assert sweeper.sweep()["upkeep"]["erased"] == 2
        assert sweeper.services.audit.run(0)["clean"]
    shown = operator.get(f"/v1/admin/tenants/{tenant}").json()
    assert (shown["documents"], shown["chunks"]) == (0, 0)
    left = installation.rows("select count(*) as n from chunks where tenant_id = %s", tenant)
    receipts = installation.rows(
        "select count(*) as n from deletions where tenant_id = %s and erased_at is not null", tenant
    )
    assert (left[0]["n"], receipts[0]["n"]) == (0, 2)
    assert installation.document("ours.txt")["status"] == "searchable"
    objects = installation.aws.client("s3").list_objects_v2(Bucket=installation.intake.bucket)["Contents"]
    assert [one["Key"] for one in objects] == ["ours.txt"]


def test_the_limits_of_a_key_and_its_tenant_arrive_together(
    operator: TestClient, installation: Installation, new_key: NewKey
) -> None:
    key = new_key(limits={"rate": 2}, acl=["hr"])
    limits = {"rate": 50, "streams": 3, "budget_usd": 1.5}
    operator.patch(f"/v1/admin/tenants/{installation.tenant}", json={"limits": limits})
    stored, epoch = operator.portal.call(operator.app.state.graph.catalog.key_at, key["id"])  # type: ignore[union-attr, attr-defined]
    assert epoch == installation.epoch()
    assert stored.acl == ("hr",)
    assert (stored.limits.key_rate, stored.limits.key_burst) == (2.0, None)
    assert (stored.limits.tenant_rate, stored.limits.streams, stored.limits.budget_usd) == (50.0, 3, 1.5)
    assert type(stored).from_bytes(stored.to_bytes()) == stored


# Labels.


@pytest.fixture
def labelled(installation: Installation) -> Installation:
    installation.put("crane.txt", CRANE)
    installation.put("wages.txt", WAGES, {"acl": "HR, Finance"})
    installation.put("board.txt", "The harbour crane will be sold by the board.", {"acl": "board"})
    installation.deliver()
    return installation


ACLS: list[tuple[list[str] | None, set[str]]] = [
    (None, {"crane", "wages", "board"}),
    ([], {"crane"}),
    (["hr"], {"crane", "wages"}),
    (["finance", "board"], {"crane", "wages", "board"}),
    (["sales"], {"crane"}),
]


@pytest.mark.parametrize("exact_below", [10_000, 1, 0], ids=["exact", "few", "ann"])
def test_a_key_finds_what_its_labels_allow(labelled: Installation, exact_below: int) -> None:
    with operating(labelled, exact_below=exact_below) as operator:
        for acl, expected in ACLS:
            key = access.new_key(operator, labelled.tenant, name=str(acl), acl=acl)["key"]
            for filter in (None, {"media_type": "text/plain"}):
                body = {"question": "harbour crane", "top_k": 10, "filter": filter}
                found = operator.post("/v1/search", json=body, headers=bearer(key)).json()
                assert names(found["results"]) == expected
                # few are scanned one by one, so that none is missed for all those that are hidden
                assert found["retrieval"] == ("exact" if len(expected) <= exact_below else "ann")
            listed = operator.get("/v1/documents", headers=bearer(key)).json()["items"]
            assert names(listed) == expected
            counted = operator.get("/v1/collections/default", headers=bearer(key)).json()
            assert (counted["documents"], counted["chunks"]) == (len(expected), len(expected))


def test_no_route_shows_a_document_that_a_keys_labels_hide(
    labelled: Installation, operator: TestClient, new_key: NewKey
) -> None:
    """It is as if it were not there, for listing, status, search, answers, replacing and deleting."""
    key = bearer(new_key(acl=["hr"], scopes=["query", "ingest"])["key"])
    hidden = labelled.document("board.txt")["id"]
    unknown = refused(operator.get(f"/v1/documents/{uuid.uuid4()}", headers=key), 404)
    assert refused(operator.get(f"/v1/documents/{hidden}", headers=key), 404) == unknown
    assert refused(operator.delete(f"/v1/documents/{hidden}", headers=key), 404) == unknown
    answer = operator.post("/v1/query", json={"question": "Who will sell the harbour crane?"}, headers=key)
    assert "board" not in answer.text
    upload = {"files": {"file": ("board.txt", b"Nothing is sold.")}, "headers": key}
    refused(operator.post("/v1/documents", **upload), 403)
    refused(operator.delete("/v1/collections/default", headers=key), 403)
    assert operator.get(f"/v1/documents/{hidden}").json()["acl"] == ["board"]
    assert operator.delete(f"/v1/documents/{hidden}").status_code == 200
    assert refused(operator.get(f"/v1/documents/{hidden}", headers=key), 404) == unknown
    deleted = operator.get("/v1/documents", params={"status": "deleted"}, headers=key).json()["items"]
    assert deleted == []


def test_a_request_may_narrow_and_never_widen(
    labelled: Installation, operator: TestClient, new_key: NewKey
) -> None:
    key = bearer(new_key(acl=["hr", "sales"])["key"])

    def found(acl: list[str], headers: dict[str, str]) -> set[str]:
        body = {"question": "harbour crane", "acl": acl}
        return names(operator.post("/v1/search", json=body, headers=headers).json()["results"])

    assert found(["sales"], key) == {"crane"}
    assert found(["HR"], key) == {"crane", "wages"}
    assert found(["board"], key) == {"crane"}
    assert found(["board"], {}) == {"crane", "board"}
    assert found([], {}) == {"crane"}
    for bad in (["*"], ["a b"], [7], "hr", [f"l{n}" for n in range(40)]):
        refused(operator.post("/v1/search", json={"question": "q", "acl": bad}), 422)


def test_labels_follow_the_object(labelled: Installation, operator: TestClient) -> None:
    """New metadata alone moves a document from one label to another, and the counts with it."""
    narrow = {"question": "harbour crane", "acl": ["board"]}
    labelled.put("wages.txt", WAGES, {"acl": "board"})
    labelled.deliver()
    assert names(operator.post("/v1/search", json=narrow).json()["results"]) == {"crane", "wages", "board"}
    assert labelled.rows("select acl, documents, chunks from label_sets") == [
        {"acl": ["board"], "documents": 2, "chunks": 2}
    ]
    labelled.put("wages.txt", WAGES)
    labelled.delete("board.txt")
    labelled.deliver()
    assert labelled.rows("select * from label_sets") == []
    assert names(operator.post("/v1/search", json=narrow).json()["results"]) == {"crane", "wages"}


BAD_LABELS = ["", " ", ",", "hr,", "no spaces in it", "a;b", "*", "x" * 64, "=?utf-8?q?=C3=A9?="]


def test_a_document_with_bad_labels_fails_and_is_not_everybodys(
    installation: Installation, operator: TestClient, new_key: NewKey
) -> None:
    for number, acl in enumerate(BAD_LABELS):
        installation.put(f"{number}.txt", WAGES, {"acl": acl})
        metadata = {"metadata": json.dumps({"acl": acl})}
        refused(operator.post("/v1/documents", files={"file": ("b.txt", b"x")}, data=metadata), 422)
    installation.deliver()
    documents = installation.rows("select status, reason_code, reason from documents")
    assert len(documents) == len(BAD_LABELS)
    for document in documents:
        assert (document["status"], document["reason_code"]) == ("failed", "invalid_metadata")
        assert "acl" in document["reason"]
    nobody = bearer(new_key(acl=[])["key"])
    assert operator.get("/v1/documents", headers=nobody).json()["items"] == []


@pytest.mark.parametrize("role", ["ragzero_ingest", "ragzero_embed", "ragzero_query"])
def test_whoever_publishes_the_labels_are_read_alike(labelled: Installation, role: str) -> None:
    """By the database, from the metadata, as the core reads them."""
    url = labelled.url(role)
    for text in ("hr", "HR, finance,hr", "a:b, A.b-c_d ,1"):
        with psycopg.connect(url, prepare_threshold=None) as connection:
            connection.execute("select set_config('app.tenant_id', %s, true)", [str(labelled.tenant)])
            connection.execute("select set_config('app.acl', '*', true)")
            connection.execute(
                "update documents set metadata = %s where key = 'wages.txt'", [json.dumps({"acl": text})]
            )
        expected = list(document_labels(text))
        assert labelled.document("wages.txt")["acl"] == expected
        counted = {tuple(row["acl"]): row["chunks"] for row in labelled.rows("select * from label_sets")}
        assert counted == {("board",): 1, tuple(expected): 1}
        facets = labelled.rows(
            "select value from facets f join documents d on d.id = f.document_id"
            " where f.name = '' and d.key = 'wages.txt' order by 1"
        )
        assert [row["value"] for row in facets] == expected


def test_a_document_that_lost_good_labels_is_no_longer_found(
    labelled: Installation, operator: TestClient
) -> None:
    labelled.put("wages.txt", WAGES, {"acl": "not a label"})
    labelled.deliver()
    found = operator.post("/v1/search", json={"question": "crane driver earns"}).json()["results"]
    assert names(found) == {"crane", "board"}


def test_an_upload_is_shown_under_its_own_labels_from_the_start(
    installation: Installation, operator: TestClient, new_key: NewKey
) -> None:
    """Before anybody has read it."""
    hr = bearer(new_key(acl=["hr"], scopes=["query", "ingest"])["key"])
    other = bearer(new_key(acl=["sales"], name="sales")["key"])
    upload = {"files": {"file": ("w.txt", WAGES.encode())}, "data": {"metadata": '{"acl": "hr"}'}}
    url = operator.post("/v1/documents", **upload, headers=hr).json()["status_url"]
    assert operator.get(url, headers=hr).json()["status"] == "pending"
    refused(operator.get(url, headers=other), 404)
    installation.deliver()
    assert operator.get(url, headers=hr).json()["status"] == "searchable"
    refused(operator.get(url, headers=other), 404)
    upload["data"] = {"metadata": '{"acl": "sales"}'}
    operator.post("/v1/documents", **upload, headers=hr)
    refused(operator.get(url, headers=other), 404)
    installation.deliver()
    assert operator.get(url, headers=other).json()["status"] == "searchable"
    refused(operator.get(url, headers=hr), 404)


def test_an_object_that_nobody_has_read_yet_is_for_those_who_see_all(
    installation: Installation, operator: TestClient, new_key: NewKey
) -> None:
    hr, shown = bearer(new_key(acl=["hr"])["key"]), []

    def look(point: str) -> None:
        if point == "parsing":
            lists = [operator.get("/v1/documents", headers=headers).json()["items"] for headers in (hr, {})]
            shown.extend(map(names, lists))

    set_checkpoint_hook(look)
    try:
        installation.put("wages.txt", WAGES, {"acl": "hr"})
        installation.deliver()
    finally:
        set_checkpoint_hook(None)
    assert shown == [set(), {"wages"}]
    assert names(operator.get("/v1/documents", headers=hr).json()["items"]) == {"wages"}


# Answers that are kept.


def test_a_kept_answer_is_for_keys_that_see_what_its_asker_saw(
    labelled: Installation, operator: TestClient, new_key: NewKey
) -> None:
    hr, both, sales, nobody = (
        bearer(new_key(name=str(acl), acl=acl)["key"]) for acl in (["hr"], ["hr", "sales"], ["sales"], [])
    )
    with FakeGpu() as gpu, operating(labelled, **model(gpu)) as api:
        gpu.reply("The crane driver earns ninety crowns [1].")
        body = {"question": "What does the harbour crane driver earn?"}
        url = f"/v1/answers/{api.post('/v1/query', json=body, headers=hr).json()['id']}"
        public = f"/v1/answers/{api.post('/v1/query', json=body, headers=nobody).json()['id']}"
        unknown = refused(api.get(f"/v1/answers/{uuid.uuid4()}", headers=hr), 404)
        for allowed in (hr, both, {}):
            assert "ninety" in api.get(url, headers=allowed).json()["answer"]
        for refused_key in (sales, nobody):
            assert refused(api.get(url, headers=refused_key), 404) == unknown
        assert api.get(public, headers=sales).status_code == 200
        labelled.put("wages.txt", WAGES, {"acl": "board"})
        labelled.deliver()
        refused(api.get(url, headers=hr), 410)


def test_an_answer_that_is_taken_up_again_is_made_from_what_its_asker_saw(
    labelled: Installation, operator: TestClient, new_key: NewKey
) -> None:
    hr = bearer(new_key(acl=["hr"])["key"])
    with FakeGpu() as gpu, operating(labelled, **model(gpu)) as api:
        gpu.cold_for(60)
        body = {"question": "What does the harbour crane driver earn?", "deadline_ms": 100, "acl": []}
        url = api.post("/v1/query", json=body, headers=hr).json()["status_url"]
    labelled.rows("update answers set lease_until = now() - interval '1 s' returning 1")
    with FakeGpu() as gpu, operating(labelled, **model(gpu)) as api:
        gpu.reply("Nobody says [1].")
        answer = api.get(url, headers=hr)
        assert answer.status_code == 200, answer.text
        assert names(answer.json()["sources"]) == {"crane"}


def model(gpu: FakeGpu) -> dict[str, Any]:
    return {"generator_url": gpu.url, "generator_api_key": gpu.key, "generator_model": gpu.model}
