"""Word documents: paragraphs under their headings, tables row by row, foot- and endnotes at the end."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lxml import etree

from functions.ingest.parsing import safe_xml
from functions.ingest.parsing.archive import Archive
from functions.ingest.parsing.draft import Draft
from functions.ingest.parsing.office import flag_extras, main_part, related_part
from functions.ingest.parsing.tables import row_texts

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

_HEADING_STYLE = re.compile(r"heading ([1-9])$", re.IGNORECASE)
_WRAPPERS = frozenset(("sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag"))
_SPECIAL = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
# What a paragraph holds that is not its own text: deleted text, field codes, and the second copy of a drawing.
_SKIPPED = frozenset(
    (
        "delText",
        "instrText",
        "delInstrText",
        "Fallback",
        "pPr",
        "footnoteRef",
        "endnoteRef",
        "del",
        "moveFrom",
    )
)


def parse(data: bytes, draft: Draft) -> None:
    archive = Archive(data)
    flag_extras(archive, draft)
    main = main_part(archive, "word/document.xml")
    reader = _Reader(draft, _heading_styles(archive, main))
    for element in safe_xml.parse(archive.read(main)):
        reader.body(element)
    for kind in ("footnotes", "endnotes"):
        if name := related_part(archive, main, kind):
            reader.notes(safe_xml.parse(archive.read(name)))


def _heading_styles(archive: Archive, main: str) -> dict[str, int]:
    """Outline level by style id; the document's title is level 0."""
    name = related_part(archive, main, "styles")
    levels: dict[str, int] = {}
    if name is None:
        return levels
    for style in safe_xml.parse(archive.read(name)).iterfind("{*}style"):
        based_on = style.find("{*}basedOn")
        inherited = levels.get(safe_xml.attribute(based_on, "val") or "") if based_on is not None else None
        level = _style_level(style)
        if (level := inherited if level is None else level) is not None:
            levels[safe_xml.attribute(style, "styleId") or ""] = level
    return levels


def _style_level(style: etree._Element) -> int | None:
    title = style.find("{*}name")
    name = (safe_xml.attribute(title, "val") or "") if title is not None else ""
    if name.lower() == "title":
        return 0
    if match := _HEADING_STYLE.match(name):
        return int(match[1])
    return _outline_level(style)


def _outline_level(owner: etree._Element) -> int | None:
    """The level, from 1, that a style or paragraph is given in the outline; 9 in the file means body text."""
    level = owner.find("{*}pPr/{*}outlineLvl")
    value = (safe_xml.attribute(level, "val") or "") if level is not None else ""
    return int(value) + 1 if value.isdigit() and int(value) < 9 else None


def _children(parent: etree._Element, wanted: str) -> Iterator[etree._Element]:
    """The rows of a table or cells of a row, not those of tables inside it."""
    for element in parent:
        name = safe_xml.name_of(element)
        if name == wanted:
            yield element
        elif name in _WRAPPERS:
            yield from _children(element, wanted)


class _Reader:
    def __init__(self, draft: Draft, styles: dict[str, int]) -> None:
        self._draft = draft
        self._styles = styles

    def body(self, parent: etree._Element) -> None:
        for element in parent:
            name = safe_xml.name_of(element)
            if name == "p":
                self._paragraph(element)
            elif name == "tbl":
                for text in row_texts(self._rows(element)):
                    self._draft.add(text)
            elif name in _WRAPPERS:
                self.body(element)

    def notes(self, root: etree._Element) -> None:
        self._draft.leave(0)
        for note in root:
            if safe_xml.attribute(note, "type") is None:  # separators have a type
                self._draft.add(self._text(note))

    def _paragraph(self, element: etree._Element) -> None:
        text = self._text(element)
        level = self._level(element)
        if level is not None:
            self._draft.heading(level, text)
        else:
            listed = element.find("{*}pPr/{*}numPr") is not None
            self._draft.add(f"- {text}" if listed and text.strip() else text)

    def _level(self, paragraph: etree._Element) -> int | None:
        style = paragraph.find("{*}pPr/{*}pStyle")
        if (
            style is not None
            and (level := self._styles.get(safe_xml.attribute(style, "val") or "")) is not None
        ):
            return level
        return _outline_level(paragraph)

    def _rows(self, table: etree._Element) -> Iterator[list[str]]:
        for row in _children(table, "tr"):
            yield [self._text(cell) for cell in _children(row, "tc")]

    def _text(self, element: etree._Element) -> str:
        parts: list[str] = []
        for name, node in self._walk(element):
            if name == "t":
                parts.append(node.text or "")
            elif name == "p" and parts:
                parts.append("\n")
            else:
                parts.append(_SPECIAL.get(name, ""))
        return "".join(parts)

    def _walk(self, element: etree._Element) -> Iterator[tuple[str, etree._Element]]:
        for node in element:
            name = safe_xml.name_of(node)
            if name in _SKIPPED or (name == "r" and self._hidden(node)):
                continue
            yield name, node
            yield from self._walk(node)

    def _hidden(self, run: etree._Element) -> bool:
        vanish = run.find("{*}rPr/{*}vanish")
        hidden = vanish is not None and safe_xml.attribute(vanish, "val") not in ("0", "false")
        if hidden:
            self._draft.flags.add("hidden_text_removed")
        return hidden
