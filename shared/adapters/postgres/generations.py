"""Generations of documents, within somebody's transaction: stored unseen by any query, then made the visible ones.

Several documents of one tenant cost hardly more statements than one. All of them, or none: the transaction is the caller's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

from psycopg import Cursor, sql
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from shared.adapters.postgres import storage
from shared.adapters.postgres.sql import load
from shared.adapters.postgres.webhooks import tell
from shared.core.errors import Conflict, LeaseLost, SpaceChanged
from shared.core.models import Chunk, Claim, Draft, Publication, Space, Stage
from shared.core.webhooks import WebhookEvent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SQL = load("generations")
_SLICE = 500


def locked(cursor: Cursor[DictRow], claims: Sequence[Claim]) -> dict[UUID, DictRow]:
    """The documents' rows by id, for update. Raises LeaseLost when another worker has one of them."""
    values = {"ids": [claim.id for claim in claims], "attempts": [claim.attempt for claim in claims]}
    rows = cursor.execute(_SQL["lock_documents"], values).fetchall()
    if len(rows) < len(claims):
        raise LeaseLost
    return {row["id"]: row for row in rows}


def lock(cursor: Cursor[DictRow], document: UUID) -> DictRow | None:
    """The document's row, for update, whoever works on it."""
    return cursor.execute(_SQL["lock_document"], {"id": document}).fetchone()


def begin(cursor: Cursor[DictRow], documents: Sequence[UUID]) -> dict[UUID, int]:
    """The number of a new generation of each document, which is locked; it is `processing` from now on."""
    rows = cursor.execute(_SQL["begin_generations"], {"ids": list(documents)})
    return {row["id"]: row["generation"] for row in rows}


def stage(
    cursor: Cursor[DictRow], space: Space, drafts: Sequence[Draft], generations: Mapping[UUID, int]
) -> list[Stage]:
    """Stores the chunks of documents that are locked, all of one collection."""
    collection = drafts[0].collection
    common = {
        "tenant": drafts[0].claim.tenant_id,
        "collection": collection.id,
        "language": collection.language,
        "ids": list(generations),
        "generations": list(generations.values()),
    }
    rows = [
        (draft.claim.id, generations[draft.claim.id], chunk) for draft in drafts for chunk in draft.chunks
    ]
    for first in range(0, len(rows), _SLICE):
        cursor.execute(_SQL["store_chunks"], common | _columns(rows[first : first + _SLICE]))
    missing: dict[UUID, list[tuple[int, int]]] = {document: [] for document in generations}
    for row in cursor.execute(vectors_statement(_SQL["reuse_vectors"], space.id), common):
        missing[row["document_id"]].append((row["id"], row["ordinal"]))
    for document, generation in generations.items():
        if generation > 1:  # only now: an abandoned generation's vectors are worth having, too
            remove(cursor, document, below=generation)
    cursor.execute(_SQL["count_lexemes"], common)
    return [Stage(generations[draft.claim.id], missing[draft.claim.id]) for draft in drafts]


def remove(cursor: Cursor[DictRow], document: UUID, below: int | None) -> int:
    """How many chunks went: of older generations that nobody sees, or all of a document that is gone."""
    row = cursor.execute(_SQL["remove_chunks"], {"id": document, "below": below}).fetchone()
    return int(row["removed"]) if row else 0


def store_vectors(
    cursor: Cursor[DictRow], space: Space, chunk_ids: Sequence[int], vectors: NDArray[np.float32]
) -> int:
    """Gives chunks their vectors in a space, those that have none; how many that were. vectors: shape (len(chunk_ids),
    dimension of the space)."""
    statement = sql.SQL(_SQL["store_vectors"]).format(
        vectors=sql.Identifier(f"vectors_{space.id:d}"), column=storage.column(space.storage)
    )
    values = {"chunk_ids": list(chunk_ids), "embeddings": storage.values(space.storage, vectors)}
    return cursor.execute(statement, values, binary=True).rowcount


