"""The life of a document in Postgres: leases, generations, publishing, tombstones.

A method that carries a Claim raises LeaseLost when another worker has taken the document over; nothing is
written then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg import Cursor
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from shared.adapters.cache.epochs import Epochs
from shared.adapters.postgres import generations, waiting
from shared.adapters.postgres.coherence import Bump, EpochStore
from shared.adapters.postgres.connection import Database
from shared.adapters.postgres.receipts import note_removed, remove_rest
from shared.adapters.postgres.sql import load
from shared.adapters.postgres.webhooks import tell
from shared.core.errors import ConfigurationError, Forbidden, LeaseLost
from shared.core.keys import DEFAULT_COLLECTION, document_metadata
from shared.core.labels import Labels
from shared.core.models import (
    Claim,
    Coherence,
    Collection,
    Draft,
    ObjectState,
    Observed,
    Publication,
    Ready,
    Space,
    Stage,
    Status,
    Version,
)
from shared.core.webhooks import WebhookEvent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SQL = load("documents")
_NOTHING: Mapping[str, int] = {}


class DocumentStore:
    """epochs, answers: as in EpochStore."""

    def __init__(self, database: Database, epochs: Epochs | None = None, *, answers: bool = False) -> None:
        self._database = database
        self._space: Space | None = None
        self._epochs = EpochStore(database, epochs, answers=answers)

    def space(self, *, fresh: bool = False) -> Space:
        """The active embedding space, as it was when this first looked, or is if fresh: what is stored goes there, so
        whoever looks again has to encode for what it finds. Raises ConfigurationError when none was made yet.
        """
        if self._space is None or fresh:
            with self._database.transaction(None) as cursor:
                row = cursor.execute(_SQL["active_space"]).fetchone()
            if row is None:
                raise ConfigurationError(
                    "RAGZERO_MODEL_DIR", "no embedding space is active; run scripts/migrate"
                )
            self._space = Space(**row)
        return self._space

    def other_spaces(self) -> list[Space]:
        """All but the active one."""
        with self._database.transaction(None) as cursor:
            return [Space(**row) for row in cursor.execute(_SQL["other_spaces"])]

    def is_open(self, tenant: UUID) -> bool | None:
        """None when there is no such tenant."""
        with self._database.transaction(tenant) as cursor:
            row = cursor.execute(_SQL["tenant"], {"tenant": tenant}).fetchone()
        return None if row is None else bool(row["open"])

    def observe(
        self, tenant: UUID, bucket: str, seen: Sequence[tuple[str, str]], lease_seconds: float
    ) -> list[Observed]:
        """The documents of those keys, each with the sequencer of its event, in that order: made when they are new, with the
        lease on them if their event's work is to be done. No key comes twice."""
        values = {
            "tenant": tenant,
            "bucket": bucket,
            "keys": [key for key, _ in seen],
            "sequencers": [sequencer for _, sequencer in seen],
        }
        with self._database.transaction(tenant) as cursor:
            rows = cursor.execute(_SQL["observe"], values).fetchall()
            if not rows:
                self._collection(cursor, tenant, DEFAULT_COLLECTION)
                rows = cursor.execute(_SQL["observe"], values).fetchall()
            unhandled = [row["id"] for row in rows if not row["handled"]]
            claimed = (
                cursor.execute(_SQL["claim"], {"ids": unhandled, "lease": lease_seconds}).fetchall()
                if unhandled
                else []
            )
        claims = {claim["id"]: Claim(**claim) for claim in claimed}
        found = {row["key"]: Observed(row["id"], row["handled"], claims.get(row["id"])) for row in rows}
        return [found[key] for key, _ in seen]

    def announce(
        self,
        tenant: UUID,
        bucket: str,
        key: str,
        acl: Labels,
        sees: Labels,
        seconds: float | None = None,
    ) -> UUID:
        """The document of a key that is about to be uploaded, `pending` from now on and shown to those acl names.

        seconds: how long the upload may take; a few minutes unless said.
        Raises Forbidden when it would replace one that the uploader, who sees these labels, may not see.
        """
        with self._database.transaction(tenant) as cursor:
            collection = self._collection(cursor, tenant, DEFAULT_COLLECTION)
            row = cursor.execute(
                _SQL["announce"],
                {
                    "tenant": tenant,
                    "collection": collection["id"],
                    "bucket": bucket,
                    "key": key,
                    "acl": None if acl is None else list(acl),
                    "sees": None if sees is None else list(sees),
                    "seconds": seconds,
                },
            ).fetchone()
        if row is None:
            raise Forbidden("a document of that name is there already, and this API key may not see it")
        return UUID(str(row["id"]))

    def withdraw(self, tenant: UUID, document: UUID) -> None:
        """The announced upload did not happen: the document is again what it was."""
        with self._database.transaction(tenant) as cursor:
            cursor.execute(_SQL["withdraw"], {"id": document})

    def extend(self, claim: Claim, lease_seconds: float) -> None:
        self._write(claim, "extend", {"lease": lease_seconds})

    def release(self, claim: Claim) -> None:
        with self._database.transaction(claim.tenant_id) as cursor:
            cursor.execute(_SQL["release"], _fence(claim))

    def settle(self, claim: Claim, sequencer: str) -> None:
        """Nothing to do; whoever waits since the object was put hears how it went before."""
        with self._database.transaction(claim.tenant_id) as cursor:
            row = generations.locked(cursor, [claim])[claim.id]
            cursor.execute(_SQL["settle"], _fence(claim) | {"sequencer": sequencer})
            if claim.status in (Status.PENDING, Status.PROCESSING):
                found = (
                    WebhookEvent.FAILED if row["published_generation"] is None else WebhookEvent.SEARCHABLE
                )
                tell(cursor, [claim.id], found)

    def collection(self, tenant: UUID, name: str) -> Collection:
        """A tenant's collection, made when it is new."""
        with self._database.transaction(tenant) as cursor:
            return Collection(**self._collection(cursor, tenant, name))

    def stage(self, drafts: Sequence[Draft]) -> list[Stage]:
        """Stores a new generation of each document, all of one collection, unseen by any query; they are `processing`."""
        space, claims = self.space(), [draft.claim for draft in drafts]
        with self._database.transaction(claims[0].tenant_id) as cursor:
            begun = generations.begin(cursor, list(generations.locked(cursor, claims)))
            return generations.stage(cursor, space, drafts, begun)

    def store_vectors(self, claim: Claim, chunk_ids: Sequence[int], vectors: NDArray[np.float32]) -> None:
        """vectors: shape (len(chunk_ids), dimension of the active space)."""
        space = self.space()
        with self._database.transaction(claim.tenant_id) as cursor:
            generations.locked(cursor, [claim])
            generations.store_vectors(cursor, space, chunk_ids, vectors)

    def hand_over(self, claim: Claim, publication: Publication, missing: int) -> int:
        """Leaves what is missing, and then publishing, to the embedding job; the event's work is done.

        The number of chunks of this tenant that wait now. Raises SpaceChanged.
        """
        values = _fence(claim) | {
            "tenant": claim.tenant_id,
            "generation": publication.generation,
            "sequencer": publication.version.sequencer,
            "missing": missing,
            "staged": Jsonb(publication.to_dict()),
        }
        space = self.space()
        with self._database.transaction(claim.tenant_id) as cursor:
            generations.locked(cursor, [claim])
            cursor.execute(_SQL["hand_over"], values)
            return waiting.leave(cursor, space, values, edition=False)

    def publish(self, ready: Sequence[Ready]) -> None:
        """Makes generations of one tenant's documents the visible ones, all or none, and those before them invisible, at
        once. Raises SpaceChanged, also when a collection was exchanged for its candidate since they were cut."""
        space, claims = self.space(), [one.claim for one in ready]
        chunk_ids = [id for one in ready for id in one.chunk_ids]
        with self._database.transaction(claims[0].tenant_id) as cursor:
            rows = generations.locked(cursor, claims)
            if chunk_ids:
                generations.store_vectors(cursor, space, chunk_ids, _joined(ready))
            generations.publish(cursor, space, rows, {one.claim.id: one.publication for one in ready})
            self.bump(cursor, claims[0].tenant_id)

    def publish_waiting(self, tenant: UUID, document: UUID, generation: int) -> bool:
        """Publishes what was handed over, once all of it is embedded, or ends an edition; False when nobody waits for that
        (any more)."""
        space = self.space()  # a transaction within the one below would take the tenant from it
        with self._database.transaction(tenant) as cursor:
            row = waiting.take(cursor, document, generation)
            if row is None:
                return False
            if row["staged"] is None:
                waiting.end_edition(cursor, space, document, generation, None)
            else:
                publication = Publication.from_dict(row["staged"])
                generations.publish(cursor, space, {document: row}, {document: publication})
                self.bump(cursor, tenant)
        return True

    def fail_waiting(self, tenant: UUID, document: UUID, generation: int, code: str, reason: str) -> bool:
        """What was handed over will not be embedded, and why; False when nobody waits for it (any more)."""
        space = self.space()
        with self._database.transaction(tenant) as cursor:
            row = waiting.take(cursor, document, generation)
            if row is None:
                return False
            if row["staged"] is None:
                waiting.end_edition(cursor, space, document, generation, f"{code}: {reason}")
                return True
            self._fail(cursor, row, tenant, Publication.from_dict(row["staged"]).version, code, reason)
        return True

    def is_published(self, claim: Claim, generation: int) -> bool:
        """Whether a publish whose outcome is unknown went through."""
        with self._database.transaction(claim.tenant_id) as cursor:
            row = generations.lock(cursor, claim.id)
        return row is not None and row["published_generation"] == generation

    def touch(self, claim: Claim, version: Version) -> None:
        """Same content, perhaps new metadata: what is published stays."""
        with self._database.transaction(claim.tenant_id) as cursor:
            generations.locked(cursor, [claim])
            cursor.execute(_SQL["touch"], _fence(claim) | _version(version))
            tell(cursor, [claim.id], WebhookEvent.SEARCHABLE)
            self.bump(cursor, claim.tenant_id)

    def fail(self, claim: Claim, version: Version, code: str, reason: str) -> None:
        """Not searchable, and why: a generation that could not be read. An older one disappears, because the object is no
        longer that."""
        with self._database.transaction(claim.tenant_id) as cursor:
            row = generations.locked(cursor, [claim])[claim.id]
            generations.begin(cursor, [claim.id])
            self._fail(cursor, row, claim.tenant_id, version, code, reason)

    def describe(self, tenant: UUID, document: UUID, known: str, state: ObjectState) -> Coherence:
        """The object has other metadata now and is otherwise the one whose etag was known.

        Whoever works on the document loses it, for the metadata they have seen may be the older ones.
        """
        values = {
            "id": document,
            "known": known,
            "etag": state.etag,
            "version_id": state.version_id,
            "metadata": Jsonb(document_metadata(state.metadata)),
        }
        with self._database.transaction(tenant) as cursor:
            cursor.execute(_SQL["describe"], values)
            return self.bump(cursor, tenant).coherence

    def tombstone(
        self, tenant: UUID, document: UUID, sequencer: str = "", removed: Mapping[str, int] = _NOTHING
    ) -> Coherence:
        """Invisible in the index when this returns; whoever works on the document loses it.

        removed: what was taken away elsewhere, by place, for the receipt.
        """
        with self._database.transaction(tenant) as cursor:
            before = generations.lock(cursor, document)
            cursor.execute(_SQL["open_receipt"], {"id": document})
            cursor.execute(_SQL["tombstone"], {"id": document, "sequencer": sequencer})
            generations.recount(cursor, [before])
            note_removed(cursor, document, removed)
            bump = self.bump(cursor, tenant)
            told = {"epoch": bump.epoch, "coherent": bump.coherence.coherent, "until": bump.coherence.until}
            cursor.execute(_SQL["note_coherence"], told | {"id": document})
            return bump.coherence

    def clean(self, tenant: UUID, document: UUID, keep: int | None) -> int:
        """How many chunks were removed for good: of generations before keep, or all that a document had which is gone."""
        with self._database.transaction(tenant) as cursor:
            if keep is not None:
                return generations.remove(cursor, document, below=keep)
            return remove_rest(cursor, document)

    def bump(self, cursor: Cursor[DictRow], tenant: UUID) -> Bump:
        """Last in the transaction of whatever changes what questions are answered from."""
        return self._epochs.bump(cursor, tenant)

    def drain_outbox(self, tenant: UUID) -> None:
        self._epochs.drain(tenant)

    def close(self) -> None:
        self._epochs.close()
        self._database.close()

    def _fail(
        self, cursor: Cursor[DictRow], row: DictRow, tenant: UUID, version: Version, code: str, reason: str
    ) -> None:
        cursor.execute(_SQL["fail"], _fence(row) | _version(version) | {"code": code, "reason": reason})
        generations.recount(cursor, [row])
        tell(cursor, [row["id"]], WebhookEvent.FAILED)
        self.bump(cursor, tenant)

    def _collection(self, cursor: Cursor[DictRow], tenant: UUID, name: str) -> DictRow:
        """Made when it is new, by us or by somebody at the same time."""
        values = {"tenant": tenant, "name": name}
        row = cursor.execute(_SQL["collection"], values).fetchone()
        if row is None:
            cursor.execute(_SQL["make_collection"], values)
            row = cursor.execute(_SQL["collection"], values).fetchone()
        assert row is not None
        return row

    def _write(self, claim: Claim, name: str, values: dict[str, Any]) -> None:
        with self._database.transaction(claim.tenant_id) as cursor:
            if cursor.execute(_SQL[name], _fence(claim) | values).rowcount == 0:
                raise LeaseLost


def _joined(ready: Sequence[Ready]) -> NDArray[np.float32]:
    import numpy as np  # heavy: loaded when first used

    return np.concatenate([one.vectors for one in ready if one.vectors is not None])


def _fence(claim: Claim | DictRow) -> dict[str, Any]:
    if isinstance(claim, Claim):
        return {"id": claim.id, "attempt": claim.attempt}
    return {"id": claim["id"], "attempt": claim["attempt"]}


def _version(version: Version) -> dict[str, Any]:
    return {
        "etag": version.etag,
        "version_id": version.version_id,
        "bytes": version.size,
        "content_hash": version.content_hash,
        "pipeline": version.pipeline,
        "media_type": version.media_type,
        "metadata": Jsonb(version.metadata),
        "sequencer": version.sequencer,
    }
