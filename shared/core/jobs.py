"""Many documents at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

MOST_DOCUMENTS = 10_000


@dataclass(frozen=True, slots=True)
class Failed:
    id: UUID
    uri: str
    reason_code: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """counts: documents by status. remaining: of a delete, what it is not through with. failed: the first ones."""

    id: UUID
    kind: str
    created_at: datetime
    counts: Mapping[str, int]
    remaining: int
    failed: Sequence[Failed]

    @property
    def over(self) -> bool:
        if self.kind == "delete":
            return self.remaining == 0
        return not (self.counts.get("pending") or self.counts.get("processing"))


@dataclass(frozen=True, slots=True)
class Matched:
    """total documents meet a filter; ids are the first of them, and uris a few to look at."""

    total: int
    ids: Sequence[UUID]
    uris: Sequence[str]
