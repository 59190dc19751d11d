"""What people thought of answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.sql import load
from shared.core.credentials import Principal
from shared.core.models import Feedback, Rating

_SQL = load("feedback")


class FeedbackStore:
    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database

    async def give(
        self,
        who: Principal,
        answer: UUID,
        rating: Rating,
        *,
        question: str | None,
        comment: str | None,
        expected: str | None,
        collection: str | None,
        filter: dict[str, Any] | None,
    ) -> bool:
        """False when neither we nor the caller know what was asked. What the key said before is replaced.

        question, collection, filter: as the caller has them; those of an answer that is kept count in their place.
        """
        values = {
            "tenant": who.tenant_id,
            "answer": answer,
            "key": who.key_id,
            "question": question,
            "rating": rating,
            "comment": comment,
            "expected": expected,
            "collection": collection,
            "filter": None if filter is None else Jsonb(filter),
        }
        async with self._database.transaction(who.tenant_id, acl=who.acl) as cursor:
            return await (await cursor.execute(_SQL["give"], values)).fetchone() is not None

    async def list(
        self, tenant: UUID, *, limit: int, rating: Rating | None, after: tuple[datetime, int] | None
    ) -> list[Feedback]:
        """Newest first."""
        at, id = after or (None, None)
        values = {"limit": limit, "rating": rating, "after_at": at, "after_id": id}
        async with self._database.transaction(tenant, read_only=True) as cursor:
            return [Feedback(**row) for row in await (await cursor.execute(_SQL["list"], values)).fetchall()]
