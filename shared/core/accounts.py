"""Tenants and their keys as an operator sees them: never a secret, nor anything made from one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.core.credentials import Limits
from shared.core.errors import InvalidInput
from shared.core.labels import Labels


@dataclass(frozen=True, slots=True)
class Tenant:
    """closed_at: from then on nothing of it is visible or accepted. limits: the tenant's share of them."""

    id: UUID
    name: str
    created_at: datetime
    closed_at: datetime | None
    limits: Limits
    documents: int
    chunks: int


@dataclass(frozen=True, slots=True)
class ApiKey:
    """limits: the key's own share of them."""

    id: str
    tenant_id: UUID
    name: str
    scopes: tuple[str, ...]
    acl: Labels
    limits: Limits
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


def check_grant(scopes: tuple[str, ...], acl: Labels) -> None:
    if "admin" in scopes and acl is not None:
        raise InvalidInput(
            "a key with the scope admin can make keys that see everything, so acl would not hold it back",
            field="acl",
        )
