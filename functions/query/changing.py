"""From one embedding space to another: what it takes, whether it may be, and the change itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol
from uuid import UUID

from functions.query.evaluating import EvaluationService, Run
from functions.query.gating import gathered
from functions.query.space_schemas import PlanView, Promotion, SpaceChange, SpaceView
from shared.core.credentials import Principal
from shared.core.errors import Conflict, NotFound
from shared.core.models import KnownSpace, Storage
from shared.core.planning import Change, Pace, Size, planned, serves


class Store(Protocol):
    async def listed(self) -> Sequence[KnownSpace]: ...
    async def lacking(self, id: int, most: int = ...) -> int: ...
    async def change(
        self, kind: str, id: int, *, by: str, evidence: list[dict[str, Any]], forced_because: str | None
    ) -> dict[str, Any]: ...
    async def changes(self, limit: int) -> Sequence[dict[str, Any]]: ...
    async def size(self, space: int) -> Size: ...
    async def size_of(self, space: int, tenant: UUID, collection: str | None = None) -> Size: ...


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
        of: tuple[UUID, str] | None = None,
    ) -> PlanView:
        """of: a tenant's collection; else all there is. fingerprint, dimension, storage: of what is to come; the active
        space's where nothing is said."""
        spaces = await self._store.listed()
        active = next(space for space in spaces if space.state == "active")
        wanted, kept = fingerprint or active.fingerprint, storage or active.storage
        usable = [one for one in spaces if one.fingerprint == wanted and serves(one.storage, kept)]
        nearest = min(usable or [active], key=lambda one: one.state != "active")
        size = await (self._store.size_of(nearest.id, *of) if of else self._store.size(nearest.id))
        if not usable:
            size = Size(size.documents, size.chunks, size.texts)
        pace = Pace(chunks_per_second, usd_per_second=self._usd_per_second)
        return PlanView(**asdict(planned(change, size, pace, dimension or active.dimension, kept)))

    async def promote(self, who: Principal, id: int, wanted: Promotion) -> SpaceChange:
        """Raises Conflict that says what is missing or worse, unless a reason is given to go on all the same."""
        active = await self._active_besides(id)

        def misplaced(before: Run, after: Run) -> str | None:
            for run, space in ((before, active.id), (after, id)):
                if run.space_id != space or run.candidate_id is not None or run.finished_at is None:
                    return f"evaluation {run.id} is not a finished one of space {space}"
            return None

        evidence, forced = await gathered(self._evaluations, who, wanted, misplaced, "spaces")
        row = await self._store.change(
            "promote",
            id,
            by=who.key_id,
            evidence=evidence,
            forced_because=forced,
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
