"""From chunks to published generations: small documents of a batch are stored, embedded and made visible together.

    stage -> embed -> publish
          └-> hand over to the embedding job

What does not work together is tried one by one: one document's trouble is its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import UUID

from functions.ingest.batch import Batch
from functions.ingest.following import Stored
from shared.core.errors import OutcomeUnknown, RagzeroError
from shared.core.models import Claim, Draft, Publication, Ready, Stage, Version
from shared.core.ports import Embedder
from shared.telemetry import checkpoint, get_logger, metrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = get_logger(__name__)
_Item = TypeVar("_Item")
_Key = TypeVar("_Key")
_AT_ONCE = 64
_STORE_AT_ONCE = 1_000


class Store(Protocol):
    def stage(self, drafts: Sequence[Draft]) -> list[Stage]: ...
    def store_vectors(self, claim: Claim, chunk_ids: Sequence[int], vectors: NDArray[np.float32]) -> None: ...
    def hand_over(self, claim: Claim, publication: Publication, missing: int) -> int: ...
    def publish(self, ready: Sequence[Ready]) -> None: ...
    def is_published(self, claim: Claim, generation: int) -> bool: ...
    def extend(self, claim: Claim, lease_seconds: float) -> None: ...
    def release(self, claim: Claim) -> None: ...
    def clean(self, tenant: UUID, document: UUID, keep: int | None) -> int: ...


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document to be stored; messages: those that spoke of it."""

    draft: Draft
    version: Version
    pages: int | None
    flags: tuple[str, ...]
    messages: set[str]

    def publication(self, generation: int) -> Publication:
        collection, chunks = self.draft.collection.id, len(self.draft.chunks)
        return Publication(self.version, generation, collection, chunks, self.pages, self.flags)


@dataclass(frozen=True, slots=True)
class _Staged:
    """A generation in the database that lacks some vectors; texts are those to embed, by chunk id."""

    claim: Claim
    publication: Publication
    texts: dict[int, str]
    messages: set[str]


