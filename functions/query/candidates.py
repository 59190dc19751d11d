"""Collections as they would be: built beside what they are, judged, exchanged with them, removed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

from functions.query.candidate_schemas import (
    Built,
    CandidateView,
    CollectionChangeView,
    NewCandidate,
    Reclaimed,
)
from functions.query.evaluating import EvaluationService, Run
from functions.query.gating import gathered
from functions.query.space_schemas import Promotion
from functions.query.writing import Writer
from shared.core.credentials import Principal
from shared.core.errors import Conflict, NotFound
from shared.core.hints import Hint, message, next_sequencer
from shared.core.keys import collection_name
from shared.core.models import Candidate, Space

_ORIGIN = "Candidate"
_PATIENCE_S = 10.0
"""For documents that are being published right now: each has its edition a moment later."""
_FEW, _POLL_S = 16, 0.25
Sizes = tuple[int | None, int | None]


class Store(Protocol):
    def make(self, tenant: UUID, name: str, language: str | None, sizes: Sizes | None) -> Candidate: ...
    def get(self, tenant: UUID, name: str) -> Candidate: ...
    def listed(self, tenant: UUID) -> list[Candidate]: ...
    def lacking(
        self, tenant: UUID, candidate: int, after: UUID | None, limit: int
    ) -> list[tuple[UUID, str, str]]: ...
    def exchange(
        self,
        tenant: UUID,
        name: str,
        kind: str,
        *,
        by: str,
        evidence: list[dict[str, Any]],
        forced_because: str | None,
    ) -> dict[str, Any]: ...
    def changes(self, tenant: UUID, limit: int) -> list[dict[str, Any]]: ...
    def give_up(self, tenant: UUID, name: str) -> Candidate: ...
    def remove_some(self, tenant: UUID, candidate: Candidate) -> int: ...
    def remove(self, tenant: UUID, candidate: Candidate) -> bool: ...


class Ingest(Protocol):
    def send(self, bodies: Sequence[str]) -> None: ...


class Spaces(Protocol):
    async def space(self, id: int | None = None) -> Space: ...


class CandidateService:
    """ingest is None where its queue is not known: then nothing can be built. sizes: those of chunks, checked."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        evaluations: EvaluationService,
        spaces: Spaces,
        bucket: str,
        ingest: Ingest | None,
        sizes: Callable[[int | None, int | None], Sizes],
    ) -> None:
        self._store = store
        self._writer = writer
        self._evaluations = evaluations
        self._spaces = spaces
        self._bucket = bucket
        self._ingest = ingest
        self._sizes = sizes

    async def make(self, who: Principal, wanted: NewCandidate) -> CandidateView:
        """One that is there and just like that goes on. Raises Conflict when there is another one."""
        name = collection_name(wanted.collection)
        said = wanted.chunk_tokens is not None or wanted.overlap_tokens is not None
        sizes = self._sizes(wanted.chunk_tokens, wanted.overlap_tokens) if said else None
        make = self._store.make
        return _view(await self._writer.run(lambda: make(who.tenant_id, name, wanted.language, sizes)))

    async def listed(self, who: Principal) -> list[CandidateView]:
        return [_view(one) for one in await self._writer.run(lambda: self._store.listed(who.tenant_id))]

    async def changes(self, who: Principal, limit: int) -> list[CollectionChangeView]:
        rows = await self._writer.run(lambda: self._store.changes(who.tenant_id, limit))
        return [CollectionChangeView(**row) for row in rows]

    async def build(self, who: Principal, name: str, after: UUID | None, limit: int) -> Built:
        """Has ingest look at documents that the candidate lacks. Raises NotFound."""
        if self._ingest is None:
            raise NotFound("RAGZERO_QUEUE_URL is not set: the queue of ingest is not known here")
        candidate = await self._writer.run(lambda: self._store.get(who.tenant_id, name))
        lacking = await self._writer.run(
            lambda: self._store.lacking(who.tenant_id, candidate.id, after, limit)
        )
        hints = [Hint(self._bucket, key, next_sequencer(done)) for _, key, done in lacking]
        if hints:
            await asyncio.to_thread(self._ingest.send, [message(hint, _ORIGIN) for hint in hints])
        return Built(told=len(hints), next=lacking[-1][0] if len(lacking) == limit else None)

    async def promote(self, who: Principal, name: str, wanted: Promotion) -> CollectionChangeView:
        """Raises Conflict that says what is missing or worse, unless a reason is given to go on all the same."""
        candidate = await self._writer.run(lambda: self._store.get(who.tenant_id, name))
        active = await self._spaces.space()

        def misplaced(before: Run, after: Run) -> str | None:
            for run, id in ((before, None), (after, candidate.id)):
                if (run.space_id, run.candidate_id) != (active.id, id) or run.finished_at is None:
                    where = f"the candidate of {name!r}" if id else "the collections as they are"
                    return f"evaluation {run.id} is not a finished one of {where}, in the active space"
            return None

        evidence, forced = await gathered(self._evaluations, who, wanted, misplaced, "cuts")
        return await self._exchanged(who, name, "promote", evidence, forced)

    async def rollback(self, who: Principal, name: str, reason: str) -> CollectionChangeView:
        """To what it was before, as long as that was not reclaimed. Raises NotFound, or Conflict."""
        return await self._exchanged(who, name, "rollback", [], reason)

    async def reclaim(self, who: Principal, name: str) -> Reclaimed:
        """As much as a call may take; calling again goes on."""
        candidate = await self._writer.run(lambda: self._store.give_up(who.tenant_id, name))
        deadline, gone = time.monotonic() + _PATIENCE_S, 0
        while removed := await self._writer.run(lambda: self._store.remove_some(who.tenant_id, candidate)):
            gone += removed
            if time.monotonic() > deadline:
                return Reclaimed(collection=name, status="reclaiming", documents=gone)
        over = await self._removed(who.tenant_id, candidate)
        return Reclaimed(collection=name, status="reclaimed" if over else "reclaiming", documents=gone)

    async def _removed(self, tenant: UUID, candidate: Candidate) -> bool:
        try:
            return await self._writer.run(lambda: self._store.remove(tenant, candidate))
        except Conflict:  # something of it was made just now
            return False

    async def _exchanged(
        self, who: Principal, name: str, kind: str, evidence: list[dict[str, Any]], forced: str | None
    ) -> CollectionChangeView:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                row = await self._writer.run(
                    lambda: self._store.exchange(
                        who.tenant_id, name, kind, by=who.key_id, evidence=evidence, forced_because=forced
                    )
                )
            except Conflict:
                candidate = await self._writer.run(lambda: self._store.get(who.tenant_id, name))
                if not _soon(candidate) or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_POLL_S)
            else:
                return CollectionChangeView(**row)


def _soon(candidate: Candidate) -> bool:
    """Whether it lacks so little that it may be on its way."""
    return candidate.unreadable == 0 and 0 < candidate.lacking + candidate.on_the_way <= _FEW


def _view(candidate: Candidate) -> CandidateView:
    return CandidateView.model_validate(candidate, from_attributes=True)
