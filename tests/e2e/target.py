"""A ragzero seen from outside: an address, keys and a bucket. It may be local mode, the twin, or a deployment."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import boto3
import httpx
from botocore.config import Config

T = TypeVar("T")
Json = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """aws: what AWS clients find in their environment. streams: whether the gateway hands on events as they come.

    Keys stay out of its repr, which failing tests print.
    """

    url: str
    key: str = field(repr=False)
    admin_key: str = field(repr=False)
    bucket: str
    aws: Mapping[str, str] = field(repr=False)
    streams: bool = True
    patience_s: float = 120

    @classmethod
    def named_in(cls, environment: Mapping[str, str]) -> Target:
        """RAGZERO_API_URL, RAGZERO_API_KEY, RAGZERO_ADMIN_KEY, RAGZERO_BUCKET, RAGZERO_STREAMS (yes or no), AWS_*."""
        return cls(
            environment["RAGZERO_API_URL"],
            environment["RAGZERO_API_KEY"],
            environment["RAGZERO_ADMIN_KEY"],
            environment["RAGZERO_BUCKET"],
            {name: value for name, value in environment.items() if name.startswith("AWS_")},
            environment.get("RAGZERO_STREAMS", "yes") != "no",
            float(environment.get("RAGZERO_PATIENCE_SECONDS", "120")),
        )

    def api(self, key: str | None) -> httpx.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    @cached_property
    def s3(self) -> Any:
        endpoint = self.aws.get("AWS_ENDPOINT_URL")
        make: Any = boto3.client  # the stubs want the service's name as a literal
        return make(
            "s3",
            endpoint_url=endpoint,
            region_name=self.aws.get("AWS_REGION"),
            aws_access_key_id=self.aws.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=self.aws.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=self.aws.get("AWS_SESSION_TOKEN"),
            config=Config(s3={"addressing_style": "path"} if endpoint else {}),
        )

    def eventually(self, look: Callable[[], T | None], what: str) -> T:
        """What look finds, as soon as it finds something."""
        deadline = time.monotonic() + self.patience_s
        while (found := look()) is None:
            assert time.monotonic() < deadline, f"after {self.patience_s:g} s: {what}"
            time.sleep(0.1)
        return found


@dataclass
class Tenant:
    """A tenant of one run, its documents at s3://<bucket>/tenants/<id>/."""

    target: Target
    id: str
    key: str = field(repr=False)
    name: str
    api: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.api = self.target.api(self.key)

    @classmethod
    def made(cls, target: Target) -> Tenant:
        name = f"conformance-{uuid.uuid4().hex[:12]}"
        with target.api(target.admin_key) as admin:
            id = _told(admin.post("/v1/admin/tenants", json={"name": name}), 201)["id"]
            wanted = {"tenant_id": id, "name": "all", "scopes": ["query", "ingest"], "ttl_days": 1}
            key = _told(admin.post("/v1/admin/keys", json=wanted), 201)["key"]
        return cls(target, id, key, name)

    def key_for(self, *scopes: str, acl: list[str] | None = None) -> str:
        name = uuid.uuid4().hex  # two of one name are the most there may be
        wanted = {"tenant_id": self.id, "name": name, "scopes": list(scopes), "acl": acl, "ttl_days": 1}
        with self.target.api(self.target.admin_key) as admin:
            return str(_told(admin.post("/v1/admin/keys", json=wanted), 201)["key"])

    def close(self) -> None:
        """Nothing of it is left in the bucket or the index."""
        self.target.eventually(self._emptied, "the tenant's documents are not all removed")
        with self.target.api(self.target.admin_key) as admin:
            _told(admin.delete(f"/v1/admin/tenants/{self.id}", params={"confirm": self.name}))
        self.api.close()

    def _emptied(self) -> bool | None:
        return True if self.api.delete("/v1/collections/default").status_code == 200 else None

    # documents

    def object(self, name: str) -> str:
        """The key in the bucket of a document of that name."""
        return f"tenants/{self.id}/{name}"

    def put(self, name: str, body: bytes | str, **metadata: str) -> None:
        """Into the bucket, past the API."""
        data = body.encode() if isinstance(body, str) else body
        self.target.s3.put_object(
            Bucket=self.target.bucket, Key=self.object(name), Body=data, Metadata=metadata
        )

    def upload(self, name: str, body: bytes | str, **form: str) -> Json:
        """Through the API: what it answers."""
        data = body.encode() if isinstance(body, str) else body
        return _told(self.api.post("/v1/documents", files={"file": (name, data)}, data=form), 202)

    def documents(self, **parameters: str | int) -> list[Json]:
        items: list[Json] = _told(self.api.get("/v1/documents", params=parameters | {"limit": 200}))["items"]
        return items

    def document(self, name: str) -> Json | None:
        uri = f"s3://{self.target.bucket}/{self.object(name)}"
        return next((each for each in self.documents() if each["uri"] == uri), None)

    def settled(self, name: str, *, after: int = 0) -> Json:
        """The document once it is searchable, or failed, in a generation after that one."""

        def look() -> Json | None:
            found = self.document(name)
            done = found and found["status"] in ("searchable", "failed") and found["generation"] > after
            return found if done else None

        return self.target.eventually(look, f"{name} is {self.document(name)}")

    def searchable(self, name: str, *, after: int = 0) -> Json:
        found = self.settled(name, after=after)
        assert found["status"] == "searchable", found
        return found

    # questions

    def ask(self, question: str, **more: Any) -> Json:
        return _told(self.api.post("/v1/query", json={"question": question, "generate": False} | more))

    def search(self, question: str, **more: Any) -> list[Json]:
        asked = {"question": question} | more
        results: list[Json] = _told(self.api.post("/v1/search", json=asked))["results"]
        return results

    def found(self, question: str, **more: Any) -> set[str]:
        """The names of the documents that passages come from."""
        prefix = f"s3://{self.target.bucket}/{self.object('')}"
        return {each["uri"].removeprefix(prefix) for each in self.search(question, **more)}


def given() -> Target | None:
    """The one that the environment names."""
    return Target.named_in(os.environ) if "RAGZERO_API_URL" in os.environ else None


def _told(answer: httpx.Response, status: int = 200) -> Json:
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    told: Json = answer.json()
    return told
