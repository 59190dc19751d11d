"""The bucket. Vendor errors become shared.core.errors here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from email.header import Header, decode_header, make_header
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import IO, TYPE_CHECKING, Any

from shared.adapters import aws
from shared.core.errors import BadUpstream, Conflict, InvalidInput, NotFound, Unavailable
from shared.core.models import ObjectState
from shared.core.setup import BucketSetup
from shared.core.sweeping import Listed, Page

if TYPE_CHECKING:
    from botocore.config import _S3Dict
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

PAGE_KEYS = 1_000
"""Of a listing; S3 gives no more."""
_LITTLE = 64 * 1024


class Opened:
    """An object of which only the head was read: what follows are the bytes of that very version."""

    def __init__(self, state: ObjectState, body: StreamingBody) -> None:
        self.state = state
        self._body = body

    def read(self) -> bytes:
        """Raises Unavailable when the bucket stops midway."""
        with translated(self.state.key):
            return self._body.read()

    def close(self) -> None:
        """What was not read is not worth a new connection when it is little."""
        with suppress(Unavailable):
            if self.state.bytes <= _LITTLE:
                self.read()
        self._body.close()


class Bucket:
    def __init__(self, name: str, *, endpoint_url: str | None = None, region: str = "us-east-1") -> None:
        self.name = name
        self._endpoint_url = endpoint_url
        self._region = region
        self._lazy: S3Client | None = None

    @property
    def client(self) -> S3Client:
        if self._lazy is None:
            from botocore.config import Config  # heavy: loaded when first used

            self._lazy = aws.client(
                "s3",
                endpoint_url=self._endpoint_url,
                region_name=self._region,
                config=Config(
                    connect_timeout=3,
                    read_timeout=30,
                    retries={"max_attempts": 3, "mode": "standard"},
                    signature_version="s3v4",
                    s3=_addressing(self.name, self._endpoint_url),
                    max_pool_connections=32,
                ),
            )
        return self._lazy

    def head(self, key: str) -> ObjectState | None:
        """The object as it is now, None when there is none."""
        try:
            with translated(key):
                answer = self.client.head_object(Bucket=self.name, Key=key)
        except NotFound:
            return None
        return _state(self.name, key, answer)

    def get(self, key: str) -> Opened | None:
        """The object as it is now, its bytes to be read; None when there is none."""
        try:
            with translated(key):
                answer = self.client.get_object(Bucket=self.name, Key=key)
        except NotFound:
            return None
        return Opened(_state(self.name, key, answer), answer["Body"])

    def pages(self, after: str = "") -> Iterator[Page]:
        """The objects after a key, in the order of their keys' bytes; at least one page, which may be empty.

        Raises BadUpstream when the listing is in another order.
        """
        last = False
        while not last:
            with translated(after):
                answer = self.client.list_objects_v2(Bucket=self.name, StartAfter=after, MaxKeys=PAGE_KEYS)
            last = not answer["IsTruncated"]
            objects = [
                Listed(found["Key"], found["ETag"], found["Size"], found["LastModified"])
                for found in answer.get("Contents", [])
            ]
            _require_order(after, objects, last)
            yield Page(objects, _date(answer), last)
            after = objects[-1].key if objects else after

    def put(self, key: str, body: IO[bytes], *, content_type: str, metadata: Mapping[str, str]) -> None:
        with translated(key):
            self.client.put_object(
                Bucket=self.name,
                Key=key,
                Body=body,
                ContentType=content_type,
                Metadata={name: to_header(value) for name, value in metadata.items()},
            )

    def describe(self, state: ObjectState, metadata: Mapping[str, str]) -> ObjectState:
        """The same bytes under other metadata: the object as it is then.

        Raises Conflict when the object is another by now.
        """
        with translated(state.key):
            known = self.client.head_object(Bucket=self.name, Key=state.key)
            copied = self.client.copy_object(
                Bucket=self.name,
                Key=state.key,
                CopySource={"Bucket": self.name, "Key": state.key},
                CopySourceIfMatch=state.etag,
                MetadataDirective="REPLACE",
                ContentType=known["ContentType"],
                Metadata={name: to_header(value) for name, value in metadata.items()},
            )
        etag, version = copied["CopyObjectResult"]["ETag"], copied.get("VersionId")
        return replace(state, etag=etag, version_id=version, metadata=dict(metadata))

    def erase(self, key: str) -> int | None:
        """Removes the object with its older versions: how many those were, None when we may not know.

        What is put there meanwhile stays.
        """
        with translated(key):
            marker = self.client.delete_object(Bucket=self.name, Key=key).get("VersionId")
        if marker is None:
            return 0
        try:
            with translated(key):
                return self._erase_versions(key, marker)
        except InvalidInput:
            return None

    def _erase_versions(self, key: str, marker: str) -> int:
        """The delete marker, and everything that is not newer: clocks have seconds, so the newest of all may be."""
        found = list(self._versions(key))
        until = max(one["LastModified"] for one in found if one["VersionId"] == marker)
        older = [
            one
            for one in found
            if one["VersionId"] == marker or (one["LastModified"] <= until and not one["IsLatest"])
        ]
        for one in older:
            self.client.delete_object(Bucket=self.name, Key=key, VersionId=one["VersionId"])
        return sum("Size" in one for one in older)

    def _versions(self, key: str) -> Iterator[Any]:
        """Versions and delete markers (those have no Size) of exactly that key, which is listed before all that begin so."""
        for page in self.client.get_paginator("list_object_versions").paginate(Bucket=self.name, Prefix=key):
            found: list[Any] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            mine = [one for one in found if one["Key"] == key]
            yield from mine
            if len(mine) < len(found):
                return

    def setup(self) -> BucketSetup:
        """Raises NotFound, InvalidInput when the caller may not know, or Unavailable."""
        name = self.name
        with translated(name):
            told = self.client.get_bucket_notification_configuration(Bucket=name)
            versions = self.client.get_bucket_versioning(Bucket=name)
        return BucketSetup(
            events={
                found["QueueArn"]: list(found["Events"]) for found in told.get("QueueConfigurations", [])
            },
            versioned=versions.get("Status") == "Enabled",
            expiring=self._expiring(),
            at=_date(versions),
        )

    def _expiring(self) -> bool:
        try:
            with translated(self.name):
                rules = self.client.get_bucket_lifecycle_configuration(Bucket=self.name)["Rules"]
        except NotFound:
            return False
        return any(rule.get("Expiration") and rule["Status"] == "Enabled" for rule in rules)


def _addressing(bucket: str, endpoint_url: str | None) -> _S3Dict:
    """Of its region: what AWS answers elsewhere is a redirect, which browsers do not follow with a file."""
    return {
        "addressing_style": "path" if endpoint_url or "." in bucket else "virtual",
        "us_east_1_regional_endpoint": "regional",
    }


def _require_order(after: str, objects: Sequence[Listed], last: bool) -> None:
    """What lies between two keys of a listing is taken not to exist, so their order is not taken on trust."""
    keys = [after.encode(), *(listed.key.encode() for listed in objects)]
    if not all(one < next for one, next in pairwise(keys)) or (not objects and not last):
        raise BadUpstream("bucket", f"the listing after {after[:200]!r} is not in the order of its keys")


def _date(answer: Mapping[str, Any]) -> datetime:
    """The bucket's clock."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])


