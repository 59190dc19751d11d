"""Vectors of callers' texts in the active space, made on the CPU that questions need, too: one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared.core.errors import InvalidInput, NotFound, Unavailable
from shared.core.ports import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SLICE = 8  # texts, so that questions come in between
_SPECIAL = 2  # tokens that the encoder adds to a text


class EmbeddingService:
    """embedder is None when the model at hand is not the one of the index. most_tokens: what it reads of a text."""

    def __init__(self, space: str, embedder: Embedder | None, most_tokens: int) -> None:
        self.space = space
        self._embedder = embedder
        self._most_tokens = most_tokens - _SPECIAL
        self._turn = asyncio.Lock()

    async def encode(
        self, space: str, texts: Sequence[str], dimensions: int | None
    ) -> tuple[NDArray[np.float32], int]:
        """Unit vectors as documents have them, shape (len(texts), dimension), and how many tokens were read.

        A text that is longer than the encoder reads is refused: nothing is cut off in silence.
        """
        if space != self.space:
            raise NotFound(f"there is no embedding model {space[:80]!r}, only {self.space!r}")
        if self._embedder is None:
            raise Unavailable("encoder", "the encoder does not match the index")
        if dimensions not in (None, self._embedder.dimension):
            raise InvalidInput(
                f"{self.space} has {self._embedder.dimension} dimensions, not {dimensions}",
                field="dimensions",
            )
        async with self._turn:
            tokens = await asyncio.to_thread(self._counted, self._embedder, texts)
            return await self._encoded(self._embedder, texts), tokens

    def _counted(self, embedder: Embedder, texts: Sequence[str]) -> int:
        counts = [len(embedder.offsets(text)) for text in texts]
        for number, count in enumerate(counts):
            if count > self._most_tokens:
                raise InvalidInput(
                    f"text {number} has {count} tokens, at most {self._most_tokens} are read", field="input"
                )
        return sum(counts)

    async def _encoded(self, embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np  # heavy: a cold start that needs no vector does not pay for it

        slices = [texts[at : at + _SLICE] for at in range(0, len(texts), _SLICE)]
        return np.concatenate([await asyncio.to_thread(embedder.encode, some) for some in slices])
