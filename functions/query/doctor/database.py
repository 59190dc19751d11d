"""Checks of the database: its extension, its guards, its roles, its schema, and the way to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from functions.query.doctor.results import fail, ok, warn
from functions.query.index_schemas import Check

_OLDEST_PGVECTOR, _SAFE_PGVECTOR = (0, 8, 0), (0, 8, 4)
Row = Mapping[str, Any]


class Facts(Protocol):
    async def fact(self, name: str, **values: Any) -> Sequence[Row]: ...


@dataclass(frozen=True, slots=True)
class Expected:
    """What this release and its settings take for granted. encoder: whether there is one of the active space."""

    roles: Sequence[str]
    migrations: Mapping[str, str]
    space: str
    encoder: bool
    default_tenant: UUID | None


class DatabaseChecks:
    """pooling tells the mode of what lies between us and the server."""

    def __init__(self, store: Facts, expected: Expected, pooling: Callable[[], Awaitable[str]]) -> None:
        self._store = store
        self._expected = expected
        self._pooling = pooling

    async def pgvector(self) -> Check:
        rows = await self._store.fact("extension")
        if not rows:
            return fail("the extension is not installed", "scripts/migrate")
        version = str(rows[0]["version"])
        parts = tuple(int(part) for part in version.split("."))
        if parts < _OLDEST_PGVECTOR:
            return fail(f"{version}; 0.8.0 is the least", "upgrade the extension")
        if parts < _SAFE_PGVECTOR:
            detail = f"{version}: vacuum may damage HNSW indexes before 0.8.4"
            return warn(detail, "upgrade the extension, then reindex")
        return ok(version)

    async def row_level_security(self) -> Check:
        names = [row["name"] for row in await self._store.fact("unguarded")]
        if names:
            detail = f"tenants are not kept apart in {', '.join(names)}"
            return fail(detail, "alter table ... force row level security")
        return ok("forced on every table with rows of tenants")

    async def roles(self) -> Check:
        rows = await self._store.fact("roles", roles=list(self._expected.roles))
        missing = sorted(set(self._expected.roles) - {row["name"] for row in rows})
        if missing:
            return fail(f"there is no role {', '.join(missing)}", "scripts/migrate")
        if mighty := [row["name"] for row in rows if row["sees_all"]]:
            detail = f"row-level security does not hold for {', '.join(mighty)}"
            return fail(detail, "alter role ... nosuperuser nobypassrls")
        return ok(f"{len(rows)}, none of which sees past row-level security")

    async def pooler(self) -> Check:
        mode = await self._pooling()
        if mode == "session":
            detail = "connections to the server do not change hands between transactions"
            return warn(detail, "set the pooler to transaction mode, or fewer functions can connect")
        return ok({"none": "none: we are connected to the server itself"}.get(mode, f"{mode} mode"))

    async def migrations(self) -> Check:
        applied = {row["name"]: row["hash"] for row in await self._store.fact("migrations")}
        shipped = self._expected.migrations
        if missing := sorted(set(shipped) - set(applied)):
            return fail(f"not applied: {', '.join(missing)}", "scripts/migrate")
        if changed := sorted(name for name, hash in shipped.items() if applied[name] != hash):
            detail = f"applied in another wording: {', '.join(changed)}"
            return fail(detail, "deploy the release that the database was migrated with")
        if later := sorted(set(applied) - set(shipped)):
            return warn(f"newer than this release: {', '.join(later)}", "deploy the newer release")
        return ok(f"all {len(shipped)} applied")

    async def encoder(self) -> Check:
        if not self._expected.encoder:
            detail = (
                f"the model at hand is not that of the active space {self._expected.space!r}: keywords only"
            )
            return fail(detail, "set RAGZERO_MODEL_DIR to the model of the active space")
        return ok(f"of the active space {self._expected.space!r}")

    async def index(self) -> Check:
        """Without it every question would look at every chunk, and nobody would be told."""
        rows = await self._store.fact("index")
        if not rows or not rows[0]["valid"]:
            detail = "the active space has no index that can be used: every question looks at every chunk"
            return fail(detail, "scripts/rag index apply builds it anew")
        own = f", and {rows[0]['own']} collections have one of their own" if rows[0]["own"] else ""
        return ok(f"of the active space, stored as {rows[0]['storage']}{own}")

    async def audit(self) -> Check:
        rows = await self._store.fact("audit")
        if not rows:
            return ok("none was made yet")
        found = {name: count for name, count in rows[0]["findings"].items() if count}
        if found:
            told = ", ".join(f"{count} {name}" for name, count in found.items())
            return fail(f"of what was deleted, there is still: {told}", "see the log of functions/reindex")
        if rows[0]["late"]:
            return warn(
                "the newest is older than two weeks", 'schedule functions/reindex with {"task": "audit"}'
            )
        return ok("nothing that was deleted was left")

    async def tenant(self) -> Check:
        tenant = self._expected.default_tenant
        if tenant is None:
            return ok("every key has to name its own")
        rows = await self._store.fact("tenant", tenant=tenant)
        if not rows or rows[0]["closed_at"]:
            detail = (
                f"{tenant}, who owns the keys that name none, {'is closed' if rows else 'does not exist'}"
            )
            return fail(detail, "correct RAGZERO_DEFAULT_TENANT, or make the tenant")
        return ok(f"{tenant} owns the keys that name none")
