"""E-books: the chapters in reading order, under the book's title."""

from __future__ import annotations

import re
from urllib.parse import unquote

from lxml import etree

from functions.ingest.parsing import safe_xml
from functions.ingest.parsing.archive import Archive, resolve
from functions.ingest.parsing.draft import Draft
from functions.ingest.parsing.formats.html import add_html
from shared.core.errors import UnreadableDocument

MEDIA_TYPE = "application/epub+zip"

# XHTML may close these at once; to an HTML reader they would swallow what follows.
_SELF_CLOSED = re.compile(
    r"<(title|script|style|iframe|textarea|a|i|b|em|span|p|div)(\s[^<>]*)?/>", re.IGNORECASE
)
_FONT_OBFUSCATION = (b"http://www.idpf.org/2008/embedding", b"http://ns.adobe.com/pdf/enc#RC")
_ALGORITHM = re.compile(rb"EncryptionMethod[^>]*Algorithm\s*=\s*[\"']([^\"']*)")


def parse(data: bytes, draft: Draft) -> None:
    archive = Archive(data)
    _refuse_protected(archive)
    package = _package_name(archive)
    root = safe_xml.parse(archive.read(package), allow_doctype=True)
    if title := root.findtext("{*}metadata/{*}title"):
        draft.heading(0, title)
    chapters = _spine(root)
    draft.check_pages(len(chapters), "chapters")
    for href in chapters:
        chapter = archive.get(resolve(package, unquote(href)))
        if chapter is None:
            draft.flags.add("missing_parts")
        else:
            add_html(_SELF_CLOSED.sub(r"<\1\2></\1>", draft.decode(chapter)), draft, titled=False)


def _refuse_protected(archive: Archive) -> None:
    methods = _ALGORITHM.findall(archive.get("META-INF/encryption.xml") or b"")
    if any(method not in _FONT_OBFUSCATION for method in methods):
        raise UnreadableDocument("encrypted", "The book is protected by copy protection (DRM).")


def _package_name(archive: Archive) -> str:
    container = safe_xml.parse(archive.read("META-INF/container.xml"), allow_doctype=True)
    root = container.find("{*}rootfiles/{*}rootfile")
    return (root.get("full-path") or "") if root is not None else ""


def _spine(package: etree._Element) -> list[str]:
    items = {item.get("id"): item.get("href") or "" for item in package.iterfind("{*}manifest/{*}item")}
    wanted = [entry.get("idref") for entry in package.iterfind("{*}spine/{*}itemref")]
    return [items[name] for name in dict.fromkeys(wanted) if name in items]
