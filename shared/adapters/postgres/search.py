"""Hybrid retrieval under a tenant, its caller's labels, a collection and a filter, in one read-only snapshot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from psycopg import AsyncCursor, sql
from psycopg.rows import DictRow

from shared.adapters.postgres import storage
from shared.adapters.postgres.connection import AsyncDatabase
from shared.adapters.postgres.filters import CompiledFilter, compiled
from shared.adapters.postgres.sql import load
from shared.core.errors import NotFound, SpaceChanged
from shared.core.filters import Filter
from shared.core.keys import candidate_name
from shared.core.labels import Labels
from shared.core.models import Passage, Retrieved, Space
from shared.core.retrieval import Neighbour, Place, Standing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SQL = load("search")
_FIELDS = [field.name for field in fields(Passage)]
_CHUNKS = sql.SQL("join chunks c on c.id = v.chunk_id")
_NOTHING = sql.SQL("")
_NEAREST = sql.SQL("select * from {}(%(vector)s, %(collection_id)s, %(limit)s)")
_DOCUMENTS, _CANDIDATES = sql.Identifier("documents"), sql.Identifier("candidate_documents")
LOCAL = {"hnsw.iterative_scan": "relaxed_order", "enable_memoize": "off", "enable_mergejoin": "off"}
"""Of the transaction that a question is answered in. No document is looked up twice, so what remembers them only costs;
so does weighing a merge of tables, which is never the best way."""


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """exact_below: up to this many chunks in scope are all scored; candidates: how many each side brings above that; of
    100 300 passages of real text, forty kept 0.99 of the exact way's first and 0.96 of its ten (scripts/bench approximation).

    rare: the rarest words of a question are looked up until this many chunks hold one of them.
    dense_weight: what the vector side weighs against the keyword side, measured by scripts/bench quality.
    """

    exact_below: int = 10_000
    candidates: int = storage.CANDIDATES
    rare: int = 500
    most_worded: int = 2_000
    dense_weight: float = 2 / 3


@dataclass(frozen=True, slots=True)
class Scope:
    """What a question is about to search. Chunks: in total, those the caller's labels leave, those the filter leaves.

    space: the active one. always_exact: its index is not to be trusted. weights: a sparsevec of the question's IDF by
    lexeme_index; most: the best BM25 there could be; words: the IDF of each lexeme. ef_search: how wide the index is searched,
    where the canary found that the usual width misses too much. nearest: whether the space's function of that name is as
    good as any other way.
    """

    collection_id: int
    total: int
    epoch: int
    visible: int
    in_scope: int
    space: int
    always_exact: bool
    weights: str
    most: float
    words: Mapping[str, float]
    ef_search: int = 0
    nearest: bool = False

    @classmethod
    def of(cls, row: DictRow, in_scope: int) -> Self:
        return cls(
            row["id"],
            row["chunks"],
            row["epoch"],
            row["visible"],
            in_scope,
            row["active_space"],
            row["always_exact"],
            row["weights"],
            row["most"],
            row["words"] or {},
            int(row["ef_search"] or 0),
            row["nearest"],
        )


class Searcher:
    def __init__(self, database: AsyncDatabase, options: SearchOptions = SearchOptions()) -> None:
        self._database = database
        self._options = options

    async def search(
        self,
        tenant: UUID,
        collection: str,
        question: str,
        vector: NDArray[np.float32] | None,
        space: Space,
        *,
        limit: int,
        filter: Filter | None = None,
        acl: Labels = (),
        candidates: int | None = None,
        keywords: bool = True,
        inactive: bool = False,
        candidate: int | None = None,
    ) -> Retrieved:
        """The best passages that acl may see, best first. vector: shape (dimension of the space,); without one,
        keywords alone decide, and without keywords the vector alone.

        candidates: how many each side brings where not every chunk is scored. candidate: the id of the collection's
        candidate, which is searched in its place.

        Raises NotFound when the tenant has no such collection, SpaceChanged when the space is not the active one
        in the snapshot that is searched, unless inactive says that it need not be.
        """
        wanted = self._candidates(limit, candidates)
        width = storage.width(space.storage, storage.nearest(space.storage, wanted))
        local = LOCAL | {"hnsw.ef_search": str(width)}
        conditions = compiled(filter)
        documents = _DOCUMENTS if candidate is None else _CANDIDATES
        async with self._database.transaction(tenant, acl=acl, read_only=True, local=local) as cursor:
            name = collection if candidate is None else candidate_name(collection)
            scope = await self._scope(cursor, tenant, name, question, conditions, documents)
            if scope.space != space.id and not inactive:
                raise _changed(space, scope)
            if candidate not in (None, scope.collection_id):
                raise NotFound(f"the collection {collection!r} has another candidate by now")
            exact = scope.always_exact or scope.in_scope <= self._options.exact_below
            if exact and acl is not None and 2 * scope.visible < scope.total:
                conditions = conditions.among(acl)
            parameters = self.parameters(
                scope, vector, limit, space, candidates=candidates, keywords=keywords
            )
            parameters |= conditions.parameters
            for statement in self.statements(
                exact,
                vector is not None,
                conditions,
                space,
                keywords=keywords,
                documents=documents,
                shortcut=self._shortcut(scope, space, parameters),
            ):
                rows = await (await cursor.execute(statement, parameters)).fetchall()
                if len(rows) == limit:
                    break
        how = ("exact" if exact else "ann") + ("" if vector is not None else "_keywords")
        return Retrieved([_passage(row) for row in rows], how, scope.epoch, scope.words if rows else {})

    @staticmethod
    def _shortcut(scope: Scope, space: Space, parameters: Mapping[str, Any]) -> bool:
        """Whether the space's function takes as many from the index as are wanted, and all of them may be seen."""
        usual = storage.nearest(space.storage, storage.CANDIDATES)
        all_seen = scope.visible == scope.total and scope.space == space.id
        return scope.nearest and all_seen and parameters["nearest"] == usual

    def _candidates(self, limit: int, wanted: int | None = None) -> int:
        return max(self._options.candidates, 2 * limit, wanted or 0)

    def parameters(
        self,
        scope: Scope,
        vector: NDArray[np.float32] | None,
        limit: int,
        space: Space,
        *,
        candidates: int | None = None,
        keywords: bool = True,
    ) -> dict[str, Any]:
        """Of the statement. By meaning alone, too, more is taken from the index than is asked for: in a graph that other
        collections share, its order is not quite that of the vectors (recall@10 0.956 of ten, 0.991 of forty: bench storage).
        """
        wanted = self._candidates(limit, candidates)
        beside_words = self._options.dense_weight if keywords else 1.0
        return {
            "collection_id": scope.collection_id,
            "weights": scope.weights,
            "most": scope.most,
            "vector": None if vector is None else storage.values(space.storage, vector[None])[0],
            "candidates": wanted,
            "nearest": storage.nearest(space.storage, wanted, scope.ef_search),
            "most_worded": self._options.most_worded,
            "dense_weight": 0.0 if vector is None else beside_words,
            "limit": limit,
        }

    async def _scope(
        self,
        cursor: AsyncCursor[DictRow],
        tenant: UUID,
        collection: str,
        question: str,
        conditions: CompiledFilter,
        documents: sql.Identifier = _DOCUMENTS,
    ) -> Scope:
        row = await (
            await cursor.execute(
                _SQL["scope"],
                {
                    "tenant": tenant,
                    "collection": collection,
                    "question": question,
                    "rare": self._options.rare,
                },
            )
        ).fetchone()
        if row is None:
            raise NotFound(f"there is no collection {collection!r}")
        in_scope = row["visible"]
        if conditions.parameters and in_scope > self._options.exact_below:
            in_scope = await self._filtered(cursor, row, conditions, documents)
        return Scope.of(row, in_scope)

    async def _filtered(
        self,
        cursor: AsyncCursor[DictRow],
        collection: DictRow,
        conditions: CompiledFilter,
        documents: sql.Identifier,
    ) -> int:
        per_document = max(1.0, collection["chunks"] / max(1, collection["documents"]))
        statement = sql.SQL(_SQL["filtered"]).format(documents=documents, document_filter=conditions.document)
        parameters = conditions.parameters | {
            "collection_id": collection["id"],
            "most": 1 + int(2 * self._options.exact_below / per_document),
        }
        row = await (await cursor.execute(statement, parameters)).fetchone()
        return int(row["chunks"]) if row else 0

    async def standing(
        self,
        tenant: UUID,
        collection: str,
        question: str,
        vector: NDArray[np.float32] | None,
        space: Space,
        document: UUID,
        *,
        filter: Filter | None = None,
        acl: Labels = (),
        keywords: bool = True,
    ) -> Standing:
        """Where a document stands when every chunk in scope is scored, however many there are; slow for many.

        Raises NotFound when the tenant has no such collection, SpaceChanged when the space is not the active one.
        """
        conditions = compiled(filter)
        async with self._database.transaction(tenant, acl=acl, read_only=True) as cursor:
            scope = await self._scope(cursor, tenant, collection, question, conditions)
            if scope.space != space.id:
                raise _changed(space, scope)
            pool = self._pool(True, vector is not None, conditions, space, keywords=keywords)
            parameters = self.parameters(scope, vector, 1, space, keywords=keywords)
            parameters |= conditions.parameters | {"document": document}
            statement = sql.Composed([pool, sql.SQL(_SQL["standing"])])
            row = await (await cursor.execute(statement, parameters)).fetchone()
        assert row is not None
        places = {name: _place(row, name) for name in ("meaning", "words", "fused")}
        if not keywords:
            places["words"] = None
        return Standing(row["visible"], row["scope"], row["chunks"], **places)

    async def neighbours(
        self, tenant: UUID, acl: Labels, ids: Sequence[int], *, candidate: bool = False
    ) -> list[Neighbour]:
        """The chunks next to those in the generation that queries see, or in that of the candidate, on the same page and
        under the same headings."""
        statement = sql.SQL(_SQL["neighbours"]).format(documents=_CANDIDATES if candidate else _DOCUMENTS)
        async with self._database.transaction(tenant, acl=acl, read_only=True) as cursor:
            rows = await (await cursor.execute(statement, {"ids": list(ids)})).fetchall()
        return [Neighbour(**row) for row in rows]

    def statements(
        self,
        exact: bool,
        with_vector: bool,
        conditions: CompiledFilter,
        space: Space,
        *,
        keywords: bool = True,
        documents: sql.Identifier = _DOCUMENTS,
        shortcut: bool = False,
    ) -> Iterator[sql.Composed]:
        """To be asked one after the other, until there are as many passages as are wanted."""
        elsewhere = exact or keywords or documents is _CANDIDATES or not conditions.passes_all
        if shortcut and with_vector and not elsewhere:
            yield _NEAREST.format(sql.Identifier(f"nearest_{space.id:d}"))
        pool = self._pool(exact, with_vector, conditions, space, keywords=keywords, documents=documents)
        yield sql.Composed([pool, sql.SQL(_SQL["fused"])])

    def _pool(
        self,
        exact: bool,
        with_vector: bool,
        conditions: CompiledFilter,
        space: Space,
        *,
        keywords: bool,
        documents: sql.Identifier = _DOCUMENTS,
    ) -> sql.Composed:
        """The chunks that are scored."""
        sides = "" if with_vector and keywords else "_vectors" if with_vector else "_keywords"
        name = ("exact" if exact else "ann") + sides
        worded = sql.SQL(_SQL["worded"]).format(documents=documents, filter=conditions.chunk)
        return sql.SQL(_SQL[name]).format(
            documents=documents,
            vectors=sql.Identifier(f"vectors_{space.id:d}"),
            nearness=storage.nearness(space.storage, space.dimension),
            filter=conditions.chunk,
            document_filter=conditions.document,
            worded=worded,
            chunks_join=_CHUNKS if conditions.about_chunks else _NOTHING,
        )


def _changed(space: Space, scope: Scope) -> SpaceChanged:
    return SpaceChanged(f"space {space.id} is not the active one; {scope.space} is")


def _place(row: dict[str, Any], name: str) -> Place | None:
    score = row[name]
    return None if score is None else Place(row[f"{name}_rank"], round(score, 4))


def _passage(row: dict[str, Any]) -> Passage:
    return Passage(**{name: row[name] for name in _FIELDS} | {"headings": tuple(row["headings"])})
