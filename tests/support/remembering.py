"""The encoder that tests share: what it computes is real, but each text is computed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from shared.adapters.onnx_embedder import OnnxEmbedder

if TYPE_CHECKING:
    from shared.adapters.onnx_embedder import Vectors


class RememberingEmbedder(OnnxEmbedder):
    """For tests of what is done with vectors. Those of the encoder itself, of its batches and its threads load their own."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self._known: dict[str, Vectors] = {}

    def _encode(self, texts: list[str]) -> Vectors:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update(zip(new, super()._encode(new), strict=True))
        return np.array([self._known[text] for text in texts], np.float32).reshape(len(texts), self.dimension)
