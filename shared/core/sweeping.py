"""What a sweep compares and finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Kind(StrEnum):
    """How a document differs from what the bucket has."""

    MISSING = "missing"
    CHANGED = "changed"
    STUCK = "stuck"
    """Begun, and left by whoever did."""
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing shows it."""

    key: str
    etag: str
    bytes: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Objects in the order of their keys' bytes. at is when it was listed, by the bucket's clock."""

    objects: Sequence[Listed]
    at: datetime
    last: bool


@dataclass(frozen=True, slots=True)
class Sweep:
    """A walk through a bucket, held under a lease. at is the database's clock when it was last written."""

    id: int
    token: int
    cursor: str
    listed: bool
    counts: dict[str, int]
    at: datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """A key that ingest has to look at. hints are those it was sent before; tenant is None for an unknown document."""

    key: str
    kind: Kind
    document: UUID | None
    tenant: UUID | None
    modified: datetime | None
    done_sequencer: str
    hints: int
    due: bool


@dataclass(frozen=True, slots=True)
class Leftover:
    """A document with chunks besides those of its published generation."""

    tenant: UUID
    document: UUID
    generation: int
    published: int | None


@dataclass(frozen=True, slots=True)
class Compared:
    """findings differ from the bucket; looked_at do not, as ingest has found: (document, LastModified)."""

    findings: list[Finding]
    looked_at: list[tuple[UUID, datetime]]
    leftovers: list[Leftover]
