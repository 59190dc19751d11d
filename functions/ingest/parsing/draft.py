"""Collects what a format's parser finds: cleaned blocks under their headings, within the limits."""

from __future__ import annotations

import re

from functions.ingest.parsing import charsets
from functions.ingest.parsing.characters import clean, normalise_breaks
from functions.ingest.parsing.limits import ParseLimits
from shared.core.errors import UnreadableDocument
from shared.core.models import Block, ParsedDocument

MAX_BLOCK = 8_000
MAX_HEADING = 300
_SENTENCE_END = re.compile(r"[.!?]['\")\]]*\s|[。\uff01\uff1f]")


class Draft:
    """A document in the making. Headings are kept as a path that the blocks below them carry; a heading with
    nothing below it becomes a block itself, so that no text is lost."""

    def __init__(self, limits: ParseLimits) -> None:
        self.limits = limits
        self.flags: set[str] = set()
        self.pages: int | None = None
        self._blocks: list[Block] = []
        self._path: list[tuple[int, str]] = []
        self._headings: tuple[str, ...] = ()
        self._lonely_heading_page: int | None = None
        self._lonely = False
        self._bytes = 0

    def decode(self, data: bytes, declared: str | None = None) -> str:
        text, flags = charsets.decode(data, declared)
        self.flags |= flags
        if "\0" in text:  # removed before any format library can choke on it or end there
            self.flags.add("nul_removed")
            text = text.replace("\0", "")
        return normalise_breaks(text)

    def heading(self, level: int, text: str, *, page: int | None = None) -> None:
        """Opens a section; level 1 is the outermost of the text, 0 the document's own title."""
        title = " ".join(self._clean(text[: 2 * MAX_HEADING]).split())
        if len(title) > MAX_HEADING or len(text) > 2 * MAX_HEADING:
            self.add(text, page=page)  # a paragraph in disguise
        elif title:
            self._keep_lonely_heading(level)
            self._set_path([*(entry for entry in self._path if entry[0] < level), (level, title)])
            self._lonely, self._lonely_heading_page = True, page

    def leave(self, level: int) -> None:
        """Closes the open sections of this level and deeper."""
        self._keep_lonely_heading(level)
        self._set_path([entry for entry in self._path if entry[0] < level])

    def clear(self) -> None:
        """Forgets everything but the flags, for a second reading in another format."""
        self._blocks.clear()
        self._set_path([])
        self._lonely, self._bytes = False, 0

    def add(self, text: str, *, page: int | None = None, verbatim: bool = False) -> None:
        """Adds a paragraph; verbatim keeps its inner spaces and empty lines. Long ones become several blocks."""
        for piece in _pieces(text):
            cleaned = self._clean(piece)
            tidied = _tidy_verbatim(cleaned) if verbatim else _tidy(cleaned)
            if tidied:
                self._append(Block(tidied, page, self._headings))
                self._lonely = False

    def build(self, media_type: str) -> ParsedDocument:
        self._keep_lonely_heading(level=-1)
        if not self._blocks:
            raise UnreadableDocument("no_text", _no_text(media_type))
        return ParsedDocument(media_type, tuple(self._blocks), self.pages, tuple(sorted(self.flags)))

    def check_pages(self, count: int, noun: str = "pages") -> None:
        if count > self.limits.pages:
            detail = f"The document has {count} {noun}; at most {self.limits.pages} are read."
            raise UnreadableDocument("too_many_pages", detail)

    def _clean(self, text: str) -> str:
        cleaned, flags = clean(text)
        self.flags |= flags
        return cleaned

    def _set_path(self, path: list[tuple[int, str]]) -> None:
        self._path = path
        self._headings = tuple(title for _, title in path)

    def _keep_lonely_heading(self, level: int) -> None:
        if self._lonely and level <= self._path[-1][0]:
            above, (_, title) = self._headings[:-1], self._path[-1]
            self._append(Block(title, self._lonely_heading_page, above))
            self._lonely = False

    def _append(self, block: Block) -> None:
        text = block.text
        self._bytes += len(text) if text.isascii() else len(text.encode())
        if self._bytes > self.limits.text_bytes or len(self._blocks) >= self.limits.blocks:
            raise self.limits.too_much_text()
        self._blocks.append(block)


def _no_text(media_type: str) -> str:
    if media_type == "application/pdf":
        return "No page of this PDF has a text layer; it is probably a scan."
    return "The file was read, but there is no text in it."


def _tidy(text: str) -> str:
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def _tidy_verbatim(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.split("\n")).strip()


def _pieces(text: str) -> list[str]:
    pieces, start = [], 0
    while len(text) - start > MAX_BLOCK:
        end = _cut(text, start)
        pieces.append(text[start:end])
        start = end
    pieces.append(text[start:] if start else text)
    return pieces


def _cut(text: str, start: int) -> int:
    """Where to end the piece that begins at start: after a line, else a sentence, else a word, else anywhere."""
    low, high = start + MAX_BLOCK // 2, start + MAX_BLOCK
    if (line := text.rfind("\n", low, high)) > 0:
        return line + 1
    sentences = [match.end() for match in _SENTENCE_END.finditer(text, low, high)]
    if sentences:
        return sentences[-1]
    space = text.rfind(" ", low, high)
    return space + 1 if space > 0 else high
