"""What became of a deleted document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Receipt:
    """removed: place -> {removed, at}. coherent_until: as in Coherence. erased_at: when the last trace was looked for."""

    document_id: UUID
    key_sha256: str
    requested_at: datetime
    epoch: int | None
    coherent: bool
    coherent_until: datetime | None
    removed: Mapping[str, Mapping[str, Any]]
    erased_at: datetime | None
