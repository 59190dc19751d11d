"""A stretch of a document's text, as the index holds it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """start and end are character offsets into the document's text; neighbours may overlap."""

    id: int
    ordinal: int
    page: int | None
    headings: tuple[str, ...]
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Neighbouring chunks of the published generation, which has total of them; generation is None without one."""

    document_id: UUID
    generation: int | None
    total: int
    chunks: list[StoredChunk]
