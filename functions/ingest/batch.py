"""What comes of a batch of messages."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from uuid import UUID

from functions.ingest.following import Stored
from shared.core.errors import RagzeroError
from shared.telemetry import get_logger, metrics

_log = get_logger(__name__)


@dataclass(slots=True)
class Batch:
    """deadline: time.monotonic() seconds. unfinished: the messages that must come back; touched: tenants of whose documents
    something changed; looked_at: documents by tenant; backlog: chunks that wait for the embedding job, by tenant."""

    deadline: float
    unfinished: set[str] = field(default_factory=set)
    touched: set[UUID] = field(default_factory=set)
    looked_at: dict[UUID, set[UUID]] = field(default_factory=dict)
    stored: list[Stored] = field(default_factory=list)
    backlog: dict[UUID, int] = field(default_factory=dict)

    def look_at(self, tenant: UUID, document: UUID) -> None:
        self.touched.add(tenant)
        self.looked_at.setdefault(tenant, set()).add(document)

    def leave(
        self, key: str, messages: set[str], error: Exception, event: str = "document_unfinished"
    ) -> None:
        """Its messages come back."""
        metrics.count("documents", outcome="unfinished")
        _log.warning(event, key=key, error=type(error).__name__, reason=str(error))
        self.unfinished |= messages

    def require_time(self) -> None:
        """Raises RagzeroError when none is left."""
        if self.left < 0:
            raise RagzeroError("out of time; what was stored so far is kept, the rest comes next time")

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()
