"""What was stored in the active space goes to the others, too: to one that is being built, and to the one before, until
it is reclaimed. So that either can become the active one at any time.

Best effort: what is left out here is counted as lacking, and made before a space becomes the active one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from shared.core.errors import RagzeroError
from shared.core.models import Space
from shared.core.ports import Embedder
from shared.telemetry import get_logger

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = get_logger(__name__)
_AT_ONCE = 64


class Store(Protocol):
    """Of one space."""

    def reuse(self, tenant: UUID, documents: Sequence[UUID]) -> int: ...
    def lacking(self, tenant: UUID, documents: Sequence[UUID], limit: int) -> list[tuple[int, str]]: ...
    def store(self, tenant: UUID, chunk_ids: Sequence[int], vectors: NDArray[np.float32]) -> int: ...


@dataclass(frozen=True, slots=True)
class Stored:
    """A document whose chunks are in the database; handed_over: without their vectors, to the embedding job."""

    tenant: UUID
    document: UUID
    handed_over: bool


class Follower:
    """spaces: all but the active one. embedders: by the fingerprint of their space; others' spaces are left alone."""

    def __init__(
        self,
        spaces: Callable[[], Sequence[Space]],
        store_of: Callable[[Space], Store],
        embedders: Mapping[str, Embedder],
    ) -> None:
        self._spaces = spaces
        self._store_of = store_of
        self._embedders = embedders

    def follow(self, stored: Sequence[Stored], active: str, deadline: float) -> None:
        """active: the fingerprint of the active space, whose model embeds what was handed over in all spaces that it has;
        deadline: time.monotonic() seconds."""
        try:
            for space in self._spaces() if stored else ():
                if space.fingerprint in self._embedders:
                    for tenant, documents in _by_tenant(stored, here=space.fingerprint != active).items():
                        self._fill(space, tenant, documents, deadline)
        except RagzeroError as error:
            _log.warning("space_left_behind", reason=str(error))

    def _fill(self, space: Space, tenant: UUID, documents: Sequence[UUID], deadline: float) -> None:
        store, embedder = self._store_of(space), self._embedders[space.fingerprint]
        store.reuse(tenant, documents)
        while time.monotonic() < deadline and (rows := store.lacking(tenant, documents, _AT_ONCE)):
            ids, texts = zip(*rows, strict=True)
            store.store(tenant, ids, embedder.encode(texts))


def _by_tenant(stored: Sequence[Stored], *, here: bool) -> dict[UUID, list[UUID]]:
    """here: whether what was handed over is for us, too."""
    found: dict[UUID, list[UUID]] = {}
    for one in stored:
        if here or not one.handed_over:
            found.setdefault(one.tenant, []).append(one.document)
    return found
