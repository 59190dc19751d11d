"""The page's files as a browser meets them: types, caching, policy; and what no file of it may contain."""

from __future__ import annotations

import gzip
import re
import uuid
from pathlib import Path

import boto3
import pytest
from fastapi.testclient import TestClient

from functions.query.app import create_app
from scripts.local.aws import LocalAws
from shared.adapters.s3 import Bucket
from shared.adapters.s3_links import Links
from shared.core.keys import bucket_origin
from tests.support.installation import Installation

FOLDER = Path(__file__).resolve().parents[2] / "functions" / "query" / "page"
FILES = sorted(path.name for path in FOLDER.iterdir())
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src {}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


def addresses(api: TestClient) -> list[str]:
    return re.findall(r'(?:href|src)="(page/[^"]+)"', api.get("/").text)


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("base.css", "text/css; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("mark.svg", "image/svg+xml"),
    ],
)
def test_files_have_their_types(quiet_api: TestClient, name: str, type: str) -> None:
    answer = quiet_api.get(f"/page/any/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == type
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.content == (FOLDER / name).read_bytes()


def test_the_page_needs_no_key_and_has_a_policy_of_its_own(quiet_api: TestClient, aws: LocalAws) -> None:
    """Besides the API it may only speak to the bucket, which the frame names for uploads."""
    answer = quiet_api.get("/", headers={"Authorization": ""})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY.format(f"'self' {aws.url}")
    assert f'<html lang="en" data-bucket="{aws.url}">' in answer.text
    elsewhere = quiet_api.get("/healthz").headers["content-security-policy"]
    assert elsewhere == "default-src 'none'; frame-ancestors 'none'"


def test_without_uploads_into_the_bucket_the_page_speaks_to_the_api_alone(installation: Installation) -> None:
    with TestClient(
        create_app(installation.query_settings(page_uploads="api"), installation.embedder)
    ) as api:
        answer = api.get("/")
    assert answer.headers["content-security-policy"] == POLICY.format("'self'")
    assert 'data-bucket=""' in answer.text


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "us-gov-west-1", "cn-north-1"])
@pytest.mark.parametrize("bucket", ["documents", "documents.example.org"])
def test_the_policy_names_the_origin_that_uploads_go_to(
    monkeypatch: pytest.MonkeyPatch, region: str, bucket: str
) -> None:
    """Of the bucket's region: AWS redirects what comes to another one, and browsers do not redirect a file."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nobody")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    links, origin = Links(Bucket(bucket, region=region), 60), bucket_origin(bucket, region)
    url, _ = links.post("a", 1, "text/plain", {})
    assert url.startswith(f"{origin}/")
    assert links.parts("a", "upload", [1])[0].startswith(f"{origin}/")


def test_what_was_fetched_once_is_not_fetched_again(quiet_api: TestClient) -> None:
    """The frame is asked about with its ETag; everything it names lies under an address that changes with the files."""
    first = quiet_api.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = quiet_api.get("/", headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    for address in addresses(quiet_api):
        answer = quiet_api.get(f"/{address}")
        assert answer.status_code == 200, address
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        etag = {"If-None-Match": answer.headers["etag"]}
        assert quiet_api.get(f"/{address}", headers=etag).status_code == 304


def test_a_file_of_another_version_is_not_kept(quiet_api: TestClient) -> None:
    assert quiet_api.get("/page/older/app.js").headers["cache-control"] == "no-cache"


def test_files_are_compressed_for_those_who_take_it(quiet_api: TestClient) -> None:
    def fetched(accepted: str) -> tuple[str | None, int]:
        answer = quiet_api.get("/page/any/app.js", headers={"Accept-Encoding": accepted})
        assert answer.content == (FOLDER / "app.js").read_bytes()
        assert answer.headers["vary"] == "Accept-Encoding"
        return answer.headers.get("content-encoding"), int(answer.headers["content-length"])

    assert fetched("br, gzip")[0] == "gzip"
    assert fetched("identity")[0] is None
    assert fetched("gzip;q=0")[0] is None
    assert fetched("gzip")[1] < fetched("identity")[1] / 2


def test_head_is_answered_without_a_body(quiet_api: TestClient) -> None:
    answer = quiet_api.head("/")
    assert (answer.status_code, answer.headers["etag"]) == (200, quiet_api.get("/").headers["etag"])


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/index.html",
        "/page",
        "/page/any/nothing.js",
        "/page/any/index.html",
        "/page/any/..%2fapp.py",
    ],
)
def test_unknown_paths_are_problems(quiet_api: TestClient, path: str) -> None:
    answer = quiet_api.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 404


def test_writing_to_the_page_is_refused(quiet_api: TestClient) -> None:
    answer = quiet_api.post("/")
    assert (answer.status_code, answer.json()["title"]) == (405, "Method not allowed")


def test_the_frame_names_every_file(quiet_api: TestClient) -> None:
    """So that the browser fetches all modules at once, and not one after the other as it finds them."""
    assert sorted(address.split("/")[-1] for address in addresses(quiet_api)) == sorted(
        set(FILES) - {"index.html"}
    )
    assert "page/current" not in quiet_api.get("/").text


def test_all_of_it_is_light() -> None:
    packed = sum(len(gzip.compress((FOLDER / name).read_bytes())) for name in FILES)
    assert packed < 60_000


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_inline_or_from_elsewhere(name: str) -> None:
    text = (FOLDER / name).read_text()
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    if name.endswith(".html"):
        assert not re.search(r"<style|<script(?![^>]* src=)|\sstyle=|\son\w+=|javascript:", text)
    if name.endswith(".js"):
        forbidden = (
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser"
        )
        assert not re.search(rf"{forbidden}|\beval\(|new Function|setAttribute\(\"style", text)
    if name.endswith(".css"):
        assert not re.search(r"@import|url\(", text)


def test_a_key_learns_what_it_may_do(installation: Installation) -> None:
    asking = installation.add_key(installation.tenant, ["query"])
    with TestClient(create_app(installation.query_settings(), installation.embedder)) as api:

        def scopes(key: str) -> list[str]:
            answer = api.get("/v1/key", headers={"X-API-Key": key})
            assert answer.status_code == 200, answer.text
            assert answer.json()["tenant_id"] == str(installation.tenant)
            assert answer.json()["acl"] is None
            assert answer.json()["id"] == key.split("_")[2]
            return list(answer.json()["scopes"])

        assert scopes(asking) == ["query"]
        assert scopes(installation.api_key) == ["query", "ingest"]
        assert scopes(installation.admin_key) == ["query", "ingest", "admin"]
        refused = api.get("/v1/key", headers={"X-API-Key": f"rz_test_{uuid.uuid4().hex}"})
        assert refused.status_code == 401
