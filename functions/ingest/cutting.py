"""Where a document goes, and how it is cut."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from shared.core.chunking import ChunkOptions
from shared.core.models import Collection


@dataclass(frozen=True, slots=True)
class Cut:
    collection: Collection
    options: ChunkOptions

    @classmethod
    def of(cls, collection: Collection, usual: ChunkOptions) -> Self:
        return cls(collection, _options(usual, collection))

    def __str__(self) -> str:
        sizes = f"{self.options.max_tokens}+{self.options.overlap_tokens}"
        return f"{sizes}/{self.collection.language}/{self.collection.name}"


def _options(usual: ChunkOptions, collection: Collection) -> ChunkOptions:
    if collection.chunk_tokens is None or collection.overlap_tokens is None:
        return usual
    return replace(
        usual,
        max_tokens=collection.chunk_tokens,
        overlap_tokens=collection.overlap_tokens,
        min_tokens=min(usual.min_tokens, collection.chunk_tokens // 4),
    )