def check_complete(
    cursor: Cursor[DictRow], space: Space, chunks: Mapping[UUID, int], generations: Mapping[UUID, int]
) -> None:
    """Holds the spaces from here on. Raises Conflict unless so many chunks, and their vectors, are there."""
    values = {"ids": list(generations), "generations": list(generations.values())}
    rows = cursor.execute(vectors_statement(_SQL["count_generations"], space.id), values)
    found = {row["document_id"]: (row["chunks"], row["vectors"]) for row in rows}
    for document, expected in chunks.items():
        if found.get(document) != (expected, expected):
            counted = dict(zip(("chunks", "vectors"), found.get(document, (0, 0)), strict=True))
            raise Conflict(
                f"generation {generations[document]} is incomplete: {counted} of {expected} chunks"
            )


def publish(
    cursor: Cursor[DictRow],
    space: Space,
    rows: Mapping[UUID, DictRow],
    publications: Mapping[UUID, Publication],
) -> None:
    """Makes generations of documents the visible ones. rows: the documents', locked. Raises SpaceChanged, or Conflict when
    one of them is incomplete; the epoch is the caller's to raise."""
    generations = {document: one.generation for document, one in publications.items()}
    check_complete(
        cursor, space, {document: one.chunks for document, one in publications.items()}, generations
    )
    ready = [_ready(rows[document], one) for document, one in publications.items()]
    if cursor.execute(_SQL["publish"], {"ready": Jsonb(ready), "space": space.id}).rowcount < len(ready):
        raise space_changed(space)
    recount(cursor, list(rows.values()), list(publications.values()))
    tell(cursor, list(publications), WebhookEvent.SEARCHABLE)


def recount(
    cursor: Cursor[DictRow], before: Sequence[DictRow | None], after: Sequence[Publication] = ()
) -> None:
    """Collections count what is visible in them. before: rows of documents as they were."""
    documents: Counter[int] = Counter()
    chunks: Counter[int] = Counter()
    for row in before:
        if row is not None and row["published_generation"] is not None:
            documents[row["collection_id"]] -= 1
            chunks[row["collection_id"]] -= row["chunks"]
    for publication in after:
        documents[publication.collection] += 1
        chunks[publication.collection] += publication.chunks
    for collection in sorted(documents):  # two who count at once never wait for each other in a circle
        values = {"collection": collection, "documents": documents[collection], "chunks": chunks[collection]}
        cursor.execute(_SQL["count_collection"], values)


def space_changed(space: Space) -> SpaceChanged:
    return SpaceChanged(f"space {space.id} is not the active one any more, or the collection was exchanged")


def vectors_statement(statement: LiteralString, space: int) -> sql.Composed:
    """The statement with {vectors} as the table of that space."""
    return sql.SQL(statement).format(vectors=sql.Identifier(f"vectors_{space:d}"))


def _ready(row: DictRow, publication: Publication) -> dict[str, Any]:
    values = publication.to_dict()
    version: dict[str, Any] = values.pop("version")
    return {
        **values,
        **version,
        "id": str(row["id"]),
        "attempt": row["attempt"],
        "bytes": version["size"],
    }


def _columns(rows: Sequence[tuple[UUID, int, Chunk]]) -> dict[str, list[Any]]:
    chunks = [chunk for _, _, chunk in rows]
    return {
        "documents": [document for document, _, _ in rows],
        "generations": [generation for _, generation, _ in rows],
        "ordinals": [chunk.ordinal for chunk in chunks],
        "texts": [chunk.text for chunk in chunks],
        "pages": [chunk.page for chunk in chunks],
        "headings": [Jsonb(list(chunk.headings)) for chunk in chunks],
        "starts": [chunk.start for chunk in chunks],
        "ends": [chunk.end for chunk in chunks],
        "hashes": [bytes.fromhex(chunk.text_hash) for chunk in chunks],
        "embedded": [chunk.embedding_text for chunk in chunks],
    }
