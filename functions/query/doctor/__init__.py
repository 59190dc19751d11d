"""Checks of the whole installation: each says what is, and where it is not as it should be, what helps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from functions.query.doctor.database import DatabaseChecks, Expected
from functions.query.doctor.outside import OutsideChecks
from functions.query.doctor.results import fail
from functions.query.doctor.settings import SettingsChecks
from functions.query.doctor.sweeps import SweepChecks
from functions.query.index_schemas import Check, Health, NamedCheck
from shared.core.errors import RagzeroError

__all__ = ["DatabaseChecks", "Doctor", "Expected", "OutsideChecks", "SettingsChecks", "SweepChecks"]
_PATIENCE_S = 10.0
_SEVERITY = ("ok", "warn", "fail")
_ELSEWHERE = "see whether it can be reached from here"


class Doctor:
    def __init__(
        self,
        database: DatabaseChecks,
        outside: OutsideChecks,
        sweeps: SweepChecks,
        settings: SettingsChecks,
    ) -> None:
        self._checks: dict[str, Callable[[], Awaitable[Check]]] = {
            "pgvector": database.pgvector,
            "row_level_security": database.row_level_security,
            "roles": database.roles,
            "pooler": database.pooler,
            "migrations": database.migrations,
            "encoder": database.encoder,
            "index": database.index,
            "tenant": database.tenant,
            "cache": outside.cache,
            "clocks": outside.clocks,
            "notifications": outside.notifications,
            "queue": outside.queue,
            "dead_letters": outside.dead_letters,
            "sweeps": sweeps.sweeps,
            "held_back": sweeps.held_back,
            "audit": database.audit,
            "settings": settings.settings,
        }

    async def examine(self) -> Health:
        """All checks at once; one that gets no answer has failed."""
        found = await asyncio.gather(*(_tried(check) for check in self._checks.values()))
        named = [
            NamedCheck(name=name, **check.model_dump())
            for name, check in zip(self._checks, found, strict=True)
        ]
        return Health(status=max((one.status for one in named), key=_SEVERITY.index), checks=named)


async def _tried(check: Callable[[], Awaitable[Check]]) -> Check:
    try:
        return await asyncio.wait_for(check(), _PATIENCE_S)
    except TimeoutError:
        return fail(f"no answer within {_PATIENCE_S:g} s", _ELSEWHERE)
    except RagzeroError as error:
        return fail(str(error), _ELSEWHERE)
