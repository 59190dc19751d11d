"""Runs of question sets, and what each question was answered with."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.sql import load
from shared.core.errors import Conflict, NotFound
from shared.core.evaluation import Outcome, Summary
from shared.core.models import Space

_SQL = load("evaluations")
_ALL = 2**31 - 1


class Evaluation(NamedTuple):
    """A run in one space; summary is None until it is finished. Those of one questions_digest and k compare."""

    id: int
    name: str
    space_id: int
    space_name: str
    questions_digest: str
    k: int
    generated: bool
    summary: dict[str, Any] | None
    made_by: str
    created_at: datetime
    finished_at: datetime | None
    candidate_id: int | None
    candidate_of: str | None


class EvaluationStore:
    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database

    async def make(
        self,
        tenant: UUID,
        name: str,
        space: Space,
        digest: str,
        k: int,
        generated: bool,
        made_by: str,
        candidate: str | None,
    ) -> Evaluation:
        """candidate: the collection whose candidate is to be asked. Raises NotFound when it has none."""
        values = {"space": space.id, "space_name": space.name, "digest": digest, "made_by": made_by}
        values |= {"name": name, "k": k, "generated": generated, "candidate": candidate}
        rows = await self._rows(tenant, "make", values)
        if not rows:
            raise NotFound(f"there is no collection {candidate!r} that has a candidate")
        return _one(rows)

    async def get(self, tenant: UUID, id: int) -> Evaluation:
        """Raises NotFound."""
        return _one(await self._rows(tenant, "get", {"id": id}), id)

    async def listed(self, tenant: UUID, limit: int, before: int | None = None) -> list[Evaluation]:
        """Newest first."""
        rows = await self._rows(tenant, "list", {"limit": limit, "before": before})
        return [Evaluation(**row) for row in rows]

    async def note(self, tenant: UUID, id: int, number: int, question: str, outcome: Outcome) -> None:
        """Raises Conflict when the evaluation is finished."""
        values = {"id": id, "number": number, "question": question, "outcome": Jsonb(outcome.to_dict())}
        if not await self._rows(tenant, "note", values):
            raise Conflict(f"evaluation {id} is finished: its questions are what they are")

    async def outcomes(
        self, tenant: UUID, id: int, after: int = -1, limit: int = _ALL
    ) -> list[tuple[int, str, Outcome]]:
        """(number, question, outcome) in the order of the questions."""
        rows = await self._rows(tenant, "outcomes", {"id": id, "after": after, "limit": limit})
        return [(row["number"], row["question"], Outcome.from_dict(row["outcome"])) for row in rows]

    async def finish(self, tenant: UUID, id: int, summary: Summary) -> Evaluation:
        return _one(await self._rows(tenant, "finish", {"id": id, "summary": Jsonb(asdict(summary))}), id)

    async def recent(self, tenant: UUID, limit: int) -> list[dict[str, str]]:
        """Questions that were asked of a model within the last day, with their collections; newest first."""
        return [dict(row) for row in await self._rows(tenant, "recent", {"limit": limit})]

    async def golden(self, tenant: UUID, limit: int) -> list[dict[str, Any]]:
        """Questions of which feedback tells what is expected: texts, documents; newest first. collection is None where it
        was told neither by an answer nor by who gave the feedback."""
        return [dict(row) for row in await self._rows(tenant, "golden", {"limit": limit})]

    async def _rows(self, tenant: UUID, name: str, values: dict[str, Any]) -> list[DictRow]:
        async with self._database.transaction(tenant, acl=None) as cursor:
            return await (await cursor.execute(_SQL[name], values | {"tenant": tenant})).fetchall()


def _one(rows: list[DictRow], id: int | None = None) -> Evaluation:
    if not rows:
        raise NotFound(f"there is no evaluation {id}")
    return Evaluation(**rows[0])
