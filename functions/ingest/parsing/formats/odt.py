"""OpenDocument text: headings, paragraphs, lists and tables of the body; tracked deletions and comments left out."""

from __future__ import annotations

from collections.abc import Iterator

from lxml import etree

from functions.ingest.parsing import safe_xml
from functions.ingest.parsing.archive import Archive
from functions.ingest.parsing.draft import Draft
from functions.ingest.parsing.tables import row_texts
from shared.core.errors import UnreadableDocument

MEDIA_TYPE = "application/vnd.oasis.opendocument.text"

_SKIPPED = frozenset(
    ("tracked-changes", "annotation", "sequence-decls", "forms", "bookmark", "object", "image")
)
_ROW_GROUPS = frozenset(("table-header-rows", "table-rows", "table-row-group"))
_SPECIAL = {"tab": "\t", "line-break": "\n"}


def parse(data: bytes, draft: Draft) -> None:
    archive = Archive(data)
    if b"encryption-data" in (archive.get("META-INF/manifest.xml") or b""):
        raise UnreadableDocument("encrypted", "The document is protected with a password.")
    if any(name.startswith(("Basic/", "Scripts/")) for name in archive.names):
        draft.flags.add("active_content_ignored")
    body = safe_xml.parse(archive.read("content.xml")).find("{*}body/{*}text")
    if body is not None:
        _add(body, draft, listed=False)


def _add(parent: etree._Element, draft: Draft, *, listed: bool) -> None:
    for element in parent:
        name = safe_xml.name_of(element)
        if name == "h":
            draft.heading(_level(element), _text(element))
        elif name == "p":
            text = _text(element)
            draft.add(f"- {text}" if listed and text.strip() else text)
        elif name == "table":
            for text in row_texts(_rows(element)):
                draft.add(text)
        elif name not in _SKIPPED:
            _add(element, draft, listed=listed or name == "list")


def _level(heading: etree._Element) -> int:
    value = safe_xml.attribute(heading, "outline-level") or "1"
    return max(1, min(int(value), 9)) if value.isdecimal() and len(value) < 4 else 1


def _rows(table: etree._Element) -> Iterator[list[str]]:
    for element in table:
        name = safe_xml.name_of(element)
        if name == "table-row":
            yield [_text(cell) for cell in element.iterfind("{*}table-cell")]
        elif name in _ROW_GROUPS:
            yield from _rows(element)


def _text(element: etree._Element) -> str:
    return "".join(_parts(element))


def _parts(element: etree._Element) -> Iterator[str]:
    yield element.text or ""
    for node in element:
        name = safe_xml.name_of(node)
        if name == "s":
            yield " "
        elif name in _SPECIAL:
            yield _SPECIAL[name]
        elif name not in _SKIPPED:
            yield from _parts(node)
            if name in ("p", "h"):
                yield "\n"
        yield node.tail or ""
