"""Answers that a model wrote, given again to questions that mean the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import orjson

from functions.query.kept import Kept
from shared.core.errors import RagzeroError
from shared.core.likeness import same_question
from shared.core.models import Similar
from shared.telemetry import get_logger

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = get_logger(__name__)


class Store(Protocol):
    async def nearest(self, tenant: UUID, partition: bytes, vector: NDArray[np.float32]) -> list[Similar]: ...
    async def keep(
        self,
        tenant: UUID,
        partition: bytes,
        epoch: int,
        question: str,
        vector: NDArray[np.float32],
        body: Mapping[str, Any],
    ) -> None: ...


class SemanticCache:
    """similarity: the least cosine at which a question may be the same, of the space in use then; None: never."""

    def __init__(self, store: Store, similarity: Callable[[], float | None]) -> None:
        self._store = store
        self._similarity = similarity

    @property
    def used(self) -> bool:
        return self._similarity() is not None

    async def find(
        self, tenant: UUID, partition: bytes, question: str, vector: NDArray[np.float32]
    ) -> Kept | None:
        similarity = self._similarity()
        if similarity is None:
            return None
        for one in await self._store.nearest(tenant, partition, vector):
            if one.similarity >= similarity and same_question(question, one.question):
                return Kept(orjson.dumps(one.body), one.age_s, one.epoch, "semantic")
        return None

    async def keep(
        self,
        tenant: UUID,
        partition: bytes,
        epoch: int,
        question: str,
        vector: NDArray[np.float32],
        body: Mapping[str, Any],
    ) -> None:
        """Best effort."""
        try:
            await self._store.keep(tenant, partition, epoch, question, vector, body)
        except RagzeroError as error:
            _log.info("answer_not_kept", reason=str(error))
