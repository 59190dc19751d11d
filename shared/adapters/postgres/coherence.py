"""What everybody does who changes what a tenant's questions are answered from: raise its epoch, and tell the caches."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow

from shared.adapters.cache.epochs import TICKET_S, Epochs
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.sql import load
from shared.core.errors import NotFound
from shared.core.models import Coherence

_SQL = load("coherence")


@dataclass(frozen=True, slots=True)
class Bump:
    """The epoch that becomes true when the transaction commits, and what caches know of it."""

    epoch: int
    coherence: Coherence


class EpochStore:
    """epochs: the way to Redis; without one every change is left to whoever has one.

    answers: this function gives the answers itself, so that without a Redis there are no caches to be told.
    """

    def __init__(self, database: Database, epochs: Epochs | None = None, *, answers: bool = False) -> None:
        self._database = database
        self._epochs = epochs or Epochs()
        self._nobody_to_tell = answers and not self._epochs.configured

    def bump(self, cursor: Cursor[DictRow], tenant: UUID) -> Bump:
        """The last statements of a transaction: the tenant's row is locked from here to the end.

        Redis is told before the commit, so that nobody is answered from the old epoch once the new one is visible; in
        between, everybody misses. A transaction that is undone after all has cost some misses and nothing else.
        """
        row = cursor.execute(_SQL["bump_epoch"], {"tenant": tenant}).fetchone()
        if row is None:
            raise NotFound(f"there is no tenant {tenant}")
        if self._nobody_to_tell or self._epochs.raised(tenant, row["epoch"]):
            return Bump(row["epoch"], Coherence(True))
        values = {"tenant": tenant, "epoch": row["epoch"], "seconds": self._epochs.lease_s + TICKET_S}
        left = cursor.execute(_SQL["leave_epoch"], values).fetchone()
        assert left is not None
        return Bump(row["epoch"], Coherence(False, left["until"]))

    def drain(self, tenant: UUID) -> None:
        """Tells Redis what some publisher could not, now that it may be reached."""
        if not self._epochs.configured:
            return
        values = {"tenant": tenant}
        with self._database.transaction(tenant) as cursor:
            row = cursor.execute(_SQL["committed_epoch"], values).fetchone()
        if row and row["untold"] and self._epochs.raised(tenant, row["epoch"]):
            with self._database.transaction(tenant) as cursor:
                cursor.execute(_SQL["told"], values | {"epoch": row["epoch"]})

    def close(self) -> None:
        self._epochs.close()
