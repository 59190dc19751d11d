"""What operators do: tenants and their keys, made, listed, limited and ended."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID, uuid4

from functions.query import paging
from functions.query.writing import Writer
from shared.core.accounts import ApiKey, Tenant, check_grant
from shared.core.credentials import Limits, Principal, digest, mint
from shared.core.errors import Conflict, InvalidInput
from shared.core.labels import Labels
from shared.core.models import Coherence


class Tenants(Protocol):
    def make(self, id: UUID, name: str, limits: Limits) -> Tenant: ...
    def get(self, id: UUID) -> Tenant: ...
    def list(self, limit: int, after: tuple[datetime, UUID] | None) -> list[Tenant]: ...
    def limit(self, id: UUID, changes: Mapping[str, float | None]) -> Tenant: ...
    def close(self, id: UUID, confirmed: str) -> tuple[Tenant, Coherence]: ...


class Keys(Protocol):
    def make(
        self,
        id: str,
        tenant: UUID,
        name: str,
        digest: bytes,
        *,
        scopes: tuple[str, ...],
        acl: Labels,
        expires_at: datetime | None,
        limits: Limits,
    ) -> ApiKey: ...
    def list(self, tenant: UUID | None, limit: int, after: tuple[datetime, str] | None) -> list[ApiKey]: ...
    def change(self, id: str, changes: Mapping[str, Any]) -> ApiKey: ...
    def revoke(self, id: str) -> tuple[ApiKey, Coherence]: ...


@dataclass(frozen=True, slots=True)
class Grant:
    """What a new key may do, and for how long."""

    tenant: UUID
    name: str
    scopes: tuple[str, ...]
    acl: Labels
    expires_at: datetime | None
    limits: Limits


class AdministrationService:
    """environment stands in the text of new keys; their digests take the pepper."""

    def __init__(self, tenants: Tenants, keys: Keys, writer: Writer, pepper: str, environment: str) -> None:
        self._tenants = tenants
        self._keys = keys
        self._writer = writer
        self._pepper = pepper
        self._environment = environment

    async def make_tenant(self, name: str, limits: Limits) -> Tenant:
        return await self._writer.run(lambda: self._tenants.make(uuid4(), name, limits))

    async def tenant(self, id: UUID) -> Tenant:
        return await self._writer.run(lambda: self._tenants.get(id))

    async def tenants(self, limit: int, cursor: str | None) -> tuple[list[Tenant], str | None]:
        after = paging.opened(cursor, UUID)
        return paging.page(await self._writer.run(lambda: self._tenants.list(limit + 1, after)), limit)

    async def limit_tenant(self, id: UUID, changes: Mapping[str, float | None]) -> Tenant:
        return await self._writer.run(lambda: self._tenants.limit(id, changes))

    async def close_tenant(self, who: Principal, id: UUID, confirmed: str) -> tuple[Tenant, Coherence]:
        if id == who.tenant_id:
            raise Conflict("the key of this request is this tenant's; use one of another tenant to close it")
        return await self._writer.run(lambda: self._tenants.close(id, confirmed))

    async def make_key(self, grant: Grant) -> tuple[ApiKey, str]:
        """The key, and its text, which nobody can tell again."""
        check_grant(grant.scopes, grant.acl)
        _check_expiry(grant.expires_at)
        minted, text = mint(self._environment, secrets.token_bytes(32), self._pepper)
        made = await self._writer.run(
            lambda: self._keys.make(
                minted.id,
                grant.tenant,
                grant.name,
                digest(minted.secret, self._pepper),
                scopes=grant.scopes,
                acl=grant.acl,
                expires_at=grant.expires_at,
                limits=grant.limits,
            )
        )
        return made, text

    async def keys(
        self, tenant: UUID | None, limit: int, cursor: str | None
    ) -> tuple[list[ApiKey], str | None]:
        after = paging.opened(cursor, paging.hexadecimal)
        return paging.page(await self._writer.run(lambda: self._keys.list(tenant, limit + 1, after)), limit)

    async def change_key(self, id: str, changes: Mapping[str, Any]) -> ApiKey:
        _check_expiry(changes.get("expires_at"))
        return await self._writer.run(lambda: self._keys.change(id, changes))

    async def revoke_key(self, who: Principal, id: str) -> tuple[ApiKey, Coherence]:
        if id == who.key_id:
            raise Conflict("this is the key of this request; revoke it with another one")
        return await self._writer.run(lambda: self._keys.revoke(id))


def _check_expiry(moment: datetime | None) -> None:
    now = datetime.now(UTC)
    if moment is not None and moment <= now:
        raise InvalidInput(
            f"expires_at lies in the future, unlike {moment.isoformat()}; it is {now.isoformat()} now",
            field="expires_at",
        )
