"""Vectors of callers' texts in the active space, made on the CPU that questions need, too: one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from shared.core.errors import InvalidInput, NotFound, Unavailable
from shared.core.models import Space
from shared.core.ports import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SLICE = 8  # texts, so that questions come in between
_SPECIAL = 2  # tokens that the encoder adds to a text


class Encoder(Embedder, Protocol):
    @property
    def max_tokens(self) -> int:
        """What it reads of a text, with those it adds."""


class EmbeddingService:
    """active: the space that is the active one now. encoders: by the fingerprint of their space."""

    def __init__(self, active: Callable[[], Space], encoders: Mapping[str, Encoder]) -> None:
        self._active = active
        self._encoders = encoders
        self._turn = asyncio.Lock()

    @property
    def space(self) -> str:
        return self._active().name

    async def encode(
        self, space: str, texts: Sequence[str], dimensions: int | None
    ) -> tuple[NDArray[np.float32], int]:
        """Unit vectors as documents have them, shape (len(texts), dimension), and how many tokens were read.

        A text that is longer than the encoder reads is refused: nothing is cut off in silence.
        """
        active = self._active()
        if space != active.name:
            raise NotFound(f"there is no embedding model {space[:80]!r}, only {active.name!r}")
        encoder = self._encoders.get(active.fingerprint)
        if encoder is None:
            raise Unavailable("encoder", "the encoder does not match the index")
        if dimensions not in (None, encoder.dimension):
            raise InvalidInput(
                f"{space} has {encoder.dimension} dimensions, not {dimensions}", field="dimensions"
            )
        async with self._turn:
            tokens = await asyncio.to_thread(self._counted, encoder, texts)
            return await self._encoded(encoder, texts), tokens

    def _counted(self, embedder: Encoder, texts: Sequence[str]) -> int:
        most = embedder.max_tokens - _SPECIAL
        counts = [len(embedder.offsets(text)) for text in texts]
        for number, count in enumerate(counts):
            if count > most:
                raise InvalidInput(
                    f"text {number} has {count} tokens, at most {most} are read", field="input"
                )
        return sum(counts)

    async def _encoded(self, embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np  # heavy: a cold start that needs no vector does not pay for it

        slices = [texts[at : at + _SLICE] for at in range(0, len(texts), _SLICE)]
        return np.concatenate([await asyncio.to_thread(embedder.encode, some) for some in slices])
