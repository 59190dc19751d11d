"""XML without entities, external files, the network or huge trees."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import cast

from lxml import etree

from shared.core.errors import UnreadableDocument

_DOCTYPE = re.compile(rb"<!\s*(?:DOCTYPE|ENTITY)")


def parse(data: bytes, *, allow_doctype: bool = False) -> etree._Element:
    """The root element. Office formats never declare a document type, so one is refused unless allowed."""
    if not allow_doctype:
        _refuse_doctype(data)
    return cast("etree._Element", etree.fromstring(data, _parser()))


def _refuse_doctype(data: bytes) -> None:
    if _DOCTYPE.search(data.replace(b"\0", b"") if b"\0" in data[:64] else data):  # zero bytes: UTF-16
        raise UnreadableDocument(
            "damaged", "The XML inside declares a document type or entities, which is refused."
        )


def _parser() -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


def name_of(element: etree._Element) -> str:
    """The tag without its namespace."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: etree._Element, name: str) -> str | None:
    """The attribute of that local name in whatever namespace."""
    found = element.get(name)
    if found is not None:
        return str(found)
    return next((str(v) for k, v in element.attrib.items() if str(k).endswith("}" + name)), None)


def each(data: bytes, name: str) -> Iterator[etree._Element]:
    """The elements of that local name one after the other, each forgotten once the next is asked for."""
    _refuse_doctype(data)
    events = etree.iterparse(
        io.BytesIO(data),
        tag="{*}" + name,
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
    )
    for _, element in events:
        yield element
        element.clear()
        while element.getprevious() is not None:
            del element.getparent()[0]
