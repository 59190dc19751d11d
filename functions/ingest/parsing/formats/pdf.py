"""PDF: the text layer, page by page. Lines are joined to paragraphs; larger type makes headings."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import pypdfium2
import pypdfium2.raw as pdfium

from functions.ingest.parsing.draft import Draft
from shared.core.errors import UnreadableDocument

MEDIA_TYPE = "application/pdf"

_ACTIVE = re.compile(rb"/(?:JavaScript|JS|Launch|SubmitForm|RichMedia)\b")
_ATTACHED = re.compile(rb"/EmbeddedFiles?\b")
_LETTER = re.compile(r"\w")
_LETTERS = re.compile(r"[^\W\d_]{2}")
_LIST_ITEM = re.compile(r"(?:[•‣▪●◦\u2013\u2014*-]|\(?(?:\d{1,3}|[a-zA-Z])[.)])\s")
_ENDED = re.compile(r"[.!?:;…。\uff01\uff1f][\"'”\u2019)\]]*$")
_BROKEN_WORD = re.compile("[\x02\ufffe] ?(.?)")  # how PDFium marks a hyphen at the end of a line

_HEADING_RATIO = 1.15
_MAX_HEADING = 160
_HEADING_LEVELS = 4


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a page. size is the type size in points, top and bottom its place; 0 where unknown."""

    text: str
    size: float
    top: float
    bottom: float


def parse(data: bytes, draft: Draft) -> None:
    document = _open(data)
    try:
        draft.check_pages(len(document))
        draft.pages = len(document)
        _flag(data, document, draft)
        pages = list(_read_pages(document, draft))
    finally:
        document.close()
    if not all(pages) and any(pages):
        draft.flags.add("pages_without_text")
    levels = _heading_levels(pages)
    for number, lines in enumerate(pages, start=1):
        _add_page(lines, number, levels, draft)


def _open(data: bytes) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise UnreadableDocument("encrypted", "The PDF is protected with a password.") from error
        if b"%%EOF" not in data[-2048:]:
            raise UnreadableDocument(
                "truncated", "The PDF ends before its end mark; it is incomplete."
            ) from error
        raise UnreadableDocument("damaged", "The PDF's structure cannot be read.") from error


def _flag(data: bytes, document: pypdfium2.PdfDocument, draft: Draft) -> None:
    if _ACTIVE.search(data) or pdfium.FPDFDoc_GetJavaScriptActionCount(document) > 0:
        draft.flags.add("active_content_ignored")
    if _ATTACHED.search(data) or pdfium.FPDFDoc_GetAttachmentCount(document) > 0:
        draft.flags.add("attachments_ignored")


def _read_pages(document: pypdfium2.PdfDocument, draft: Draft) -> Iterator[list[_Line]]:
    left = draft.limits.text_bytes
    for index in range(len(document)):
        lines = _read_page(document, index, draft)
        left -= sum(len(line.text) for line in lines)
        if left < 0:
            raise draft.limits.too_much_text()
        yield lines


def _read_page(document: pypdfium2.PdfDocument, index: int, draft: Draft) -> list[_Line]:
    try:
        page = document[index]
    except pypdfium2.PdfiumError:
        draft.flags.add("damaged_pages_skipped")
        return []
    text_page = page.get_textpage()
    try:
        return list(_lines(text_page))
    finally:
        text_page.close()
        page.close()


def _lines(page: pypdfium2.PdfTextPage) -> Iterator[_Line]:
    text = page.get_text_range()
    exact = len(text) == page.count_chars()  # else offsets in the text are not the page's character numbers
    start = 0
    for line in text.split("\n"):
        if stripped := line.strip():
            at = start + (_first_letter(line) if exact else 0)
            index = at if exact else pdfium.FPDFText_GetCharIndexFromTextIndex(page, at)
            yield _Line(stripped, *_geometry(page, index))
        start += (len(line) if exact else len(line.encode("utf-16-le")) // 2) + 1


def _first_letter(line: str) -> int:
    """Where a line's type size shows: bullets and other marks in front are often set in another one."""
    found = _LETTER.search(line)
    return found.start() if found else 0


def _geometry(page: pypdfium2.PdfTextPage, index: int) -> tuple[float, float, float]:
    box = pdfium.FS_RECTF()
    known = index >= 0 and pdfium.FPDFText_GetLooseCharBox(page, index, ctypes.byref(box))
    size = pdfium.FPDFText_GetFontSize(page, index) if known else 0.0
    return round(size * 2) / 2, box.top, box.bottom


def _heading_levels(pages: list[list[_Line]]) -> dict[float, int]:
    """Heading level by type size: the sizes clearly above the one most text is set in, largest first."""
    weights: Counter[float] = Counter()
    for line in (line for lines in pages for line in lines):
        weights[line.size] += len(line.text)
    if not weights:
        return {}
    body = max(weights, key=lambda size: weights[size])
    sizes = sorted((size for size in weights if body and size >= body * _HEADING_RATIO), reverse=True)
    return {size: min(level, _HEADING_LEVELS) for level, size in enumerate(sizes, start=1)}


def _add_page(lines: list[_Line], number: int, levels: dict[float, int], draft: Draft) -> None:
    for paragraph in _paragraphs(lines):
        text, level = _join(paragraph), levels.get(paragraph[0].size)
        if level and len(text) <= _MAX_HEADING and _LETTERS.search(text):
            draft.heading(level, text, page=number)
        else:
            draft.add(text, page=number)


def _paragraphs(lines: list[_Line]) -> Iterator[list[_Line]]:
    if not lines:
        return
    usual_gap = _usual_gap(lines)
    widest = max(len(line.text) for line in lines)
    paragraph = [lines[0]]
    for before, line in pairwise(lines):
        if _breaks(before, line, usual_gap, widest):
            yield paragraph
            paragraph = []
        paragraph.append(line)
    yield paragraph


def _usual_gap(lines: list[_Line]) -> float:
    gaps = [before.bottom - line.bottom for before, line in pairwise(lines)]
    return median([gap for gap in gaps if gap > 0] or [0.0])


def _breaks(before: _Line, line: _Line, usual_gap: float, widest: int) -> bool:
    """Whether a paragraph ends between two lines: other type, a wider gap, a list item, or a short last line."""
    if abs(before.size - line.size) > 0.1 * max(before.size, line.size):
        return True
    if usual_gap and before.bottom - line.bottom > 1.3 * usual_gap:
        return True
    if _LIST_ITEM.match(line.text):
        return True
    return bool(_ENDED.search(before.text)) and len(before.text) < 0.75 * widest


def _join(lines: list[_Line]) -> str:
    text = " ".join(line.text for line in lines)
    return _BROKEN_WORD.sub(lambda broken: broken[1] if broken[1].islower() else f"-{broken[1]}", text)
