"""What the system reported of documents and what questions were shown of them, in order; and what of that must not be.

A report or a question has a beginning and an end; what happens in between may or may not count. Documents are put by
number: each version of a key has a higher one, which stands in its text.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

VISIBLE = "searchable"
_GONE = ("deleted", "failed")


@dataclass(frozen=True, slots=True)
class Reported:
    """The system said so: status and generation of a document."""

    document: str
    status: str
    generation: int
    began: int
    ended: int


@dataclass(frozen=True, slots=True)
class Passage:
    """version: the number in its text."""

    document: str
    uri: str
    generation: int
    version: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and all that it was shown."""

    passages: tuple[Passage, ...]
    began: int
    ended: int


class History:
    """prefix: of the uris that may be shown; parts: how many passages each document has. Threads may share one."""

    def __init__(self, prefix: str, parts: int) -> None:
        self._prefix = prefix
        self._parts = parts
        self._clock = itertools.count()
        self._put: set[tuple[str, int]] = set()
        self._reports: dict[str, list[Reported]] = defaultdict(list)
        self._questions: list[Asked] = []

    def now(self) -> int:
        return next(self._clock)

    def put(self, uri: str, version: int) -> None:
        self._put.add((uri, version))

    def reported(self, began: int, told: Iterable[tuple[str, str, int]]) -> None:
        """told: (document, status, generation) of every document there is."""
        ended = self.now()
        for document, status, generation in told:
            self._reports[document].append(Reported(document, status, generation, began, ended))

    def asked(self, began: int, passages: Iterable[Passage]) -> None:
        self._questions.append(Asked(tuple(passages), began, self.now()))

    def violations(self) -> list[str]:
        """In words, with the moments they happened at; none in a history as it should be."""
        found: list[str] = []
        for asked in self._questions:
            found += self._wrongly_shown(asked)
            found += self._wrongly_hidden(asked)
        return found

    def _wrongly_shown(self, asked: Asked) -> Iterator[str]:
        by_document: dict[str, list[Passage]] = defaultdict(list)
        for passage in asked.passages:
            by_document[passage.document].append(passage)
            if not passage.uri.startswith(self._prefix):
                yield f"{asked.ended}: {passage.uri} is somebody else's (I5)"
            elif (passage.uri, passage.version) not in self._put:
                yield f"{asked.ended}: {passage.uri} never had version {passage.version}"
        for document, passages in by_document.items():
            yield from self._wrong_document(asked, document, passages)

    def _wrong_document(self, asked: Asked, document: str, passages: list[Passage]) -> Iterator[str]:
        name = passages[0].uri
        if len({(one.generation, one.version) for one in passages}) > 1:
            yield f"{asked.ended}: {name} is shown in several generations at once (I4)"
        elif len(passages) != self._parts:
            yield f"{asked.ended}: {name} is shown in {len(passages)} of {self._parts} parts (I4)"
        before = self._before(asked, document)
        newest = max(one.generation for one in passages)
        if before and (
            newest < before.generation or (before.status in _GONE and newest == before.generation)
        ):
            yield f"{asked.ended}: {name} is shown in generation {newest} after {before} (I3)"

    def _wrongly_hidden(self, asked: Asked) -> Iterator[str]:
        """Visible before and after, in the same generation: visible all the time."""
        shown = {passage.document for passage in asked.passages}
        for document in self._reports.keys() - shown:
            before, after = self._before(asked, document), self._after(asked, document)
            if before and after and _same_and_visible(before, after):
                yield f"{asked.ended}: a document is hidden after {before} (I7)"

    def _before(self, asked: Asked, document: str) -> Reported | None:
        known = [one for one in self._reports[document] if one.ended < asked.began]
        return known[-1] if known else None

    def _after(self, asked: Asked, document: str) -> Reported | None:
        return next((one for one in self._reports[document] if one.began > asked.ended), None)


def _same_and_visible(one: Reported, other: Reported) -> bool:
    return one.status == other.status == VISIBLE and one.generation == other.generation
