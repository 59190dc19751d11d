"""What a newcomer sees: sample documents become searchable, and a question gets a cited answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import httpx

from shared.core.errors import Unavailable

_SAMPLES = Path(__file__).parent / "samples"
_QUESTION = "When was the main telescope last re-coated?"
_PATIENCE_S = 60


def demonstrate(environment: Mapping[str, str], kept: Path, *, put_samples: bool) -> None:
    """kept: the file that has the environment."""
    show(environment, put_samples=put_samples)
    _explain(environment, kept)


def show(environment: Mapping[str, str], *, put_samples: bool) -> None:
    with _api(environment) as api:
        if put_samples:
            _put_samples(environment, api)
        _ask(api)


def _api(environment: Mapping[str, str]) -> httpx.Client:
    headers = {"Authorization": f"Bearer {environment['RAGZERO_API_KEY']}"}
    return httpx.Client(base_url=environment["RAGZERO_API_URL"], headers=headers, timeout=30)


def _put_samples(environment: Mapping[str, str], api: httpx.Client) -> None:
    """Once: what the user deletes or changes afterwards is the user's."""
    known = {document["uri"] for status in (None, "deleted") for document in _documents(api, status)}
    bucket = environment["RAGZERO_BUCKET"]
    new = [path for path in sorted(_SAMPLES.iterdir()) if f"s3://{bucket}/samples/{path.name}" not in known]
    if not new:
        return
    s3 = boto3.client("s3", **_credentials(environment))
    for path in new:
        s3.upload_file(str(path), bucket, f"samples/{path.name}")
    print(f"  {len(new)} sample documents put into s3://{bucket}/samples/, waiting until they are searchable")
    _wait(api, {f"s3://{bucket}/samples/{path.name}" for path in new})


def _credentials(environment: Mapping[str, str]) -> dict[str, Any]:
    return {
        "endpoint_url": environment["AWS_ENDPOINT_URL"],
        "region_name": environment["AWS_REGION"],
        "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
    }


def _documents(api: httpx.Client, status: str | None) -> list[dict[str, Any]]:
    answer = api.get("/v1/documents", params={"limit": 200} | ({"status": status} if status else {}))
    items: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
    return items


def _wait(api: httpx.Client, uris: set[str]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        settled = {d["uri"]: d for d in _documents(api, None) if d["status"] in ("searchable", "failed")}
        if uris <= settled.keys():
            return
        time.sleep(0.2)
    raise Unavailable(
        "ingest", f"the samples were not searchable after {_PATIENCE_S} s; see .local/ingest.log"
    )


def _ask(api: httpx.Client) -> None:
    answer = api.post("/v1/query", json={"question": _QUESTION}).raise_for_status().json()
    print(f"\n  Q: {_QUESTION}\n  A: {answer['answer']}")
    for citation in answer["citations"]:
        print(f"     [{citation['marker']}] {citation['uri']}")
    print(f"     ({answer['timings_ms']['total']:.0f} ms)")


def _explain(environment: Mapping[str, str], kept: Path) -> None:
    print(f"""
ragzero is ready: {environment["RAGZERO_API_URL"]} is its page, {environment["RAGZERO_API_URL"]}/docs the API's reference

  scripts/rag add FILE...          put files into the bucket and wait until they are searchable
  scripts/rag ask "QUESTION"       a cited answer
  scripts/rag ls | rm | status     documents; everything scripts/rag does is plain HTTP
  scripts/down                     stop; documents, index and cache are kept

The page asks for RAGZERO_API_KEY. Keys, bucket and addresses are in {kept}; anything that speaks S3 can put files into s3://{environment["RAGZERO_BUCKET"]}.""")
