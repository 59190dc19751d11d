"""Tenants, as whoever runs the installation administers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from shared.adapters.postgres.coherence import EpochStore
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.sql import load
from shared.core.accounts import Tenant
from shared.core.credentials import Limits
from shared.core.errors import Conflict, NotFound
from shared.core.models import Coherence

_SQL, _KEYS = load("tenants"), load("keys")
_LIMITS = tuple(Limits.__slots__)
OPERATOR = {"app.operator": "on"}


class TenantStore:
    """epochs: how caches hear of a change; without one, whoever reaches them tells them."""

    def __init__(self, database: Database, epochs: EpochStore | None = None) -> None:
        self._database = database
        self._epochs = epochs or EpochStore(database)

    def make(self, id: UUID, name: str, limits: Limits) -> Tenant:
        """Raises Conflict when there is one of that name."""
        with self._database.transaction(id, local=OPERATOR) as cursor:
            values = {"id": id, "name": name, **asdict(limits)}
            if cursor.execute(_SQL["make"], values).rowcount == 0:
                raise Conflict(f"there is a tenant named {name!r} already")
            cursor.execute(_SQL["default_collection"], values)
            return _one(cursor, id)

    def get(self, id: UUID) -> Tenant:
        with self._database.transaction(None, local=OPERATOR) as cursor:
            return _one(cursor, id)

    def list(self, limit: int, after: tuple[datetime, UUID] | None) -> list[Tenant]:
        """Newest first, those after the (created_at, id) given."""
        with self._database.transaction(None, local=OPERATOR) as cursor:
            return _listed(cursor, None, limit, after)

    def limit(self, id: UUID, changes: Mapping[str, float | None]) -> Tenant:
        """changes: fields of Limits; those not named stay. Raises Conflict when the tenant is closed."""
        with self._database.transaction(id, local=OPERATOR) as cursor:
            row = open_tenant(cursor, id)
            cursor.execute(_SQL["limit"], {**row, **changes})
            tenant = _one(cursor, id)
            self._epochs.bump(cursor, id)
        return tenant

    def close(self, id: UUID, confirmed: str) -> tuple[Tenant, Coherence]:
        """From here on nothing of it is visible or accepted. Raises Conflict unless confirmed is its name."""
        with self._database.transaction(id, local=OPERATOR) as cursor:
            row = _locked(cursor, id)
            if row["name"] != confirmed:
                raise Conflict(f"confirm is the tenant's name, {row['name']!r}, not {confirmed[:80]!r}")
            if row["closed_at"] is None:
                cursor.execute(_SQL["close"], {"id": id})
                cursor.execute(_SQL["revoke_keys"], {"id": id})
                cursor.execute(_SQL["drop_waiting"], {"id": id})
            tenant = _one(cursor, id)
            return tenant, self._epochs.bump(cursor, id).coherence

    # As the owner of the database, before there is an operator.

    def ensure_tenant(self, tenant: UUID, name: str) -> None:
        with self._database.transaction(tenant) as cursor:
            for statement in ("ensure", "ensure_collection"):
                cursor.execute(_SQL[statement], {"id": tenant, "name": name})

    def ensure_key(self, tenant: UUID, key_id: str, name: str, digest: bytes, scopes: Sequence[str]) -> None:
        values = {"id": key_id, "tenant": tenant, "name": name, "digest": digest, "scopes": list(scopes)}
        with self._database.transaction(tenant) as cursor:
            cursor.execute(_KEYS["ensure"], values)


def open_tenant(cursor: Cursor[DictRow], id: UUID) -> DictRow:
    """The tenant's row, locked. Raises NotFound, and Conflict when it is closed."""
    row = _locked(cursor, id)
    if row["closed_at"] is not None:
        raise Conflict(f"the tenant {row['name']!r} is closed")
    return row


def _locked(cursor: Cursor[DictRow], id: UUID) -> DictRow:
    row = cursor.execute(_SQL["lock"], {"id": id}).fetchone()
    if row is None:
        raise NotFound("there is no such tenant")
    return row


def _one(cursor: Cursor[DictRow], id: UUID) -> Tenant:
    found = _listed(cursor, id, 1, None)
    if not found:
        raise NotFound("there is no such tenant")
    return found[0]


def _listed(
    cursor: Cursor[DictRow], id: UUID | None, limit: int, after: tuple[datetime, UUID] | None
) -> list[Tenant]:
    at, last = after or (None, None)
    rows = cursor.execute(
        _SQL["list"], {"id": id, "limit": limit, "after_at": at, "after_id": last}
    ).fetchall()
    return [Tenant(**with_limits(row)) for row in rows]


def with_limits(row: DictRow) -> dict[str, Any]:
    """The row, its columns of limits as one value."""
    own = {name: row[name] for name in _LIMITS if name in row}
    return {name: value for name, value in row.items() if name not in own} | {"limits": Limits(**own)}
