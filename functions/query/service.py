"""One question, from its text to the passages that speak to it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from shared.core import filters
from shared.core.keys import collection_name
from shared.core.labels import Labels
from shared.core.models import Retrieved
from shared.core.ports import Embedder
from shared.telemetry import Timings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_VECTORS = 1_000
KEYWORDS_ONLY = "the encoder does not match the index: keywords alone were searched"


class Searcher(Protocol):
    async def search(
        self,
        tenant: UUID,
        collection: str,
        question: str,
        vector: NDArray[np.float32] | None,
        *,
        limit: int,
        filter: filters.Filter | None = None,
        acl: Labels = (),
    ) -> Retrieved: ...


@dataclass(frozen=True, slots=True)
class Question:
    """acl: what the caller may see; documents without labels alone unless it is given."""

    text: str
    collection: str
    top_k: int
    filter: dict[str, Any] | None
    acl: Labels = ()


@dataclass(frozen=True, slots=True)
class Found:
    retrieved: Retrieved
    timings: Timings
    with_vectors: bool
    warnings: list[str]


class QueryService:
    """embedder is None when the model at hand is not the one of the index: then keywords alone are searched."""

    def __init__(self, searcher: Searcher, embedder: Embedder | None) -> None:
        self._searcher = searcher
        self._embedder = embedder
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    async def search(self, tenant: UUID, question: Question) -> Found:
        timings = Timings()
        filter = filters.parse(question.filter) if question.filter is not None else None
        collection = collection_name(question.collection)
        with timings.stage("embed"):
            vector = await self.vector(question.text)
        with timings.stage("retrieve"):
            retrieved = await self._searcher.search(
                tenant,
                collection,
                question.text,
                vector,
                limit=question.top_k,
                filter=filter,
                acl=question.acl,
            )
        with_vectors = vector is not None
        return Found(retrieved, timings, with_vectors, [] if with_vectors else [KEYWORDS_ONLY])

    @property
    def dimension(self) -> int:
        return self._embedder.dimension if self._embedder else 0

    async def vector(self, question: str) -> NDArray[np.float32] | None:
        """The question's, shape (dimension,); the newest few are remembered."""
        if self._embedder is None:
            return None
        if (known := self._vectors.get(question)) is None:
            known = await asyncio.to_thread(self._embedder.encode_query, question)
            self.learn(question, known)
        return known

    def learn(self, question: str, vector: NDArray[np.float32]) -> None:
        """A vector that another process made of that question."""
        self._vectors[question] = vector
        if len(self._vectors) > _MOST_VECTORS:
            self._vectors.popitem(last=False)
