"""Tenants and keys, for operators: a key with the scope admin may act on any tenant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response

from functions.query.admin_schemas import (
    KeyChange,
    KeyMade,
    KeyPage,
    KeyRevoked,
    KeyView,
    NewKey,
    NewTenant,
    TenantChange,
    TenantClosed,
    TenantPage,
    TenantView,
)
from functions.query.administration import Grant
from functions.query.routes.access import Operator, Wired
from shared.core.credentials import Limits

router = APIRouter(prefix="/v1/admin", tags=["administration"])
_Limit = Annotated[int, Query(ge=1, le=200)]
_Cursor = Annotated[str | None, Query(max_length=200)]
_KeyId = Annotated[str, Path(pattern="^[0-9a-f]{24}$")]


@router.post("/tenants", status_code=201)
async def make_tenant(body: NewTenant, _: Operator, wired: Wired) -> TenantView:
    return TenantView.of(await wired.administration.make_tenant(body.name, Limits(**body.limits.fields())))


@router.get("/tenants")
async def tenants(_: Operator, wired: Wired, limit: _Limit = 50, cursor: _Cursor = None) -> TenantPage:
    """Newest first, closed ones too."""
    rows, following = await wired.administration.tenants(limit, cursor)
    return TenantPage(items=[TenantView.of(row) for row in rows], next_cursor=following)


@router.get("/tenants/{id}")
async def tenant(id: UUID, _: Operator, wired: Wired) -> TenantView:
    return TenantView.of(await wired.administration.tenant(id))


@router.patch("/tenants/{id}")
async def limit_tenant(id: UUID, body: TenantChange, _: Operator, wired: Wired) -> TenantView:
    """Limits that are not named stay; null is what the settings say."""
    return TenantView.of(await wired.administration.limit_tenant(id, body.limits.fields()))


@router.delete("/tenants/{id}")
async def close_tenant(
    id: UUID,
    who: Operator,
    wired: Wired,
    confirm: Annotated[str, Query(max_length=100, description="The tenant's name.")],
) -> TenantClosed:
    """From now on nothing of the tenant is visible or accepted, and its keys are revoked."""
    closed, coherence = await wired.administration.close_tenant(who, id, confirm)
    return TenantClosed(
        **TenantView.of(closed).model_dump(), coherent=coherence.coherent, until=coherence.until
    )


@router.post("/keys", status_code=201)
async def make_key(body: NewKey, _: Operator, wired: Wired, response: Response) -> KeyMade:
    """The key is shown this once. Two of one name work at a time, so that the older can be replaced in peace."""
    response.headers["Cache-Control"] = "no-store"
    made, text = await wired.administration.make_key(
        Grant(
            body.tenant_id,
            body.name,
            tuple(sorted(set(body.scopes))),
            None if body.acl is None else tuple(body.acl),
            _expiry(body),
            Limits(**body.limits.fields()),
        )
    )
    return KeyMade(**KeyView.of(made).model_dump(), key=text)


@router.get("/keys")
async def keys(
    _: Operator, wired: Wired, tenant_id: UUID | None = None, limit: _Limit = 50, cursor: _Cursor = None
) -> KeyPage:
    """Newest first, expired and revoked ones too; of all tenants unless one is named."""
    rows, following = await wired.administration.keys(tenant_id, limit, cursor)
    return KeyPage(items=[KeyView.of(row) for row in rows], next_cursor=following)


@router.patch("/keys/{id}")
async def change_key(id: _KeyId, body: KeyChange, _: Operator, wired: Wired) -> KeyView:
    """Effective with the next request."""
    return KeyView.of(await wired.administration.change_key(id, body.fields()))


@router.delete("/keys/{id}")
async def revoke_key(id: _KeyId, who: Operator, wired: Wired) -> KeyRevoked:
    """Refused from the next request on, for ever. Revoking it again changes nothing."""
    revoked, coherence = await wired.administration.revoke_key(who, id)
    return KeyRevoked(**KeyView.of(revoked).model_dump(), coherent=coherence.coherent, until=coherence.until)


def _expiry(body: NewKey) -> datetime | None:
    return body.expires_at if body.ttl_days is None else datetime.now(UTC) + timedelta(days=body.ttl_days)
