"""What one request asks of the cache, and what it learns there, in one round trip."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from shared.core.credentials import StoredKey


@dataclass(frozen=True, slots=True)
class Names:
    """Under which names one key of one tenant is kept."""

    tenant: str
    record: str
    epoch: str
    ticket: str
    key_rate: str
    tenant_rate: str
    streams: str

    @classmethod
    def of(cls, key_id: str, tenant: UUID) -> Names:
        return cls(
            str(tenant),
            f"rz:k:{key_id}",
            f"rz:e:{tenant}",
            f"rz:t:{tenant}",
            f"rz:r:k:{key_id}",
            f"rz:r:t:{tenant}",
            f"rz:s:{tenant}",
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to look up: names of its answer and of its vector. read: False when only a fresh answer will do."""

    answer: str
    vector: str
    read: bool = True


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream that wants a slot: its id, and after how many seconds it is taken to be over."""

    id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Visited:
    """now: Redis's clock in Unix seconds. record, answer and vector are None unless they hold for the current epoch.

    ticket: lets a reader restore a missing epoch. wait_s: 0 within the rates. spent_usd: None when not known.
    """

    now: float
    record: StoredKey | None
    epoch: int | None
    ticket: str | None
    answer: bytes | None
    vector: bytes | None
    wait_s: float
    granted: bool
    spent_usd: float | None
