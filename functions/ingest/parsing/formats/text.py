"""Plain text: paragraphs are what empty lines separate."""

from __future__ import annotations

import re

from functions.ingest.parsing.draft import Draft

MEDIA_TYPE = "text/plain"

_GAP = re.compile(r"\n\s*\n")


def parse(data: bytes, draft: Draft) -> None:
    parse_text(draft.decode(data), draft)


def parse_text(text: str, draft: Draft) -> None:
    start = 0
    for gap in _GAP.finditer(text):
        draft.add(text[start : gap.start()])
        start = gap.end()
    draft.add(text[start:])
