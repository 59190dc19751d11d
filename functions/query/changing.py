"""From one embedding space to another: what it takes, whether it may be, and the change itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

from functions.query.evaluating import EvaluationService
from functions.query.space_schemas import PlanView, Promotion, SpaceChange, SpaceView
from shared.core.credentials import Principal
from shared.core.errors import Conflict, NotFound
from shared.core.models import KnownSpace, Storage
from shared.core.planning import Change, Pace, Size, planned, serves

_NEEDED = {"recall", "ndcg"}


class Store(Protocol):
    async def listed(self) -> Sequence[KnownSpace]: ...
    async def lacking(self, id: int, most: int = ...) -> int: ...
    async def change(
        self, kind: str, id: int, *, by: str, evidence: list[dict[str, Any]], forced_because: str | None
    ) -> dict[str, Any]: ...
    async def changes(self, limit: int) -> Sequence[dict[str, Any]]: ...
    async def size(self, space: int) -> Size: ...


class SpaceService:
    """usd_per_second: of the GPU that embeds."""

    def __init__(self, store: Store, evaluations: EvaluationService, usd_per_second: float) -> None:
        self._store = store
        self._evaluations = evaluations
        self._usd_per_second = usd_per_second

    async def listed(self) -> list[SpaceView]:
        return [
            SpaceView(**asdict(space), lacking=await self._store.lacking(space.id))
            for space in await self._store.listed()
        ]

    async def changes(self, limit: int) -> list[SpaceChange]:
        return [SpaceChange(**row) for row in await self._store.changes(limit)]

    async def plan(
        self,
        change: Change,
        fingerprint: str | None,
        dimension: int | None,
        storage: Storage | None,
        chunks_per_second: float,
    ) -> PlanView:
        """fingerprint, dimension, storage: of what is to come; the active space's where nothing is said."""
        spaces = await self._store.listed()
        active = next(space for space in spaces if space.state == "active")
        wanted, kept = fingerprint or active.fingerprint, storage or active.storage
        usable = [one for one in spaces if one.fingerprint == wanted and serves(one.storage, kept)]
        nearest = min(usable or [active], key=lambda one: one.state != "active")
        size = await self._store.size(nearest.id)
        if not usable:
            size = Size(size.documents, size.chunks, size.texts)
        pace = Pace(chunks_per_second, usd_per_second=self._usd_per_second)
        return PlanView(**asdict(planned(change, size, pace, dimension or active.dimension, kept)))

    async def promote(self, who: Principal, id: int, wanted: Promotion) -> SpaceChange:
        """Raises Conflict that says what is missing or worse, unless a reason is given to go on all the same."""
        active = await self._active_besides(id)
        evidence = [
            await self._compared(who, active, id, wanted, number) for number in range(len(wanted.evaluations))
        ]
        objection = _objection(evidence)
        if objection and wanted.force_reason is None:
            raise Conflict(f"{objection}; force_reason goes on all the same")
        row = await self._store.change(
            "promote",
            id,
            by=who.key_id,
            evidence=evidence,
            forced_because=wanted.force_reason if objection else None,
        )
        return SpaceChange(**row)

    async def rollback(self, who: Principal, reason: str) -> SpaceChange:
        """To the space that the newest change was from. Raises NotFound when there was none, or it was reclaimed."""
        newest = await self._store.changes(1)
        earlier = newest[0]["from_space"] if newest else None
        if earlier is None or earlier not in {space.id for space in await self._store.listed()}:
            raise NotFound("there is no earlier space to go back to, or it was reclaimed")
        await self._active_besides(earlier)
        row = await self._store.change("rollback", earlier, by=who.key_id, evidence=[], forced_because=reason)
        return SpaceChange(**row)

    async def _active_besides(self, id: int) -> KnownSpace:
        """The active space. Raises NotFound, or Conflict when it is that one."""
        spaces = {space.id: space for space in await self._store.listed()}
        if id not in spaces:
            raise NotFound(f"there is no embedding space {id}")
        if spaces[id].state == "active":
            raise Conflict(f"space {id} ({spaces[id].name}) is the active one already")
        return next(space for space in spaces.values() if space.state == "active")

    async def _compared(
        self, who: Principal, active: KnownSpace, id: int, wanted: Promotion, number: int
    ) -> dict[str, Any]:
        pair = wanted.evaluations[number]
        verdict, before, after = await self._evaluations.compare(
            who, pair.before, pair.after, wanted.margin, wanted.least_overlap
        )
        for run, space in ((before, active.id), (after, id)):
            if run.space_id != space or run.finished_at is None:
                raise Conflict(f"evaluation {run.id} is not a finished one of space {space}")
        return {
            **asdict(verdict),
            "before": before.id,
            "after": after.id,
            "margin": wanted.margin,
            "least_overlap": wanted.least_overlap,
        }


def _objection(evidence: Sequence[dict[str, Any]]) -> str | None:
    """Overlap alone is none in favour: a space that finds other documents may be better or worse."""
    if not evidence:
        return "no evaluation of both spaces was given"
    if not any(one["changes"].keys() >= _NEEDED for one in evidence):
        return "no evaluation says which documents were expected, so that recall and nDCG could be compared"
    worse = [
        f"{', '.join(one['worse'])} (evaluations {one['before']} and {one['after']})"
        for one in evidence
        if one["worse"]
    ]
    return f"it answers worse than the active space: {'; '.join(worse)}" if worse else None
