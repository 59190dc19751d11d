"""What the canary looks at, and what it makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shared.core.models import Space

Within = dict[str, Any]
"""Metadata that documents must have; empty: all of them."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A collection that is searched by the index of a space."""

    collection: int
    tenant: UUID
    space: Space


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a collection is searched from now on: that wide, or exactly. recall: what the usual width found."""

    recall: float
    ef_search: int | None = None
    exact: bool = False

    @property
    def alarming(self) -> bool:
        return self.exact or self.ef_search is not None


def recall(found: Sequence[Sequence[int]], there: Sequence[Sequence[int]]) -> float:
    """The share of what is there that was found; 1 where nothing is."""
    total = sum(map(len, there))
    hits = sum(len(set(one) & set(other)) for one, other in zip(found, there, strict=True))
    return hits / total if total else 1.0
