"""One question, from its text to the passages that speak to it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar
from uuid import UUID

from shared.core import filters
from shared.core.errors import ConfigurationError, Conflict, SpaceChanged, Unavailable
from shared.core.keys import collection_name
from shared.core.labels import Labels
from shared.core.models import Passage, Retrieved, Space
from shared.core.ports import Embedder
from shared.core.retrieval import (
    Fate,
    Mode,
    Neighbour,
    Plan,
    Standing,
    by_chunk,
    deeper,
    enough,
    fates,
    planned,
    ranked_anew,
    widened,
)
from shared.core.vectors import packed, unpacked
from shared.telemetry import Timings, get_logger

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_T = TypeVar("_T")
_log = get_logger(__name__)
_MOST_VECTORS = 1_000
NOT_RERANKED = "the re-ranker could not be used: the passages are in the order they were found"
_MOST_CHANGES = 5  # of the active space, while one question is answered
KEYWORDS_ONLY = "the encoder does not match the index: keywords alone were searched"


class Searcher(Protocol):
    async def search(
        self,
        tenant: UUID,
        collection: str,
        question: str,
        vector: NDArray[np.float32] | None,
        space: Space,
        *,
        limit: int,
        filter: filters.Filter | None = None,
        acl: Labels = (),
        candidates: int | None = None,
        keywords: bool = True,
        inactive: bool = False,
        candidate: int | None = None,
    ) -> Retrieved: ...
    async def neighbours(
        self, tenant: UUID, acl: Labels, ids: Sequence[int], *, candidate: bool = False
    ) -> list[Neighbour]: ...
    async def standing(
        self,
        tenant: UUID,
        collection: str,
        question: str,
        vector: NDArray[np.float32] | None,
        space: Space,
        document: UUID,
        *,
        filter: filters.Filter | None = None,
        acl: Labels = (),
        keywords: bool = True,
    ) -> Standing: ...


class Reranker(Protocol):
    """A cross-encoder."""

    @property
    def model(self) -> str: ...
    async def scores(self, question: str, texts: Sequence[str]) -> list[float]: ...


class Spaces(Protocol):
    async def space(self, id: int | None = None) -> Space: ...


@dataclass(frozen=True, slots=True)
class Question:
    """acl: what the caller may see; documents without labels alone unless it is given.

    per_document: at most so many passages of one document, while others have any; None: as the mode says.
    focus: the part of the text whose words choose the quotes, where that is not all of it.
    space: another one than the active one; candidate: the id of the collection's, which is searched in its place. Only
    ever for whoever judges them.
    """

    text: str
    collection: str
    top_k: int
    filter: dict[str, Any] | None
    acl: Labels = ()
    mode: Mode = "balanced"
    per_document: int | None = None
    focus: str | None = None
    space: int | None = None
    candidate: int | None = None


@dataclass(frozen=True, slots=True)
class _Scope:
    collection: str
    filter: filters.Filter | None
    space: Space

    @classmethod
    def of(cls, question: Question, space: Space) -> Self:
        """Raises InvalidInput, before anything is encoded for nothing."""
        filter = filters.parse(question.filter) if question.filter is not None else None
        return cls(collection_name(question.collection), filter, space)


@dataclass(frozen=True, slots=True)
class Found:
    retrieved: Retrieved
    timings: Timings
    with_vectors: bool
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Trace:
    """found: all passages as they are ranked in the end, and fates what becomes of each; fetched: as retrieval ranked
    them."""

    found: Found
    fetched: list[Passage]
    plan: Plan
    fates: list[Fate]

    @property
    def chosen(self) -> list[Passage]:
        ranked = zip(self.found.retrieved.passages, self.fates, strict=True)
        return [passage for passage, fate in ranked if fate == "chosen"]


class QueryService:
    """active: the space that was the active one when last looked. Who finds out that it is another one by now says so
    here, and everybody who comes later goes by it.

    encoders: by the fingerprint of their space. Where there is none of the active one, keywords alone are searched.
    """

    def __init__(
        self,
        searcher: Searcher,
        spaces: Spaces,
        encoders: Mapping[str, Embedder],
        active: Space,
        reranker: Reranker | None = None,
    ) -> None:
        self._searcher = searcher
        self._spaces = spaces
        self._encoders = encoders
        self._active = active
        self._reranker = reranker
        self._vectors: OrderedDict[tuple[int, str], NDArray[np.float32]] = OrderedDict()

    async def search(self, tenant: UUID, question: Question) -> Found:
        """Raises Conflict when a space is asked for that nobody here can encode for."""
        trace = await self.traced(tenant, question)
        passages = trace.chosen
        if trace.plan.widened:
            passages = await self._widened(tenant, question, passages, trace.plan.widened)
        return replace(trace.found, retrieved=replace(trace.found.retrieved, passages=passages))

    async def traced(self, tenant: UUID, question: Question) -> Trace:
        """Everything that was looked at, and what became of it."""
        timings = Timings()
        if question.space is not None:
            scope = _Scope.of(question, await self._asked(question.space))
            return await self._traced(tenant, question, scope, timings)
        return await self._in_active(
            lambda space: self._traced(tenant, question, _Scope.of(question, space), timings)
        )

    async def _in_active(self, run: Callable[[Space], Awaitable[_T]]) -> _T:
        """What run gives in the space that is the active one when it looks."""
        for _ in range(_MOST_CHANGES):
            try:
                return await run(self._active)
            except SpaceChanged:
                self._active = await self._spaces.space()
        raise SpaceChanged

    async def _traced(self, tenant: UUID, question: Question, scope: _Scope, timings: Timings) -> Trace:
        with timings.stage("embed"):
            vector = await self._vector(scope.space, question.text)
        plan = planned(question.mode, question.top_k, question.per_document)
        with timings.stage("retrieve"):
            retrieved = await self._retrieved(tenant, question, scope, vector, plan)
        found = Found(retrieved, timings, vector is not None, [] if vector is not None else [KEYWORDS_ONLY])
        if plan.reranked and self._reranker is not None and retrieved.passages:
            with timings.stage("rerank"):
                found = await self._reranked(self._reranker, question.text, found)
        kept = fates(found.retrieved.passages, question.top_k, plan.per_document)
        return Trace(found, retrieved.passages, plan, kept)

    async def _retrieved(
        self,
        tenant: UUID,
        question: Question,
        scope: _Scope,
        vector: NDArray[np.float32] | None,
        plan: Plan,
    ) -> Retrieved:
        """More than are wanted, to choose from; and more still where too many are copies, or one document's."""
        while True:
            found = await self._searcher.search(
                tenant,
                scope.collection,
                question.text,
                vector,
                scope.space,
                limit=plan.fetched,
                filter=scope.filter,
                acl=question.acl,
                candidates=plan.candidates,
                keywords=plan.keywords or vector is None,
                inactive=question.space is not None,
                candidate=question.candidate,
            )
            full = enough(found.passages, question.top_k, plan.per_document)
            more = None if full else deeper(plan, len(found.passages))
            if more is None:
                return found
            plan = more

    async def _reranked(self, reranker: Reranker, question: str, found: Found) -> Found:
        """As the cross-encoder ranks them; where it fails, as they were found, and the answer says so."""
        passages = found.retrieved.passages
        try:
            scores = await reranker.scores(question, [passage.text for passage in passages])
        except (Unavailable, ConfigurationError) as error:
            _log.warning("not_reranked", reason=str(error))
            return replace(found, warnings=[*found.warnings, NOT_RERANKED])
        return replace(found, retrieved=replace(found.retrieved, passages=ranked_anew(passages, scores)))

    async def standing(self, tenant: UUID, question: Question, document: UUID) -> Standing:
        """Where a document stands among all that the question could find."""
        return await self._in_active(
            lambda space: self._standing(tenant, question, _Scope.of(question, space), document)
        )

    async def _standing(self, tenant: UUID, question: Question, scope: _Scope, document: UUID) -> Standing:
        vector = await self._vector(scope.space, question.text)
        return await self._searcher.standing(
            tenant,
            scope.collection,
            question.text,
            vector,
            scope.space,
            document,
            filter=scope.filter,
            acl=question.acl,
            keywords=vector is None or planned(question.mode, question.top_k).keywords,
        )

    async def _widened(
        self, tenant: UUID, question: Question, passages: list[Passage], first: int
    ) -> list[Passage]:
        ids, candidate = [passage.chunk_id for passage in passages[:first]], question.candidate is not None
        found = await self._searcher.neighbours(tenant, question.acl, ids, candidate=candidate)
        beside = by_chunk(found, passages)
        return [widened(passage, beside.get(passage.chunk_id, ())) for passage in passages]

    @property
    def active(self) -> Space:
        return self._active

    async def vector(self, question: str) -> NDArray[np.float32] | None:
        """The question's in the active space, shape (dimension,); the newest few are remembered.

        Which space that is, is decided before this first waits for anything.
        """
        return await self._vector(self._active, question)

    def learn(self, question: str, vector: NDArray[np.float32]) -> None:
        """A vector that another process made of that question, in the active space."""
        self._remember((self._active.id, question), vector)

    async def _vector(self, space: Space, question: str) -> NDArray[np.float32] | None:
        if (known := self._vectors.get((space.id, question))) is None:
            known = await asyncio.to_thread(self._encoded, space, question)
            if known is not None:
                self._remember((space.id, question), known)
        return known

    def _encoded(self, space: Space, question: str) -> NDArray[np.float32] | None:
        """As it is for those who find it in the cache, so that a question is the same vector wherever it is asked."""
        embedder = self._encoders.get(space.fingerprint)
        return unpacked(packed(embedder.encode_query(question)), space.dimension) if embedder else None

    def _remember(self, name: tuple[int, str], vector: NDArray[np.float32]) -> None:
        self._vectors[name] = vector
        if len(self._vectors) > _MOST_VECTORS:
            self._vectors.popitem(last=False)

    async def _asked(self, id: int) -> Space:
        space = await self._spaces.space(id)
        if space.fingerprint not in self._encoders:
            raise Conflict(
                f"no model of space {id} ({space.name}) is here; set RAGZERO_NEXT_MODEL_DIR to its folder"
            )
        return space
