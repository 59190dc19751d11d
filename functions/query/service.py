"""One question, from its text to passages and to a cited answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID, uuid4

from functions.query.extracting import Extract, extract
from shared.core import filters
from shared.core.keys import collection_name
from shared.core.models import Retrieved
from shared.core.ports import Embedder
from shared.telemetry import Timings, get_logger

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = get_logger(__name__)
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
    ) -> Retrieved: ...


@dataclass(frozen=True, slots=True)
class Question:
    text: str
    collection: str
    top_k: int
    filter: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Found:
    retrieved: Retrieved
    timings: Timings
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Answered:
    id: UUID
    extract: Extract
    found: Found


class QueryService:
    """embedder is None when the model at hand is not the one of the index: then keywords alone are searched."""

    def __init__(self, searcher: Searcher, embedder: Embedder | None) -> None:
        self._searcher = searcher
        self._embedder = embedder

    async def search(self, tenant: UUID, question: Question) -> Found:
        timings = Timings()
        filter = filters.parse(question.filter) if question.filter is not None else None
        collection = collection_name(question.collection)
        with timings.stage("embed"):
            vector = await self._vector(question.text)
        with timings.stage("retrieve"):
            retrieved = await self._searcher.search(
                tenant, collection, question.text, vector, limit=question.top_k, filter=filter
            )
        return Found(retrieved, timings, [] if vector is not None else [KEYWORDS_ONLY])

    async def answer(self, tenant: UUID, question: Question) -> Answered:
        found = await self.search(tenant, question)
        with found.timings.stage("answer"):
            extracted = extract(
                found.retrieved.passages, found.retrieved.words, with_vectors=self._embedder is not None
            )
        return Answered(uuid4(), extracted, found)

    async def _vector(self, question: str) -> NDArray[np.float32] | None:
        if self._embedder is None:
            return None
        return await asyncio.to_thread(self._embedder.encode_query, question)
