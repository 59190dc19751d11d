"""Answers that a model wrote, found again by a question that means the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pgvector import HalfVector
from psycopg.types.json import Jsonb

from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.sql import load
from shared.core.models import Similar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SQL = load("semantic")
_MOST = 1_000


class SemanticStore:
    """seconds: how long an answer may be found again."""

    def __init__(self, database: AsyncDatabase, seconds: int) -> None:
        self._database = database
        self._seconds = seconds

    async def nearest(self, tenant: UUID, partition: bytes, vector: NDArray[np.float32]) -> list[Similar]:
        """The nearest few of the tenant's current epoch, nearest first."""
        values = {
            "tenant": tenant,
            "partition": partition,
            "vector": HalfVector(vector),
            "seconds": self._seconds,
        }
        async with self._database.transaction(tenant, read_only=True) as cursor:
            rows = await (await cursor.execute(_SQL["nearest"], values)).fetchall()
        return [Similar(**row) for row in rows]

    async def keep(
        self,
        tenant: UUID,
        partition: bytes,
        epoch: int,
        question: str,
        vector: NDArray[np.float32],
        body: Mapping[str, Any],
    ) -> None:
        values = {
            "tenant": tenant,
            "partition": partition,
            "epoch": epoch,
            "question": question,
            "vector": HalfVector(vector),
            "body": Jsonb(dict(body)),
            "seconds": self._seconds,
            "most": _MOST,
        }
        async with self._database.transaction(tenant) as cursor:
            await cursor.execute(_SQL["keep"], values)
