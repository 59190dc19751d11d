"""Workbooks: a sheet is a page, a row a block. Formulas are never evaluated: what is shown is the stored result,
or the formula itself where the file stores none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from lxml import etree

from functions.ingest.parsing import safe_xml
from functions.ingest.parsing.archive import Archive
from functions.ingest.parsing.draft import Draft
from functions.ingest.parsing.office import flag_extras, main_part, related_part, relationships
from functions.ingest.parsing.tables import row_texts

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

_COLUMN = re.compile(r"([A-Z]{1,3})\d")
_BUILTIN_DATES = frozenset((*range(14, 23), 45, 46, 47))
_QUOTED = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.')
_DATE_LETTERS = re.compile(r"[ymdhs]", re.IGNORECASE)
_MAX_COLUMNS = 16_384


def parse(data: bytes, draft: Draft) -> None:
    archive = Archive(data)
    flag_extras(archive, draft)
    main = main_part(archive, "xl/workbook.xml")
    book = _Workbook(archive, main)
    draft.check_pages(len(book.sheets), "sheets")
    draft.pages = len(book.sheets)
    for number, (title, member) in enumerate(book.sheets, start=1):
        draft.heading(1, title, page=number)
        for text in row_texts(book.rows(member)):
            draft.add(text, page=number)
    if book.formulas:
        draft.flags.add("formulas_not_evaluated")


class _Workbook:
    def __init__(self, archive: Archive, main: str) -> None:
        self._archive = archive
        self.formulas = False
        root = safe_xml.parse(archive.read(main))
        links = relationships(archive, main)
        self.sheets = [
            (sheet.get("name") or "", links[relation][1])
            for sheet in root.iterfind("{*}sheets/{*}sheet")
            if (relation := _relation_id(sheet)) in links and links[relation][0] == "worksheet"
        ]
        settings = root.find("{*}workbookPr")
        mac = settings is not None and settings.get("date1904") in ("1", "true")
        self._epoch = datetime.fromisoformat("1904-01-01" if mac else "1899-12-30")
        self._strings = _shared_strings(archive, main)
        self._date_styles = _date_styles(archive, main)

    def rows(self, member: str) -> Iterator[list[str]]:
        for row in safe_xml.each(self._archive.read(member), "row"):
            yield self._row(row)

    def _row(self, row: etree._Element) -> list[str]:
        cells: dict[int, str] = {}
        for position, cell in enumerate(row.iterfind("{*}c")):
            if value := self._value(cell):
                cells[_column(cell.get("r"), position)] = value
        return [cells.get(column, "") for column in range(max(cells, default=-1) + 1)]

    def _value(self, cell: etree._Element) -> str:
        kind, value, formula = cell.get("t") or "n", cell.findtext("{*}v") or "", cell.findtext("{*}f")
        if formula is not None:
            self.formulas = True
        if kind == "s":
            return self._strings[int(value)] if value else ""
        if kind == "inlineStr":
            return _string(cell)
        if kind == "b":
            return {"1": "TRUE", "0": "FALSE"}.get(value, "")
        if not value and formula:
            return f"={formula}"
        return self._date(value) if kind == "n" and cell.get("s") in self._date_styles else value

    def _date(self, value: str) -> str:
        try:
            moment = self._epoch + timedelta(days=float(value))
        except (ValueError, OverflowError):
            return value
        moment = (moment + timedelta(milliseconds=500)).replace(microsecond=0)
        return (
            moment.date().isoformat()
            if not moment.hour + moment.minute + moment.second
            else moment.isoformat(" ")
        )


def _relation_id(sheet: etree._Element) -> str:
    return next((str(v) for k, v in sheet.attrib.items() if str(k).endswith("}id")), "")


def _shared_strings(archive: Archive, main: str) -> list[str]:
    name = related_part(archive, main, "sharedStrings")
    return [_string(item) for item in safe_xml.each(archive.read(name), "si")] if name else []


def _string(item: etree._Element) -> str:
    """The text of a string item; phonetic hints (rPh) are not part of it."""
    return "".join(
        node.text or ""
        for node in item.iter("{*}t")
        if (up := node.getparent()) is None or safe_xml.name_of(up) != "rPh"
    )


def _date_styles(archive: Archive, main: str) -> set[str]:
    """The cell styles (their numbers, as in the file) that show a number as a date or time."""
    name = related_part(archive, main, "styles")
    if name is None:
        return set()
    root = safe_xml.parse(archive.read(name))
    own = {f.get("numFmtId"): f.get("formatCode") or "" for f in root.iterfind("{*}numFmts/{*}numFmt")}
    formats = [xf.get("numFmtId") or "0" for xf in root.iterfind("{*}cellXfs/{*}xf")]
    return {str(i) for i, number in enumerate(formats) if _is_date(number, own.get(number, ""))}


def _is_date(number: str, code: str) -> bool:
    if number.isdigit() and int(number) in _BUILTIN_DATES:
        return True
    return (
        _DATE_LETTERS.search(_QUOTED.sub("", code.split(";")[0])) is not None
        and "general" not in code.lower()
    )


def _column(reference: str | None, position: int) -> int:
    """The column's number, from 0, out of a reference such as AB12."""
    match = _COLUMN.match(reference or "")
    if match is None:
        return min(position, _MAX_COLUMNS - 1)
    number = 0
    for letter in match[1]:
        number = number * 26 + ord(letter) - 64
    return min(number, _MAX_COLUMNS) - 1
