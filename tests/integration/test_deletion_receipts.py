"""A receipt is complete: after it says `removed`, nothing of the document is found anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
import redis

from functions.query.app import create_app
from scripts.local.process import HOST, free_port
from scripts.local.redis_server import RedisServer
from scripts.local.rest_shim import RestShim
from tests.fakes.gpu_server import FakeGpu
from tests.support.access import bearer
from tests.support.api import serving
from tests.support.installation import Installation
from tests.support.sweeping import sweeping
from tests.support.waiting import PATIENT

KEY = "confidential/quokka report.txt"
TEXT = "The quokka census of Rottnest was signed by Ottilie Wimmera in March."
QUESTION = "Who signed the census?"
TRACES = ("quokka", "ottilie", "wimmera", "rottnest", "tungsten")


@contextmanager
def calling(installation: Installation, **settings: Any) -> Iterator[httpx.Client]:
    app = create_app(installation.query_settings(**settings), installation.embedder)
    with ExitStack() as stack:
        url = stack.enter_context(serving(app))
        yield stack.enter_context(
            httpx.Client(base_url=url, headers=bearer(installation.api_key), timeout=60)
        )


@pytest.fixture(params=["redis", "rest"])
def cached(
    request: pytest.FixtureRequest, installation: Installation, redis_server: RedisServer, rest_shim: RestShim
) -> Installation:
    rest = {"redis_rest_url": rest_shim.url, "redis_rest_token": rest_shim.token}
    own = {"redis_url": f"redis://{HOST}:{redis_server.port}"}
    installation.cache = (own if request.param == "redis" else rest) | PATIENT
    return installation


def found_in_tables(installation: Installation) -> set[str]:
    """Tables and columns in which a trace stands, in any row of any tenant."""
    columns = installation.rows(
        "select table_name as t, column_name as c, data_type as kind from information_schema.columns "
        "where table_schema = 'public' and table_name in "
        "(select tablename from pg_tables where schemaname = 'public')"
    )
    found = set()
    for one in columns:
        text = f"encode(\"{one['c']}\", 'escape')" if one["kind"] == "bytea" else f'"{one["c"]}"::text'
        condition = " or ".join(f"lower({text}) like '%{trace}%'" for trace in TRACES)
        if installation.rows(f'select 1 from "{one["t"]}" where {condition} limit 1'.replace("%", "%%"), *[]):
            found.add(f"{one['t']}.{one['c']}")
    return found


def found_in_cache(client: redis.Redis) -> set[str]:
    values = {name: client.get(name) for name in client.keys("*") if client.type(name) == b"string"}
    return {
        name.decode()
        for name, value in values.items()
        if any(t in (name + (value or b"")).decode(errors="replace").lower() for t in TRACES)
    }


def found_in_bucket(installation: Installation) -> set[str]:
    pages = installation.aws.client("s3").get_paginator("list_object_versions")
    return {
        one["Key"]
        for page in pages.paginate(Bucket=installation.intake.bucket)
        for one in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
    }


def receipt(api: httpx.Client, id: str) -> dict[str, Any]:
    answer = api.get(f"/v1/documents/{id}/deletion")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def leave_traces(installation: Installation, api: httpx.Client) -> str:
    """A document in every place where something of one is ever kept; its id. The webhook's address is refused."""
    assert api.post("/v1/webhooks", json={"url": f"https://localhost:{free_port()}/"}).status_code == 201
    files = {"file": (KEY, TEXT.encode())}
    data = {"metadata": '{"alloy": "tungsten"}'}
    once = {"Idempotency-Key": "upload-1"}
    id = str(api.post("/v1/documents", files=files, data=data, headers=once).json()["id"])
    installation.deliver()
    for number in range(2):
        for cache in ("read", "refresh"):
            asked = {"question": QUESTION, "cache": cache}
            keyed = {"Idempotency-Key": f"ask-{number}-{cache}"}
            assert "Wimmera" in api.post("/v1/query", json=asked, headers=keyed).text
    installation.put(KEY, TEXT + " Twice.", {"alloy": "tungsten"})
    installation.deliver()
    assert "Wimmera" in api.post("/v1/query", json={"question": QUESTION}).text
    assert "Wimmera" in api.post("/v1/query", json={"question": QUESTION, "stream": True}).text
    body = f'{{"Records": [{{"s3": {{"object": {{"key": "{KEY}"}}}}}}]}}'
    installation.rows(
        "insert into discarded_letters (message_id, body, reason, discarded_by) values ('m', %s, 'r', 'w') returning 1",
        body,
    )
    installation.rows(
        "insert into sweep_findings (bucket, key, tenant_id, kind, sweep_id, seen_at) values (%s, %s, %s, 'gone', 1, now())"
        " returning 1",
        installation.intake.bucket,
        KEY,
        installation.tenant,
    )
    return id


