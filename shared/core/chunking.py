"""Text in pieces that an encoder can read whole: sentences, and chunks made of them.

A chunk stays within one page and one heading path, so that a citation's page is right. Its borders lie, in
order of preference, at the end of a block, of a sentence, of a word, or anywhere. Time is linear in the
length of the text and memory beyond the text is bounded: sections are read a slice at a time.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from shared.core.errors import ConfigurationError
from shared.core.models import Chunk, ParsedDocument
from shared.core.ports import Tokenizer

CHUNKER_VERSION = "1"

BLOCK_SEPARATOR = "\n\n"
HEADING_SEPARATOR = " > "
SLICE_CHARS = 200_000
SLICE_MARGIN = 100  # tokens and sentences this close to a slice's end may be cut by it
HEADING_CHARS = 400
HEADING_LEVELS = 8
_REMEMBERED = 4  # texts whose tokens are not asked for again: a long run of one character is cut into equals

_Offsets = Callable[[str], Sequence[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """Sizes in the encoder's tokens; max_tokens includes the heading path.

    240 leaves 14 of MiniLM's 254 for a document prefix. max_chars bounds what costs few tokens or none:
    unknown words, blanks, control characters.
    """

    max_tokens: int = 240
    overlap_tokens: int = 40
    min_tokens: int = 24
    max_chars: int = 4_000

    def __post_init__(self) -> None:
        _check("max_tokens", self.max_tokens, 8, SLICE_CHARS // 4)
        _check("overlap_tokens", self.overlap_tokens, 0, self.max_tokens // 4)
        _check("min_tokens", self.min_tokens, 0, self.max_tokens // 4)
        _check("max_chars", self.max_chars, 1, SLICE_CHARS // 4)


def _check(name: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise ConfigurationError(name, f"expected {lowest} to {highest}, got {value}")


_DEFAULTS = ChunkOptions()


def document_text(document: ParsedDocument) -> str:
    """The text that the offsets of chunks and citations count in."""
    return BLOCK_SEPARATOR.join(block.text for block in document.blocks)


def chunk(document: ParsedDocument, tokenizer: Tokenizer, options: ChunkOptions = _DEFAULTS) -> list[Chunk]:
    """The document's chunks in reading order; the same document gives the same chunks, bit for bit."""
    text = document_text(document)
    offsets = lru_cache(_REMEMBERED)(tokenizer.offsets)
    chunks: list[Chunk] = []
    for section in _sections(document):
        headings, used = _fit_headings(section.headings, offsets, options.max_tokens // 3)
        for start, end in _windows(text, section, offsets, options.max_tokens - used, options):
            chunks.append(_chunk(len(chunks), text, start, end, section.page, headings))
    return chunks


def embedding_text(headings: Sequence[str], text: str) -> str:
    """What the encoder sees of a chunk."""
    return HEADING_SEPARATOR.join(headings) + "\n" + text if headings else text


def text_hash(seen: str) -> str:
    """SHA-256 of an embedding text, hex."""
    return sha256(seen.encode("utf-8", "surrogatepass")).hexdigest()


def _chunk(
    ordinal: int, text: str, start: int, end: int, page: int | None, headings: tuple[str, ...]
) -> Chunk:
    piece = text[start:end]
    seen = embedding_text(headings, piece)
    return Chunk(ordinal, piece, page, headings, start, end, seen, text_hash(seen))


# --- sections: neighbouring blocks of one page under one heading path ---


@dataclass(slots=True)
class _Section:
    page: int | None
    headings: tuple[str, ...]
    start: int
    end: int
    block_ends: list[int]


def _sections(document: ParsedDocument) -> list[_Section]:
    sections: list[_Section] = []
    position = 0
    for block in document.blocks:
        end = position + len(block.text)
        last = sections[-1] if sections else None
        if last and (last.page, last.headings) == (block.page, block.headings):
            last.end = end
            last.block_ends.append(end)
        else:
            sections.append(_Section(block.page, block.headings, position, end, [end]))
        position = end + len(BLOCK_SEPARATOR)
    return sections


def _fit_headings(path: tuple[str, ...], offsets: _Offsets, budget: int) -> tuple[tuple[str, ...], int]:
    """The innermost headings that fit the budget, and their tokens; one too long is cut at its end."""
    innermost = path[-HEADING_LEVELS:]
    headings = [clean for heading in innermost if (clean := " ".join(heading[:HEADING_CHARS].split()))]
    while headings:
        used = len(offsets(HEADING_SEPARATOR.join(headings)))
        if used <= budget:
            return tuple(headings), used
        if len(headings) == 1:
            heading, used = _cut_heading(headings[0], offsets, budget)
            return (heading,) if heading else (), used
        headings = headings[1:]
    return (), 0


def _cut_heading(heading: str, offsets: _Offsets, budget: int) -> tuple[str, int]:
    while len(tokens := offsets(heading)) > budget:
        heading = heading[: min(tokens[budget][0], len(heading) - 1)].rstrip()
    return heading, len(tokens)


# --- windows: one section in chunks ---


def _windows(
    text: str, section: _Section, offsets: _Offsets, room: int, options: ChunkOptions
) -> Iterator[tuple[int, int]]:
    """(start, end) of each chunk. All before `covered` is in a chunk already; `start` may lie before it."""
    start = covered = _skip_space(text, section.start, section.end)
    while covered < section.end:
        piece = _Slice(text, start, section, offsets)
        while covered < section.end and (end := piece.cut(start, covered, room, options)):
            if end <= covered:  # the overlap left no room for anything new
                start = covered
                continue
            yield start, end
            covered = _skip_space(text, end, section.end)
            overlap = min(options.overlap_tokens, room // 4)
            start = piece.overlap_start(start, end, overlap) or covered


class _Slice:
    """A stretch of a section from a chunk's start on, with the places where it may be cut."""

    def __init__(self, text: str, start: int, section: _Section, offsets: _Offsets) -> None:
        self.text = text
        self.offsets = offsets
        self.end = min(start + SLICE_CHARS, section.end)
        self.final = self.end == section.end
        self.block_ends = section.block_ends
        part = text[start : self.end]
        self.tokens = [start + token[0] for token in offsets(part)]
        spans = sentences(part)
        self.sentence_starts = [start + span[0] for span in spans]
        self.sentence_ends = [start + span[1] for span in spans]

    def cut(self, start: int, covered: int, room: int, options: ChunkOptions) -> int | None:
        """Where the chunk that starts at `start` ends; None when the slice is too short to tell."""
        first = bisect_left(self.tokens, start)
        left = len(self.tokens) - first
        # a tail under min_tokens would be a chunk of its own: leave it a little more
        size = min(room, left - options.min_tokens) if self.final and left > room else room
        limit = max(start + 1, min(self._position(first + size), start + options.max_chars))
        if not self.final and limit > self.end - SLICE_MARGIN:
            return None
        if limit < self.end:
            half, quarter = self._position(first + size // 2), self._position(first + size // 4)
            limit = self._border(max(half, covered), max(quarter, covered), limit)
        return self._shrink(start, _strip_end(self.text, start, limit), room)

    def overlap_start(self, start: int, end: int, tokens: int) -> int | None:
        """Start of the first whole sentence within the last `tokens` tokens before end, if there is one."""
        earliest = max(0, bisect_left(self.tokens, end) - tokens)
        index = bisect_left(self.sentence_starts, max(self._position(earliest), start + 1))
        found = index < len(self.sentence_starts) and self.sentence_ends[index] <= end
        return self.sentence_starts[index] if found else None

    def _position(self, token: int) -> int:
        return self.tokens[token] if token < len(self.tokens) else self.end

    def _border(self, half: int, quarter: int, limit: int) -> int:
        """The best cut up to limit: a block end past half, a sentence, line or word end past a quarter."""
        if (cut := _last(self.block_ends, limit)) > half or (
            cut := _last(self.sentence_ends, limit)
        ) > quarter:
            return cut
        line = self.text.rfind("\n", quarter + 1, limit)
        word = max(self.text.rfind(" ", quarter + 1, limit), self.text.rfind("\t", quarter + 1, limit))
        return line if line > 0 else word if word > 0 else limit

    def _shrink(self, start: int, end: int, room: int) -> int:
        """A cut inside a word changes how its halves are tokenised: count again, and give way."""
        while not (_is_blank(self.text, start - 1) and _is_blank(self.text, end)):
            tokens = self._tokens(start, end)
            if len(tokens) <= room:
                break
            end = max(start + 1, min(end - 1, _strip_end(self.text, start, tokens[room])))
        return end

    def _tokens(self, start: int, end: int) -> list[int]:
        """Where the tokens of what is cut out begin: only the words at its two ends are other ones than before."""
        first = start if _is_blank(self.text, start - 1) else _blank(self.text, start, end)
        last = end if _is_blank(self.text, end) else _last_blank(self.text, first, end)
        within = self.tokens[bisect_left(self.tokens, first) : bisect_left(self.tokens, last)]
        return [*self._again(start, first), *within, *self._again(last, end)]

    def _again(self, start: int, end: int) -> list[int]:
        return [start + token[0] for token in self.offsets(self.text[start:end])] if start < end else []


def _last(positions: list[int], limit: int) -> int:
    index = bisect_right(positions, limit)
    return positions[index - 1] if index else -1


def _is_blank(text: str, position: int) -> bool:
    return not 0 <= position < len(text) or text[position] in " \n\t"


_BLANK = re.compile(r"[ \n\t]")


def _blank(text: str, start: int, end: int) -> int:
    """The first blank; end where there is none."""
    found = _BLANK.search(text, start, end)
    return found.start() if found else end


def _last_blank(text: str, start: int, end: int) -> int:
    """The last blank; start where there is none."""
    return max(start, *(text.rfind(blank, start, end) for blank in " \n\t"))


_NOT_SPACE = re.compile(r"\S")


def _skip_space(text: str, start: int, end: int) -> int:
    found = _NOT_SPACE.search(text, start, end)
    return found.start() if found else end


def _strip_end(text: str, start: int, end: int) -> int:
    return start + len(text[start:end].rstrip())


# --- sentences ---

_CLOSERS = "\"'”’»›)\\]}）」』】》〉"
_WIDE_STOPS = "。！？｡"
_STOPS = ".!?…؟۔।॥։።။។"
# Possessive quantifiers, and a lookbehind so that a run of stops is looked at once, keep this linear; nearly every
# character is passed over at the first look.
_CANDIDATE = re.compile(
    rf"(?=[\n{_STOPS}{_WIDE_STOPS}])(?:"
    rf"(?<![{_WIDE_STOPS}])[{_WIDE_STOPS}]++[{_CLOSERS}]*+"
    rf"|(?P<stop>(?<![{_STOPS}])[{_STOPS}]++[{_CLOSERS}]*+)(?=\s)"
    rf"|(?P<line>\n\s*+))"
)
_LIST_ITEM = re.compile(r"(?:[-*•‣◦▪–—·]|\(?(?:\d{1,3}|[A-Za-z])[.)])\s")
_NEXT_WORD = re.compile(r"[\s\"'“‘«(\[]*+(\w++)(\.?)")
_DOTTED = re.compile(r"\w(?:\.\w)+")
_LONGEST_ABBREVIATION = 12


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Always followed by a name or by the rest of a phrase.
_TITLES = _words(
    "mr mrs ms messrs dr prof rev hon gen col capt lt sgt maj gov sen rep mt vs cf e.g i.e eg ie viz approx "
    "mme mlle sr.a dra z.b d.h u.a bzw ggf evtl"
)
# Followed by a number; the end of a sentence otherwise ("No.", "in Dec.").
_NUMBERED = _words(
    "no nos nr p pp fig figs eq eqs sec secs ch chap vol vols art arts ref refs ed ca "
    "jan feb mar apr jun jul aug sep sept oct nov dec"
)
# May end a sentence, and does when a word follows that often opens one.
_AMBIGUOUS = _words("etc inc ltd co corp llc plc gmbh jr sr esq st ave blvd dept univ al ft est usw")
_OPENERS = _words(
    "a after all also although an and another any as at because before both but by despite during each "
    "every few finally first for from he her here his how however i if in it its many more most my no not "
    "now of on once one only or other our she since so some such that the their then there these they this "
    "those though thus to today under until we what when where which while who why with yet you your "
    "der die das ein eine er sie es wir le la les un une il elle el los las"
)


def sentences(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence, in order and without overlap; only white space lies between them."""
    spans: list[tuple[int, int]] = []
    start = _skip_space(text, 0, len(text))
    for found in _CANDIDATE.finditer(text, start):
        if found.end() <= start or not _is_end(text, start, found):
            continue
        spans.append((start, _strip_end(text, start, found.end())))
        start = _skip_space(text, found.end(), len(text))
    if start < len(text):
        spans.append((start, _strip_end(text, start, len(text))))
    return spans


def _is_end(text: str, start: int, found: re.Match[str]) -> bool:
    if found["line"]:
        return "\n" in found["line"][1:] or _is_own_line(text, start, found)
    return not found["stop"] or _is_full_stop(text, start, found)


def _is_own_line(text: str, start: int, found: re.Match[str]) -> bool:
    """Whether a single line break separates list items or table rows rather than wraps a paragraph."""
    if _LIST_ITEM.match(text, found.end()):
        return True
    line = max(start, text.rfind("\n", start, found.start()) + 1)
    return text.find("\t", line, found.start()) >= 0 or text.find(" | ", line, found.start()) >= 0


def _is_full_stop(text: str, start: int, found: re.Match[str]) -> bool:
    following = _NEXT_WORD.match(text, found.end())
    if following is None:
        return True
    if following[1][0].islower():
        return False
    return found["stop"] != "." or not _is_abbreviation(text, start, found.start(), following)


def _is_abbreviation(text: str, start: int, stop: int, following: re.Match[str]) -> bool:
    begin = max(start, stop - _LONGEST_ABBREVIATION)
    words = text[begin:stop].split()
    if not words or text[stop - 1].isspace():
        return False
    word = words[-1].lstrip("([{\"'“‘«")
    key = word.lower()
    if key in _TITLES or _is_enumerator(word, stop - len(word) == start):
        return True
    if key in _NUMBERED:
        return following[1][0].isdigit()
    if key in _AMBIGUOUS or _DOTTED.fullmatch(word) or (len(word) == 1 and word.isupper()):
        opens = following[1].lower() in _OPENERS and not (len(following[1]) == 1 and following[2])
        return not opens
    return False


def _is_enumerator(word: str, opens_sentence: bool) -> bool:
    return opens_sentence and ((word.isdecimal() and len(word) <= 3) or (len(word) == 1 and word.isalpha()))