class Finisher:
    """Of one batch. cpu_lane_chunks: so many texts of a document at most are embedded here, more by the embedding job;
    None: all."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        batch: Batch,
        *,
        lease_seconds: float,
        cpu_lane_chunks: int | None,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._batch = batch
        self._lease_seconds = lease_seconds
        self._cpu_lane_chunks = cpu_lane_chunks
        self._gathered: list[Parsed] = []
        self._large: list[_Staged] = []

    def add(self, parsed: Parsed) -> None:
        """Those before it are finished first when they would be too many with it."""
        if sum(len(one.draft.chunks) for one in (*self._gathered, parsed)) > _AT_ONCE:
            self._finish()
        self._gathered.append(parsed)

    def finish(self) -> None:
        """All there are; large ones come last, alone."""
        self._finish()
        for staged in self._large:
            self._finish_large(staged)

    def _finish(self) -> None:
        gathered, self._gathered = self._gathered, []
        small: list[_Staged] = []
        for together in _groups(gathered, lambda one: (one.draft.claim.tenant_id, one.draft.collection.id)):
            for staged in self._staged(together):
                (self._large if len(staged.texts) > _AT_ONCE else small).append(staged)
        self._finish_small(small)

    def _staged(self, together: list[Parsed]) -> list[_Staged]:
        """Without what the embedding job does the rest of."""
        try:
            stages = self._store.stage([one.draft for one in together])
        except Exception as error:
            if len(together) > 1:
                return [staged for one in together for staged in self._staged([one])]
            self.give_up(together[0].draft.claim, together[0].messages, error)
            return []
        checkpoint("staged")
        return [
            staged
            for parsed, stage in zip(together, stages, strict=True)
            if not self._handed_over(staged := _staged(parsed, stage))
        ]

    def _handed_over(self, staged: _Staged) -> bool:
        """Whether its work is done here."""
        missing, claim = len(staged.texts), staged.claim
        if self._cpu_lane_chunks is None or missing <= self._cpu_lane_chunks:
            return False
        try:
            self._batch.backlog[claim.tenant_id] = self._store.hand_over(claim, staged.publication, missing)
        except Exception as error:
            self.give_up(claim, staged.messages, error)
            return True
        checkpoint("handed_over")
        self._batch.stored.append(Stored(claim.tenant_id, claim.id, handed_over=True))
        metrics.count("documents", outcome="handed_over")
        _log.info("document_handed_over", document=str(claim.id), chunks=missing)
        return True

    def _finish_small(self, together: list[_Staged]) -> None:
        """Each text is embedded once, however often it stands in these documents."""
        texts = list(dict.fromkeys(text for staged in together for text in staged.texts.values()))
        try:
            vectors = self._encode(texts) if texts else None
        except Exception as error:
            for staged in together:
                if len(together) > 1:
                    self._finish_small([staged])
                else:
                    self.give_up(staged.claim, staged.messages, error, "embedding_unfinished")
            return
        rows = {text: row for row, text in enumerate(texts)}
        ready = [(staged, _ready(staged, rows, vectors)) for staged in together]
        for some in _groups(ready, lambda one: one[0].claim.tenant_id):
            self._publish(some)

    def _finish_large(self, staged: _Staged) -> None:
        places: dict[str, list[int]] = defaultdict(list)
        for id, text in staged.texts.items():
            places[text].append(id)
        try:
            self._embed(staged.claim, places)
        except Exception as error:
            self.give_up(staged.claim, staged.messages, error, "embedding_unfinished")
        else:
            self._publish([(staged, Ready(staged.claim, staged.publication))])

    def _embed(self, claim: Claim, places: Mapping[str, Sequence[int]]) -> None:
        """Stores vectors as they are made: should the time not do for all, the next attempt has less to do. places: the
        chunks that have a text."""
        texts = list(places)
        for first in range(0, len(texts), _AT_ONCE):
            some = texts[first : first + _AT_ONCE]
            vectors = self._encode(some)
            pairs = [(id, row) for row, text in enumerate(some) for id in places[text]]
            for at in range(0, len(pairs), _STORE_AT_ONCE):
                ids, rows = zip(*pairs[at : at + _STORE_AT_ONCE], strict=True)
                self._store.store_vectors(claim, ids, vectors[list(rows)])
            if first:
                self._store.extend(claim, self._lease_seconds)

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self._batch.require_time()
        vectors = self._embedder.encode(texts)
        checkpoint("embedded")
        return vectors

    def _publish(self, together: list[tuple[_Staged, Ready]]) -> None:
        checkpoint("publishing")
        try:
            self._store.publish([ready for _, ready in together])
        except OutcomeUnknown as error:
            for staged, _ in together:
                if self._is_published(staged):
                    self._published(staged)
                else:
                    self.give_up(staged.claim, staged.messages, error, "publish_unfinished")
        except Exception as error:
            if len(together) > 1:
                for one in together:
                    self._publish([one])
            else:
                staged = together[0][0]
                self.give_up(staged.claim, staged.messages, error, "publish_unfinished")
        else:
            for staged, _ in together:
                self._published(staged)

    def _is_published(self, staged: _Staged) -> bool:
        """False also while nobody can say."""
        try:
            return self._store.is_published(staged.claim, staged.publication.generation)
        except RagzeroError:
            return False

    def _published(self, staged: _Staged) -> None:
        claim, publication = staged.claim, staged.publication
        checkpoint("published")
        self._batch.stored.append(Stored(claim.tenant_id, claim.id, handed_over=False))
        metrics.count("documents", outcome="published")
        _log.info("document_published", document=str(claim.id), chunks=publication.chunks)
        if claim.generation > 0:
            self._clean(claim, publication.generation)

    def _clean(self, claim: Claim, keep: int) -> None:
        """Older generations are invisible already; what is left of them now goes with the next one."""
        try:
            self._store.clean(claim.tenant_id, claim.id, keep=keep)
        except RagzeroError as error:
            _log.warning("left_to_clean", document=str(claim.id), reason=str(error))

    def give_up(
        self, claim: Claim, messages: set[str], error: Exception, event: str = "document_unfinished"
    ) -> None:
        """Its messages come back, and whoever gets them need not wait for our lease to end."""
        self._batch.leave(claim.key, messages, error, event)
        try:
            self._store.release(claim)
        except RagzeroError as failure:
            _log.warning("lease_left_to_expire", document=str(claim.id), reason=str(failure))


def _groups(items: Iterable[_Item], key: Callable[[_Item], _Key]) -> list[list[_Item]]:
    groups: dict[_Key, list[_Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.values())


def _staged(parsed: Parsed, stage: Stage) -> _Staged:
    chunks = parsed.draft.chunks
    texts = {id: chunks[ordinal].embedding_text for id, ordinal in stage.missing}
    return _Staged(parsed.draft.claim, parsed.publication(stage.generation), texts, parsed.messages)


def _ready(staged: _Staged, rows: Mapping[str, int], vectors: NDArray[np.float32] | None) -> Ready:
    """rows: where the vector of each text is."""
    if vectors is None or not staged.texts:
        return Ready(staged.claim, staged.publication)
    mine = [rows[text] for text in staged.texts.values()]
    return Ready(staged.claim, staged.publication, list(staged.texts), vectors[mine])
