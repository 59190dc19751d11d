"""Source code: blocks are what empty lines before unindented lines separate, with their layout kept."""

from __future__ import annotations

from functions.ingest.parsing.draft import Draft

MEDIA_TYPE = "text/x-source"


def parse(data: bytes, draft: Draft) -> None:
    block: list[str] = []
    after_gap = False
    for line in draft.decode(data).split("\n"):
        if after_gap and line and not line[0].isspace():
            draft.add("\n".join(block), verbatim=True)
            block.clear()
        block.append(line)
        after_gap = not line.strip()
    draft.add("\n".join(block), verbatim=True)
