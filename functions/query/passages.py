"""A document's text, read page by page in either direction from any place in it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Protocol, Self
from uuid import UUID

from shared.core.credentials import Principal
from shared.core.errors import Gone, InvalidInput, NotFound
from shared.core.excerpts import Excerpt
from shared.core.labels import Labels

_MOST = 2**31 - 1


class Reader(Protocol):
    async def excerpt(
        self,
        tenant: UUID,
        acl: Labels,
        id: UUID,
        *,
        limit: int,
        first: int = 0,
        at: int | None = None,
        chunk: int | None = None,
    ) -> Excerpt | None: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Between two chunks of a generation: the page goes on after it, or backwards ends before it."""

    generation: int
    ordinal: int
    backwards: bool

    def __str__(self) -> str:
        text = f"{self.generation} {self.ordinal} {int(self.backwards)}"
        return base64.urlsafe_b64encode(text.encode()).decode()

    @classmethod
    def parse(cls, cursor: str) -> Self:
        try:
            words = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
            generation, ordinal, backwards = (int(word) for word in words)
        except ValueError as error:
            raise _foreign() from error
        if not (0 <= generation <= _MOST and 0 <= ordinal <= _MOST and backwards in (0, 1)):
            raise _foreign()
        return cls(generation, ordinal, bool(backwards))

    def span(self, limit: int) -> tuple[int, int]:
        """The first ordinal of the page, and how many there are at most."""
        if not self.backwards:
            return self.ordinal, limit
        first = max(0, self.ordinal - limit)
        return first, self.ordinal - first


@dataclass(frozen=True, slots=True)
class Page:
    excerpt: Excerpt
    earlier: str | None
    later: str | None


class PassageService:
    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def page(
        self,
        who: Principal,
        id: UUID,
        *,
        limit: int,
        cursor: str | None = None,
        at: int | None = None,
        chunk: int | None = None,
    ) -> Page:
        """Raises Gone when the document was changed since the cursor was given out."""
        if sum(one is not None for one in (cursor, at, chunk)) > 1:
            raise InvalidInput("only one of cursor, at and chunk_id can say where to begin", field="cursor")
        if cursor is None:
            return _page(await self._excerpt(who, id, limit=limit, at=at, chunk=chunk), chunk)
        place = Place.parse(cursor)
        first, count = place.span(limit)
        excerpt = await self._excerpt(who, id, limit=count, first=first)
        if excerpt.generation != place.generation:
            raise Gone("the document was changed since; begin again without a cursor")
        return _page(excerpt)

    async def _excerpt(
        self,
        who: Principal,
        id: UUID,
        *,
        limit: int,
        first: int = 0,
        at: int | None = None,
        chunk: int | None = None,
    ) -> Excerpt:
        found = await self._reader.excerpt(
            who.tenant_id, who.acl, id, limit=limit, first=first, at=at, chunk=chunk
        )
        if found is None:
            raise NotFound("there is no such document")
        return found


def _page(excerpt: Excerpt, chunk: int | None = None) -> Page:
    if chunk is not None and not excerpt.chunks:
        raise NotFound("there is no such chunk in what is searchable of this document now")
    if not excerpt.chunks or excerpt.generation is None:
        return Page(excerpt, None, None)
    begin, end = excerpt.chunks[0].ordinal, excerpt.chunks[-1].ordinal + 1
    earlier = str(Place(excerpt.generation, begin, True)) if begin > 0 else None
    later = str(Place(excerpt.generation, end, False)) if end < excerpt.total else None
    return Page(excerpt, earlier, later)


def _foreign() -> InvalidInput:
    return InvalidInput("the cursor is not one this API gave out", field="cursor")