def _state(bucket: str, key: str, answer: Mapping[str, Any]) -> ObjectState:
    version = answer.get("VersionId")
    return ObjectState(
        bucket=bucket,
        key=key,
        etag=answer["ETag"],
        version_id=None if version in (None, "null") else version,
        bytes=answer["ContentLength"],
        last_modified=answer["LastModified"],
        metadata={name.lower(): _from_header(value) for name, value in answer.get("Metadata", {}).items()},
    )


def to_header(value: str) -> str:
    return value if value.isascii() else Header(value, "utf-8", maxlinelen=2048).encode()


def _from_header(value: str) -> str:
    if not value.startswith("=?"):
        return value
    try:
        return str(make_header(decode_header(value)))
    except (UnicodeDecodeError, LookupError):
        return value


@contextmanager
def translated(key: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError  # heavy: loaded when first used

    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status == 404:
            raise NotFound(f"the bucket has no object {key[:200]!r}") from error
        if status in (409, 412):
            raise Conflict(f"the object {key[:200]!r} was replaced meanwhile") from error
        if status in (400, 403, 405):
            code = error.response.get("Error", {}).get("Code", "")
            raise InvalidInput(f"the bucket refuses the object {key[:200]!r} ({status} {code})") from error
        raise Unavailable("bucket", f"the bucket answered {status}") from error
    except BotoCoreError as error:
        raise Unavailable("bucket", f"the bucket cannot be reached ({type(error).__name__})") from error
