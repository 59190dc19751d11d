"""HTML: the text a reader would see. Scripts, handlers, embedded things and hidden elements leave nothing behind."""

from __future__ import annotations

import re

from selectolax.lexbor import LexborDocumentOptions, LexborHTMLParser, LexborNode

from functions.ingest.parsing.draft import Draft
from functions.ingest.parsing.tables import row_texts

MEDIA_TYPE = "text/html"

_CHARSET = re.compile(rb"charset\s{0,9}=\s{0,9}[\"']?([\w-]{2,40})", re.IGNORECASE)
_SPACES = re.compile(r"[ \t\n\f]+")
_HIDING_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_MAY_HIDE = re.compile(r"hidden|display", re.IGNORECASE)

_ACTIVE = frozenset("script iframe object embed applet frame frameset".split())  # noqa: SIM905 - words read better without quotes
_SKIPPED = _ACTIVE | frozenset(
    "style template noscript head svg canvas audio video select textarea button".split()  # noqa: SIM905 - words read better without quotes
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    "address article aside blockquote body center dd details dialog div dl dt fieldset figcaption figure footer form "  # noqa: SIM905 - words read better without quotes
    "header hgroup hr html li main nav ol p pre section summary table tbody tfoot thead tr ul".split()
)


def parse(data: bytes, draft: Draft) -> None:
    found = _CHARSET.search(data[:4096])
    add_html(draft.decode(data, found[1].decode() if found else None), draft)


def add_html(text: str, draft: Draft, *, titled: bool = True) -> None:
    """Adds a page's text; titled makes its title the outermost heading where the page has no h1."""
    tree = LexborHTMLParser(text, options=LexborDocumentOptions.WO_EVENTS)
    title = tree.css_first("title") if titled and tree.css_first("h1") is None else None
    if title is not None:
        draft.heading(0, title.text())
    if tree.root is not None:
        _Walker(draft, may_hide=_MAY_HIDE.search(text) is not None).walk(tree.root)


class _Walker:
    """Goes through the tree once, without recursion, and turns what lies between block borders into paragraphs."""

    def __init__(self, draft: Draft, *, may_hide: bool) -> None:
        self._draft = draft
        self._may_hide = may_hide
        self._run: list[str] = []
        self._preformatted = 0
        self._tables = 0
        self._rows: list[list[str]] | None = None

    def walk(self, root: LexborNode) -> None:
        node, last = root, root.mem_id
        while True:
            below = node.child if self._enter(node) else None
            while below is None:
                self._leave(node)
                if node.mem_id == last:
                    return self._flush()
                below = node.next
                if below is None:
                    parent = node.parent
                    assert parent is not None
                    node = parent
            node = below

    def _enter(self, node: LexborNode) -> bool:
        """Takes in what opens here; whether to go on below."""
        tag = node.tag or ""
        if tag == "-text":
            self._text(node.text_content or "")
        elif tag in _SKIPPED or (self._may_hide and self._hidden(node)):
            if tag in _ACTIVE:
                self._draft.flags.add("scripts_removed")
            return False
        elif tag == "br":
            self._run.append("\n")
        elif tag in ("td", "th"):
            self._open_cell()
        elif tag in _HEADINGS:
            self._show_rows()
            self._flush()
        elif tag in _BLOCKS:
            self._open_block(tag)
        return True

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag in ("td", "th"):
            self._close_cell()
        elif tag in _HEADINGS:
            self._draft.heading(_HEADINGS[tag], "".join(self._run))
            self._run.clear()
        elif tag in _BLOCKS:
            self._flush()
            self._preformatted -= tag == "pre"
            if tag == "table":
                self._tables -= 1
                self._show_rows()

    def _open_block(self, tag: str) -> None:
        self._flush()
        self._preformatted += tag == "pre"
        if tag == "li":
            self._run.append("- ")
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag == "table":
            self._tables += 1
            if self._tables == 1:
                self._rows = []
            else:
                self._show_rows()  # tables inside tables are layout: read on as running text

    def _open_cell(self) -> None:
        if self._rows is None and "".join(self._run).strip():
            self._run.append(" | ")

    def _close_cell(self) -> None:
        if self._rows:
            self._rows[-1].append("".join(self._run))
            self._run.clear()

    def _show_rows(self) -> None:
        rows, self._rows = self._rows, None
        for text in row_texts(rows or ()):
            self._draft.add(text)

    def _flush(self) -> None:
        if self._rows is not None:
            self._run.append("\n")
        elif self._run:
            self._draft.add("".join(self._run), verbatim=self._preformatted > 0)
            self._run.clear()

    def _text(self, text: str) -> None:
        self._run.append(text if self._preformatted else _SPACES.sub(" ", text))

    def _hidden(self, node: LexborNode) -> bool:
        if not node.is_element_node:
            return False
        attributes = node.attributes
        hidden = "hidden" in attributes or _HIDING_STYLE.search(attributes.get("style") or "") is not None
        if hidden:
            self._draft.flags.add("hidden_text_removed")
        return hidden
