"""The sweep's side of Postgres: how far it is, how documents compare with a listing, what it found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from shared.adapters.cache.epochs import Epochs
from shared.adapters.postgres import generations
from shared.adapters.postgres.coherence import EpochStore
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.sql import load
from shared.core.errors import LeaseLost
from shared.core.sweeping import Compared, Finding, Kind, Leftover, Listed, Page, Sweep

_SQL = load("sweeps")
_LOOKED_AT = "looked_at"
_GONE = 5_000  # in one statement
_LEFTOVERS = 100  # removed along with a page, so that a page stays quick; the next sweep finds the rest
_LEFTOVER_AGE_S = 3600
_FORGOTTEN = 5_000  # in one sweep
_CLOCK_STEP = timedelta(seconds=1)  # the bucket tells the time without fractions


class SweepStore:
    """Of one bucket. lease_seconds is how long a sweep belongs to whoever wrote it last.

    grace_seconds: what is younger may have its event on the way. patience_seconds: after which a hint is repeated.
    """

    def __init__(
        self,
        database: Database,
        bucket: str,
        epochs: Epochs | None = None,
        *,
        lease_seconds: float,
        grace_seconds: float,
        patience_seconds: float,
    ) -> None:
        self._database = database
        self._epochs = EpochStore(database, epochs)
        self._lease = lease_seconds
        self._grace = grace_seconds
        self._common = {"bucket": bucket, "grace": grace_seconds, "patience": patience_seconds}

    def begin(self) -> Sweep | None:
        """The unfinished sweep or a new one; None while somebody else is at it."""
        with self._sweeping() as cursor:
            row = cursor.execute(_SQL["begin"], self._common | {"lease": self._lease}).fetchone()
        return Sweep(**row) if row else None

    def advance(self, sweep: Sweep, cursor: str, listed: bool, counts: dict[str, int]) -> Sweep:
        """Everything up to the cursor is done. Raises LeaseLost when another has taken the sweep over."""
        values = {"cursor": cursor, "listed": listed, "counts": Jsonb(counts), "lease": self._lease}
        row = self._owned("advance", sweep, values)
        return Sweep(sweep.id, sweep.token, cursor, listed, counts, row["at"])

    def pause(self, sweep: Sweep, error: str | None = None) -> None:
        with self._sweeping() as cursor:
            cursor.execute(_SQL["pause"], {"id": sweep.id, "token": sweep.token, "error": error})

    def finish(self, sweep: Sweep, counts: dict[str, int]) -> None:
        self._owned("finish", sweep, {"counts": Jsonb(counts)})

    def compare(self, sweep: Sweep, page: Page) -> Compared:
        """What differs between sweep.cursor and the end of the page, deletes noted; sweep.at lies before it was asked for."""
        values = self._of_page(sweep, page)
        with self._sweeping() as cursor:
            rows = cursor.execute(_SQL["compare"], values).fetchall() if page.objects else []
            leftovers = cursor.execute(_SQL["leftovers"], values).fetchall()
            gone = cursor.execute(_SQL["note_gone"], values).fetchone()
        self._note_rest(values, gone)
        return Compared(
            [_finding(row) for row in rows if row["kind"] != _LOOKED_AT],
            [(row["document_id"], row["modified"]) for row in rows if row["kind"] == _LOOKED_AT],
            [Leftover(*row.values()) for row in leftovers],
        )

    def _of_page(self, sweep: Sweep, page: Page) -> dict[str, Any]:
        """A listing's last page reaches to the end of all keys."""
        newest = page.objects[-1].key if page.objects else sweep.cursor
        return (
            self._common
            | _columns(page.objects)
            | {
                "sweep": sweep.id,
                "after": sweep.cursor,
                "newest": newest,
                "last": None if page.last else newest,
            }
            | {"asked_at": sweep.at, "settled_before": page.at + _CLOCK_STEP - timedelta(seconds=self._grace)}
            | {"most_gone": _GONE, "most_leftovers": _LEFTOVERS, "leftover_seconds": _LEFTOVER_AGE_S}
        )

    def _note_rest(self, values: dict[str, Any], gone: DictRow | None) -> None:
        """The deletes that were too many for one statement."""
        while gone and gone["found"] == _GONE:
            with self._sweeping() as cursor:
                gone = cursor.execute(_SQL["note_gone"], values | {"after": gone["last"]}).fetchone()

    def note(self, sweep: Sweep, found: Sequence[Finding]) -> None:
        values = {
            "sweep": sweep.id,
            "asked_at": sweep.at,
            "keys": [finding.key for finding in found],
            "tenants": [finding.tenant for finding in found],
            "documents": [finding.document for finding in found],
            "kinds": [finding.kind for finding in found],
            "modified": [finding.modified for finding in found],
        }
        with self._sweeping() as cursor:
            cursor.execute(_SQL["note"], self._common | values)

    def looked_at(self, documents: Sequence[tuple[UUID, datetime]]) -> None:
        """What seemed changed is what the documents say: ingest has looked."""
        values = {"documents": [id for id, _ in documents], "modified": [at for _, at in documents]}
        with self._sweeping() as cursor:
            cursor.execute(_SQL["looked_at"], values)

    def hinted(self, hints: Sequence[tuple[str, str]]) -> None:
        """(key, sequencer) of what ingest was sent."""
        values = {"keys": [key for key, _ in hints], "sequencers": [sequencer for _, sequencer in hints]}
        with self._sweeping() as cursor:
            cursor.execute(_SQL["hinted"], self._common | values)

    def hold_back(self, sweep: Sweep, *, empty: bool, most: int, share: float) -> int:
        """How many deletes wait for being confirmed; those of tenants that would lose more than most and that share."""
        values = self._common | {"id": sweep.id, "empty": empty, "most": most, "share": share}
        with self._sweeping() as cursor:
            cursor.execute(_SQL["hold_back"], values)
            row = cursor.execute(_SQL["held"], values).fetchone()
        return int(row["documents"]) if row else 0

    def due(self, sweep: Sweep, after: str, max_hints: int, limit: int) -> list[Finding]:
        """Deletes that ingest has to be told of, in the order of their keys."""
        values = {"id": sweep.id, "after": after, "max_hints": max_hints, "limit": limit}
        with self._sweeping() as cursor:
            rows = cursor.execute(_SQL["due"], self._common | values).fetchall()
        return [_finding(row) for row in rows]

    def told(self, sweep: Sweep) -> dict[str, int]:
        """How many keys ingest was told of for the first time, by kind."""
        with self._sweeping() as cursor:
            rows = cursor.execute(_SQL["told"], self._common | {"id": sweep.id}).fetchall()
        return {kind.value: 0 for kind in Kind} | {row["kind"]: row["findings"] for row in rows}

    def unrepaired(self, max_hints: int) -> int:
        with self._sweeping() as cursor:
            row = cursor.execute(_SQL["unrepaired"], self._common | {"max_hints": max_hints}).fetchone()
        return int(row["findings"]) if row else 0

    def existing(self, tenants: set[UUID]) -> set[UUID]:
        with self._sweeping() as cursor:
            rows = cursor.execute(_SQL["existing_tenants"], {"tenants": list(tenants)}).fetchall()
        return {row["id"] for row in rows}

    def of_closed(self, days: int, limit: int) -> list[tuple[str, str]]:
        """(key, done sequencer) of documents of tenants that were closed so many days ago."""
        values = self._common | {"days": days, "limit": limit}
        with self._sweeping() as cursor:
            return [(row["key"], row["done_sequencer"]) for row in cursor.execute(_SQL["of_closed"], values)]

    def forget_closed(self, days: int) -> int:
        """How many rows went of what people wrote and asked while such tenants were open."""
        with self._sweeping() as cursor:
            row = cursor.execute(_SQL["forget_closed"], {"days": days}).fetchone()
        return int(row["removed"]) if row else 0

    def sleeping_work(self, patience_seconds: float) -> int | None:
        """Chunks that have waited for the embedding job that long while nobody works; None when nothing does."""
        with self._sweeping() as cursor:
            row = cursor.execute(_SQL["sleeping_work"], {"patience": patience_seconds}).fetchone()
        return int(row["chunks"]) if row else None

    def drain_epochs(self) -> int:
        """Tells caches what publishers could not; of how many tenants."""
        untold = self._untold()
        for tenant in untold:
            self._epochs.drain(tenant)
        return len(untold - self._untold()) if untold else 0

    def _untold(self) -> set[UUID]:
        with self._sweeping() as cursor:
            return {row["tenant_id"] for row in cursor.execute(_SQL["untold"])}

    def remove(self, leftover: Leftover) -> int:
        """How many chunks were removed. A generation begun since is a newer one, and stays."""
        with self._database.transaction(leftover.tenant) as cursor:
            return generations.remove(cursor, leftover.document, leftover.generation + 1)

    def forget(self) -> dict[str, int]:
        """How many rows that are kept for a while only were removed, by what they were."""
        with self._sweeping() as cursor:
            row = cursor.execute(_SQL["forget"], {"most": _FORGOTTEN}).fetchone()
            silent = cursor.execute(_SQL["silent_requesters"], {"most": _FORGOTTEN}).fetchall()
        return {**(row or {}), "requests": sum(self._forget_requests(one["tenant_id"]) for one in silent)}

    def _forget_requests(self, tenant: UUID) -> int:
        with self._database.transaction(tenant) as cursor:
            return cursor.execute(_SQL["forget_requests"], {"tenant": tenant}).rowcount

    def close(self) -> None:
        self._epochs.close()
        self._database.close()

    def _owned(self, name: str, sweep: Sweep, values: dict[str, Any]) -> DictRow:
        with self._sweeping() as cursor:
            row = cursor.execute(
                _SQL[name], self._common | values | {"id": sweep.id, "token": sweep.token}
            ).fetchone()
        if row is None:
            raise LeaseLost(f"another has taken sweep {sweep.id} over")
        return row

    @contextmanager
    def _sweeping(self) -> Iterator[Cursor[DictRow]]:
        """A transaction that sees what a sweep may see, of all tenants."""
        with self._database.transaction(None, local={"app.sweep": "on"}) as cursor:
            yield cursor


def _finding(row: DictRow) -> Finding:
    return Finding(
        key=row["key"],
        kind=Kind(row["kind"]),
        document=row["document_id"],
        tenant=row["tenant_id"],
        modified=row["modified"],
        done_sequencer=row["done_sequencer"],
        hints=row["hints"],
        due=row["due"],
    )


def _columns(objects: Sequence[Listed]) -> dict[str, list[Any]]:
    return {
        "keys": [listed.key for listed in objects],
        "etags": [listed.etag for listed in objects],
        "sizes": [listed.bytes for listed in objects],
        "modified": [listed.modified for listed in objects],
    }
