"""The edges of the pure code: what services need from the outside, as small protocols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Tokenizer(Protocol):
    def offsets(self, text: str) -> Sequence[tuple[int, int]]:
        """(start, end) character offsets of each token of text, special tokens left out, nothing truncated."""


class Embedder(Tokenizer, Protocol):
    """A CPU encoder of one embedding space."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of documents, shape (len(texts), dimension), in the order given."""

    def encode_query(self, question: str) -> NDArray[np.float32]:
        """The unit vector of a question, shape (dimension,)."""