def test_nothing_of_a_deleted_document_is_found_anywhere(
    cached: Installation, empty_redis: redis.Redis
) -> None:
    s3 = cached.aws.client("s3")
    s3.put_bucket_versioning(Bucket=cached.intake.bucket, VersioningConfiguration={"Status": "Enabled"})
    with FakeGpu() as gpu, ExitStack() as stack:
        model = {
            "generator_url": gpu.url,
            "generator_api_key": gpu.key,
            "generator_model": gpu.model,
            "semantic_similarity": 0.9,
        }
        gpu.reply(f"{TEXT} [1].")
        api = stack.enter_context(calling(cached, **model))
        id = leave_traces(cached, api)
        assert {"chunks.text", "lexemes.lexeme", "documents.key", "facets.value"} <= found_in_tables(cached)
        assert {"answers.body", "semantic_answers.body", "idempotent_requests.body"} <= found_in_tables(
            cached
        )
        assert {
            "webhook_messages.payload",
            "sweep_findings.key",
            "discarded_letters.body",
        } <= found_in_tables(cached)
        assert found_in_cache(empty_redis)
        deleted = api.delete(f"/v1/documents/{id}").json()
        assert receipt(api, id)["status"] == "removing"
        cached.deliver()
        with sweeping(cached, erase_after_seconds=0, **cached.cache) as sweeper:
            assert sweeper.sweep()["upkeep"]["erased"] == 1
        last = receipt(api, id)
        assert api.get(f"/v1/documents/{id}").json()["status"] == "deleted"

    assert found_in_tables(cached) == set()
    assert found_in_cache(empty_redis) == set()
    assert found_in_bucket(cached) == set()
    assert (last["status"], last["coherent"]) == ("removed", deleted["coherent"])
    assert last["key_sha256"] == hashlib.sha256(KEY.encode()).hexdigest()
    removed = {one["place"]: one["removed"] for one in last["removed"]}
    assert removed["bucket.object"] == 1
    assert removed["bucket.versions"] == 2
    assert removed["index.chunks"] == sum(n for place, n in removed.items() if "vectors" in place) == 1
    assert removed["answers"] >= 1
    assert removed["cache.answers"] >= 1
    assert removed["answers.similar"] >= 1
    assert removed["answers.replays"] >= 4  # what the cache answers at once is not kept for being asked again
    assert all(one["at"] >= last["deleted_at"] for one in last["removed"])


def test_an_upload_under_the_name_of_an_erased_one_is_a_new_document(installation: Installation) -> None:
    installation.put("a.txt", TEXT)
    installation.deliver()
    old = installation.document("a.txt")["id"]
    installation.delete("a.txt")
    installation.deliver()
    with sweeping(installation, erase_after_seconds=0) as sweeper:
        sweeper.sweep()
        installation.put("a.txt", TEXT)
        installation.deliver()
        new = installation.document("a.txt")
        assert (new["status"], new["id"] != old) == ("searchable", True)
        assert sweeper.settle()["missing"] == 0
    assert installation.rows("select status from documents where id = %s", old)[0]["status"] == "deleted"


def test_a_document_that_is_there_again_is_not_erased(installation: Installation) -> None:
    installation.put("a.txt", TEXT)
    installation.deliver()
    installation.delete("a.txt")
    installation.deliver()
    installation.put("a.txt", TEXT)
    installation.deliver()
    with sweeping(installation, erase_after_seconds=0) as sweeper:
        assert "erased" not in sweeper.sweep()["upkeep"]
    assert installation.document("a.txt")["status"] == "searchable"
    assert installation.rows("select * from deletions") == []


def test_traces_are_looked_for_until_the_cache_answers(
    cached: Installation, redis_server: RedisServer
) -> None:
    """A receipt does not say `removed` before."""
    cached.put("a.txt", TEXT)
    cached.deliver()
    cached.delete("a.txt")
    cached.deliver()
    away = {"redis_url": f"redis://{HOST}:1", "redis_rest_url": None, "redis_rest_token": None}
    with sweeping(cached, erase_after_seconds=0, **cached.cache | away) as sweeper:
        assert "erased" not in sweeper.sweep()["upkeep"]
    assert cached.rows("select erased_at from deletions") == [{"erased_at": None}]
    with sweeping(cached, erase_after_seconds=0, **cached.cache) as sweeper:
        assert sweeper.sweep()["upkeep"]["erased"] == 1


def test_each_delete_has_a_receipt_of_its_own(installation: Installation) -> None:
    """Of a document that was there again in between, and had none while it was."""
    receipts = []
    with calling(installation) as api:
        for _ in range(2):
            installation.put("a.txt", TEXT)
            installation.deliver()
            place = f"/v1/documents/{installation.document('a.txt')['id']}"
            assert api.get(f"{place}/deletion").status_code == 404
            assert api.delete(place).status_code == 200
            receipts.append(api.get(f"{place}/deletion").json())
    first, second = receipts
    assert first["document_id"] == second["document_id"]
    assert first["deleted_at"] < second["deleted_at"]
    for one in receipts:
        assert one["status"] == "removing"
        assert {place["removed"] for place in one["removed"] if place["place"] == "bucket.object"} == {1}


def test_a_receipt_is_for_those_who_could_see_the_document(installation: Installation) -> None:
    installation.put("board.txt", TEXT, {"acl": "board"})
    installation.put("open.txt", TEXT)
    installation.deliver()
    board, public = (str(installation.document(key)["id"]) for key in ("board.txt", "open.txt"))
    with calling(installation) as api:
        assert api.get(f"/v1/documents/{public}/deletion").json()["detail"] == "the document is not deleted"
        assert api.delete(f"/v1/documents/{board}").status_code == 200
        assert receipt(api, board)["removed"]
        installation.rows("update api_keys set acl = '{}' returning 1")
    with calling(installation) as api:
        assert api.get(f"/v1/documents/{board}/deletion").status_code == 404
