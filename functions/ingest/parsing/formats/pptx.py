"""Presentations: a slide is a page, its title a heading; speaker notes follow their slide."""

from __future__ import annotations

from lxml import etree

from functions.ingest.parsing import safe_xml
from functions.ingest.parsing.archive import Archive
from functions.ingest.parsing.draft import Draft
from functions.ingest.parsing.office import flag_extras, main_part, related_part, relationships
from functions.ingest.parsing.tables import row_texts

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.presentationml.presentation"

_TITLES = ("title", "ctrTitle")
_FURNITURE = ("sldNum", "dt", "ftr", "hdr", "sldImg")


def parse(data: bytes, draft: Draft) -> None:
    archive = Archive(data)
    flag_extras(archive, draft)
    main = main_part(archive, "ppt/presentation.xml")
    slides = _slides(archive, main)
    draft.check_pages(len(slides), "slides")
    draft.pages = len(slides)
    for number, slide in enumerate(slides, start=1):
        _add_slide(archive, slide, number, draft)


def _slides(archive: Archive, main: str) -> list[str]:
    links = relationships(archive, main)
    ids = [
        _relation_id(entry) for entry in safe_xml.parse(archive.read(main)).iterfind("{*}sldIdLst/{*}sldId")
    ]
    return [links[relation][1] for relation in ids if relation in links]


def _relation_id(entry: etree._Element) -> str:
    return next((str(v) for k, v in entry.attrib.items() if str(k).endswith("}id")), "")


def _add_slide(archive: Archive, name: str, number: int, draft: Draft) -> None:
    draft.leave(1)
    _add_shapes(safe_xml.parse(archive.read(name)), number, draft)
    if notes := related_part(archive, name, "notesSlide"):
        _add_shapes(safe_xml.parse(archive.read(notes)), number, draft)


def _add_shapes(root: etree._Element, page: int, draft: Draft) -> None:
    shapes = sorted(
        root.iter("{*}sp", "{*}graphicFrame"), key=lambda shape: _placeholder(shape) not in _TITLES
    )
    for shape in shapes:
        kind = _placeholder(shape)
        if kind in _TITLES:
            draft.heading(1, _text(shape), page=page)
        elif kind not in _FURNITURE:
            _add_shape(shape, page, draft)


def _placeholder(shape: etree._Element) -> str | None:
    found = shape.find("{*}nvSpPr/{*}nvPr/{*}ph")
    return found.get("type") if found is not None else None


def _add_shape(shape: etree._Element, page: int, draft: Draft) -> None:
    draft.add("\n".join(_text(paragraph) for paragraph in shape.iterfind("{*}txBody/{*}p")), page=page)
    for table in shape.iter("{*}tbl"):
        rows = ([_text(cell) for cell in row.iterfind("{*}tc")] for row in table.iterfind("{*}tr"))
        for text in row_texts(rows):
            draft.add(text, page=page)


def _text(element: etree._Element) -> str:
    parts: list[str] = []
    for node in element.iter("{*}t", "{*}br", "{*}p"):
        name = safe_xml.name_of(node)
        if name == "t":
            parts.append(node.text or "")
        elif parts:
            parts.append("\n")
    return "".join(parts)
