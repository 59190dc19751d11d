"""Checks of the sweeps, which know how far index and bucket agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from functions.query.doctor.results import fail, ok, warn
from functions.query.index_schemas import Check

_SWEEP_AGE = timedelta(hours=25)
_LOOKED_AT = 20
Row = Mapping[str, Any]


class Sweeps(Protocol):
    async def sweeps(self, limit: int) -> Sequence[Row]: ...


class SweepChecks:
    def __init__(self, store: Sweeps) -> None:
        self._store = store

    async def sweeps(self) -> Check:
        rows = await self._store.sweeps(_LOOKED_AT)
        ended = next((row for row in rows if row["finished_at"]), None)
        if rows and rows[0]["error"]:
            return fail(f"sweep {rows[0]['id']} does not get on: {rows[0]['error']}", "see its log")
        if ended is None or datetime.now(UTC) - ended["finished_at"] > _SWEEP_AGE:
            return warn(
                "none has come to its end within a day",
                'schedule functions/reindex with {"task": "sweep"}',
            )
        return _swept(ended)

    async def held_back(self) -> Check:
        rows = await self._store.sweeps(_LOOKED_AT)
        judged = next((row for row in rows if "held" in row["counts"]), None)
        if judged and (held := judged["counts"]["held"]) and judged["confirmed_at"] is None:
            detail = f"{held} documents are gone from the bucket: too many to delete unasked"
            remedy = f"scripts/rag index confirm-deletes {judged['id']}, or put them back"
            return warn(detail, remedy)
        return ok("no deletes wait for a confirmation")


def _swept(row: Row) -> Check:
    counts = row["counts"]
    if counts.get("unrepaired"):
        detail = f"{counts['unrepaired']} keys stay different from the bucket, whatever ingest is told"
        return warn(detail, "scripts/rag index why KEY; scripts/rag index dead-letters")
    if counts.get("foreign"):
        detail = f"{counts['foreign']} objects have keys that belong to no tenant"
        return warn(detail, "move them below tenants/<id>/, or make the tenant")
    kinds = [f"{counts[kind]} {kind}" for kind in ("missing", "changed", "stuck", "gone") if counts.get(kind)]
    if kinds:
        return warn(
            f"sweep {row['id']} had to have documents repaired: {', '.join(kinds)}",
            "see notifications and dead_letters",
        )
    return ok(f"sweep {row['id']} compared {counts.get('objects', 0)} objects and repaired nothing")
