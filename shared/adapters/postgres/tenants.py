"""Tenants and their keys, written by whoever administers the database."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from shared.adapters.postgres.connection import Database


class TenantStore:
    """Works as the owner role, under the row-level security of the tenant in question."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ensure_tenant(self, tenant: UUID, name: str) -> None:
        with self._database.transaction(tenant) as cursor:
            cursor.execute(
                "insert into tenants (id, name) values (%s, %s) on conflict (id) do nothing", [tenant, name]
            )
            cursor.execute(
                "insert into collections (tenant_id, name) values (%s, 'default') on conflict do nothing",
                [tenant],
            )

    def ensure_key(self, tenant: UUID, key_id: str, name: str, digest: bytes, scopes: Sequence[str]) -> None:
        with self._database.transaction(tenant) as cursor:
            cursor.execute(
                """insert into api_keys (id, tenant_id, name, digest, scopes) values (%s, %s, %s, %s, %s)
                   on conflict (id) do nothing""",
                [key_id, tenant, name, digest, list(scopes)],
            )
