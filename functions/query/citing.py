"""Citations are a contract: a marker survives only if its passage was retrieved for this question and says so.

The text is checked while it streams. What might still become a marker, a link, an image or a tag is held back until
it is known what it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from shared.core.chunking import sentences
from shared.core.models import Citation, Passage

_MARKER = re.compile(r"\[\s*(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\s*\]")
_IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)?|!\[[^\]]*\]\[[^\]]*\]")
_LINK = re.compile(r"\[([^\]]*)\]\(\s*[^)]*\)")
_REFERENCE = re.compile(r"^\s*\[[^\]]+\]:\s*\S+.*$", re.MULTILINE)
_TAG = re.compile(r"<[/!?a-zA-Z][^>]*>")
_URL = re.compile(r"(?:https?|ftp|file|data|javascript):[^\s<>\"')\]]+|\bwww\.[^\s<>\"')\]]+", re.IGNORECASE)
_SCHEMES = ("http:", "https:", "ftp:", "file:", "data:", "javascript:", "www.")
_BEGUN = "|".join(sorted({re.escape(scheme[:size]) for scheme in _SCHEMES for size in range(1, len(scheme))}))
# what begins here may go on in the next piece: an address, a marker or link, a tag
_OPEN = re.compile(
    rf"(?:!?\[[^\]]*(?:\](?:\([^)]*|\[[^\]]*)?)?|<[^>]*|!|(?:{'|'.join(map(re.escape, _SCHEMES))})\S*|{_BEGUN})\Z",
    re.IGNORECASE,
)
_WHOLE = re.compile(r"!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])?|\[[^\]]*\](?:\([^)]*\))?|<[^>]*>")
_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»]{3,})[\"”»]")
_WORD = re.compile(r"\w{3,}")
_HELD_AT_MOST = 200
_CLAIM_AT_MOST = 1_500
# A sentence that shares fewer of its words with the passage it cites is not taken from it.
_LEAST_SHARED = 0.2
_COMMON = frozenset(
    {
        "and",
        "are",
        "but",
        "can",
        "did",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "how",
        "its",
        "not",
        "that",
    }
    | {
        "the",
        "their",
        "this",
        "was",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "whom",
        "why",
        "will",
        "with",
    }
)


@dataclass(frozen=True, slots=True)
class Tally:
    """Markers that did not hold, and links, images or tags that were taken out."""

    dropped_citations: int = 0
    removed_links: int = 0


class CitationFilter:
    """Feed the model's text as it comes; what feed and finish return is safe to show."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = passages
        self._normalised = [_normalised(passage.text) for passage in passages]
        self._held = ""
        self._shown = ""
        self._dropped = 0
        self._removed = 0
        self._citations: dict[tuple[int, int], Citation] = {}

    def feed(self, text: str) -> str:
        self._held += text
        cut = _cut(self._held)
        ready, self._held = self._held[:cut], self._held[cut:]
        return self._checked(ready)

    def finish(self) -> str:
        ready, self._held = self._held, ""
        return self._checked(ready)

    @property
    def text(self) -> str:
        """All that was shown so far."""
        return self._shown

    @property
    def citations(self) -> list[Citation]:
        return list(self._citations.values())

    @property
    def tally(self) -> Tally:
        return Tally(self._dropped, self._removed)

    def _checked(self, text: str) -> str:
        before, text, end = len(self._shown), self._cleaned(text), 0
        for found in _MARKER.finditer(text):
            self._shown += text[end : found.start()]
            self._shown += "".join([self._marker(int(number)) for number in re.findall(r"\d+", found[1])])
            end = found.end()
        self._shown += text[end:]
        return self._shown[before:]

    def _cleaned(self, text: str) -> str:
        """Without images, links, tags and addresses: whatever they say, they were not asked for."""
        for pattern, kept in ((_IMAGE, ""), (_LINK, r"\1"), (_REFERENCE, ""), (_TAG, ""), (_URL, "")):
            text, count = pattern.subn(kept, text)
            self._removed += count
        return text

    def _claim(self) -> str:
        """The sentence a marker stands behind."""
        said = _MARKER.sub("", self._shown[-_CLAIM_AT_MOST:]).rstrip()
        spans = sentences(said)
        return said[spans[-1][0] :] if spans else ""

    def _marker(self, number: int) -> str:
        quote = self._support(number)
        if quote is None:
            self._dropped += 1
            return ""
        passage, (start, end) = self._passages[number - 1], quote
        citation = Citation(
            marker=number,
            document_id=passage.document_id,
            uri=passage.uri,
            page=passage.page,
            quote=passage.text[start:end],
            start=passage.start + start,
            end=passage.start + end,
            score=round(passage.score, 4),
        )
        self._citations.setdefault((number, start), citation)
        return f"[{number}]"

    def _support(self, number: int) -> tuple[int, int] | None:
        """Where in the passage stands what the sentence claims; None when it does not stand there."""
        if not 1 <= number <= len(self._passages):
            return None
        claim = self._claim()
        quoted = _QUOTED.findall(claim)
        return self._quoted(number, quoted) if quoted else self._closest(number, claim)

    def _quoted(self, number: int, quoted: Sequence[str]) -> tuple[int, int] | None:
        text, back = self._normalised[number - 1]
        spans = []
        for quote in quoted:
            wanted = _normalised(quote)[0].strip(" .,;:!?…")
            at = text.find(wanted) if wanted else -1
            if at < 0:
                return None
            spans.append((back[at], back[at + len(wanted) - 1] + 1))
        return spans[-1]

    def _closest(self, number: int, claim: str) -> tuple[int, int] | None:
        """The passage's sentence that shares most words with the claim."""
        claimed = _words(claim)
        passage = self._passages[number - 1].text
        if not claimed or len(claimed & _words(passage)) < max(1, _LEAST_SHARED * len(claimed)):
            return None
        return max(sentences(passage), key=lambda span: len(claimed & _words(passage[span[0] : span[1]])))


def _cut(text: str) -> int:
    """How much of text is certain whatever comes next."""
    found = _OPEN.search(text)
    cut = found.start() if found else len(text)
    for whole in _WHOLE.finditer(text):
        if whole.start() < cut < whole.end():
            cut = whole.start()
    return cut if len(text) - cut <= _HELD_AT_MOST else len(text)


def _words(text: str) -> set[str]:
    return {word for word in _WORD.findall(text.lower()) if word not in _COMMON}


def _normalised(text: str) -> tuple[str, list[int]]:
    """Lower case, one blank for many, plain quotes; and for each character its place in text."""
    out: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        plain = _PLAIN.get(character, character).lower()
        if plain.isspace():
            if not out or out[-1] == " ":
                continue
            plain = " "
        out += plain
        places += [place] * len(plain)
    return "".join(out), places


_PLAIN = {"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "\u00a0": " ", "\u00ad": ""}
