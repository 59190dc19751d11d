"""Names: which tenant owns a key of the bucket, and what an object's metadata says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from shared.core.errors import InvalidInput

_TENANT = re.compile(r"tenants/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/(.+)", re.DOTALL)
_COLLECTION = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,6})?")
DEFAULT_COLLECTION = "default"
MAX_KEY_BYTES = 1024


def tenant_of(key: str, default: UUID | None) -> UUID:
    """The tenant that owns a key: tenants/<id>/... names it, every other key is the default tenant's."""
    if match := _TENANT.fullmatch(key):
        return UUID(match[1])
    if key.startswith("tenants/") or default is None:
        raise InvalidInput(f"the key {key[:200]!r} does not begin with tenants/<tenant id>/", field="key")
    return default


def key_of(tenant: UUID, name: str, default: UUID | None) -> str:
    """Where an uploaded file of that name goes. Raises InvalidInput when S3 would not take the key."""
    key = name if tenant == default and not name.startswith("tenants/") else f"tenants/{tenant}/{name}"
    if not name or len(key.encode()) > MAX_KEY_BYTES:
        raise InvalidInput(
            f"a file name has 1 to {MAX_KEY_BYTES} bytes, this one {len(key.encode())}", field="file"
        )
    return key


def bucket_origin(bucket: str, region: str, endpoint_url: str | None = None) -> str:
    """The web origin of the addresses that files of the bucket are uploaded to; endpoint_url: of another S3 than AWS's."""
    if endpoint_url:
        address = urlsplit(endpoint_url)
        return f"{address.scheme}://{address.netloc}"
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    prefix = "" if "." in bucket else f"{bucket}."  # AWS's certificate covers one label
    return f"https://{prefix}s3.{region}.{domain}"


def uri_of(bucket: str, key: str) -> str:
    return f"s3://{bucket}/{key}"


def collection_name(name: str) -> str:
    if not _COLLECTION.fullmatch(name):
        raise InvalidInput(
            f"a collection is named with up to 63 of a-z, 0-9, - and _, not {name[:80]!r}", field="collection"
        )
    return name


def candidate_name(collection: str) -> str:
    """Of the candidate of a collection; no collection can be given such a name."""
    return f"{collection}~"


def document_metadata(raw: Mapping[str, str]) -> dict[str, Any]:
    """x-amz-meta-* as document metadata; numbers and booleans become such, so that filters can compare them.

    Labels stay as they are written: 1.50 is another label than 1.5.
    """
    texts = {name: value.replace("\x00", "") for name, value in raw.items()}
    return {name: text if name == "acl" else _scalar(text) for name, text in texts.items()}


def _scalar(value: str) -> str | int | float | bool:
    if value in ("true", "false"):
        return value == "true"
    if match := _NUMBER.fullmatch(value):
        return float(value) if match[2] else int(value)
    return value
