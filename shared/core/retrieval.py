"""How deep a question is searched, and which of the passages found are worth showing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from shared.core.chunking import BLOCK_SEPARATOR
from shared.core.models import Passage

Mode = Literal["fast", "balanced", "thorough"]
Fate = Literal["chosen", "duplicate", "share", "rank"]
_SPARE = 5  # passages fetched beyond those wanted, in case some are copies of others
_THOROUGH = 50
_MOST_FETCHED = 400
_WIDENED = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """fetched: passages that are chosen from. candidates: how many each side brings where not all are scored; None: as
    many as usual. per_document: at most so many passages of one document while others have any.

    widened: the best so many are read with their neighbours.
    """

    fetched: int
    candidates: int | None = None
    keywords: bool = True
    per_document: int | None = None
    reranked: bool = False
    widened: int = 0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A chunk before (-1) or after (1) another of the same page and headings; start and end count in the document."""

    of: int
    id: int
    side: int
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Place:
    """rank: from 1, among all chunks in scope; of the document's chunk that is best there."""

    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Standing:
    """A document among what a question could find. visible: to the labels of the question; chunks: those of it that pass
    the filter, scope: those of all documents. Places are None where it has no chunk in scope, or the mode
    does not look."""

    visible: bool
    scope: int
    chunks: int
    meaning: Place | None
    words: Place | None
    fused: Place | None


def planned(mode: Mode, top_k: int, per_document: int | None = None) -> Plan:
    match mode:
        case "fast":
            return Plan(top_k, keywords=False, per_document=per_document)
        case "thorough":
            fetched = max(_THOROUGH, 2 * top_k)
            share = per_document or max(1, -(-3 * top_k // 5))
            return Plan(fetched, 4 * fetched, per_document=share, reranked=True, widened=_WIDENED)
        case _:
            return Plan(top_k + _SPARE, per_document=per_document)


def deeper(plan: Plan, found: int) -> Plan | None:
    """What to do when too many passages were copies and there may be more; None: that was all."""
    if found < plan.fetched or plan.fetched >= _MOST_FETCHED:
        return None
    return replace(plan, fetched=min(_MOST_FETCHED, 4 * plan.fetched))


def fates(passages: Sequence[Passage], top_k: int, per_document: int | None = None) -> list[Fate]:
    """What becomes of each, best first. Copies of a better one's text are folded into it; a document's share is limited
    as long as other documents have something to show."""
    return _filled(_judged(passages, per_document), top_k)


def _judged(passages: Sequence[Passage], per_document: int | None) -> list[Fate]:
    texts: set[str] = set()
    found: list[Fate] = []
    share: dict[object, int] = {}
    for passage in passages:
        text = " ".join(passage.text.split()).lower()
        taken = share.get(passage.document_id, 0)
        if text in texts:
            found.append("duplicate")
        elif per_document is not None and taken >= per_document:
            found.append("share")
        else:
            share[passage.document_id] = taken + 1
            found.append("chosen")
        texts.add(text)
    return found


def enough(passages: Sequence[Passage], top_k: int, per_document: int | None = None) -> bool:
    """Whether there are top_k without any document going over its share."""
    return _judged(passages, per_document).count("chosen") >= top_k


def _filled(found: list[Fate], top_k: int) -> list[Fate]:
    """Exactly top_k where there are as many: what was over its share fills the places nobody else takes."""
    places = [at for at, fate in enumerate(found) if fate == "chosen"]
    for at in places[top_k:]:
        found[at] = "rank"
    for at in [at for at, fate in enumerate(found) if fate == "share"][: max(0, top_k - len(places))]:
        found[at] = "chosen"
    return found


def ranked_anew(passages: Sequence[Passage], scores: Sequence[float]) -> list[Passage]:
    """By other scores, which take the place of theirs; of any size, but shown within 0..1."""
    ranked = sorted(zip(passages, scores, strict=True), key=lambda scored: -scored[1])
    return [replace(passage, score=min(1.0, max(0.0, score))) for passage, score in ranked]


def widened(passage: Passage, neighbours: Sequence[Neighbour]) -> Passage:
    """With the text of its neighbours, as far as it joins without a gap; offsets stay those of the document."""
    for one in sorted(neighbours, key=lambda neighbour: neighbour.side):
        passage = _before(passage, one) if one.side < 0 else _after(passage, one)
    return passage


def by_chunk(neighbours: Sequence[Neighbour], shown: Sequence[Passage]) -> Mapping[int, list[Neighbour]]:
    """The neighbours of each chunk that are not shown as passages of their own."""
    ids = {passage.chunk_id for passage in shown}
    found: dict[int, list[Neighbour]] = {}
    for one in neighbours:
        if one.id not in ids:
            found.setdefault(one.of, []).append(one)
    return found


def _before(passage: Passage, one: Neighbour) -> Passage:
    gap = _gap(passage.start - one.end)
    if gap is None or one.start >= passage.start:
        return passage
    return replace(passage, text=one.text[: passage.start - one.start] + gap + passage.text, start=one.start)


def _after(passage: Passage, one: Neighbour) -> Passage:
    end = passage.start + len(passage.text)
    gap = _gap(one.start - end)
    if gap is None or one.end <= end:
        return passage
    return replace(passage, text=passage.text + gap + one.text[max(0, end - one.start) :])


def _gap(size: int) -> str | None:
    """What lies between two chunks that many characters apart: nothing, a blank, or the end of a block."""
    if size <= 0:
        return ""
    return {1: " ", len(BLOCK_SEPARATOR): BLOCK_SEPARATOR}.get(size)
