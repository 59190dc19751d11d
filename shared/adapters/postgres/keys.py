"""API keys, as whoever runs the installation administers them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from shared.adapters.postgres.coherence import EpochStore
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.sql import load
from shared.adapters.postgres.tenants import OPERATOR, open_tenant, with_limits
from shared.core.accounts import ApiKey, check_grant
from shared.core.credentials import Limits
from shared.core.errors import Conflict, NotFound
from shared.core.labels import Labels
from shared.core.models import Coherence

_SQL = load("keys")
MOST_ACTIVE = 2


class KeyStore:
    """epochs: how caches hear of a change."""

    def __init__(self, database: Database, epochs: EpochStore) -> None:
        self._database = database
        self._epochs = epochs

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
    ) -> ApiKey:
        """Raises NotFound without the tenant, and Conflict when two keys of that name are in use."""
        values = {
            "id": id,
            "tenant": tenant,
            "name": name,
            "digest": digest,
            "scopes": list(scopes),
            "acl": _array(acl),
            "expires_at": expires_at,
            **asdict(limits),
        }
        with self._database.transaction(tenant, local=OPERATOR) as cursor:
            open_tenant(cursor, tenant)
            _check_name(cursor, values)
            cursor.execute(_SQL["make"], values)
            return _one(cursor, id)

    def list(self, tenant: UUID | None, limit: int, after: tuple[datetime, str] | None) -> list[ApiKey]:
        """Of one tenant or of all; newest first, those after the (created_at, id) given."""
        with self._database.transaction(None, local=OPERATOR) as cursor:
            return _listed(cursor, None, tenant, limit, after)

    def change(self, id: str, changes: Mapping[str, Any]) -> ApiKey:
        """changes: name, expires_at, acl, key_rate, key_burst; those not named stay. Raises Conflict once revoked."""
        tenant = self._tenant(id)
        with self._database.transaction(tenant, local=OPERATOR) as cursor:
            open_tenant(cursor, tenant)
            key = _one(cursor, id)
            known = asdict(key) | asdict(key.limits) | {"tenant": tenant} | dict(changes)
            check_grant(key.scopes, known["acl"])
            _check_name(cursor, known)
            if cursor.execute(_SQL["change"], known | {"acl": _array(known["acl"])}).rowcount == 0:
                raise Conflict("the key is revoked; make a new one")
            key = _one(cursor, id)
            self._epochs.bump(cursor, tenant)
        return key

    def revoke(self, id: str) -> tuple[ApiKey, Coherence]:
        """Refused from the next request on; a key that is revoked already stays as it is."""
        tenant = self._tenant(id)
        with self._database.transaction(tenant, local=OPERATOR) as cursor:
            cursor.execute(_SQL["revoke"], {"id": id})
            key = _one(cursor, id)
            return key, self._epochs.bump(cursor, tenant).coherence

    def _tenant(self, id: str) -> UUID:
        """A key never changes its tenant."""
        with self._database.transaction(None, local=OPERATOR) as cursor:
            return _one(cursor, id).tenant_id


def _check_name(cursor: Cursor[DictRow], values: Mapping[str, Any]) -> None:
    """The tenant's row is locked, so that nobody else counts at the same time."""
    row = cursor.execute(_SQL["active"], values).fetchone()
    if row is not None and row["keys"] >= MOST_ACTIVE:
        raise Conflict(
            f"the tenant has {row['keys']} active keys named {values['name']!r} already, which is the most;"
            " revoke one of them first"
        )


def _one(cursor: Cursor[DictRow], id: str) -> ApiKey:
    found = _listed(cursor, id, None, 1, None)
    if not found:
        raise NotFound("there is no such key")
    return found[0]


def _listed(
    cursor: Cursor[DictRow],
    id: str | None,
    tenant: UUID | None,
    limit: int,
    after: tuple[datetime, str] | None,
) -> list[ApiKey]:
    at, last = after or (None, None)
    values = {"id": id, "tenant": tenant, "limit": limit, "after_at": at, "after_id": last}
    return [_key(row) for row in cursor.execute(_SQL["list"], values).fetchall()]


def _key(row: DictRow) -> ApiKey:
    acl = None if row["acl"] is None else tuple(row["acl"])
    return ApiKey(**with_limits(row) | {"scopes": tuple(row["scopes"]), "acl": acl})


def _array(acl: Labels) -> list[str] | None:
    return None if acl is None else list(acl)
