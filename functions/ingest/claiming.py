"""Which documents a batch of hints speaks of, with the lease on those whose work is to be done, and by us."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from functions.ingest.batch import Batch
from functions.ingest.events import Hint
from shared.core.errors import InvalidInput, LeaseLost
from shared.core.keys import tenant_of
from shared.core.models import Claim, ObjectState, Observed

_AT_ONCE = 10


class Store(Protocol):
    def is_open(self, tenant: UUID) -> bool | None: ...
    def observe(
        self, tenant: UUID, bucket: str, seen: Sequence[tuple[str, str]], lease_seconds: float
    ) -> list[Observed]: ...


class Bucket(Protocol):
    @property
    def name(self) -> str: ...
    def head(self, key: str) -> ObjectState | None: ...


@dataclass(frozen=True, slots=True)
class Claimed:
    """A document that we have the lease on, and the messages that speak of it."""

    claim: Claim
    hint: Hint
    messages: set[str]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A key that something happened to, and the messages that say so."""

    hint: Hint
    messages: set[str]


class Claimer:
    """Of one batch."""

    def __init__(
        self, store: Store, bucket: Bucket, batch: Batch, *, default_tenant: UUID | None, lease_seconds: float
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._batch = batch
        self._default_tenant = default_tenant
        self._lease_seconds = lease_seconds
        self._open: set[UUID] = set()  # tenants

    def claim(self, work: Iterable[tuple[str, Hint]]) -> Iterator[Claimed]:
        """work pairs a message with a hint. A few documents at a time are claimed, and given before the next ones are."""
        for tenant, asked in self._by_tenant(_by_key(work)).items():
            for first in range(0, len(asked), _AT_ONCE):
                yield from self._claimed(tenant, asked[first : first + _AT_ONCE])

    def _by_tenant(self, asked: Iterable[_Asked]) -> dict[UUID, list[_Asked]]:
        """Without those that are nobody's."""
        found: dict[UUID, list[_Asked]] = defaultdict(list)
        for one in asked:
            try:
                found[self._tenant(one.hint)].append(one)
            except Exception as error:
                self._batch.leave(one.hint.key, one.messages, error)
        return found

    def _claimed(self, tenant: UUID, asked: Sequence[_Asked]) -> list[Claimed]:
        """What cannot be observed together is tried one by one."""
        seen = [(one.hint.key, one.hint.sequencer) for one in asked]
        try:
            self._batch.require_time()
            observed = self._store.observe(tenant, self._bucket.name, seen, self._lease_seconds)
        except Exception as error:
            if len(asked) > 1:
                return [claimed for one in asked for claimed in self._claimed(tenant, [one])]
            self._batch.leave(asked[0].hint.key, asked[0].messages, error)
            return []
        pairs = zip(asked, observed, strict=True)
        return [claimed for one, found in pairs if (claimed := self._ours(tenant, one, found))]

    def _ours(self, tenant: UUID, asked: _Asked, found: Observed) -> Claimed | None:
        if found.handled:
            return None
        self._batch.look_at(tenant, found.id)
        if found.claim is None:
            held = LeaseLost("another worker has this document; the message waits for it")
            self._batch.leave(asked.hint.key, asked.messages, held)
            return None
        return Claimed(found.claim, asked.hint, asked.messages)

    def _tenant(self, hint: Hint) -> UUID:
        if hint.bucket != self._bucket.name:
            raise InvalidInput(
                f"the event is about the bucket {hint.bucket[:80]!r}, not {self._bucket.name!r}"
            )
        tenant = tenant_of(hint.key, self._default_tenant)
        if tenant in self._open:
            return tenant
        is_open = self._store.is_open(tenant)
        if is_open is None:
            raise InvalidInput(f"no tenant {tenant} owns the key {hint.key[:200]!r}")
        if is_open:
            self._open.add(tenant)
        elif self._bucket.head(hint.key) is not None:
            raise InvalidInput(
                f"the tenant {tenant}, who owns the key {hint.key[:200]!r}, is closed: nothing of it but deletes is done"
            )
        return tenant


def _by_key(work: Iterable[tuple[str, Hint]]) -> list[_Asked]:
    """Each key once, with its newest hint and all the messages that spoke of it."""
    newest: dict[tuple[str, str], Hint] = {}
    messages: dict[tuple[str, str], set[str]] = defaultdict(set)
    for message, hint in work:
        place = (hint.bucket, hint.key)
        messages[place].add(message)
        if place not in newest or newest[place].sequencer.ljust(64, "0") < hint.sequencer.ljust(64, "0"):
            newest[place] = hint
    return [_Asked(hint, messages[place]) for place, hint in newest.items()]
