"""API keys: rz_<environment>_<key id>_<secret>_<checksum>. Only a keyed digest of the secret is ever stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import zlib
from dataclasses import dataclass
from uuid import UUID

from shared.core.errors import Unauthorized

_FORM = re.compile(r"rz_([a-z0-9-]{1,20})_([0-9a-f]{16})_([0-9a-f]{48})_([0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class PresentedKey:
    id: str
    secret: str

    def __repr__(self) -> str:
        return f"PresentedKey({self.id})"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as the database knows it; active is false once it is revoked or expired, by the database's clock."""

    id: str
    tenant_id: UUID
    digest: bytes
    scopes: tuple[str, ...]
    active: bool


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a tenant, through a key with scopes."""

    key_id: str
    tenant_id: UUID
    scopes: tuple[str, ...]


def mint(environment: str, entropy: bytes) -> tuple[PresentedKey, str]:
    """A new key and its text. entropy: 32 random bytes."""
    if len(entropy) != 32:
        raise ValueError(f"a key takes 32 random bytes, not {len(entropy)}")
    body = f"rz_{environment}_{entropy[:8].hex()}_{entropy[8:].hex()}"
    text = f"{body}_{_checksum(body)}"
    return present(text), text


def present(text: str) -> PresentedKey:
    """The parts of a key. Raises Unauthorized on a malformed one, before anybody is asked about it."""
    match = _FORM.fullmatch(text)
    if not match or not hmac.compare_digest(match[4], _checksum(text.rpartition("_")[0])):
        raise Unauthorized
    return PresentedKey(match[2], match[3])


def digest(secret: str, pepper: str) -> bytes:
    return hmac.digest(pepper.encode(), secret.encode(), hashlib.sha256)


def authenticate(presented: PresentedKey, stored: StoredKey | None, pepper: str) -> Principal:
    """Raises Unauthorized alike for unknown, wrong, expired and revoked keys, after the same work."""
    expected = stored.digest if stored else bytes(32)
    correct = hmac.compare_digest(digest(presented.secret, pepper), expected)
    if stored is None or not (correct and stored.active):
        raise Unauthorized
    return Principal(stored.id, stored.tenant_id, stored.scopes)


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
