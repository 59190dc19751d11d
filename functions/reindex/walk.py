"""The walk through a bucket: every key whose document is not what the bucket has is told to ingest.

(list -> compare -> note -> hint -> advance)* -> judge the deletes -> hint -> finish
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol
from uuid import UUID

from shared.core.errors import InvalidInput
from shared.core.hints import Hint, message, next_sequencer
from shared.core.keys import tenant_of
from shared.core.sweeping import Compared, Finding, Leftover, Page, Sweep
from shared.telemetry import checkpoint

_ORIGIN = "Sweep"
_DELETES_AT_ONCE = 500


class Store(Protocol):
    def begin(self) -> Sweep | None: ...
    def advance(self, sweep: Sweep, cursor: str, listed: bool, counts: dict[str, int]) -> Sweep: ...
    def pause(self, sweep: Sweep, error: str | None = None) -> None: ...
    def finish(self, sweep: Sweep, counts: dict[str, int]) -> None: ...
    def compare(self, sweep: Sweep, page: Page) -> Compared: ...
    def note(self, sweep: Sweep, found: Sequence[Finding]) -> None: ...
    def looked_at(self, documents: Sequence[tuple[UUID, datetime]]) -> None: ...
    def hinted(self, hints: Sequence[tuple[str, str]]) -> None: ...
    def hold_back(self, sweep: Sweep, *, empty: bool, most: int, share: float) -> int: ...
    def due(self, sweep: Sweep, after: str, max_hints: int, limit: int) -> list[Finding]: ...
    def told(self, sweep: Sweep) -> dict[str, int]: ...
    def unrepaired(self, max_hints: int) -> int: ...
    def existing(self, tenants: set[UUID]) -> set[UUID]: ...
    def remove(self, leftover: Leftover) -> int: ...
    def close(self) -> None: ...


class Objects(Protocol):
    @property
    def name(self) -> str: ...
    def pages(self, after: str = "") -> Iterator[Page]: ...


class Ingest(Protocol):
    """The queue that ingest is fed from."""

    def send(self, bodies: Sequence[str]) -> None: ...
    def waiting(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """A tenant may lose up to max_deletes documents at once, or max_delete_share of its documents, unasked."""

    max_deletes: int = 50
    max_delete_share: float = 0.2
    max_hints: int = 5
    """For one version of an object; what that does not repair needs a person."""
    max_queued: int = 10_000
    """While more messages wait for ingest, the sweep does."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a walk is done with. default_tenant owns the keys that name no tenant."""

    store: Store
    bucket: Objects
    ingest: Ingest
    default_tenant: UUID | None
    limits: Limits = Limits()


class OutOfTime(Exception):
    """The deadline is near, or the queue is full: the rest is for the next call."""


class Walk:
    """One call's part of a sweep, until it is done or raises OutOfTime; deadline is in time.monotonic() seconds."""

    def __init__(self, means: Means, sweep: Sweep, deadline: float) -> None:
        self._store = means.store
        self._bucket = means.bucket
        self._ingest = means.ingest
        self._default_tenant = means.default_tenant
        self._limits = means.limits
        self._sweep = sweep
        self._deadline = deadline
        self._tenants: set[UUID] = set()  # seen to exist
        self.counts = Counter(sweep.counts)

    def go(self) -> None:
        if not self._sweep.listed:
            self._list()
        self.counts["held"] = self._store.hold_back(
            self._sweep,
            empty=self.counts["objects"] == 0,
            most=self._limits.max_deletes,
            share=self._limits.max_delete_share,
        )
        self._tell_of_deletes()
        for kind, told in self._store.told(self._sweep).items():
            self.counts[kind] = told
        self.counts["unrepaired"] = self._store.unrepaired(self._limits.max_hints)
        self._store.finish(self._sweep, dict(self.counts))

    def _list(self) -> None:
        """Asks for the next page while it compares one. At least one page is done, so that there is progress."""
        pages = iter(self._bucket.pages(self._sweep.cursor))
        with ThreadPoolExecutor(1) as reader:
            asked, coming = self._sweep.at, reader.submit(next, pages)
            while True:
                page, asked_then = coming.result(), asked
                more = not page.last and self._time_left()
                if more:
                    asked, coming = self._sweep.at, reader.submit(next, pages)
                self._compare(page, asked_then)
                if page.last:
                    return
                if not more:
                    raise OutOfTime

    def _compare(self, page: Page, asked: datetime) -> None:
        checkpoint("page_listed")
        sweep = replace(self._sweep, at=asked)
        compared = self._store.compare(sweep, page)
        self._tell(sweep, compared.findings)
        if compared.looked_at:
            self._store.looked_at(compared.looked_at)
        self._remove(compared.leftovers)
        self.counts["objects"] += len(page.objects)
        cursor = page.objects[-1].key if page.objects else sweep.cursor
        self._sweep = self._store.advance(sweep, cursor, page.last, dict(self.counts))
        checkpoint("page_swept")

    def _tell(self, sweep: Sweep, findings: Sequence[Finding]) -> None:
        if not findings:
            return
        owned = self._owned(findings)
        self.counts["foreign"] += len(findings) - len(owned)
        self._store.note(sweep, owned)
        self._hint([found for found in owned if found.due and found.hints < self._limits.max_hints])

    def _owned(self, findings: Sequence[Finding]) -> list[Finding]:
        """With their tenants; without those whose key belongs to none."""
        named = [self._named(finding) for finding in findings]
        unseen = {finding.tenant for finding in named if finding.tenant} - self._tenants
        if unseen:
            self._tenants |= self._store.existing(unseen)
        return [finding for finding in named if finding.tenant in self._tenants]

    def _named(self, finding: Finding) -> Finding:
        if finding.tenant is not None:
            return finding
        try:
            return replace(finding, tenant=tenant_of(finding.key, self._default_tenant))
        except InvalidInput:
            return finding

    def _hint(self, findings: Sequence[Finding]) -> None:
        """Noted as sent once it is: sent twice is better than not at all."""
        if not findings:
            return
        if self._ingest.waiting() > self._limits.max_queued:
            raise OutOfTime
        name = self._bucket.name
        hints = [Hint(name, found.key, next_sequencer(found.done_sequencer)) for found in findings]
        self._ingest.send([message(hint, _ORIGIN) for hint in hints])
        checkpoint("hints_sent")
        self._store.hinted([(hint.key, hint.sequencer) for hint in hints])

    def _tell_of_deletes(self) -> None:
        after = ""
        while due := self._store.due(self._sweep, after, self._limits.max_hints, _DELETES_AT_ONCE):
            self._hint(due)
            if len(due) < _DELETES_AT_ONCE:
                return
            if not self._time_left():
                raise OutOfTime
            after = due[-1].key

    def _remove(self, leftovers: Sequence[Leftover]) -> None:
        for leftover in leftovers:
            self.counts["leftover_chunks"] += self._store.remove(leftover)
            if not self._time_left():
                raise OutOfTime

    def _time_left(self) -> bool:
        return time.monotonic() < self._deadline
