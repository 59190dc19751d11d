"""API keys: rz_<environment>_<key id>_<secret>_<checksum>. Only a keyed digest of the secret is ever stored.

A key id carries a tag made with the pepper: one that we never gave out is refused without asking anybody, so that
guessing wakes no database.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import zlib
from dataclasses import asdict, dataclass
from typing import Any, Self
from uuid import UUID

from shared.core.errors import Forbidden, Unauthorized

SCOPES = ("query", "ingest", "admin")
_FORM = re.compile(r"rz_([a-z0-9-]{1,20})_([0-9a-f]{24})_([0-9a-f]{48})_([0-9a-f]{8})")
_RANDOM, _TAG = 16, 8  # hex digits of a key id
_ENTROPY = 32


@dataclass(frozen=True, slots=True)
class PresentedKey:
    id: str
    secret: str

    def __repr__(self) -> str:
        return f"PresentedKey({self.id})"


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests per second and how many at once on top of that, of the key and of its whole tenant; streams of the
    tenant at a time; US dollars a month. None: what the settings say; for the budget: none."""

    key_rate: float | None = None
    key_burst: int | None = None
    tenant_rate: float | None = None
    tenant_burst: int | None = None
    streams: int | None = None
    budget_usd: float | None = None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as the database knows it; active is false once it is revoked or expired, by the database's clock.

    acl: the labels whose documents it sees besides those without labels; None: all of them. expires_at: Unix seconds.
    """

    id: str
    tenant_id: UUID
    digest: bytes
    scopes: tuple[str, ...]
    active: bool
    acl: tuple[str, ...] | None = None
    expires_at: float | None = None
    limits: Limits = Limits()

    def to_bytes(self) -> bytes:
        known = asdict(self) | {"tenant_id": str(self.tenant_id), "digest": self.digest.hex()}
        return json.dumps(known, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        known: dict[str, Any] = json.loads(data)
        return cls(
            **known
            | {
                "tenant_id": UUID(known["tenant_id"]),
                "digest": bytes.fromhex(known["digest"]),
                "scopes": tuple(known["scopes"]),
                "acl": None if known["acl"] is None else tuple(known["acl"]),
                "limits": Limits(**known["limits"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a tenant, through a key with scopes, which sees documents with these labels (None: all)."""

    key_id: str
    tenant_id: UUID
    scopes: tuple[str, ...]
    acl: tuple[str, ...] | None = None

    def require(self, scope: str) -> Self:
        if scope not in self.scopes and "admin" not in self.scopes:
            raise Forbidden(f"this API key lacks the scope {scope!r}")
        return self

    def narrowed(self, wanted: list[str] | None) -> tuple[str, ...] | None:
        """The labels a request may see: those it names, as far as the key has them."""
        if wanted is None:
            return self.acl
        return tuple(sorted(set(wanted) if self.acl is None else set(wanted) & set(self.acl)))


def mint(environment: str, entropy: bytes, pepper: str) -> tuple[PresentedKey, str]:
    """A new key and its text. entropy: 32 random bytes."""
    if len(entropy) != _ENTROPY:
        raise ValueError(f"a key takes {_ENTROPY} random bytes, not {len(entropy)}")
    id, secret = entropy[:8].hex(), entropy[8:].hex()
    body = f"rz_{environment}_{id}{_tag(id, pepper)}_{secret}"
    text = f"{body}_{_checksum(body)}"
    return present(text, pepper), text


def present(text: str, pepper: str) -> PresentedKey:
    """The parts of a key. Raises Unauthorized on one that cannot be ours, before anybody is asked about it."""
    match = _FORM.fullmatch(text)
    if not match or not hmac.compare_digest(match[4], _checksum(text.rpartition("_")[0])):
        raise Unauthorized
    if not hmac.compare_digest(match[2][_RANDOM:], _tag(match[2][:_RANDOM], pepper)):
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
    return Principal(stored.id, stored.tenant_id, stored.scopes, stored.acl)


def _tag(id: str, pepper: str) -> str:
    return hmac.digest(pepper.encode(), b"key id " + id.encode(), hashlib.sha256).hex()[:_TAG]


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
