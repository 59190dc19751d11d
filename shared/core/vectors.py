"""Unit vectors as one signed byte a dimension, for caches: cosine to the original above 0.9999."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def packed(vector: NDArray[np.float32]) -> bytes:
    """vector: shape (dimension,), not zero. Base64, which passes through JSON."""
    import numpy as np  # heavy: loaded when first used

    return b64encode(np.round(vector * (127 / np.abs(vector).max())).astype(np.int8).tobytes())


def unpacked(data: bytes, dimension: int) -> NDArray[np.float32] | None:
    """The unit vector, or None when this is not one of that dimension."""
    import numpy as np  # heavy: loaded when first used

    values = np.frombuffer(b64decode(data), dtype=np.int8).astype(np.float32)
    norm = float(np.linalg.norm(values))
    return values / norm if len(values) == dimension and norm else None
