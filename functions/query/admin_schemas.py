"""The shapes of the API that operators use."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from functions.query.schemas import Acl, Receipt, StrictRequest
from shared.core.accounts import ApiKey, Tenant


def _name(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("must be printable and not blank")
    return text.strip()


def _plain(row: Tenant | ApiKey) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row) if field.name != "limits"}


Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_name)]
Scope = Literal["query", "ingest", "admin"]
_Rate = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]
_Burst = Annotated[int, Field(ge=1, le=100_000)]


class KeyLimits(StrictRequest):
    """null: what the settings say."""

    rate: _Rate | None = Field(None, description="Requests per second.")
    burst: _Burst | None = Field(None, description="How many at once on top of that.")

    def fields(self) -> dict[str, Any]:
        """Those that were given, as Limits names them."""
        return {f"key_{name}": getattr(self, name) for name in self.model_fields_set}


class TenantLimits(StrictRequest):
    """null: what the settings say; for budget_usd: no limit."""

    rate: _Rate | None = Field(None, description="Requests per second, of all keys together.")
    burst: _Burst | None = Field(None, description="How many at once on top of that.")
    streams: Annotated[int, Field(ge=1, le=10_000)] | None = Field(None, description="At a time.")
    budget_usd: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] | None = Field(
        None, description="A month."
    )

    def fields(self) -> dict[str, Any]:
        """Those that were given, as Limits names them."""
        ours = {"rate": "tenant_rate", "burst": "tenant_burst"}
        return {ours.get(name, name): getattr(self, name) for name in self.model_fields_set}


class NewTenant(StrictRequest):
    name: Name
    limits: TenantLimits = TenantLimits()


class TenantChange(StrictRequest):
    limits: TenantLimits


class TenantView(BaseModel):
    id: UUID
    name: str
    created_at: datetime
    closed_at: datetime | None
    limits: TenantLimits
    documents: int
    chunks: int

    @classmethod
    def of(cls, tenant: Tenant) -> Self:
        own = tenant.limits
        limits = TenantLimits(
            rate=own.tenant_rate, burst=own.tenant_burst, streams=own.streams, budget_usd=own.budget_usd
        )
        return cls(**_plain(tenant), limits=limits)


class TenantPage(BaseModel):
    items: list[TenantView]
    next_cursor: str | None


class TenantClosed(TenantView, Receipt):
    detail: str = (
        "Nothing of this tenant is visible or accepted any more, and its keys are revoked."
        " Its documents, their index and its objects in the bucket are still stored;"
        " sweeps remove them RAGZERO_CLOSED_TENANT_DAYS later."
    )


_NOT_BOTH: JsonDict = {
    "allOf": [
        {
            "anyOf": [
                {"properties": {"expires_at": {"type": "null"}}},
                {"properties": {"ttl_days": {"type": "null"}}},
            ]
        },
        {
            "anyOf": [
                {"properties": {"acl": {"type": "null"}}},
                {"properties": {"scopes": {"not": {"contains": {"const": "admin"}}}}},
            ]
        },
    ]
}


class NewKey(StrictRequest):
    model_config = ConfigDict(json_schema_extra=_NOT_BOTH)

    tenant_id: UUID = Field(strict=False)
    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)]
    acl: Acl | None = Field(
        None, description="Sees documents with these labels, besides those without any. null: all documents."
    )
    expires_at: AwareDatetime | None = Field(None, strict=False)
    ttl_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    limits: KeyLimits = KeyLimits()

    @model_validator(mode="after")
    def _one_expiry(self) -> Self:
        if self.expires_at is not None and self.ttl_days is not None:
            raise ValueError("give expires_at or ttl_days, not both")
        return self


class KeyChange(StrictRequest):
    """What is not named stays."""

    name: Name = ""
    expires_at: AwareDatetime | None = Field(None, strict=False)
    acl: Acl | None = None
    limits: KeyLimits = KeyLimits()

    def fields(self) -> dict[str, Any]:
        """Those that were given, as ApiKey and Limits name them."""
        own = {name: getattr(self, name) for name in self.model_fields_set if name != "limits"}
        return own | self.limits.fields()


class KeyView(BaseModel):
    id: str
    tenant_id: UUID
    name: str
    scopes: list[Scope]
    acl: list[str] | None
    limits: KeyLimits
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(
        description="To the minute; later uses answered from a cache aside."
    )

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        limits = KeyLimits(rate=key.limits.key_rate, burst=key.limits.key_burst)
        return cls(**_plain(key), limits=limits)


class KeyMade(KeyView):
    key: str = Field(description="Shown this once; only a keyed digest of it is stored.")


class KeyRevoked(KeyView, Receipt):
    pass


class KeyPage(BaseModel):
    items: list[KeyView]
    next_cursor: str | None
