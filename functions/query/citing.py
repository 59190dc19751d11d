"""Citations are a contract: a marker survives if its passage was retrieved for this question and says so.

The text is checked while it streams, in two steps. The first takes out whole links, images and tags, and the
markers that do not hold. The second sees to it that nothing in what is left, however it came about, is an
address or the beginning of a tag, an image or a link's target. Either holds back only what the next piece
may turn into one.
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
_TAG = re.compile(r"<[/!?a-zA-Z][^>]*>")
# where a link by reference leads: a label, one word, perhaps a title
_REFERENCE = re.compile(r"^[ \t]*\[[^\]]+\]:\s*\S+[ \t]*(?:[\"'(].*)?$", re.MULTILINE)
_WHOLE = re.compile(r"!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])?|\[[^\]]*\](?:\([^)]*\))?|<[/!?a-zA-Z][^>]*>")
_OPEN = re.compile(
    r"(?:!?\[[^\]]*(?:\](?:\([^)]*|\[[^\]]*|:(?:[ \t]*\n)?[^\n]*)?)?|<(?:[/!?a-zA-Z][^>]*)?|!)\Z"
)

_SCHEMES = ("http:", "https:", "ftp:", "file:", "data:", "javascript:", "www.")
_URL = re.compile(r"(?:https?|ftp|file|data|javascript):[^\s<>\"')\]]+|\bwww\.[^\s<>\"')\]]+", re.IGNORECASE)
_LIVE = re.compile(r"<(?=[/!?a-zA-Z])|!(?=\[)|\](?=\()")  # a space after the first character, and it is text
_BEGUN = "|".join(sorted({re.escape(scheme[:size]) for scheme in _SCHEMES for size in range(1, len(scheme))}))
_ADDRESS = "|".join(map(re.escape, _SCHEMES))
_ENDS_OPEN = re.compile(rf"(?:(?:{_ADDRESS})[^\s<>\"')\]]*|{_BEGUN}|[<!\]])\Z", re.IGNORECASE)

_QUOTED = re.compile(r"[\"“„«]([^\"“”„«»]{3,})[\"”»]")
_WORD = re.compile(r"\w{3,}")
_HELD_AT_MOST = 200
_CLAIM_AT_MOST = 1_500
# A sentence that shares fewer of its words with the passage it cites is not taken from it.
_LEAST_SHARED = 0.2
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "and are but can did does for from had has have how its not that the their this was were what when where "
        "which who whom why will with",
    )
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
        self._normalised: dict[int, tuple[str, list[int]]] = {}
        self._raw = ""
        self._checked = ""
        self._shown = ""
        self._begins_line = True
        self._dropped = 0
        self._removed = 0
        self._citations: dict[tuple[int, int], Citation] = {}

    def feed(self, text: str) -> str:
        """Long pieces are taken in parts: how long a check takes grows faster than what is checked."""
        parts = (text[at : at + _HELD_AT_MOST] for at in range(0, len(text), _HELD_AT_MOST))
        return "".join([self._fed(part) for part in parts])

    def finish(self) -> str:
        ready, self._raw = self._raw, ""
        self._check(ready)
        return self._show(len(self._checked))

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

    def _fed(self, text: str) -> str:
        self._raw += text
        cut = _cut(self._raw)
        ready, self._raw = self._raw[:cut], self._raw[cut:]
        self._check(ready)
        return self._show(_held(_ENDS_OPEN, self._checked))

    def _check(self, text: str) -> None:
        """The first step; what it leaves waits for the second in _checked."""
        text, end = self._cleaned(text), 0
        for found in _MARKER.finditer(text):
            self._checked += text[end : found.start()]
            self._checked += "".join([self._marker(int(number)) for number in re.findall(r"\d+", found[1])])
            end = found.end()
        self._checked += text[end:]

    def _show(self, size: int) -> str:
        """The second step, for the first characters of what waits."""
        ready, self._checked = self._checked[:size], self._checked[size:]
        ready, count = _URL.subn("", ready)
        self._removed += count
        ready = _LIVE.sub(r"\g<0> ", ready)
        self._shown += ready
        return ready

    def _cleaned(self, text: str) -> str:
        """Without whole images, links and tags: whatever they say, they were not asked for."""
        begun, newline, rest = ("", "", text) if self._begins_line else text.partition("\n")
        rest, count = _REFERENCE.subn("", rest)
        self._removed += count
        if text:
            self._begins_line = text.endswith("\n")
        text = begun + newline + rest
        for pattern, kept in ((_IMAGE, ""), (_LINK, r"\1"), (_TAG, "")):
            text, count = pattern.subn(kept, text)
            self._removed += count
        return text

    def _claim(self) -> str:
        """The sentence a marker stands behind."""
        said = _MARKER.sub("", (self._shown + _URL.sub("", self._checked))[-_CLAIM_AT_MOST:]).rstrip()
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
        if number not in self._normalised:  # few answers quote, and it takes a while
            self._normalised[number] = _normalised(self._passages[number - 1].text)
        text, back = self._normalised[number]
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
    """How much of text the first step can take: up to what may become a link, an image or a tag."""
    cut = _held(_OPEN, text)
    for whole in _WHOLE.finditer(text):
        if whole.start() < cut < whole.end():
            cut = whole.start()
    return cut if len(text) - cut <= _HELD_AT_MOST else len(text)


def _held(pattern: re.Pattern[str], text: str) -> int:
    """Where that begins which the next piece may complete, or what may then run into it; not for ever."""
    cut = len(text)
    while (found := pattern.search(text, 0, cut)) and len(text) - found.start() <= _HELD_AT_MOST:
        cut = found.start()
    return cut


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
